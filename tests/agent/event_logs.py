"""Read event logs, and say where the agent is: what the tests of this folder share."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any, Optional

ROOT = Path(__file__).resolve().parents[2]
AGENT = ROOT / "repro" / "agent"
INJECT = AGENT / "inject"
OLDEST = Path.home() / ".pyenv/versions/3.9.18/bin/python"

Event = dict[str, Any]


def read_events(folder: Path) -> list[Event]:
    """Return all events of all logs in a folder, each with the key of its process, in the order of the logs' names."""
    events: list[Event] = []
    for path in sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_ctime_ns):
        text = path.read_bytes().rstrip(b"\0")
        lines = [json.loads(line) for line in text.split(b"\n") if line.endswith(b"}")]
        key = next((line["process_key"] for line in lines if line["event"] == "start"), None)
        events += [dict(line, process_key=key) for line in [*lines, *_points(path.with_suffix(".points"), lines)]]
    return events


def _points(path: Path, lines: list[Event]) -> list[Event]:
    """Return the points beside a log as events of the kind `metric`, as a log holds those that stand in it."""
    if not path.exists():
        return []
    data = path.read_bytes()
    assert not data.strip(b"\0") or data.startswith(b"repro points 1\n")
    series = {line["number"]: line for line in lines if line["event"] == "series"}
    return [
        {
            "event": "metric",
            "name": series[number]["name"],
            "step": step,
            "value": value.hex(),
            "dtype": series[number]["dtype"],
            "at": micros / 1e6,
        }
        for step, value, micros, number in struct.iter_unpack("<qdqQ", data[32 : len(data) // 32 * 32])
        if number
    ]


def of_kind(events: list[Event], kind: str, key: Optional[str] = None) -> list[Event]:
    """Return the events of one kind, of one process or of all."""
    return [event for event in events if event["event"] == kind and key in (None, event["process_key"])]


def entropy_document(events: list[Event]) -> dict[str, Any]:
    """Return what a replay puts back, as the supervisor writes it."""
    document: dict[str, Any] = {"settings": {}, "seeds": {}}
    for event in of_kind(events, "entropy"):
        document.setdefault(event["process_key"], {}).setdefault(event["stream"], []).append(event["value"])
    for event in of_kind(events, "seed"):
        seeds = document["seeds"].setdefault(event["process_key"], {})
        seeds.setdefault(event["function"], []).append(event["argument"])
    for event in of_kind(events, "setting"):
        if event["moment"] == "import" and event["name"] in ("torch.num_threads", "torch.num_interop_threads"):
            document["settings"].setdefault(event["process_key"], {})[event["name"]] = event["value"]
    return document


def bare_environment() -> dict[str, str]:
    """Return this environment without what would show in a child interpreter, but for the measuring of coverage.

    That opens files, and imports `random` and others, before the agent is there: where a test would notice, it asks for
    `unmeasured_jobs`.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith(("REPRO_", "PYTHON", "RANK"))}
