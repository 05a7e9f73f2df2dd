"""What became of files: the events of both layers in, rows of data files, data sets and changes out."""
