"""Bring the parts of a run on several nodes together, verify them, and seal the run that they are."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import repro
from repro.errors import AlteredError, InconclusiveError, UsageError
from repro.evidence import canonical, integrity, joined, seal
from repro.evidence.integrity import Integrity
from repro.evidence.joined import Part
from repro.evidence.keys import PublicKeys
from repro.evidence.model import Record
from repro.evidence.store import RunDirectory, Store
from repro.record import join

_LOOK_SECONDS: Final = 0.5
_MERGED: Final = "merged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A run on several nodes that is sealed."""

    directory: RunDirectory
    record: Record
    already: bool = False
    """Whether these very parts had been merged before."""


def merge(
    references: Sequence[str],
    store: Store,
    trusted: PublicKeys,
    *,
    incomplete: bool = False,
    wait_seconds: float = 0.0,
    allow_unknown_signer: bool = False,
    replay_of: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Merged:
    """Verify the parts of a run on several nodes, and seal the run that they are together.

    Args:
        references: The id of a join of this store; or parts: run ids, or folders of runs in any store, which are
            brought into this one with all that they refer to.
        store: Where the merged run will lie.
        trusted: Whose signatures count.
        incomplete: Merge what is there where nodes are missing; each is a gap.
        wait_seconds: How long to wait for the missing nodes of a join.
        allow_unknown_signer: Take parts that nobody whom this machine trusts signed.
        replay_of: The merged run that this one repeats.
        progress: Called with what is going on.

    Raises:
        UsageError: A reference names nothing, or the parts do not belong together.
        AlteredError: A part is not what was signed.
        UntrustedError: A part is not signed, or by nobody whom this machine trusts.
        InconclusiveError: A node is missing, or evidence of a part is.
        ExecutionError: The store cannot be written to.
    """
    folder = join.folder_of(store, references[0]) if len(references) == 1 else None
    if folder is not None and joined.NAME.fullmatch(references[0]) and folder.is_dir():
        directories = _of_join(folder, store, trusted, wait_seconds, progress)
    else:
        directories = [_directory(reference, store, trusted, allow_unknown_signer) for reference in references]
    parts = [_part(directory, store, trusted, allow_unknown_signer) for directory in directories]
    lacking = joined.missing([part.record for part in parts])
    marks = join.folder_of(store, parts[0].record.fact(joined.TOPIC, "id") or "")
    names = sorted(part.record.run.run_id for part in parts)
    if (before := _merged_before(marks, names, store, trusted)) is not None and replay_of is None:
        return before
    absent = _why_absent(lacking, marks) if incomplete else ""
    directory = store.create_run()
    try:
        record = joined.merge(parts, directory.run_id, repro.__version__, absent=absent, replay_of=replay_of)
        seal.seal_run(record, directory, store)
    except BaseException:
        shutil.rmtree(directory.path, ignore_errors=True)
        raise
    if marks.is_dir():
        join.write_mark(marks / _MERGED, {"run_id": directory.run_id, "parts": names})
    return Merged(directory=directory, record=record)


def _of_join(
    folder: Path, store: Store, trusted: PublicKeys, wait_seconds: float, progress: Callable[[str], None]
) -> list[RunDirectory]:
    """Return the parts of a join that are sealed, once all are, or the wait is over."""
    until = time.monotonic() + wait_seconds
    while True:
        sealed = join.sealed_parts(folder)
        directories = [RunDirectory(path=store.runs_path / run_id) for _, run_id in sorted(sealed.items())]
        if directories and (not _lacking(directories[0], sealed, store, trusted) or time.monotonic() >= until):
            return directories
        if not directories and time.monotonic() >= until:
            began = ", ".join(f"node {node}" for node in join.begun_parts(folder)) or "none"
            raise InconclusiveError(
                f"no node of the join {folder.name} has sealed its part; begun: {began}",
                hint="wait for one: repro merge --wait SECONDS",
            )
        progress(f"waiting for the nodes of the join {folder.name}; {len(sealed)} are there")
        time.sleep(_LOOK_SECONDS)


def _lacking(directory: RunDirectory, sealed: dict[int, str], store: Store, trusted: PublicKeys) -> bool:
    record = integrity.examine(directory, store, trusted).record
    member = joined.membership(record) if record else None
    return member is not None and len(sealed) < member.nodes


def _merged_before(folder: Path, names: list[str], store: Store, trusted: PublicKeys) -> Merged | None:
    """Return the run that these very parts were merged to before, if it is still what was signed."""
    mark = join.read_mark(folder / _MERGED)
    if mark.get("parts") != names or not isinstance(mark.get("run_id"), str):
        return None
    directory = RunDirectory(path=store.runs_path / Path(mark["run_id"]).name)
    examined = integrity.examine(directory, store, trusted)
    if examined.error() is not None or examined.record is None:
        return None
    return Merged(directory=directory, record=examined.record, already=True)


def _why_absent(lacking: Sequence[int], folder: Path) -> str:
    if not lacking:
        return ""
    began = set(join.begun_parts(folder)) & set(lacking)
    known = f"; of the missing, {', '.join(map(str, sorted(began)))} had begun" if began else ""
    return f"its part was not there when the others were merged: nothing of this node was observed{known}"


def _part(directory: RunDirectory, store: Store, trusted: PublicKeys, allow_unknown_signer: bool) -> Part:
    examined = integrity.examine(directory, store, trusted)
    record = _record(examined, allow_unknown_signer)
    return Part(record=record, manifest_digest=manifest_digest(examined))


def _record(examined: Integrity, allow_unknown_signer: bool) -> Record:
    error = examined.error(allow_unknown_signer=allow_unknown_signer)
    if error is not None:
        raise error
    assert examined.record is not None  # noqa: S101 - no error, so there is a record
    return examined.record


def manifest_digest(examined: Integrity) -> str:
    """Return the digest of a run's manifest, as its statement says."""
    subjects = (examined.statement or {}).get("subject", ())
    return next((f"sha256:{s['digest']['sha256']}" for s in subjects if s["name"] == "manifest.duckdb"), "")


def _directory(reference: str, store: Store, trusted: PublicKeys, allow_unknown_signer: bool) -> RunDirectory:
    """Return the part that a run id or a path names; one of another store is brought into this one."""
    path = Path(reference).expanduser()
    if "/" not in reference and not path.is_dir():
        return store.find(reference)
    path = path.resolve()
    if path.parent.name != "runs" or not path.is_dir():
        raise UsageError(f"{reference} is no folder of a run", hint="name it as it lies in its store: HOME/runs/RUN")
    if path.parent == store.runs_path.resolve():
        return RunDirectory(path=store.runs_path / path.name)
    return _bring(RunDirectory(path=path), Store(path.parent.parent), store, trusted, allow_unknown_signer)


def _bring(
    foreign: RunDirectory, source: Store, store: Store, trusted: PublicKeys, allow_unknown_signer: bool
) -> RunDirectory:
    """Copy a verified run of another store into this one, with all objects that it refers to."""
    examined = integrity.examine(foreign, source, trusted)
    _record(examined, allow_unknown_signer)
    mine = RunDirectory(path=store.runs_path / foreign.run_id)
    if mine.statement.exists():
        if mine.statement.read_bytes() != foreign.statement.read_bytes():
            raise AlteredError(f"another run {foreign.run_id} lies in {store.root}")
        return mine
    for digest in (examined.statement or {})["predicate"]["objects"]:
        if store.objects.put_file(source.objects.path(digest))[0] != digest:
            raise AlteredError(f"the object {digest} of {source.root} is not what its name says")
    mine.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    seal.write_once(mine.manifest, foreign.manifest.read_bytes())
    seal.write_once(mine.statement, foreign.statement.read_bytes())
    if canonical.digest_file(mine.manifest)[0] != manifest_digest(examined):
        raise AlteredError(f"the manifest of run {foreign.run_id} changed while it was copied")
    return mine
