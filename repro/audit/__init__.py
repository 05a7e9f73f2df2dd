"""Compare and judge: records go in, differences, verdicts and reports come out."""
