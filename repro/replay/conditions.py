"""On what a replay depends, and how it stands here: said before the start. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from repro.evidence.model import Fact, Record
from repro.replay.data import Inspection, is_cache
from repro.replay.processor import count

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
_COMPARED_ENVIRONMENT: Final = ("libc", "os", "platform", "container")


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


def of_data(inspection: Inspection, *, allow_changed: bool) -> tuple[Condition, ...]:
    """Say which inputs are not what they were, and which cannot be checked."""
    altered = [
        Condition(
            name=f"input {found.path}",
            recorded=found.recorded_sha256,
            here=found.found_sha256,
            effect="bitwise at risk" if allow_changed else "impossible",
            note=found.sentence,
            hint=None if allow_changed else "put the recorded file back, or go on with --allow-changed-data",
        )
        for found in inspection.mismatches
    ]
    doubtful = [
        Condition(name="input", recorded=None, here="unchecked", effect="bitwise at risk", note=sentence)
        for sentence in inspection.unchecked
    ]
    return (*altered, *doubtful)


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
    there, here = _of_machine(record.facts), _of_machine(facts)
    return tuple(
        _machine_condition(name, there.get(name), here.get(name)) for name in sorted(there.keys() | here.keys())
    )


def _of_machine(facts: Iterable[Fact]) -> dict[str, str]:
    return {
        f"{fact.topic} {fact.name}": fact.value
        for fact in facts
        if fact.topic == "hardware" or (fact.topic == "environment" and fact.name in _COMPARED_ENVIRONMENT)
    }


def _machine_condition(name: str, recorded: str | None, here: str | None) -> Condition:
    same = recorded == here
    if name == "hardware cpu_affinity" and recorded and here:  # which CPUs does not matter, how many does
        same = count(recorded) == count(here)
    effect: Effect = "bitwise at risk" if not same and _BITWISE_FACTS.fullmatch(name) else "none"
    return Condition(name=name, recorded=recorded, here=here, effect=effect)


def of_hidden_variables(record: Record, passed: Iterable[str]) -> tuple[Condition, ...]:
    """Name the environment variables that were there but whose values were not stored."""
    names = (record.fact("environment", "other_variables") or "").split(",")
    hidden = [name for name in names if name and name not in (*passed, *INHERITED, *_OF_THE_SHELL)]
    loader = [
        Condition(
            name=f"variable {name}",
            recorded="set, value not stored",
            here=None,
            effect="bitwise at risk",
            note=f"{name} may have chosen other libraries; give it with --pass-env {name}",
        )
        for name in hidden
        if name in _LOADER_VARIABLES
    ]
    rest = ", ".join(name for name in hidden if name not in _LOADER_VARIABLES)
    if not rest:
        return tuple(loader)
    note = "present when recorded, values not stored, not set in the replay; give those that matter with --pass-env"
    return (*loader, Condition(name="other variables", recorded=rest, here=None, effect="none", note=note))
