"""Metrics, a million of them: the records in the file beside a process's log, read column by column.

`docs/adr/0013-points-are-binary-records.md` has the format. A process may be killed at any moment: records without a
number of a series, and half a record at the end, are dropped.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterator
from itertools import groupby, repeat
from pathlib import Path
from typing import BinaryIO, Final

from repro.evidence.model import Gap
from repro.record.eventlog.kinds import Log

_MAGIC: Final = b"repro points 1\n"
_RECORD_BYTES: Final = 32
_PIECE_BYTES: Final = 4 * 1024 * 1024
_Columns = tuple[list[int], list[float], list[int]]
"""Steps, values, microseconds since the process started."""


def read(path: Path, log: Log) -> None:
    """Add the points in a file to the events of its log, which was read before; what cannot be used is a gap."""
    try:
        with path.open("rb") as file:
            lost = _read(file, log)
    except FileNotFoundError:
        return
    except OSError as error:
        _tell(log, f"its points could not be read: {error.strerror}")
    else:
        if lost:
            _tell(log, f"{lost} of its points could not be read")


def _tell(log: Log, reason: str) -> None:
    log.events.gaps.append(Gap(topic="agent", subject=log.start.process_key, reason=reason))


def _read(file: BinaryIO, log: Log) -> int:
    """Read a file of points; return how many could not be used."""
    head = file.read(_RECORD_BYTES)
    if not head.startswith(_MAGIC):
        return 1 if head.strip(b"\0") else 0
    lost = 0
    while piece := file.read(_PIECE_BYTES):
        cells = array("q", piece[: len(piece) // _RECORD_BYTES * _RECORD_BYTES])
        if sys.byteorder == "big":
            cells.byteswap()
        lost += _take(log, memoryview(cells).cast("B"))
    return lost


def _take(log: Log, records: memoryview) -> int:
    """Add whole records to the events; return how many could not be used."""
    integers, lost = records.cast("q"), 0
    values: list[float] = records.cast("d")[1::4].tolist()  # type: ignore[assignment]
    numbers = integers[3::4].tolist()
    columns = (integers[0::4].tolist(), values, integers[2::4].tolist())
    for number, series in _by_number(numbers, columns):
        if number == 0:
            continue
        steps, values, micros = _usable(series) if number in log.series else ([], [], [])
        lost += len(series[0]) - len(steps)
        if steps:
            name, dtype = log.series[number]
            seconds = [each / 1e6 for each in micros]  # the double that is nearest to the decimal
            log.events.points.add((log.start.process_key, name), steps, values, repeat(dtype, len(steps)), seconds)
    return lost


def _usable(columns: _Columns) -> _Columns:
    steps, values, micros = columns
    if min(steps) >= 0 and min(micros) >= 0:
        return columns
    good = [i for i, (step, at) in enumerate(zip(steps, micros, strict=True)) if step >= 0 and at >= 0]
    return [steps[i] for i in good], [values[i] for i in good], [micros[i] for i in good]


def _by_number(numbers: list[int], columns: _Columns) -> Iterator[tuple[int, _Columns]]:
    """Part columns by the number of the series, each in the order in which its points were told."""
    if not numbers:
        return
    if numbers.count(numbers[0]) == len(numbers):
        yield numbers[0], columns
        return
    order = sorted(range(len(numbers)), key=numbers.__getitem__)
    for number, run in groupby(order, key=numbers.__getitem__):
        places = list(run)
        steps, values, micros = columns
        yield number, ([steps[i] for i in places], [values[i] for i in places], [micros[i] for i in places])
