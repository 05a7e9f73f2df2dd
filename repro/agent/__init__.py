"""The agent: lives in the user's training process, watches, writes an event log. Standard library only, Python 3.9+.

Loaded by `inject/sitecustomize.py` under the name `_repro_agent`. It seeds nothing, imports nothing into the user's
namespace, and lets no exception of its own reach the user's code: what it cannot see becomes a gap.

Nothing in repro imports it: what passes between agent and supervisor are environment variables (docs/how-it-works.md)
and the event log (schemas/event-1.json). Few modules are imported at start, since every Python process of the run
pays for them.
"""

from __future__ import annotations

import atexit
import os

from . import clock
from .interrupts import pass_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional


def start() -> None:
    """Start the agent if the supervisor asks for it (`REPRO_EVENTS`); otherwise nothing happens."""
    folder = os.environ.get("REPRO_EVENTS")
    if folder:
        Agent(os.path.abspath(folder)).start()


class Agent:
    """The agent of one process; hooks use its public part.

    Args:
        folder: The folder for event logs.
    """

    def __init__(self, folder: str) -> None:
        from .files import Files
        from .log import EventLog
        from .points import PointLog
        from .process import Identity
        from .randomness import Randomness

        self._gaps: set[tuple[str, str, str]] = set()
        self._moments: set[tuple[str, str]] = set()
        self._generators: dict[str, Callable[[], bytes]] = {}
        self._at_fork: list[Callable[[], None]] = []
        self._at_moment: list[Callable[[str], None]] = []
        self._log = EventLog(folder)
        self.emit = self._log.emit
        self._points = PointLog(self._log)
        self.metric = self._points.metric
        self._identity = Identity(folder)
        self._randomness = Randomness(self, os.environ.get("REPRO_ENTROPY"))
        self.entropy = self._randomness.entropy
        self.seed = self._randomness.seed
        self._begin()
        self._files = Files(self, folder)
        self.opened = self._files.opened
        self.watch = self._files.watch
        self._files.prove()

    def start(self) -> None:
        """Watch imports, forks and the end of the process."""
        from . import hooks, operating_system
        from .imports import Finder

        self.guard("randomness", "os", operating_system.watch, self)
        os.register_at_fork(before=self._identity.before_fork, after_in_child=self._after_fork)
        atexit.register(self.end)
        Finder(self, hooks).start()

    @property
    def replaying(self) -> bool:
        """Whether recorded entropy is put back."""
        return self._randomness.replaying

    @property
    def process_key(self) -> str:
        """The key of this process: its role in the run."""
        return self._identity.key

    @property
    def settings(self) -> dict[str, str]:
        """Settings to restore in this process when their library is imported: name to text."""
        return self._randomness.settings

    def seconds(self) -> float:
        """Return the time since the process started, by a clock that never goes back."""
        return clock.monotonic() - self._log.started

    def gap(self, topic: str, subject: str, reason: str) -> None:
        """Tell of something that was not seen; each distinct gap once."""
        gap = (topic, subject, reason)
        if gap not in self._gaps:
            self._gaps.add(gap)
            self.emit("gap", topic=topic, subject=subject, reason=reason)

    def guard(self, topic: str, subject: str, action: Callable[..., Any], *arguments: Any) -> Any:
        """Return what an action of ours returns; if it raises, that is a gap, and `None` is returned."""
        try:
            return action(*arguments)
        except Exception as error:
            self.gap(topic, subject, f"{type(error).__name__}: {error}")
            pass_on(error)
            return None

    def wrap(
        self,
        original: Any,
        before: Callable[..., Any],
        topic: str,
        subject: str,
        after: Optional[Callable[[], None]] = None,
    ) -> Any:
        """Return a function that calls `before(args, kwargs)`, then the original, then `after()` if that returned.

        `before` returns `None`, or the `(args, kwargs)` to call the original with. What it raises becomes a gap. What
        the original raises passes through, from Python 3.11 on without a trace of us in its traceback.
        """

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            try:
                changed = before(args, kwargs)
                if changed is not None:
                    args, kwargs = changed
            except Exception as error:
                self.gap(topic, subject, f"{type(error).__name__}: {error}")
                pass_on(error)
            try:
                result = original(*args, **kwargs)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            if after is not None:
                self.guard(topic, subject, after)
            return result

        return disguise(wrapper, original)

    def generator(self, name: str, state: Callable[[], bytes]) -> None:
        """Register a random generator; its state's digest is told at import (now), at the first step and at the end."""
        self._generators[name] = state
        self._digest("import", name)

    def on_fork(self, action: Callable[[], None]) -> None:
        """Call an action in every forked child, once its own log is open."""
        self._at_fork.append(action)

    def on_moment(self, action: Callable[[str], None]) -> None:
        """Call an action with each later moment: `first-step` and `end`."""
        self._at_moment.append(action)

    def reach(self, moment: str) -> None:
        """Tell the state of generators and settings at `first-step` or `end`; each moment once per process."""
        if (moment, "") in self._moments:
            return
        self._moments.add((moment, ""))
        for action in self._at_moment:
            self.guard("trace", moment, action, moment)
        for name in self._generators:
            self._digest(moment, name)

    def end(self) -> None:
        """Tell that the process ends in good order, and put the log in its final form."""
        if ("end", "") in self._moments:
            return
        self.reach("end")
        self.guard("agent", "mapped code", self._tell_mapped)
        self.emit("end", ended_at=clock.wall())
        self._points.close()
        self._log.close()

    def claim_for_child(self, name: str) -> str:
        """Claim a process key for a child that is about to be started."""
        return self._identity.claim_for_child(name)

    def hand_over(self, key: str) -> Any:
        """Return a context in which the processes started by this thread are given a key."""
        return self._identity.hand_over(key)

    def _begin(self) -> None:
        self._randomness.reset(self._identity.key)
        event = self._identity.start_event()
        event["started_at"] -= self.seconds()  # what other events count from
        self.emit("start", **event, replaying=self.replaying)

    def _after_fork(self) -> None:
        self.guard("agent", "fork", self._become_child)

    def _become_child(self) -> None:
        self._gaps, self._moments = set(), set()
        self._log.reopen()
        self._points.reopen()
        self._identity.fork()
        self._begin()
        self._files.forget()
        self._files.prove()
        for action in self._at_fork:
            self.guard("agent", "fork", action)

    def _tell_mapped(self) -> None:
        from .mapped import paths

        self.emit("mapped", paths=paths())

    def _digest(self, moment: str, name: str) -> None:
        if (moment, name) not in self._moments:
            self._moments.add((moment, name))
            state = self.guard("randomness", name, self._generators[name])
            if state is not None:
                self.emit("generator", moment=moment, generator=name, sha256="sha256:" + sha256(state))


def disguise(wrapper: Any, original: Any, filename: str = "<frozen importlib._bootstrap, repro agent>") -> Any:
    """Make a wrapper look like the original, as `functools.wraps` does, which would have to be imported.

    The file name makes `warnings` pass over the wrapper when it looks for the caller (it passes over names that contain
    `importlib` and `_bootstrap`), and `torch.compile` leave it alone.
    """
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        try:
            setattr(wrapper, name, getattr(original, name))
        except AttributeError:
            pass
    wrapper.__dict__.update(getattr(original, "__dict__", {}))
    wrapper.__wrapped__ = original
    wrapper.__code__ = wrapper.__code__.replace(co_filename=filename)
    return wrapper


def sha256_type() -> Any:
    """Return the interpreter's own implementation of SHA-256: `hashlib` loads OpenSSL."""
    try:
        from _sha2 import sha256 as found  # type: ignore[import-not-found]
    except ImportError:
        try:
            from _sha256 import sha256 as found  # type: ignore[import-not-found]
        except ImportError:
            from hashlib import sha256 as found
    return found


def sha256(data: bytes) -> str:
    """Return a SHA-256 in hexadecimal."""
    return str(sha256_type()(data).hexdigest())
