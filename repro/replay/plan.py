"""What a replay will do, decided before anything is built. Pure: nothing here touches the machine."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from repro.evidence import canonical
from repro.evidence.model import CodeFile, Package, Record
from repro.record.determinism import Mode, mode_of
from repro.replay import conditions, entropy, packages, processor
from repro.replay.conditions import Condition
from repro.replay.data import Input, Inspection, Mismatch, outside_outputs, place
from repro.replay.machine import Machine
from repro.replay.relocation import paths_named


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """The interpreter that the command ran with, as recorded."""

    version: str
    implementation: str
    executable: str
    prefix: str
    base_prefix: str
    build: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that an executor needs to run a recorded command again. Paths are still the recorded ones."""

    run_id: str
    argv: tuple[str, ...]
    root: str
    """Absolute, encoded."""
    working_directory: str
    """Relative to the root, encoded."""
    variables: tuple[tuple[str, str], ...]
    """Environment variables to set."""
    entropy: str
    """The document that the agent puts back."""
    determinism: Mode
    """What was asked of numeric libraries, and is again."""
    python: Python | None
    """`None` when no Python process was seen."""
    lock: str | None
    """Digest of the lock."""
    no_lock_because: str
    packages: tuple[Package, ...]
    lacking: tuple[Condition, ...]
    """What an environment rebuilt from the lock lacks."""
    source_paths: tuple[str, ...]
    """Directories of the tree, relative to the root, that stand in for its editable installs."""
    code_files: tuple[CodeFile, ...]
    inputs: tuple[Input, ...]
    mismatches: tuple[Mismatch, ...]
    directories: tuple[str, ...]
    """Absolute, encoded: directories that must be there before the command starts."""
    diverted: tuple[str, ...]
    """Absolute paths outside the root which the command names and writes to: they move into the scratch directory."""
    conditions: tuple[Condition, ...]

    def under(self, more: tuple[Condition, ...]) -> Plan:
        """Return this plan with the conditions of an executor."""
        return replace(self, conditions=(*self.conditions, *more))

    @property
    def impossible(self) -> tuple[Condition, ...]:
        """The conditions that stand in the way."""
        return tuple(condition for condition in self.conditions if condition.effect == "impossible")

    @property
    def digest(self) -> str:
        """Digest of what is to be run, so that two replays can be seen to have followed one plan."""
        return canonical.digest(
            canonical.dumps(
                {
                    "run_id": self.run_id,
                    "argv": self.argv,
                    "root": self.root,
                    "working_directory": self.working_directory,
                    "variables": self.variables,
                    "entropy": canonical.digest(self.entropy.encode()),
                    "determinism": self.determinism,
                    "lock": self.lock,
                    "code": canonical.tree_digest(self.code_files),
                    "inputs": [[item.path, item.sha256] for item in self.inputs],
                }
            )
        )


def make(
    record: Record,
    inspection: Inspection,
    machine: Machine,
    *,
    locked: Mapping[str, str],
    imports: frozenset[str],
    passed: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    allow_changed_data: bool = False,
) -> Plan:
    """Decide how to run a record again on a machine.

    Args:
        record: A verified record.
        inspection: What was found of its inputs.
        machine: This machine.
        locked: Name to version of each distribution in the recorded lock.
        imports: Top-level modules that the recorded code tree imports.
        passed: Names of environment variables that the user passes on.
        environment: The variables here, to be compared with what the record says of those that it does not hold.
        allow_changed_data: Changed inputs are taken as they are; missing ones are done without.
    """
    diverted = _diverted(record)
    return Plan(
        run_id=record.run.run_id,
        argv=record.run.argv,
        root=record.run.root,
        working_directory=record.run.working_directory,
        variables=_variables(record, machine),
        entropy=entropy.document(record),
        determinism=mode_of(record.fact("determinism", "mode")),
        python=_python(record),
        lock=record.fact("environment", "lock"),
        no_lock_because=_no_lock_because(record),
        packages=record.packages,
        lacking=(*packages.lacking(record, locked, imports), *conditions.of_edits(record)),
        source_paths=packages.source_paths(record),
        code_files=record.code_files,
        inputs=_inputs(inspection, allow_changed_data),
        mismatches=inspection.mismatches,
        directories=_directories(record, inspection),
        diverted=diverted,
        conditions=(
            *conditions.of_command(record),
            *conditions.of_determinism(record),
            *conditions.of_data(inspection, allow_changed=allow_changed_data, datasets=record.datasets),
            *conditions.of_outputs(inspection, diverted),
            *conditions.of_machine(record, machine.facts),
            *conditions.of_programs(inspection),
            *conditions.of_hidden_variables(record, passed, environment),
        ),
    )


def _inputs(inspection: Inspection, allow_changed_data: bool) -> tuple[Input, ...]:
    if not allow_changed_data:
        return inspection.inputs
    as_found = (
        Input(path=found.path, source="place", sha256=found.found_sha256, size_bytes=found.found_size_bytes)
        for found in inspection.mismatches
        if found.found_sha256
    )
    return (*inspection.inputs, *as_found)


def _python(record: Record) -> Python | None:
    def known(name: str) -> str:
        return record.fact("environment", name) or ""

    if not known("python_version") or not known("executable"):
        return None
    prefix = known("prefix") or os.fspath(Path(known("executable")).parent.parent)
    return Python(
        version=known("python_version"),
        implementation=known("implementation") or "cpython",
        executable=known("executable"),
        prefix=prefix,
        base_prefix=known("base_prefix") or prefix,
        build=record.fact("environment", "build"),
    )


def _no_lock_because(record: Record) -> str:
    reasons = [gap.reason for gap in record.gaps if gap.topic == "lock"]
    return reasons[0] if reasons else "the record says nothing of a lock"


def _variables(record: Record, machine: Machine) -> tuple[tuple[str, str], ...]:
    """Return the recorded variables and the hash seed, and what holds libraries to the recorded threads and kernels."""
    found = processor.variables(record, machine.facts)
    found.update(_time_zone(record, machine))
    stored = (fact for fact in record.facts if fact.topic == "variable" and conditions.REDACTED not in fact.value)
    found.update((fact.name, fact.value) for fact in stored)
    hash_seed = record.fact("randomness", "hash_seed")
    if hash_seed is not None:
        found["PYTHONHASHSEED"] = hash_seed
    return tuple(sorted(found.items()))


def _time_zone(record: Record, machine: Machine) -> dict[str, str]:
    """Return the recorded machine's time zone, where this machine has another one; a recorded `TZ` is stronger."""
    zone = record.fact("environment", "timezone")
    here = next((f.value for f in machine.facts if (f.topic, f.name) == ("environment", "timezone")), None)
    return {"TZ": zone} if zone and here and zone != here else {}


def _diverted(record: Record) -> tuple[str, ...]:
    """Return what the command or its variables name of the paths outside the root that the run wrote to.

    For each output the longest path that it begins with is taken, or that path's directory where the script adds to the
    name itself. Left where they are, a replay would write over the recorded outputs.
    """
    texts = [*record.run.argv, *(fact.value for fact in record.facts if fact.topic == "variable")]
    named = sorted({path for text in texts for path in paths_named(text)}, key=len, reverse=True)
    found = {_holder(output, named) for output in outside_outputs(record)}
    return tuple(sorted(path for path in found if path not in (None, "/")))


def _holder(output: str, named: list[str]) -> str | None:
    beginning = next((path for path in named if output.startswith(path)), None)
    if beginning is None or output == beginning or output.startswith(f"{beginning}/"):
        return beginning
    return beginning.rpartition("/")[0] or "/"


def _directories(record: Record, inspection: Inspection) -> tuple[str, ...]:
    """Return the parents of outputs that were there before the run: what the run made itself, it makes again."""
    made = set(inspection.made_directories)
    unique = _unique_names(record)
    found: set[str] = {canonical.encode_path(place(record, record.run.working_directory))}
    for file in record.data_files:
        if file.role != "output" or file.category not in ("data", "code"):
            continue
        for parent in reversed(place(record, file.path).parents):
            if os.fspath(parent) in made or any(name in parent.name for name in unique):
                break
            found.add(canonical.encode_path(parent))
    return tuple(sorted(found))


def _unique_names(record: Record) -> tuple[str, ...]:
    """Return what tells a directory named by a random UUID: such a one was made by the run."""
    values = (e.value.replace("-", "") for e in record.entropy if e.stream == "uuid.uuid4")
    return tuple(value[:8] for value in values if re.fullmatch("[0-9a-f]{32}", value))
