"""Metrics that the run wrote to files: JSON, JSON lines and CSV, read once the command has ended.

Names are `FILE:COLUMN`; `repro.record.metricfiles.names` says what FILE is. What is passed over is a fact, with its
reason; what should have been read and was not is a gap.

Numbers that are called like times are sealed as unjudged: files hold them as a rule, and each run has others.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from repro.evidence import judging
from repro.evidence.canonical import decode_path, encode_path, storable
from repro.evidence.model import DataFile, Gap, Metric, Tolerance
from repro.record.capture import Context, Findings, observed
from repro.record.eventlog import Events
from repro.record.metricfiles import rule
from repro.record.metricfiles.names import names_of
from repro.record.metricfiles.series import RANKS, Series, plain, series
from repro.record.metricfiles.tables import MOST_BYTES, NotRead, Table, read

MOST_FILES: Final = 200
MOST_POINTS: Final = 200_000
"""Of all files together."""
_MOST_TOLD: Final = 50
"""Files that the facts name."""
_EXACT: Final = 2**53


def after(context: Context) -> Findings:
    """Read the files that are logs of metrics."""
    patterns = context.settings.metric_files
    wanted = [file for file in context.findings.data_files if _is_candidate(file, patterns)]
    if not wanted or context.events is None:
        return Findings()
    reading = _Reading(context, context.events)
    wanted.sort(key=lambda file: (reading.written_first(file), file.path))
    for file, name in zip(wanted[:MOST_FILES], names_of([file.path for file in wanted]), strict=False):
        reading.take(file, name)
    if len(wanted) > MOST_FILES:
        reading.gap("metric files", f"{len(wanted)} files may hold metrics; the first {MOST_FILES} were read")
    return reading.findings()


def _is_candidate(file: DataFile, patterns: Sequence[str] | None) -> bool:
    is_output = file.role == "output" and file.category == "data"
    return is_output and rule.is_wanted(file.path, patterns)


@dataclass(slots=True)
class _Reading:
    """What was found so far."""

    context: Context
    events: Events
    metrics: list[Metric] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    files: list[tuple[str, int, int]] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    known: list[tuple[str, list[float]]] = field(init=False)
    """What trackers were told: names and values."""

    def __post_init__(self) -> None:
        told, _ = self.events.points.with_rows(self.events.metrics).points()
        self.known = [(each.name.partition("#")[0], list(each.values)) for each in told.series]

    def gap(self, subject: str, reason: str) -> None:
        self.gaps.append(Gap(topic="metrics", subject=storable(subject), reason=reason))

    def take(self, file: DataFile, name: str) -> None:
        """Read one file, or say why not."""
        try:
            self._take(file, name)
        except NotRead as reason:
            chosen = self.context.settings.metric_files is not None
            if chosen:
                self.gap(file.path, f"the settings name it, and it was not read: {reason}")
            self.passed_over.append((file.path, str(reason)))

    def _take(self, file: DataFile, name: str) -> None:
        writers = self._writers(file)
        content, kept_bytes = self._content(file)
        finished = all(writer in self.events.ended_at for writer in writers)
        tables = read(file.path, content, kept_bytes, finished=finished)
        if self.context.settings.metric_files is None:
            for table in tables:
                rule.check(file.path, table)
        found = [each for table in tables for each in series(table.rows, shuffled=len(writers) > 1)]
        if not found:
            raise NotRead("it holds no number of this run")
        _check_writers(writers, tables)
        if len(self.metrics) + sum(len(each.points) for each in found) > MOST_POINTS:
            reason = f"more than {MOST_POINTS:,} numbers are in files of metrics; those of this one are not kept"
            self.gap(file.path, reason)
            return
        self._keep(file, name, found, min(writers))
        self.files.append((file.path, sum(len(table.rows) for table in tables), len(found)))
        if broken := sum(table.broken for table in tables):
            self.gap(file.path, f"{broken} lines of it could not be read")

    def written_first(self, file: DataFile) -> float:
        """Return when a file was first opened to write, in seconds since the epoch."""
        path = self._absolute(file)
        times = (each.at for each in self.events.opens if each.mode == "write" and each.path == path)
        return min(times, default=math.inf)

    def _writers(self, file: DataFile) -> set[str]:
        """Return the processes that opened a file to write.

        Raises:
            NotRead: No agent saw it.
        """
        path = self._absolute(file)
        names = {path} | {rename.source for rename in self.events.renames if rename.target == path}
        found = {each.process_key for each in self.events.opens if each.mode == "write" and each.path in names}
        if not found:
            raise NotRead("no Python process was seen to write it")
        return found

    def _absolute(self, file: DataFile) -> str:
        return file.path if file.path.startswith("/") else f"{encode_path(self.context.root)}/{file.path}"

    def _content(self, file: DataFile) -> tuple[bytes, int]:
        """Return the bytes of a file, and how many of them were there before the run."""
        content = _bytes(decode_path(self._absolute(file)))
        size, digest = self._before(file)
        if not size or size > len(content):
            return content, 0
        if digest is None:
            raise NotRead("it stood there before the run, and whether it was written anew was not seen")
        kept = "sha256:" + hashlib.sha256(content[:size]).hexdigest() == digest
        return content, size if kept else 0

    def _before(self, file: DataFile) -> tuple[int, str | None]:
        """Return size and digest of what was in a file before the run wrote to it; 0 where it was written anew."""
        path, kernel = self._absolute(file), self.context.kernel
        for opened in kernel.opens if kernel is not None else ():
            if opened.path == path and opened.mode == "write":
                anew = kernel is not None and kernel.layer == "seccomp" and opened.before is None
                if not opened.existed or anew:
                    return 0, None
                return opened.size_bytes or 0, opened.before or self._captured(file)
        opens = (each for each in self.events.opens if each.path == path and each.mode == "write")
        first = min(opens, key=lambda each: each.at, default=None)
        if first is None or not first.existed:
            return 0, None
        return first.size_bytes or 0, self._captured(file)

    def _captured(self, file: DataFile) -> str | None:
        """Return the digest of a file in the code tree, as it was before the command started."""
        return next((row.sha256 for row in self.context.findings.code_files if row.path == file.path), None)

    def _keep(self, file: DataFile, name: str, found: Sequence[Series], process_key: str) -> None:
        at_seconds = self._written_at(file, process_key)
        used: Counter[str] = Counter()
        for each in found:
            if self._is_told(each):
                continue
            used[each.name] += 1
            number = used[each.name]
            full = storable(f"{name}:{each.name}" + (f"#{number}" if number > 1 else ""))
            self.metrics += _rows(process_key, full, each, at_seconds)
            if any(isinstance(value, int) and abs(value) > _EXACT for _, value in each.points):
                self.gap(full, "an integer that float64 may not hold was rounded to it, or left out")

    def _written_at(self, file: DataFile, process_key: str) -> float:
        """Return when a file was last written, in seconds since its process started."""
        started = next((s.started_at for s in self.events.starts if s.process_key == process_key), None)
        try:
            modified = Path(os.fsdecode(decode_path(self._absolute(file)))).stat().st_mtime
        except OSError:
            return 0.0
        return 0.0 if started is None else round(max(0.0, modified - started), 6)

    def _is_told(self, found: Series) -> bool:
        """Say whether a tracker was told the same numbers by the same name: its file is then no second witness."""
        values = [float(value) for _, value in found.points if _fits(value)]
        leaf = found.column.rpartition(".")[2]
        same = (told for name, told in self.known if f"/{name}".endswith((f"/{found.column}", f"/{leaf}")))
        return any(told[: len(values)] == values for told in same)

    def findings(self) -> Findings:
        """Return the metrics, what is unjudged among them, and which files were read and which not."""
        names = dict.fromkeys(metric.name for metric in self.metrics)
        told = (("files", self.files[:_MOST_TOLD]), ("files_passed_over", self.passed_over[:_MOST_TOLD]))
        return Findings(
            facts=tuple(observed("metrics", name, json.dumps(rows)) for name, rows in told if rows),
            gaps=tuple(self.gaps),
            metrics=tuple(self.metrics),
            tolerances=tuple(_of_times(names)),
        )


def _of_times(names: Iterable[str]) -> Iterator[Tolerance]:
    return (judging.without_limit(glob.escape(name)) for name in names if judging.looks_like_time(name))


def _bytes(path: bytes) -> bytes:
    """Return what is in a regular file.

    Raises:
        NotRead: It is none, it is too large, or it cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise NotRead("it is no regular file")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise NotRead(f"it cannot be opened: {error.strerror}") from error
    if len(content) > MOST_BYTES:
        raise NotRead(f"it is larger than {MOST_BYTES >> 20} MiB")
    return content


def _check_writers(writers: set[str], tables: Iterable[Table]) -> None:
    """Pass where the rows of several writers can be told apart.

    Raises:
        NotRead: They lie in the order in which they came, which no replay repeats.
    """
    if len(writers) > 1 and not all(any(plain(c) in RANKS for c in row) for table in tables for row in table.rows):
        raise NotRead(f"{len(writers)} processes wrote it, and no column says which wrote a row")


def _rows(process_key: str, name: str, found: Series, at_seconds: float) -> Iterator[Metric]:
    for step, value in found.points:
        if _fits(value):
            dtype = "bool" if isinstance(value, bool) else "int" if isinstance(value, int) else "float64"
            yield Metric(
                process_key=process_key, name=name, step=step, value=float(value), dtype=dtype, at_seconds=at_seconds
            )


def _fits(value: float) -> bool:
    try:
        float(value)
    except OverflowError:
        return False
    return True
