"""Metrics that a script writes to files: tables of numbers in JSON, JSON lines and CSV. Nothing in a file is executed.

`tables` makes rows of a file's bytes, `rule` says whether they are a log of metrics or data, `series` names the numbers
and finds their steps. The capture `metricfiles` puts them together.
"""
