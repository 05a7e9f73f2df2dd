"""What the agent puts back in a replay, as one JSON document: entropy, seeds, thread counts, the trace's schedule."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from repro.evidence.model import Record

RESTORED_SETTINGS: Final = {
    "torch.num_threads": ("import",),
    "torch.num_interop_threads": ("end", "first-step", "import"),
    "trace.every": ("first-step",),
}
"""Settings that are put back, with the moments whose value counts, the first that was told: thread counts decide the
order of floating-point sums, and the schedule of the trace decides which steps can be compared. PyTorch lets the number
of inter-op threads be set once, so it is what the training itself set in the end."""


def document(record: Record) -> str:
    """Return the document that `REPRO_ENTROPY` names.

    `{process_key: {stream: [value, …]}, "seeds": {process_key: {function: [argument, …]}},
    "settings": {process_key: {name: value}}}`. A list ends where an ordinal is missing, since what follows would be
    given to the wrong call.
    """
    streams = _lists((e.process_key, e.stream, e.ordinal, e.value) for e in record.entropy)
    seeds = _lists((s.process_key, s.function, s.ordinal, s.argument) for s in record.seeds)
    settings: dict[str, dict[str, str]] = defaultdict(dict)
    told: dict[tuple[str, str, str], str] = {
        (row.process_key, row.name, row.moment): row.value for row in record.settings
    }
    for name, moments in RESTORED_SETTINGS.items():
        for key in dict.fromkeys(row.process_key for row in record.settings):
            found = next((value for moment in moments if (value := told.get((key, name, moment))) is not None), None)
            if found is not None:
                settings[key][name] = found
    return json.dumps({**streams, "seeds": seeds, "settings": settings}, sort_keys=True)


def _lists(rows: Iterable[tuple[str, str, int, str]]) -> dict[str, dict[str, list[str]]]:
    lists: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for process_key, name, ordinal, value in sorted(rows):
        values = lists[process_key][name]
        if ordinal == len(values):
            values.append(value)
    return lists
