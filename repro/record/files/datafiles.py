"""The files that the run read and wrote, by digest, as the agent and the kernel saw them opened.

An input is a file that was read before the run itself wrote it; an output was written and is there at the end. Also
what the user declared, what the shell put on standard input, the programs that ran, and how complete all of this is.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import repeat
from operator import attrgetter
from typing import Final, Literal

from repro.evidence import canonical, manyfiles, model
from repro.evidence.canonical import decode_path, encode_path, storable
from repro.evidence.model import DataFile, FileChange, Gap, Program
from repro.evidence.times import utc, utc_ns, utc_ns_each
from repro.record import redact
from repro.record.capture import Context, Findings, observed
from repro.record.files import awake, datasets
from repro.record.files.actors import Actors
from repro.record.files.datasets import Grouped, Place, Places, Untouched
from repro.record.files.lineage import History, Touched, follow
from repro.record.files.listing import Listing, listings
from repro.record.files.moments import Content, Moments, state
from repro.record.files.territory import Category, Territory
from repro.record.statcache import state_of

MOST_ROWS: Final = 1_000_000
"""How many files are listed; a gap says how many there are besides."""
_DELETED: Final = " (deleted)"


def look(context: Context) -> Findings:
    """Return all that is known of the files of a run, once it has ended."""
    territory = Territory(context)
    actors = Actors(context.events, context.kernel)
    history = follow(context.events, context.kernel, actors, territory.stand_in)
    places = datasets.Places(context)
    files, untouched, gaps = _files(context, territory, history, places)
    grouped = datasets.group(files, places, untouched)
    rows = _untouched_rows(untouched, grouped)
    rows += (_row(file, grouped.names.get(file.path) if file.role == "input" else None) for file in files)
    rows.sort(key=attrgetter("path"))  # of one path, the input comes first
    known = [gap for gap in context.findings.gaps if gap.topic == "lineage"]
    lineage = awake.gaps(context.events, context.kernel, history, trace=context.trace, known=known)
    return Findings(
        facts=(
            observed("data", "inputs_digest", _inputs_digest(files, untouched)),
            *awake.facts(context.events, context.kernel, [*known, *lineage]),
        ),
        gaps=(*gaps, *grouped.gaps, *lineage),
        data_files=tuple(rows),
        datasets=grouped.datasets,
        file_changes=_changes(territory, history),
        programs=_programs(context, actors),
    )


def _files(
    context: Context, territory: Territory, history: History, places: Places
) -> tuple[list[Found], Untouched, list[Gap]]:
    moments = Moments(context, territory, history)
    rows = _Rows(territory, moments, history)
    rows.add_inputs()
    rows.add_outputs()
    rows.add_declared(context, places)
    rows.add_standard_input(context)
    files, untouched = rows.finish(), rows.untouched
    more = len(files) + len(untouched.paths) - MOST_ROWS
    if more > 0:
        files, untouched = _first_of_all(files, untouched)
        reason = f"{more} more files were opened than a record lists ({MOST_ROWS})"
        moments.gaps.append(Gap(topic="data", subject="files", reason=reason))
    return files, untouched, moments.gaps


def _first_of_all(files: list[Found], untouched: Untouched) -> tuple[list[Found], Untouched]:
    """Return the files that have rows, where there are more than can have."""
    keys = sorted([*((file.path, file.role) for file in files), *((path, "input") for path in untouched.paths)])
    limit = keys[MOST_ROWS]
    indices = [index for index, path in enumerate(untouched.paths) if (path, "input") < limit]
    return [file for file in files if (file.path, file.role) < limit], untouched.chosen(indices)


def _inputs_digest(files: Iterable[Found], untouched: Untouched) -> str:
    inputs = [file for file in files if file.role == "input" and file.category == "data"]
    paths = [*untouched.paths, *(file.path for file in inputs)]
    return canonical.pairs_digest(paths, [*untouched.digests, *(file.digest for file in inputs)])


@dataclass(slots=True, kw_only=True)
class Found:
    """A row to be, whose digest may not be known yet."""

    path: str
    role: Literal["input", "output"]
    file: Touched
    category: Category
    content: Content

    @property
    def size_bytes(self) -> int | None:
        """What is known of its size."""
        return self.content.size_bytes

    @property
    def digest(self) -> str | None:
        """What is known of its digest."""
        return self.content.digest


class _Rows:
    """Makes the rows of files: first what they are, then the digests of all at once."""

    def __init__(self, territory: Territory, moments: Moments, history: History) -> None:
        self._territory = territory
        self._moments = moments
        self._history = history
        self._found: dict[tuple[str, str], Found] = {}
        self._inputs: set[str] = set()
        self.untouched = Untouched()

    def add_inputs(self) -> None:
        """Add what was read, but for what turns out to be the run's own under another name: a symbolic link to it."""
        own = self._own_inodes()
        for read in self._history.inputs.values():
            if read.inode is not None and own.get((read.device, read.inode), read.at) < read.at:
                continue
            place, about = self._moments.look(read.path)
            category = self._territory.category(read.path, gone=about is None)
            content = self._moments.input(read, place, about, category)
            self._add(read, "input", self._moments.keep(read.path, category, content), about, category)

    def add_outputs(self) -> None:
        """Add what was written and is still there, also under the names that the run linked to it."""
        inodes: dict[tuple[int, int], Touched] = {}
        for written in self._history.outputs.values():
            about = state(written.path)
            if about is not None:
                self._add(written, "output", self._moments.output(about, written.path), about)
                inodes[about.st_dev, about.st_ino] = written
        for path in {*self._history.moved, *self._history.moved.values()} - self._history.outputs.keys():
            about = state(path)
            other = inodes.get((about.st_dev, about.st_ino)) if about is not None else None
            if about is not None and other is not None:
                named = replace(other, path=path)
                self._add(named, "output", self._moments.output(about, path), about)

    def add_declared(self, context: Context, places: Places) -> None:
        """Add what the user declared and nothing was seen to read; what the run made there is no input."""
        for listing in listings(context.declared, context.working_directory):
            folder = encode_path(listing.folder)
            place = places.whole(folder)
            rest = iter(listing) if place is None else self._add_untouched(context, folder, listing, place)
            for raw, about in rest:
                self._add_one_declared(context, raw, about)

    def _add_untouched(
        self, context: Context, folder: str, listing: Listing, place: Place
    ) -> Iterable[tuple[bytes, os.stat_result]]:
        """Add the files of a folder of which nothing new is to be said, and return the others."""
        paths, states = _encoded(folder, listing), list(map(state_of, listing.states))
        before = self._territory.relative(folder)
        relative = paths if before == folder else _encoded(before, listing)
        digests = self._moments.known(folder, listing, states)
        outputs, inputs, since_ns = self._history.outputs, self._inputs, context.started_at_ns or sys.maxsize
        _, _, sizes_bytes, modified_at_ns, changed_at_ns = zip(*states, strict=True)
        is_untouched = None not in digests and max(*modified_at_ns, *changed_at_ns) <= since_ns
        rest: list[int] = []
        if not is_untouched or not inputs.isdisjoint(relative) or not outputs.keys().isdisjoint(paths):
            rest = [
                index
                for index, (path, name, digest) in enumerate(zip(paths, relative, digests, strict=True))
                if digest is None
                or name in inputs
                or path in outputs
                or max(modified_at_ns[index], changed_at_ns[index]) > since_ns
            ]
        found = Untouched()
        found.add(relative, sizes_bytes, modified_at_ns, digests, repeat(place, len(paths)))
        if rest:
            found = found.chosen(sorted(set(range(len(paths))).difference(rest)))
        self.untouched.add(*found.columns())
        inputs.update(found.paths)
        return [(listing.folder + os.fsencode(listing.names[index]), listing.states[index]) for index in rest]

    def _add_one_declared(self, context: Context, raw: bytes, about: os.stat_result) -> None:
        nobody = Touched(path="", process_key="", library="", at=context.started_at_ns / 1e9, existed=True)
        path = encode_path(raw)
        name = self._territory.relative(path)
        known = self._found.get((name, "input"))
        if known is not None:
            known.category = "data"
        if name in self._inputs or path in self._history.outputs:
            return
        if context.started_at_ns and max(about.st_mtime_ns, about.st_ctime_ns) > context.started_at_ns:
            nobody.path = path
            content = self._moments.input(nobody, path, about, "data")
            self._add(nobody, "input", content, about, category="data")
        else:
            self._put(path, "input", nobody, "data", self._moments.output(about, path, raw))

    def add_standard_input(self, context: Context) -> None:
        """Add the file that the shell put on standard input, which no layer sees being opened."""
        try:
            about, path = os.fstat(0), encode_path(os.readlink(b"/proc/self/fd/0"))  # noqa: PTH115 - bytes
        except OSError:
            return
        if not stat.S_ISREG(about.st_mode):
            return
        path, gone = path.removesuffix(_DELETED), path.endswith(_DELETED)
        if self._territory.relative(path) in self._inputs:
            return
        read = Touched(path=path, process_key="main", library="stdin", at=context.started_at_ns / 1e9, existed=True)
        category = self._territory.category(path, gone=gone)
        self._add(read, "input", self._moments.input(read, path, None if gone else about, category), about)

    def finish(self) -> list[Found]:
        """Return all rows to be, with digests, in order."""
        found = [self._found[key] for key in sorted(self._found)]
        self._moments.hash([each.content for each in found])
        return found

    def _add(
        self,
        file: Touched,
        role: Literal["input", "output"],
        content: Content,
        about: os.stat_result | None,
        category: Category | None = None,
    ) -> None:
        category = category or self._territory.category(file.path, gone=about is None)
        self._put(file.path, role, file, category, content)

    def _put(
        self, path: str, role: Literal["input", "output"], file: Touched, category: Category, content: Content
    ) -> None:
        path = self._territory.relative(path)
        if role == "input":
            self._inputs.add(path)
        self._found[path, role] = Found(path=path, role=role, file=file, category=category, content=content)

    def _own_inodes(self) -> dict[tuple[int | None, int | None], float]:
        """Return the inodes of files that the run made, with the time when it did."""
        found: dict[tuple[int | None, int | None], float] = {}
        for written in self._history.outputs.values():
            about = None if written.existed else state(written.path)
            if about is not None:
                found[about.st_dev, about.st_ino] = written.at
        return found


def _encoded(folder: str, listing: Listing) -> list[str]:
    """Return the paths of the files in a folder, encoded."""
    together = "/".join(listing.names)
    if together.isascii() and "\\" not in together:
        return [folder + name for name in listing.names]
    return [folder + encode_path(name) for name in listing.names]


def _untouched_rows(untouched: Untouched, grouped: Grouped) -> list[DataFile]:
    columns: tuple[Iterable[object], ...] = (
        untouched.paths,
        repeat("input"),
        repeat("data"),
        map(grouped.places.__getitem__, untouched.places),
        untouched.sizes_bytes,
        untouched.digests,
        utc_ns_each(untouched.modified_at_ns),
        repeat(""),  # no process
        repeat(""),  # no library
        repeat("declared"),
        repeat(False),
    )
    return model.from_columns(DataFile, len(untouched.paths), columns)


def _row(found: Found, dataset: str | None) -> DataFile:
    content = found.content
    return DataFile(
        path=found.path,
        role=found.role,
        category=found.category,
        dataset=dataset,
        size_bytes=content.size_bytes,
        digest=content.digest,
        modified_at=None if content.modified_at_ns is None else utc_ns(content.modified_at_ns),
        process_key=found.file.process_key,
        library=found.file.library,
        seen_by=_seen_by(found.file),
        changed_during_run=content.changed,
    )


def _seen_by(file: Touched) -> Literal["agent", "kernel", "both", "declared"]:
    if file.by_agent:
        return "both" if file.by_kernel else "agent"
    return "kernel" if file.by_kernel else "declared"


def _changes(territory: Territory, history: History) -> tuple[FileChange, ...]:
    """Return what got another name or was removed, but for what was made only to be removed, and compiled code."""
    rows: list[FileChange] = []
    for change in history.changes:
        paths = [path for path in (change.path, change.target) if path is not None]
        if all(_is_noise(territory, path) for path in paths):
            continue
        target = None if change.target is None else territory.relative(change.target)
        row = FileChange(
            ordinal=len(rows),
            action=change.action,
            path=territory.relative(change.path),
            target=target,
            process_key=change.process_key,
        )
        rows.append(row)
    return tuple(rows[:MOST_ROWS])


def _is_noise(territory: Territory, path: str) -> bool:
    return (
        territory.is_temporary(path) or territory.is_ours(path) or territory.is_covered(path) or path.endswith(".pyc")
    )


def _programs(context: Context, actors: Actors) -> tuple[Program, ...]:
    """Return every program that was executed, with the digest of its file."""
    executions = context.kernel.executions if context.kernel is not None else []
    executions = sorted(executions, key=lambda each: each.at)[:MOST_ROWS]
    digests = _program_digests(dict.fromkeys(each.path for each in executions))
    return tuple(
        Program(
            ordinal=ordinal,
            process_key=actors.who(each.pid, each.at).process_key,
            pid=each.pid,
            parent_pid=each.parent,
            path=each.path,
            argv=tuple(storable(word) for word in redact.argv(each.argv)[0]),
            sha256=digests.get(each.path),
            started_at=utc(each.at),
        )
        for ordinal, each in enumerate(executions)
    )


def _program_digests(paths: Iterable[str]) -> dict[str, str | None]:
    """Return digests by path; a program under several names is hashed once."""
    places = {path: os.path.realpath(decode_path(path)) for path in paths}
    files = list(dict.fromkeys(places.values()))
    found = {files[index]: outcome.digest for index, outcome in manyfiles.digest_files(files)}
    return {path: found[place] for path, place in places.items()}
