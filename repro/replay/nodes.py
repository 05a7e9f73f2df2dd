"""Replay a run on several nodes: all parts at once on this host, each by a `repro replay` of its own, then merged.

The parts meet at a port of this host instead of the recorded address. Each is replayed as any run is, in a process of
its own: what is inherited (umask, limits, signals) is a process's. Their records are merged as the original's were.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import IO, Final

from repro.errors import ExecutionError, InconclusiveError, UsageError
from repro.evidence import integrity, joined
from repro.evidence.joined import Membership, NamedPart
from repro.evidence.model import Record
from repro.evidence.store import RunDirectory, Store
from repro.evidence.trust import trusted_keys
from repro.record.excerpt import WHOLE
from repro.record.nodes import Merged, merge
from repro.replay.meeting import Meeting, answer_of, free_port, names_one
from repro.replay.replayer import Options, Progress

_LOOK_SECONDS: Final = 0.2


def replay_nodes(original: RunDirectory, store: Store, options: Options, *, progress: Progress) -> Merged:
    """Replay the parts of a merged run at once on this host, and merge their records.

    Raises:
        UsageError: Only a part of the run was asked for.
        AlteredError: The run or a part is not what was signed.
        UntrustedError: Nobody whom this machine trusts signed it.
        InconclusiveError: A part is not here, names no meeting point that could be moved, or could not be replayed; or
            the launcher gave the ranks to other nodes.
        ExecutionError: A part could not be replayed.
    """
    if options.excerpt != WHOLE:
        raise UsageError(
            f"run {original.run_id} is on several nodes: its first steps alone cannot be replayed",
            hint="replay it whole, or diff two runs",
        )
    trusted = trusted_keys(store, options.trust)
    record = integrity.load(original, store, trusted, allow_unknown_signer=options.allow_unknown_signer)
    named = joined.named_parts(record)
    members = _members(record, named, store, options)
    progress(f"replaying {len(named)} nodes at once on this host")
    port, join_id = free_port(), f"replay-{secrets.token_hex(4)}"
    meetings = [
        Meeting(member=Membership(join_id=join_id, node=each.node, nodes=each.nodes), port=port) for each in members
    ]
    run_ids = _run([_command(part, meeting, options) for part, meeting in zip(named, meetings, strict=True)], store)
    replayed = [
        _load(replace(part, run_id=run_id), store, options) for part, run_id in zip(named, run_ids, strict=True)
    ]
    _refuse_other_ranks([_load(part, store, options) for part in named], replayed)
    progress("merging what the nodes did")
    incomplete = bool(joined.missing([_load(part, store, options) for part in named]))
    return merge(run_ids, store, trusted, incomplete=incomplete, replay_of=original.run_id)


def _members(record: Record, named: Sequence[NamedPart], store: Store, options: Options) -> list[Membership]:
    """Check beforehand that each part is here and names a meeting point; return which part of the original each is."""
    found = []
    for part in named:
        if not (store.runs_path / part.run_id).is_dir():
            raise InconclusiveError(
                f"run {record.run.run_id} cannot be replayed: its part {part.run_id}, node {part.node}, is not here",
                hint=f"bring it: repro merge HOME/runs/{part.run_id} …",
            )
        loaded = _load(part, store, options)
        if len(named) > 1 and not names_one(loaded):
            raise InconclusiveError(
                f"run {record.run.run_id} cannot be replayed on one host: the command of node {part.node} names no "
                "meeting point that could be moved here (--master-addr, --rdzv-endpoint, MASTER_ADDR)",
                hint=f"replay a part by itself: repro replay {part.run_id}",
            )
        member = joined.membership(loaded)
        found.append(member or Membership(join_id="", node=part.node, nodes=len(named)))
    return found


def _load(part: NamedPart, store: Store, options: Options) -> Record:
    directory = RunDirectory(path=store.runs_path / part.run_id)
    trusted = trusted_keys(store, options.trust)
    return integrity.load(directory, store, trusted, allow_unknown_signer=options.allow_unknown_signer)


def _refuse_other_ranks(originals: Sequence[Record], replays: Sequence[Record]) -> None:
    """Blame nobody where the launcher gave the ranks to other nodes than it did when they were recorded."""
    before, after = (
        [sorted({p.rank for p in r.processes if p.rank is not None}) for r in s] for s in (originals, replays)
    )
    if before != after and sorted(before) == sorted(after):
        raise InconclusiveError(
            "the launcher gave the ranks to other nodes than in the record: the nodes cannot be compared",
            hint="replay it again, or record with a static rendezvous: --master-addr and --node-rank",
        )


def _command(part: NamedPart, meeting: Meeting, options: Options) -> list[str]:
    words = [sys.executable, "-m", "repro", "replay", part.run_id, "--json"]
    words += ["--executor", options.executor, "--meeting", meeting.text()]
    words += ["--allow-changed-data"] * options.allow_changed_data + ["--keep"] * options.keep
    words += ["--allow-unknown-signer"] * options.allow_unknown_signer
    for name in options.pass_variables:
        words += ["--pass-env", name]
    for key in options.trust:
        words += ["--trust", str(key)]
    return [*words, *(["--python", str(options.python)] if options.python else [])]


def _run(commands: Sequence[Sequence[str]], store: Store) -> list[str]:
    """Run the replays at once, and return the runs that they were recorded as; one that fails ends the others."""
    environment = {**os.environ, "REPRO_HOME": str(store.root)}
    files = [tempfile.TemporaryFile() for _ in commands]  # noqa: SIM115 - closed below
    started = [
        subprocess.Popen(words, stdout=file, env=environment) for words, file in zip(commands, files, strict=True)
    ]
    try:
        while None in (states := [process.poll() for process in started]):
            ended = [i for i, status in enumerate(states) if status is not None]
            if any(_answer(files[i]) is None for i in ended):
                break  # the others would wait for it where they meet
            time.sleep(_LOOK_SECONDS)
    finally:
        for process in started:
            if process.poll() is None:
                process.terminate()
            process.wait()
    answers = [_answer(file) for file in files]
    for file in files:
        file.close()
    failed = [process.returncode for process, answer in zip(started, answers, strict=True) if answer is None]
    if failed:
        kind = InconclusiveError if InconclusiveError.exit_code in failed else ExecutionError
        raise kind(
            f"{len(failed)} of {len(started)} nodes could not be replayed", hint="the reason stands above, node by node"
        )
    return [answer for answer in answers if answer is not None]


def _answer(file: IO[bytes]) -> str | None:
    file.seek(0)
    return answer_of(file.read().decode("utf-8", "replace"))
