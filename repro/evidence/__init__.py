"""What a run is, how it is stored, and why it can be trusted."""
