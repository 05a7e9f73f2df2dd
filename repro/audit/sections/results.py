"""What came of it: outputs, the end of the command, and what was not seen."""

from __future__ import annotations

from collections.abc import Iterator

from repro.audit import wording
from repro.audit.difference import Difference, keyed
from repro.audit.outputs import compare_outputs
from repro.evidence.model import Gap, Record


def outputs(left: Record, right: Record) -> Iterator[Difference]:
    """Compare what the runs left behind and what they printed."""
    notes = {
        "differs": "content differs",
        "only-left": "only written on the left",
        "only-right": "only written on the right",
        "not-hashed": "cannot be compared: not hashed on both sides",
    }
    for output in compare_outputs(left, right):
        if not output.same:
            yield Difference(
                section="outputs",
                name=output.path,
                left=output.left_sha256,
                right=output.right_sha256,
                note=f"{output.extent} differ" if output.extent else notes[output.state],
            )
    streams = ("stdout_sha256", "stderr_sha256")
    ours, theirs = (
        {fact.name.partition("_")[0]: fact.value for fact in r.facts if fact.topic == "stream" and fact.name in streams}
        for r in (left, right)
    )
    yield from keyed("outputs", ours, theirs, "what the command printed")


def outcome(left: Record, right: Record) -> Iterator[Difference]:
    """Compare how the commands ended."""
    return keyed("outcome", {"status": wording.outcome(left)}, {"status": wording.outcome(right)})


def _is_of_time(gap: Gap) -> bool:
    """Say whether a gap tells of the time that there was: what is locked or hashed once is found in a cache later.

    What they are about, distributions, their files and libraries, is compared by itself.
    """
    return gap.topic == "lock" or (gap.topic == "environment" and gap.subject in ("installed files", "libraries"))


def gaps(left: Record, right: Record) -> Iterator[Difference]:
    """Compare what was not seen."""

    def reasons(record: Record) -> dict[str, str]:
        found: dict[str, str] = {}
        for gap in sorted(record.gaps, key=lambda g: g.reason):
            if _is_of_time(gap):
                continue
            name = f"{gap.topic}: {gap.subject}"
            found[name] = f"{found[name]}; {gap.reason}" if name in found else gap.reason
        return found

    return keyed("gaps", reasons(left), reasons(right))
