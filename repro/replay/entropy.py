"""What the agent puts back in a replay: entropy, seeds and thread counts, as one JSON document."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from repro.evidence.model import Record

RESTORED_SETTINGS: Final = ("torch.num_threads", "torch.num_interop_threads")
"""Settings that are put back as soon as their library is imported: they decide the order of floating-point sums."""


def document(record: Record) -> str:
    """Return the document that `REPRO_ENTROPY` names.

    `{process_key: {stream: [value, …]}, "seeds": {process_key: {function: [argument, …]}},
    "settings": {process_key: {name: value}}}`. A list ends where an ordinal is missing, since what follows would be
    given to the wrong call.
    """
    streams = _lists((e.process_key, e.stream, e.ordinal, e.value) for e in record.entropy)
    seeds = _lists((s.process_key, s.function, s.ordinal, s.argument) for s in record.seeds)
    settings: dict[str, dict[str, str]] = defaultdict(dict)
    for setting in record.settings:
        if setting.moment == "import" and setting.name in RESTORED_SETTINGS:
            settings[setting.process_key][setting.name] = setting.value
    return json.dumps({**streams, "seeds": seeds, "settings": settings}, sort_keys=True)


def _lists(rows: Iterable[tuple[str, str, int, str]]) -> dict[str, dict[str, list[str]]]:
    lists: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for process_key, name, ordinal, value in sorted(rows):
        values = lists[process_key][name]
        if ordinal == len(values):
            values.append(value)
    return lists
