"""repro: record a training run, seal what was seen, run it again, and say where it differs."""

__version__ = "0.1.0"
