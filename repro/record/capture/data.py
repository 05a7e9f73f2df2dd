"""The files that the run read and wrote, by digest, as the agent and the kernel saw them opened."""

from __future__ import annotations

from repro.record.capture import Context, Findings
from repro.record.collection import no_collection


def alongside(context: Context) -> Findings:
    """Begin to hash what the user declared."""
    if context.declared:
        from repro.record.files.hashedahead import HashedAhead

        context.notes[__name__] = HashedAhead(context)
    return Findings()


def beside(context: Context) -> Findings:
    """Import what is needed afterwards while the command runs: it would delay the start, or the end."""
    from repro.record.files import datafiles  # noqa: F401 - imported for later

    return Findings()


def after(context: Context) -> Findings:
    """Hash what was read and what was written, and say how complete that list is."""
    if context.events is None and context.kernel is None and not context.declared:
        return Findings()
    from repro.record.files import datafiles
    from repro.record.files.hashedahead import HashedAhead

    ahead = context.notes.get(__name__)
    if isinstance(ahead, HashedAhead):
        ahead.finish()
    with no_collection():
        return datafiles.look(context)
