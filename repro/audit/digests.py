"""When two digests can be compared: the settings choose the algorithm, and it may have changed between two runs."""

from __future__ import annotations


def comparable(left: str | None, right: str | None) -> bool:
    """Say whether both are there, and made with one algorithm."""
    return left is not None and right is not None and left.partition(":")[0] == right.partition(":")[0]


def same_content(left: str | None, right: str | None) -> bool:
    """Say whether two comparable digests are of the same bytes; what cannot be compared is not the same."""
    return comparable(left, right) and left == right
