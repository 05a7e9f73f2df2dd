"""Installed files that are not what their wheel held: somebody edited the environment.

All files are compared, not only those that the run is seen to import: a library that is mapped by another one, a data
file of a package, an entry point count as well. It is done beside the command in a thread of the lowest priority. What
compared equal before costs one look at its state: 22,000 files of an environment with PyTorch take 0.07 s, in a process
of their own that begins before the command, where reading them takes seconds. When the command ends first, the
comparison goes on for ten seconds at most, small files first, so that nearly all code is compared; what is left is said
as a gap, and the next record of this environment goes on there.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final

from repro.errors import UsageError
from repro.evidence.canonical import encode_path
from repro.evidence.model import Gap
from repro.record import lowpriority
from repro.record.capture import Context, Findings, Patience, observed
from repro.record.software import installed
from repro.record.software.installed import Compared
from repro.record.statebook import Ahead
from repro.record.supervise import find_command

_MORE_SECONDS: Final = 10.0
_NAMED: Final = 5


def before(context: Context) -> Findings:
    """Begin to look at the files of the environment that the command's program had the last time.

    To start the process takes 2 ms. It is done before the command, as a short one ends long before all is looked at.
    """
    with suppress(UsageError):
        program = find_command(context.argv, context.working_directory, context.environment)
        context.notes[__name__] = Ahead(context.cache / "installed", program)
    return Findings()


def beside(context: Context) -> Findings:
    """Compare the files of every distribution that the environment capture listed."""
    packages, keep = context.findings.packages, context.cache / "installed"
    ahead = context.notes.get(__name__)
    ahead = ahead if isinstance(ahead, Ahead) else None
    try:
        if not packages:
            return Findings()
        is_late = _Clock(context.patience).is_late
        found = lowpriority.run(lambda: installed.compare(packages, keep, is_late, ahead), "installed")
    finally:
        if ahead is not None:
            ahead.end()
    facts = (
        observed("environment", "packages_changed", len(found.changes)),
        observed("environment", "packages_compared_files", found.compared),
    )
    return Findings(facts=facts, gaps=_gaps(found), package_changes=tuple(found.changes))


class _Clock:
    """Counts the seconds since the command was first seen to have ended."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._deadline: float | None = None

    def is_late(self) -> bool:
        """Say whether to leave the rest."""
        if self._patience.ended and self._deadline is None:
            self._deadline = time.monotonic() + _MORE_SECONDS
        return self._patience.spent or (self._deadline is not None and time.monotonic() > self._deadline)


def _gaps(found: Compared) -> tuple[Gap, ...]:
    reasons = []
    if found.left:
        total = found.left + found.compared
        reasons.append(
            f"{found.left} of {total} files were not compared with what was installed: the run had ended; "
            "the next record of this environment goes on with them"
        )
    for what, names in (
        ("distributions have no list of hashes, so that a change to them would not be seen", found.unlisted),
        ("files lead out of the environment and were not opened", [encode_path(path) for path in found.outside]),
        ("files could not be read", [encode_path(path) for path in found.unreadable]),
    ):
        if names:
            shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
            reasons.append(f"{len(names)} {what}: {shown}")
    return tuple(Gap(topic="environment", subject="installed files", reason=reason) for reason in reasons)
