"""What a project says of its own recordings: the table `[tool.repro]` of its `pyproject.toml`, or its `repro.toml`.

    hash = "blake3"        # digests of data files; the default is "sha256", which an auditor checks with `sha256sum`
    data = ["data/raw"]    # read by the run, whether it is seen or not: as `--data`
    wheelhouse = "always"  # keep every wheel: as `--wheelhouse`
    trace-every = 1        # fingerprint every step; 0 none, and the default is as many as the budget allows
    trace-budget = 2.5     # percent of the training's time that fingerprints may take; the default is 0.5
    unjudged = ["*_seconds"]        # metrics that decide nothing on a replay: as `--unjudged`
    metric-files = ["logs/*.csv"]   # read metrics from these files and no others; [] from none

Both files belong to the code tree, so what they say is part of the record. `repro.toml` wins, and holds the keys at its
top level.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from repro.errors import UsageError
from repro.record import tracing
from repro.record.tracing import NOT_CHOSEN, Tracing

Wheelhouse = Literal["auto", "always", "never"]
_HASHES: Final = ("sha256", "blake3")
_WHEELHOUSES: Final = ("auto", "always", "never")
_KEYS: Final = ("hash", "data", "wheelhouse", "trace-every", "trace-budget", "unjudged", "metric-files")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one project."""

    hash: Literal["sha256", "blake3"] = "sha256"
    data: tuple[str, ...] = ()
    """Relative to the file that says so."""
    wheelhouse: Wheelhouse = "auto"
    tracing: Tracing = NOT_CHOSEN
    unjudged: tuple[str, ...] = ()
    """Names and patterns of metrics."""
    metric_files: tuple[str, ...] | None = None
    """Patterns of paths; `None` for those that `repro.record.metricfiles.rule` finds."""


def load(root: Path) -> Settings:
    """Return the settings of a project, or the defaults where it says nothing.

    Args:
        root: The top of its code tree.

    Raises:
        UsageError: A file cannot be read, or holds a key or a value that is not known.
    """
    for name, table in (("repro.toml", ()), ("pyproject.toml", ("tool", "repro"))):
        path = root / name
        try:
            text = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}") from error
        if not table or b"tool.repro" in text:  # reading TOML costs 5 ms, and most projects say nothing
            return _parse(text, path, table)
    return Settings()


def _parse(text: bytes, path: Path, table: tuple[str, ...]) -> Settings:
    import tomllib

    try:
        found: Any = tomllib.loads(text.decode("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    for key in table:
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return _checked(found, path)


def _checked(found: Any, path: Path) -> Settings:
    if not isinstance(found, Mapping):
        raise UsageError(f"{path}: tool.repro is not a table")
    for key in found:
        if key not in _KEYS:
            raise UsageError(f"{path}: repro has no setting {key!r}", hint=f"it has: {', '.join(_KEYS)}")
    data = _texts(found, path, "data", "a list of paths", 'data = ["data/raw"]') or ()
    hash_, wheelhouse = found.get("hash", "sha256"), found.get("wheelhouse", "auto")
    if hash_ not in _HASHES:
        raise UsageError(f"{path}: hash is {hash_!r}", hint='it can be "sha256" or "blake3"')
    if wheelhouse not in _WHEELHOUSES:
        raise UsageError(f"{path}: wheelhouse is {wheelhouse!r}", hint='it can be "auto", "always" or "never"')
    return Settings(
        hash=hash_,
        data=data,
        wheelhouse=wheelhouse,
        tracing=_tracing(found, path),
        unjudged=_texts(found, path, "unjudged", "a list of metrics", 'unjudged = ["*_seconds"]') or (),
        metric_files=_texts(found, path, "metric-files", "a list of patterns", 'metric-files = ["logs/*.csv"]'),
    )


def _texts(found: Mapping[str, Any], path: Path, key: str, what: str, example: str) -> tuple[str, ...] | None:
    """Return a list of texts; `None` where there is none."""
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise UsageError(f"{path}: {key} is not {what}", hint=f"for example: {example}")
    return tuple(value)


def _tracing(found: Mapping[str, Any], path: Path) -> Tracing:
    try:
        return tracing.chosen(found.get("trace-every"), found.get("trace-budget"))
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint=error.hint) from None
