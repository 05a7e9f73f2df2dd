"""The verb `record`: run a command, watch it, and seal what was seen.

The order is: capture what the run may change → start the command → capture the rest beside it → read the event logs →
capture what it left → assemble → seal. Once the command has started nothing loses the run: what fails becomes a gap.
"""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import repro
from repro import plugs
from repro.errors import ReproError, UnsealedError, UsageError
from repro.evidence import judging
from repro.evidence.canonical import encode_path
from repro.evidence.model import Fact, Gap, Record, Tolerance
from repro.evidence.store import RunDirectory, Store
from repro.record import assemble, capture, determinism, eventlog, injection, scrub, settings, signals
from repro.record.alongside import Alongside, guarded, look
from repro.record.capture import Context, Findings, Patience, observed
from repro.record.determinism import Mode
from repro.record.excerpt import WHOLE, Excerpt
from repro.record.kernel import log
from repro.record.settings import Settings, Wheelhouse
from repro.record.signals import Signals
from repro.record.streams import Copier, Wanted, digest_kept
from repro.record.supervise import Job, Launcher, Outcome, find_command, start_local, supervise
from repro.record.tracing import NOT_CHOSEN, Tracing
from repro.record.tree import worktree

if TYPE_CHECKING:
    from repro.record.kernel import Watch

CANARY: Final = "canary"
"""A file among the event logs that every process opens at its start: a layer that does not see that was not awake."""
_LAST_EVENTS_SECONDS: Final = 5.0
"""How long the kernel layer may take to write down what it saw, once the command has ended."""
_FIRST_START_SECONDS: Final = 0.01
_SLOWEST_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to record."""

    argv: tuple[str, ...]
    working_directory: Path
    """Absolute."""
    environment: Mapping[str, str]
    """For the command, before the agent's variables are added."""
    tolerances: tuple[Tolerance, ...] = ()
    replay_of: str | None = None
    root: Path | None = None
    """A replay: the scratch tree. Else it is found: the git work tree, or the working directory."""
    code_paths: tuple[str, ...] | None = None
    """A replay: capture just these encoded paths, relative to the root; no git is asked."""
    entropy: Path | None = None
    """What the agent puts back: `REPRO_ENTROPY`."""
    facts: tuple[Fact, ...] = ()
    """Added as they are."""
    declared: tuple[str, ...] = ()
    """Data to hash whether the run is seen to read them or not: files and folders."""
    trace: bool = True
    """Ask the kernel which files the whole process tree opens; without it only Python's own opens are seen."""
    tracing: Tracing = NOT_CHOSEN
    """Which steps to fingerprint; where it says nothing, what the project's settings say."""
    wheelhouse: Wheelhouse | None = None
    """Which wheels to keep; `None` for what the project's settings say."""
    determinism: Mode = "off"
    """What to ask of numeric libraries."""
    lock_timeout_seconds: float = 600.0
    """How long to wait for the environment lock once the command has ended."""
    excerpt: Excerpt = WHOLE
    """A replay: what part of the command is run."""
    check: Callable[[Record], Findings] | None = None
    """Looks at the record before it is sealed; what it finds is sealed with it."""
    stdout_fd: int = 1
    """Where the command's standard output is copied to."""
    stderr_fd: int = 2
    """Where its standard error is copied to."""
    start: Launcher = start_local
    """How a process is started: executors pass their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A run that is sealed."""

    run_id: str
    directory: RunDirectory
    record: Record
    exit_status: int
    """What a shell would see: the command's exit code, or 128 and the signal's number."""
    new_key: str | None
    """Fingerprint of the machine's key, if this run made it."""


def record(request: Request, store: Store, *, progress: Callable[[str], None]) -> Recorded:
    """Run a command and seal what was seen of it.

    Raises:
        UsageError: The command or declared data do not exist, or the project's settings are wrong; nothing is recorded.
        ExecutionError: The store cannot be written to, or its disk is full; the command was not started.
        UnsealedError: The command ran, but its record could not be sealed.
    """
    if request.start is start_local:
        find_command(request.argv, request.working_directory, request.environment)
    store.objects.require_room()
    directory = store.create_run()
    try:
        directory.events.mkdir(mode=0o700)
        return _Recording(request, store, directory, progress).run()
    except BaseException:
        _discard_unstarted(directory)
        raise


def _discard_unstarted(directory: RunDirectory) -> None:
    """Remove a run that never began; keep whatever was seen of one that did."""
    if not directory.statement.exists() and not any(
        (directory.events / f"{name}.stream").exists() for name in ("stdout", "stderr")
    ):
        shutil.rmtree(directory.path, ignore_errors=True)


class _Recording:
    """One recording, from the first capture to the seal."""

    def __init__(
        self, request: Request, store: Store, directory: RunDirectory, progress: Callable[[str], None]
    ) -> None:
        self.request = request
        self.store = store
        self.directory = directory
        self.progress = progress
        self.patience = Patience(request.lock_timeout_seconds)
        self.captures = [(name, plugs.load(capture, name)) for name in plugs.names(capture)]
        self.environment, self.facts = determinism.prepared(
            injection.without_agent(request.environment), request.argv, request.determinism, request.replay_of
        )
        self.context = self._context()
        self.watch: Watch | None = None
        self.alongside = Alongside(self._captures_of("alongside"))
        self.beside = threading.Thread(target=self._run_beside, name="beside", daemon=True)

    def run(self) -> Recorded:
        """Record the command."""
        with signals.watch(self.patience.lose) as arrived:
            self._run_captures("before")
            self._choose_watch()
            _raise_if_asked_to_end(arrived)
            self.progress("")  # from here on the terminal is the command's
            outcome = supervise(
                self._start,
                arrived,
                self.directory.events,
                stdout_fd=self.request.stdout_fd,
                stderr_fd=self.request.stderr_fd,
                started=self._start_captures,
            )
            self.patience.command_ended()
            self._join_beside()
            self._keep_streams(outcome)
            self.context = replace(self.context, cpu_seconds=outcome.cpu_seconds)
            self._read_events()
            self._read_kernel_log()
            self._run_captures("after")
            return self._seal(outcome)

    def _context(self) -> Context:
        root, gaps = self.request.root, tuple[Gap, ...]()
        started_at_ns = time.time_ns()
        if root is None:
            root, gaps = worktree.find_root(self.request.working_directory, self.environment)
        chosen = settings.load(root)
        return Context(
            argv=self.request.argv,
            working_directory=self.request.working_directory,
            root=root,
            environment=self.environment,
            objects=self.store.objects,
            cache=self.store.cache,
            home=self.store.root,
            code_paths=self.request.code_paths,
            entropy=self.request.entropy,
            declared=_declared(self.request, root, chosen),
            trace=self.request.trace,
            wheelhouse=self.request.wheelhouse or chosen.wheelhouse,
            settings=chosen,
            findings=Findings(facts=(*self.facts, *self.request.facts), gaps=gaps),
            started_at_ns=started_at_ns,
            patience=self.patience,
            progress=self.progress,
        )

    def _start(self, wanted: Wanted) -> Job:
        tracing = self.request.tracing.over(self.context.settings.tracing)
        environment, facts = injection.with_agent(
            self.environment,
            self.directory.events,
            self.request.entropy,
            tracing,
            self.request.determinism,
            self.request.excerpt,
        )
        self._add(Findings(facts=facts))
        start = self.request.start if self.watch is None else self.watch.start
        return start(self.request.argv, self.request.working_directory, environment, wanted)

    def _choose_watch(self) -> None:
        """Ask the kernel to tell of files, unless the user does not want it or the command runs elsewhere."""
        (self.directory.events / CANARY).touch()
        if not self.request.trace or self.request.start is not start_local:
            return

        def choose() -> Findings:
            from repro.record import kernel

            request = self.request
            self.watch, gaps = kernel.choose(
                request.argv, request.working_directory, self.environment, self.directory.events
            )
            return Findings(gaps=gaps)

        self._add(guarded(choose, "lineage", "kernel"))

    def _add(self, findings: Findings) -> None:
        self.context = replace(self.context, findings=self.context.findings + findings)

    def _captures_of(self, moment: str) -> list[tuple[str, Callable[[Context], Findings]]]:
        found = ((name, getattr(module, moment, None)) for name, module in self.captures)
        return [(name, look) for name, look in found if look is not None]

    def _run_captures(self, moment: str) -> None:
        for name, action in self._captures_of(moment):
            self._add(look(action, self.context, name, moment))

    def _start_captures(self) -> None:
        self.alongside.start(self.context)
        self.beside.start()

    def _run_beside(self) -> None:
        guarded(_import_what_sealing_needs, "recorder", "imports")
        pause_seconds = _FIRST_START_SECONDS
        while (interpreter := eventlog.first_start(self.directory.events)) is None and not self.patience.ended:
            time.sleep(pause_seconds)
            pause_seconds = min(pause_seconds * 1.2, _SLOWEST_LOOK_SECONDS)
        interpreter = interpreter or eventlog.first_start(self.directory.events)
        self.context = replace(self.context, interpreter=interpreter)
        self._run_captures("beside")

    def _join_beside(self) -> None:
        self.beside.join(1.0)
        if self.beside.is_alive() and not self.patience.spent:
            self.progress(
                "finishing the environment's lock and wheels (once per environment; Ctrl-C goes on without them) …"
            )
        self.beside.join()
        self._add(self.alongside.join())

    def _keep_streams(self, outcome: Outcome) -> None:
        for name, copier in (("stdout", outcome.stdout), ("stderr", outcome.stderr)):
            self._add(guarded(partial(_stream, name, copier, self.store), "stream", name))

    def _read_events(self) -> None:
        def read() -> Findings:
            self.context = replace(self.context, events=eventlog.read(self.directory.events))
            return Findings()

        self._add(guarded(read, "agent", "event logs"))

    def _read_kernel_log(self) -> None:
        def read() -> Findings:
            if self.watch is not None:
                self.watch.finish(_LAST_EVENTS_SECONDS)
            self.context = replace(self.context, kernel=log.read(self.directory.events))
            return Findings()

        self._add(guarded(read, "lineage", "kernel log"))

    def _seal(self, outcome: Outcome) -> Recorded:
        from repro.evidence import seal

        found = self._checked(self._assemble(outcome))
        try:
            sealed = seal.seal_run(found, self.directory, self.store)
        except ReproError as error:
            raise UnsealedError(
                f"run {self.directory.run_id} was not sealed: {error.message}",
                exit_status=assemble.exit_status(outcome.returncode),
                hint=f"what was seen lies in {self.directory.events}" + (f"; {error.hint}" if error.hint else ""),
            ) from error
        shutil.rmtree(self.directory.events, ignore_errors=True)
        if found.checkpoints or found.fingerprints:
            from repro.evidence import writers

            writers.note(found, self.store)
        return Recorded(
            run_id=self.directory.run_id,
            directory=self.directory,
            record=found,
            exit_status=assemble.exit_status(outcome.returncode),
            new_key=sealed.new_key,
        )

    def _checked(self, found: Record) -> Record:
        """Have the record looked at, if that is wanted, and return it with what that found."""
        check = self.request.check
        if check is None:
            return found
        seen = guarded(partial(check, found), "self_check", "self-check")
        return replace(
            found,
            facts=tuple(sorted((*found.facts, *seen.facts), key=lambda fact: (fact.topic, fact.name))),
            gaps=tuple(sorted({*found.gaps, *seen.gaps}, key=lambda gap: (gap.topic, gap.subject, gap.reason))),
        )

    def _assemble(self, outcome: Outcome) -> Record:
        request, context = self.request, self.context
        identity = assemble.Identity(
            run_id=self.directory.run_id,
            replay_of=request.replay_of,
            argv=request.argv,
            root=encode_path(context.root),
            working_directory=encode_path(os.path.relpath(request.working_directory, context.root)),
            recorder_version=repro.__version__,
            tolerances=(*request.tolerances, *map(judging.without_limit, context.settings.unjudged)),
        )
        ended = assemble.Ended(
            returncode=outcome.returncode,
            relayed=outcome.relayed,
            started_at=outcome.started_at,
            ended_at=outcome.ended_at,
            wall_seconds=outcome.wall_seconds,
            cpu_seconds=outcome.cpu_seconds,
            peak_memory_bytes=outcome.peak_memory_bytes,
        )
        return scrub.clean(assemble.assemble(identity, ended, context.events or eventlog.Events(), context.findings))


def _raise_if_asked_to_end(arrived: Signals) -> None:
    """End before the command has started, if that is what the user wants."""
    if {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT} & set(arrived.read()):
        raise KeyboardInterrupt


def _import_what_sealing_needs() -> Findings:
    """Spend the time (100 ms and more) while the command runs, not after it."""
    from repro.evidence import manifest, schema, seal  # noqa: F401 - imported for later

    manifest.warm_up()
    return Findings()


def _declared(request: Request, root: Path, chosen: Settings) -> tuple[str, ...]:
    """Return the absolute paths of the data that the user named.

    Raises:
        UsageError: One does not exist.
    """
    named = [*(request.working_directory / path for path in request.declared), *(root / path for path in chosen.data)]
    if request.replay_of is not None:  # its data were checked by digest beforehand, and may lie elsewhere
        return tuple(os.path.abspath(path) for path in named if path.exists())  # noqa: PTH100 - links are kept
    for path in named:
        if not path.exists():
            raise UsageError(f"the data {path} do not exist", hint="check --data, and `data` in the project's settings")
    return tuple(os.path.abspath(path) for path in named)  # noqa: PTH100 - links are kept


def _stream(name: str, copier: Copier, store: Store) -> Findings:
    facts = (
        observed("stream", f"{name}_sha256", digest_kept(copier, store.objects)),
        observed("stream", f"{name}_size_bytes", copier.size_bytes),
    )
    reasons: list[str] = []
    if copier.keeping_failed:
        reasons.append(f"only the first {copier.kept_bytes} bytes were kept: {copier.keeping_failed}")
    elif copier.size_bytes > copier.kept_bytes:
        reasons.append(f"only the first {copier.kept_bytes} of {copier.size_bytes} bytes were kept")
    if copier.cut_off:
        reasons.append("a process held it open after the command had ended: what it wrote later was not seen")
    return Findings(facts=facts, gaps=tuple(Gap(topic="stream", subject=name, reason=reason) for reason in reasons))
