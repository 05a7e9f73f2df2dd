"""On what a replay depends, and how it stands here: said before the start. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from repro.evidence import commitment
from repro.evidence.canonical import storable
from repro.evidence.model import Dataset, Fact, Record
from repro.record.determinism import mode_of
from repro.replay import inherited, processor
from repro.replay.data import Inspection, Mismatch, is_cache
from repro.replay.tools import Tool

Effect = Literal["none", "bitwise at risk", "impossible"]

HOST_HINT: Final = "replay with --executor host, which uses the recorded environment where it still stands"
REDACTED: Final = "<redacted>"

_BITWISE_FACTS: Final = re.compile(
    r"hardware (machine|cpu_(model|vendor|isa|cores|affinity)|gpu_count|gpu\.\d+\.(name|compute_cap|driver_version))"
    r"|environment libc"
)
"""CPU models and instruction sets choose kernels; cores choose the number of threads and so the order of sums."""
_LOADER_VARIABLES: Final = ("LD_LIBRARY_PATH", "LD_PRELOAD")
INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "TERM")
"""Variables that a replay takes from here without being told: programs do not run without them."""
_OF_THE_SHELL: Final = ("_", "PWD", "OLDPWD", "SHLVL", "REPRO_HOME")
_COMPARED_ENVIRONMENT: Final = re.compile(
    r"libc|os|platform|container|umask|timezone|timezone_rules|locale|limit\..*|transparent_hugepages"
)
_SAME, _OTHER, _UNSET = "the same value here", "another value here", "not set here"
_PUT_BACK: Final = "put the recorded file back, or go on with --allow-changed-data"
_NAMED: Final = 20
"""Conditions of one kind that are told one by one; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing on which a replay depends, as it was and as it is here."""

    name: str
    recorded: str | None
    here: str | None
    """`None` when it is missing here."""
    effect: Effect
    note: str | None = None
    """What follows, in one sentence."""
    hint: str | None = None
    """The next step, where the effect is `impossible`."""

    @property
    def state(self) -> Literal["same", "differs", "missing"]:
        """How the recorded value stands to the one here."""
        if self.recorded == self.here:
            return "same"
        return "missing" if self.here is None else "differs"

    @property
    def matters(self) -> bool:
        """Whether it bears on the replay."""
        return self.effect != "none"

    @property
    def sentence(self) -> str:
        """The condition for a reader, in one line."""
        if self.state == "same":
            return f"{self.name}: {self.recorded}"
        found = f"{self.name}: recorded {self.recorded or 'nothing'}, here {self.here or 'missing'}"
        return f"{found} ({self.note or self.effect})"


def of_command(record: Record) -> tuple[Condition, ...]:
    """Say whether the command can be given again as it was, and what is known of how it ended."""
    run = record.run
    found = [
        Condition(
            name=f"argument {index}",
            recorded=item,
            here=None,
            effect="impossible",
            note=f"argument {index} held a secret, which was not stored",
            hint="let the command read it from an environment variable, record again, and replay with --pass-env NAME",
        )
        for index, item in enumerate(run.argv)
        if REDACTED in item
    ]
    if run.status in ("killed", "interrupted"):
        note = f"the recorded command was {run.status}: only what came before can be compared"
        found.append(Condition(name="ending", recorded=run.status, here=None, effect="none", note=note))
    return tuple(found)


def of_data(inspection: Inspection, *, allow_changed: bool, datasets: Iterable[Dataset] = ()) -> tuple[Condition, ...]:
    """Say which inputs are not what they were, and which cannot be checked; a dataset is told as one."""
    sets = {row.name: row for row in datasets if row.file_count > 1}
    grouped: dict[str, list[Mismatch]] = {}
    for found in inspection.mismatches:
        grouped.setdefault(found.dataset if found.dataset in sets else "", []).append(found)
    whole = (_of_dataset(sets[name], found) for name, found in grouped.items() if name)
    altered = [*whole, *map(_of_input, grouped.get("", []))]
    if allow_changed:
        altered = [replace(condition, effect="bitwise at risk", hint=None) for condition in altered]
    named = inspection.unchecked[:_NAMED]
    rest = len(inspection.unchecked) - len(named)
    sentences = (*named, *([f"{rest:,} more inputs cannot be checked"] if rest else []))
    doubtful = (
        Condition(name="input", recorded=None, here="unchecked", effect="bitwise at risk", note=sentence)
        for sentence in sentences
    )
    return (*altered, *doubtful)


def _of_input(found: Mismatch) -> Condition:
    return Condition(
        name=f"input {found.path}",
        recorded=found.recorded_sha256,
        here=found.found_sha256,
        effect="impossible",
        note=found.sentence,
        hint=_PUT_BACK,
    )


def _of_dataset(row: Dataset, found: list[Mismatch]) -> Condition:
    gone = sum(mismatch.found_sha256 is None for mismatch in found)
    return Condition(
        name=f"dataset {row.name}",
        recorded=f"{row.file_count:,} files, {row.digest}",
        here=f"{len(found) - gone:,} of them changed, {gone:,} gone or not readable",
        effect="impossible",
        note=f"{len(found):,} of the {row.file_count:,} files of dataset {row.name} are not what they were, "
        f"such as: {found[0].sentence}",
        hint=_PUT_BACK,
    )


def of_programs(inspection: Inspection) -> tuple[Condition, ...]:
    """Say which programs of the machine that the run executed are missing here, or are others.

    A missing one stops nothing: many are only asked for to see whether they are there.
    """
    found = [condition for condition in map(_of_program, inspection.programs) if condition.state != "same"]
    if len(found) <= _NAMED:
        return tuple(found)
    names = ", ".join(condition.name.removeprefix("program ") for condition in found[_NAMED:])
    rest = Condition(
        name="other programs", recorded=names, here="others", effect="bitwise at risk", note="have other bytes here"
    )
    return (*found[:_NAMED], rest)


def _of_program(tool: Tool) -> Condition:
    name = f"program {tool.path}"
    if tool.here is None:
        note = f"the run executed {tool.path}, which is missing here"
        return Condition(name=name, recorded=tool.path, here=None, effect="bitwise at risk", note=note)
    if tool.recorded_sha256 is None or tool.found_sha256 is None or tool.recorded_sha256 == tool.found_sha256:
        return Condition(name=name, recorded=tool.path, here=tool.path, effect="none")
    return Condition(
        name=name,
        recorded=tool.recorded_sha256,
        here=tool.found_sha256,
        effect="bitwise at risk",
        note=f"the run executed {tool.path}, which has other bytes here",
    )


def of_edits(record: Record) -> tuple[Condition, ...]:
    """Name the distributions that somebody had edited: an environment that is built anew has them as published."""
    edited: dict[str, list[str]] = {}
    for row in record.package_changes:
        edited.setdefault(row.package, []).append(row.path)
    return tuple(
        Condition(
            name=f"package {name}",
            recorded=f"{len(paths):,} installed {'file' if len(paths) == 1 else 'files'} edited",
            here="as published",
            effect="bitwise at risk",
            note=f"{paths[0]}{f' and {len(paths) - 1:,} more files' if len(paths) > 1 else ''} had been edited after "
            f"installation; a rebuilt environment has {name} as it was published",
        )
        for name, paths in edited.items()
    )


def of_outputs(inspection: Inspection, diverted: Iterable[str]) -> tuple[Condition, ...]:
    """Say which recorded outputs outside the tree the replay would write over."""
    moved = tuple(diverted)
    return tuple(
        _overwritten(path)
        for path in inspection.present_outputs
        if not any(path == prefix or path.startswith(f"{prefix}/") for prefix in moved)
    )


def _overwritten(path: str) -> Condition:
    if is_cache(path):
        note = f"{path} is a cache in the home directory; the replay may write there again"
        return Condition(name=f"output {path}", recorded="absent or older", here="present", effect="none", note=note)
    return Condition(
        name=f"output {path}",
        recorded="written by the run",
        here="present",
        effect="impossible",
        note=f"the script writes to {path} by itself, so the replay would write over the recorded output",
        hint=f"move {path} away first, or record again with the path given as an argument, which a replay can redirect",
    )


def of_machine(record: Record, facts: Iterable[Fact]) -> tuple[Condition, ...]:
    """Compare each recorded fact of the machine with the same fact here, and name what only one of them has."""
    rows = tuple(facts)
    there, here, stands = _of_machine(record.facts), _of_machine(rows), processor.stands(record, rows)
    names = {name for name in there.keys() | here.keys() if not _is_measurement(name)}
    found = (_machine_condition(name, there.get(name), here.get(name)) for name in sorted(names))
    return tuple(_of_processor(condition, stands) for condition in found)


def of_determinism(record: Record) -> tuple[Condition, ...]:
    """Say under which mode of determinism the replay runs: the recorded one, where there was one."""
    mode = mode_of(record.fact("determinism", "mode"))
    if mode == "off":
        return ()
    return (Condition(name="determinism", recorded=mode, here=mode, effect="none"),)


def _of_processor(condition: Condition, stands: Mapping[str, processor.Stand]) -> Condition:
    """Say of another CPU what a replay does about it, and what it cannot do."""
    stand = stands.get(condition.name.removeprefix("hardware "))
    if stand is None or not condition.matters or condition.state != "differs":
        return condition
    at_risk, note = stand
    return replace(condition, effect="bitwise at risk" if at_risk else "none", note=note)


def _is_measurement(name: str) -> bool:
    """Say whether a fact tells of the run, and not of the machine."""
    return name.startswith("hardware energy_")


def _of_machine(facts: Iterable[Fact]) -> dict[str, str]:
    return {
        f"{fact.topic} {fact.name}": fact.value
        for fact in facts
        if fact.topic == "hardware" or (fact.topic == "environment" and _COMPARED_ENVIRONMENT.fullmatch(fact.name))
    }


def _machine_condition(name: str, recorded: str | None, here: str | None) -> Condition:
    same = recorded == here
    if name == "hardware cpu_affinity" and recorded and here:  # which CPUs does not matter, how many does
        same = processor.count(recorded) == processor.count(here)
    effect: Effect = "bitwise at risk" if not same and _BITWISE_FACTS.fullmatch(name) else "none"
    note = None
    if not same and recorded and here:
        effect, note = _of_inherited(name, recorded, here) or (effect, note)
    return Condition(name=name, recorded=recorded, here=here, effect=effect, note=note)


def _of_inherited(name: str, recorded: str, here: str) -> tuple[Effect, str] | None:
    """Say what becomes of what a command inherits; `None` for any other fact."""
    if name.startswith("environment limit."):
        limit = name.removeprefix("environment limit.")
        if limit not in inherited.LIMITS:
            return "none", "left as it is here"
        if inherited.within(recorded, here):
            return "none", "the replay sets the recorded soft limit"
        return "bitwise at risk", "the recorded soft limit is beyond what this user may set here"
    if name in ("environment umask", "environment timezone"):
        return "none", "the replay sets it as recorded"
    return None


def of_hidden_variables(
    record: Record, passed: Iterable[str], environment: Mapping[str, str] | None = None
) -> tuple[Condition, ...]:
    """Say of the environment variables whose values were not stored how they stand here.

    Args:
        record: With names, and commitments to values, of the variables.
        passed: Names of the variables that the user passes on.
        environment: The variables here; `None` where they are not to be looked at.
    """
    committed = {fact.name: fact.value for fact in record.facts if fact.topic == "commitment"}
    names = dict.fromkeys([*(record.fact("environment", "other_variables") or "").split(","), *committed])
    salt = record.fact("environment", "commitment_salt") or ""
    known = None if environment is None else {storable(name): (name, value) for name, value in environment.items()}
    here = {n: _here(n, committed.get(n), salt, known) for n in names if n and n not in _OF_THE_SHELL}
    handed = [_passed_variable(name, here[name]) for name in passed if here.get(name) == _OTHER]
    hidden = [name for name in here if name not in (*passed, *INHERITED)]
    loader = [_loader_variable(name, here[name]) for name in hidden if name in _LOADER_VARIABLES]
    rest = [name for name in hidden if name not in _LOADER_VARIABLES]
    if not rest:
        return (*handed, *loader)
    by_state: dict[str, list[str]] = {}
    for name in rest:
        by_state.setdefault(here[name], []).append(name)
    stands = "".join(f"; {state}: {', '.join(found)}" for state, found in sorted(by_state.items()) if state)
    note = f"present when recorded, not set in the replay{stands}; give those that matter with --pass-env"
    others = Condition(name="other variables", recorded=", ".join(rest), here=None, effect="none", note=note)
    return (*handed, *loader, others)


def _here(name: str, committed: str | None, salt: str, known: Mapping[str, tuple[str, str]] | None) -> str:
    """Say how a variable here stands to the commitment in the record; empty where nothing can be said."""
    if known is None or committed is None:
        return ""
    if name not in known:
        return _UNSET
    same = commitment.matches(committed, salt, *known[name])
    return "" if same is None else _SAME if same else _OTHER


def _passed_variable(name: str, state: str) -> Condition:
    note = f"{name} is passed on with another value than the recorded run had"
    return Condition(name=f"variable {name}", recorded="a value", here=state, effect="bitwise at risk", note=note)


def _loader_variable(name: str, state: str) -> Condition:
    about = f" ({state})" if state else ""
    return Condition(
        name=f"variable {name}",
        recorded="set, value not stored",
        here=None,
        effect="bitwise at risk",
        note=f"{name} may have chosen other libraries; give it with --pass-env {name}{about}",
    )
