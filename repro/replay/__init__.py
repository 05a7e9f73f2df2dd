"""Run a record again: verify → plan (pure) → executor → the recorder."""
