"""How complete the list of files is: which layers watched, whether they were awake, and what they say they missed.

Every process of the run that has an agent opens the canary at its start. A layer that does not see that was not awake
in that process, whatever it says of itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

from repro.evidence.model import Fact, Gap
from repro.record.capture import observed
from repro.record.eventlog import Events
from repro.record.files.lineage import History
from repro.record.kernel.log import KernelEvents

Status = Literal["complete", "partial", "none"]
_LOST: Final = (
    "files that libraries open by themselves (Parquet, HDF5, safetensors, databases), and all files of programs that "
    "are not Python, may be missing from the list"
)
_NAMED: Final = 10
"""How many files are named before the rest are counted."""


def gaps(
    events: Events | None, kernel: KernelEvents | None, history: History, *, trace: bool, known: Sequence[Gap] = ()
) -> list[Gap]:
    """Return what the list of files may lack, and why.

    Args:
        events: What the agent saw.
        kernel: What the kernel layer saw.
        history: What both say of files.
        trace: Whether the kernel was to be asked.
        known: Gaps of the topic `lineage` so far, such as why no kernel layer could watch.
    """
    if kernel is None or not kernel.layer:
        return [*(() if known else _without_kernel(trace=trace)), *_of_agent(events)]
    return [*_of_agent(events), *_of_kernel(events, kernel), *_unseen(kernel, history)]


def facts(events: Events | None, kernel: KernelEvents | None, found: Sequence[Gap]) -> tuple[Fact, ...]:
    """Return the status of the list, and the layers that made it.

    Args:
        events: What the agent saw.
        kernel: What the kernel layer saw.
        found: Every gap of the topic `lineage`.
    """
    layers = []
    if events is not None and events.starts:
        layers.append("agent")
    if kernel is not None and kernel.layer:
        layers.append(f"kernel ({kernel.layer})")
    status: Status = "none" if not layers else "partial" if found else "complete"
    return observed("data", "lineage", status), observed("data", "lineage_layers", ", ".join(layers) or "none")


def _without_kernel(*, trace: bool) -> Iterator[Gap]:
    why = "no kernel layer watched" if trace else "the kernel was not asked (--no-trace)"
    yield _gap("files", f"only what Python itself opened was seen, since {why}: {_LOST}")


def _of_agent(events: Events | None) -> Iterator[Gap]:
    for start in events.starts if events is not None else ():
        if events is not None and start.process_key not in events.canaries:
            yield _gap(start.process_key, "the agent did not see the canary that it opened: its files may be missing")


def _of_kernel(events: Events | None, kernel: KernelEvents) -> Iterator[Gap]:
    yield from kernel.gaps
    for start in events.starts if events is not None else ():
        if start.pid not in kernel.canaries:
            reason = "the kernel layer did not see the canary that this process opened: its files may be missing"
            yield _gap(start.process_key, reason)
    names = {pid: seen.name for pid, seen in kernel.processes.items()}
    names |= {each.pid: each.path.rpartition("/")[2] for each in kernel.executions}  # the last one is what it is now
    names |= {start.pid: start.process_key for start in (events.starts if events is not None else ())}
    for subject in sorted({names.get(pid, str(pid)) for pid in kernel.io_uring}):
        yield _gap(
            subject, "it used an io_uring that could not be looked at: through it, files may have been opened unseen"
        )
    if kernel.unresolved:
        yield _gap("paths", f"{kernel.unresolved} paths could not be told: those files are missing from the list")
    if kernel.restarts:
        yield _gap(
            "the kernel layer", f"its watcher ended {kernel.restarts} times during the run, and was started again"
        )
    if not kernel.complete:
        yield _gap("the kernel layer", "its log has no end: it was not awake until the last watched process had ended")


def _unseen(kernel: KernelEvents, history: History) -> Iterator[Gap]:
    """Tell of files that the agent saw and the kernel layer, which sees more, did not."""
    files = [*history.inputs.values(), *history.outputs.values()]
    covered = {each.path for each in kernel.opens}
    yield from _listed(
        sorted({f.path for f in files if f.by_agent and not f.by_kernel and f.path not in covered}),
        "the agent saw it opened, and the kernel layer did not: others may be missing",
    )


def _listed(paths: Sequence[str], reason: str) -> Iterable[Gap]:
    yield from (_gap(path, reason) for path in paths[:_NAMED])
    if len(paths) > _NAMED:
        yield _gap(f"{len(paths) - _NAMED} more files", reason)


def _gap(subject: str, reason: str) -> Gap:
    return Gap(topic="lineage", subject=subject, reason=reason)
