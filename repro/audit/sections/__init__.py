"""What can differ between two runs: one module for the sections that are looked at in one way."""
