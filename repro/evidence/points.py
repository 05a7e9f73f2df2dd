"""The points of metrics, a million of them, kept in columns: rows of `Metric` are made when somebody looks at them.

A row costs a microsecond and 150 bytes, a point in columns a few nanoseconds and 24 bytes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, islice, pairwise, repeat
from operator import lt
from typing import Any, Final, overload

from repro.evidence.model import Metric, from_columns

_PIECE: Final = 4096
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Same:
    """The cells of a column, or of a part of it, that are all one."""

    value: Any
    count: int

    def __len__(self) -> int:
        return self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The points of one metric of one process; their steps rise."""

    process_key: str
    name: str
    steps: Sequence[int]
    values: array[float]
    dtypes: Sequence[str] | Same
    at_seconds: array[float]

    def __len__(self) -> int:
        return len(self.steps)

    def cells(self, column: str, start: int, stop: int) -> Sequence[Any] | Same:
        """Return the cells of one column of `Metric`, from one point to before another."""
        if column in ("process_key", "name"):
            return Same(getattr(self, column), stop - start)
        if column == "dtype":
            return Same(self.dtypes.value, stop - start) if isinstance(self.dtypes, Same) else self.dtypes[start:stop]
        cells: Sequence[Any] = {"step": self.steps, "value": self.values, "at_seconds": self.at_seconds}[column]
        return cells[start:stop]

    def rows(self, start: int, stop: int) -> list[Metric]:
        """Return points as rows."""
        dtypes = repeat(self.dtypes.value) if isinstance(self.dtypes, Same) else self.dtypes[start:stop]
        times = self.at_seconds[start:stop]
        cells = (repeat(self.process_key), repeat(self.name), self.steps[start:stop], self.values[start:stop])
        return from_columns(Metric, stop - start, (*cells, dtypes, times))


class Points(Sequence[Metric]):
    """Rows of `Metric` in the order of their key, no key twice; equal to a tuple of the same rows.

    Args:
        series: In the order of their process and name.
    """

    __slots__ = ("_ends", "series")

    def __init__(self, series: Iterable[Series] = ()) -> None:
        self.series = tuple(series)
        self._ends = list(accumulate(map(len, self.series)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Metric: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Metric, ...]: ...
    def __getitem__(self, index: int | slice) -> Metric | tuple[Metric, ...]:
        if isinstance(index, slice):
            return tuple(map(self._row, range(*index.indices(len(self)))))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._row(index % len(self))

    def __iter__(self) -> Iterator[Metric]:
        for series in self.series:
            for start in range(0, len(series), _PIECE):
                yield from series.rows(start, min(start + _PIECE, len(series)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (tuple, Points)):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def cells(self, column: str, most: int) -> Iterator[Sequence[Any] | Same]:
        """Yield the cells of one column in order, in pieces that are cut at the same places for each column."""
        for series in self.series:
            for start in range(0, len(series), most):
                yield series.cells(column, start, min(start + most, len(series)))

    def texts(self) -> Iterator[str]:
        """Yield the texts of all rows, those that are one for a whole series once."""
        for series in self.series:
            yield from (series.process_key, series.name)
            yield from (series.dtypes.value,) if isinstance(series.dtypes, Same) else series.dtypes

    def _row(self, index: int) -> Metric:
        number = bisect_right(self._ends, index)
        place = index - (self._ends[number - 1] if number else 0)
        return self.series[number].rows(place, place + 1)[0]


class Gathered:
    """Points that come in any order, until all are there."""

    def __init__(self) -> None:
        self._columns: dict[_Key, tuple[Any, ...]] = {}
        """Arrays of steps and values, a list of types, an array of times."""

    def add(
        self, key: _Key, steps: Iterable[int], values: Iterable[float], dtypes: Iterable[str], times: Iterable[float]
    ) -> None:
        """Add points of one process and name, in columns."""
        columns = self._columns.get(key)
        if columns is None:
            columns = self._columns[key] = (array("q"), array("d"), [], array("d"))
        for column, cells in zip(columns, (steps, values, dtypes, times), strict=True):
            column.extend(cells)

    def add_columns(self, columns: Sequence[tuple[Any, ...]]) -> None:
        """Add points of any process and name: the columns of `Metric`."""
        process_keys, names, *cells = columns
        one = process_keys.count(process_keys[0]) == names.count(names[0]) == len(names)
        keys = zip(process_keys[:1], names) if one else zip(process_keys, names)  # noqa: B905 - the first alone
        start = 0
        for key, run in groupby(keys):
            stop = len(names) if one else start + sum(1 for _ in run)
            self.add(key, *(column[start:stop] for column in cells))
            start = stop

    def with_rows(self, rows: Iterable[Metric]) -> Gathered:
        """Return these points, and those that are rows."""
        both = Gathered()
        both._columns = {key: tuple(column[:] for column in each) for key, each in self._columns.items()}
        for row in rows:
            both.add((row.process_key, row.name), (row.step,), (row.value,), (row.dtype,), (row.at_seconds,))
        return both

    def points(self) -> tuple[Points, list[tuple[str, str, int]]]:
        """Return the points, and the key of each that came again; the first of each was kept."""
        again: list[tuple[str, str, int]] = []
        series = []
        for key in sorted(self._columns):
            steps, values, dtypes, times = self._columns[key]
            if not all(map(lt, steps, islice(steps, 1, None))):
                order = sorted(range(len(steps)), key=steps.__getitem__)
                again += ((*key, steps[i]) for j, i in pairwise(order) if steps[i] == steps[j])
                order = order[:1] + [i for j, i in pairwise(order) if steps[i] != steps[j]]
                steps, values, times = (
                    array(each.typecode, map(each.__getitem__, order)) for each in (steps, values, times)
                )
                dtypes = [dtypes[i] for i in order]
            series.append(_series(key, steps, values, dtypes, times))
        return Points(series), again


def _series(key: _Key, steps: array[int], values: array[float], dtypes: list[str], times: array[float]) -> Series:
    count = len(steps)
    return Series(
        process_key=key[0],
        name=key[1],
        steps=range(steps[0], steps[0] + count) if steps[-1] - steps[0] == count - 1 else steps,
        values=values,
        dtypes=Same(dtypes[0], count) if dtypes.count(dtypes[0]) == count else dtypes,
        at_seconds=times,
    )


def points_of(metrics: Sequence[Metric]) -> Points:
    """Return rows as points; of those with one key, the first."""
    if isinstance(metrics, Points):
        return metrics
    return Gathered().with_rows(metrics).points()[0]
