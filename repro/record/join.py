"""Recordings that are parts of one run on several nodes, and how they find each other in a shared store.

A join is a folder `joins/ID` of the store. Node K claims its place by making the folder `K.begun`, and leaves the file
`K.sealed` there once its part is sealed. Who then sees the marks of all nodes makes the folder `merging`, which only
one can, and merges. All marks lie in one folder and appear by `mkdir` and `rename`, which are atomic on NFS, Lustre
and the like, where file locks often are not: making a mark refreshes what a client knows of the folder it lies in.
Nobody waits for anybody: a node that never comes is missing, and `repro merge` says so.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from repro.errors import ExecutionError, UsageError
from repro.evidence.joined import MOST_NODES, NAME, Membership
from repro.evidence.store import Store

_RANK_OPTIONS: Final = ("--node-rank", "--node_rank", "--machine-rank", "--machine_rank")
_COUNT_OPTIONS: Final = ("--nnodes", "--num-machines", "--num_machines")
_RANK_VARIABLES: Final = ("NODE_RANK", "SLURM_NODEID")
_COUNT_VARIABLES: Final = ("NNODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a user asked for."""

    join_id: str
    nodes: int | None = None
    node: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in a join that is this recording's."""

    folder: Path
    member: Membership

    def leave(self) -> None:
        """Give it back: the command did not start."""
        with suppress(OSError):
            (self.folder / f"{self.member.node}.begun").rmdir()

    def sealed(self, run_id: str) -> tuple[int, ...]:
        """Say that the part is sealed, and return the nodes that have not said so yet.

        Raises:
            ExecutionError: The store cannot be written to.
        """
        write_mark(self.folder / f"{self.member.node}.sealed", {"run_id": run_id})
        there = sealed_parts(self.folder)
        return tuple(node for node in range(self.member.nodes) if node not in there)

    def is_merger(self) -> bool:
        """Say whether it falls to this recording to merge: to the first that asks."""
        try:
            (self.folder / "merging").mkdir()
        except OSError:
            return False
        return True


def folder_of(store: Store, join_id: str) -> Path:
    """Return the folder of a join, whether it is there or not."""
    return store.root / "joins" / join_id


def enter(asked: Asked, argv: Sequence[str], environment: Mapping[str, str], store: Store) -> Place:
    """Claim a place in a join, before the command starts.

    The number of nodes and the node's own are what the user says; else what the launcher's command line says, then what
    Slurm or a variable `NODE_RANK` says. A node of which nothing is known gets the first number that is free.

    Raises:
        UsageError: The id or a number makes no sense, the number of nodes is not known, or the place is taken.
        ExecutionError: The store cannot be written to.
    """
    if not NAME.fullmatch(asked.join_id):
        hint = "letters, digits, dots, dashes and underscores, at most 64; the job's number, for example"
        raise UsageError(f"--join {asked.join_id!r} is no id of a join", hint=hint)
    nodes = asked.nodes
    if nodes is None:
        nodes = _told(_COUNT_OPTIONS, _COUNT_VARIABLES, argv, environment)
    if not nodes or nodes > MOST_NODES:
        raise UsageError("--join needs the number of nodes", hint="say it: --nodes N")
    node = asked.node if asked.node is not None else _told(_RANK_OPTIONS, _RANK_VARIABLES, argv, environment)
    if node is not None and node >= nodes:
        raise UsageError(f"there is no node {node} among {nodes}", hint="nodes are counted from 0")
    folder = folder_of(store, asked.join_id)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = _claim(folder, nodes) if node is None else _claim_one(folder, node)
    except OSError as error:
        raise ExecutionError(f"cannot write to {folder}: {error.strerror}", hint="REPRO_HOME must be shared") from error
    return Place(folder=folder, member=Membership(join_id=asked.join_id, node=taken, nodes=nodes))


def sealed_parts(folder: Path) -> dict[int, str]:
    """Return the parts of a join that are sealed: node to run id. What cannot be read is not there."""
    found = {}
    with suppress(OSError):
        for entry in os.listdir(folder):  # noqa: PTH208 - asks the server, where pathlib may too
            if match := re.fullmatch(r"(\d{1,6})\.sealed", entry):
                run_id = read_mark(folder / entry).get("run_id")
                if isinstance(run_id, str) and re.fullmatch(r"[0-9a-f]{12}", run_id):
                    found[int(match[1])] = run_id
    return found


def begun_parts(folder: Path) -> tuple[int, ...]:
    """Return the nodes of a join that began."""
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:
        return ()
    return tuple(sorted(int(name[:-6]) for name in names if re.fullmatch(r"\d{1,6}\.begun", name)))


def read_mark(path: Path) -> dict[str, Any]:
    """Return what a mark says; nothing where there is none, or it cannot be read."""
    try:
        found = json.loads(path.read_bytes()[:65536])
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_mark(path: Path, says: Mapping[str, Any]) -> None:
    """Leave a mark that appears complete under its name.

    Raises:
        ExecutionError: The store cannot be written to.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        with temporary.open("x") as file:
            json.dump(says, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ExecutionError(f"cannot write {path}: {error.strerror}") from error


def _claim(folder: Path, nodes: int) -> int:
    for node in range(nodes):
        if _make(folder / f"{node}.begun"):
            return node
    raise UsageError(
        f"the join {folder.name} has all its {nodes} nodes already", hint="give each recording a join id of its own"
    )


def _claim_one(folder: Path, node: int) -> int:
    if _make(folder / f"{node}.begun"):
        return node
    run_id = sealed_parts(folder).get(node)
    known = f"it is run {run_id}" if run_id else "it began, and is not sealed"
    hint = "give each recording a join id of its own"
    raise UsageError(f"node {node} of the join {folder.name} is there already: {known}", hint=hint)


def _make(folder: Path) -> bool:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return False
    return True


def _told(
    options: Sequence[str], variables: Sequence[str], argv: Sequence[str], environment: Mapping[str, str]
) -> int | None:
    """Return a number that a launcher is told on its command line, or finds in its environment."""
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name in options:
            value = value if equals else "".join(argv[index + 1 : index + 2])
            return int(value) if re.fullmatch(r"\d{1,6}", value) else None
    found = (environment.get(name, "") for name in variables)
    return next((int(value) for value in found if re.fullmatch(r"\d{1,6}", value)), None)
