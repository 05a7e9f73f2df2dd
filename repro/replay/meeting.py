"""Where the nodes of a run meet: the recorded address, turned into a port of this host where all are replayed."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from repro.errors import UsageError
from repro.evidence.joined import Membership
from repro.evidence.model import Fact, Record

HOST: Final = "127.0.0.1"
_ADDRESS: Final = ("--master-addr", "--main-process-ip", "--local-addr")
_PORT: Final = ("--master-port", "--main-process-port")
_BOTH: Final = ("--rdzv-endpoint",)
_INTERFACES: Final = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
"""Name a network interface of the recorded node, which is not here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Which node a replay stands for, and where all of them meet."""

    member: Membership
    port: int

    def text(self) -> str:
        """Return this meeting as `read` takes it."""
        return f"{self.member.join_id}:{self.member.node}:{self.member.nodes}:{self.port}"

    def argv(self, words: Sequence[str]) -> tuple[str, ...]:
        """Return a command with its meeting point moved."""
        moved: list[str] = []
        for word in words:
            name, equals, _ = word.partition("=")
            value = self._value(name if equals else moved[-1] if moved else "")
            if value is None:
                moved.append(word)
            else:
                moved.append(f"{name}={value}" if equals else value)
        return tuple(moved)

    def environment(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Return variables with their meeting point moved."""
        found = {name: value for name, value in variables.items() if name not in _INTERFACES}
        moved = {"MASTER_ADDR": HOST, "MASTER_PORT": str(self.port)}
        return {name: moved.get(name, value) for name, value in found.items()}

    def facts(self) -> tuple[Fact, ...]:
        """Return what the replay's record says of it."""
        point = Fact(topic="replay", name="meeting_point", value=f"{HOST}:{self.port}", source="observed")
        return (*self.member.facts(), point)

    def _value(self, option: str) -> str | None:
        option = option.replace("_", "-")
        values = {_ADDRESS: HOST, _PORT: str(self.port), _BOTH: f"{HOST}:{self.port}"}
        return next((value for names, value in values.items() if option in names), None)


def read(text: str) -> Meeting:
    """Read what `Meeting.text` returns.

    Raises:
        UsageError: It is none.
    """
    join_id, *numbers = text.split(":")
    if len(numbers) != 3 or not all(number.isdecimal() for number in numbers):
        raise UsageError(f"{text!r} is no meeting of nodes", hint="replay the merged run: it starts its parts itself")
    node, nodes, port = map(int, numbers)
    return Meeting(member=Membership(join_id=join_id, node=node, nodes=nodes), port=port)


def names_one(record: Record) -> bool:
    """Say whether a part's command or variables name a meeting point, so that it can be moved."""
    words = {word.partition("=")[0].replace("_", "-") for word in record.run.argv}
    return bool(words & {*_ADDRESS, *_BOTH}) or record.fact("variable", "MASTER_ADDR") is not None


def free_port() -> int:
    """Return a port of this host that nobody listened on a moment ago."""
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        port: int = listening.getsockname()[1]
    return port


def answer_of(text: str) -> str | None:
    """Return the run that a replay of a part was recorded as, from what it printed; `None` where it made none."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    run_id = found.get("replay_id") if isinstance(found, dict) else None
    return run_id if isinstance(run_id, str) else None
