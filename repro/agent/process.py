"""Which process this is: its key, and what the start event tells.

Keys name roles, not pids, so that a recording and its replay line up: `main`, `main/fork.1`, `main/rank0`,
`main/worker.py.1`; `main/rank0@1` is rank 0 of a group that an elastic launcher started again. A key is claimed by
making a directory of that name below `<events>/claims`, which only one process can. A process that starts a Python one
claims its key for it (`REPRO_CLAIMED_KEY`), since children that are started together would race for their numbers. It
is the first to wake with that key that has it.
"""

from __future__ import annotations

import os
import sys
from _thread import RLock

from . import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

CLAIMED_KEY = "REPRO_CLAIMED_KEY"
"""The variable that hands a child its key."""

_OPTIONS_WITH_VALUE = "WX"
_INTERPRETERS = ("python", "pypy")


def encode_path(path: Any) -> str:
    r"""Return a path as text that loses nothing: backslashes are doubled, undecodable bytes become `\xNN`."""
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def command_line() -> list[str]:
    """Return the command line that started this process, options of the interpreter included."""
    original = getattr(sys, "orig_argv", None)
    if original is not None:
        return list(original)
    try:
        with open("/proc/self/cmdline", "rb") as stream:
            return [os.fsdecode(word) for word in stream.read().split(b"\0")[:-1]]
    except OSError:
        return [sys.executable]


def label(argv: list[str]) -> str:
    """Return what a command line runs: the script's base name, the module after `-m`, or `-c`, `-` or `python`."""
    words = iter(argv[1:])
    for word in words:
        if not word.startswith("-"):
            return os.path.basename(word.rstrip("/")) or "python"
        if word == "-":
            return "-"
        if word.startswith("--"):
            if word == "--check-hash-based-pycs":
                next(words, None)
            continue
        for at, letter in enumerate(word[1:], 2):
            if letter == "c":
                return "-c"
            if letter == "m":
                return word[at:] or next(words, "-m")
            if letter in _OPTIONS_WITH_VALUE:
                if not word[at:]:
                    next(words, None)
                break
    return "python"


class Identity:
    """The key of this process and of its parent, published to child processes through the environment.

    Args:
        folder: The folder for event logs.
    """

    def __init__(self, folder: str) -> None:
        self._claims = folder + "/claims"
        self._forks = 0
        self.forked = False
        self.argv = command_line()
        self.parent_key: Optional[str] = os.environ.get("REPRO_PROCESS_KEY")
        self._rank = _integer("RANK")
        self._attempt = max(_integer("TORCHELASTIC_RESTART_COUNT") or 0, 0)
        self._lending = RLock()
        self.key = self._handed_key() or self._own_key()
        self._publish()

    def fork(self) -> None:
        """Become the child that `os.fork` has just made."""
        self.parent_key, self.forked = self.key, True
        self.key = self._claim(f"{self.key}/fork", self._forks)
        self._forks = 0
        self._lending = RLock()
        os.environ.pop(CLAIMED_KEY, None)  # of a child that another thread was just starting
        self._publish()

    def before_fork(self) -> None:
        """Count the fork that is about to happen."""
        self._forks += 1

    def claim_for_child(self, name: str) -> str:
        """Claim a key for a child about to be started, of that label."""
        return self._claim(f"{self.key}/{encode_path(name)}")

    def hand_over(self, key: str) -> HandedOver:
        """Return a context in which the processes started by this thread find a key in their environment."""
        return HandedOver(key, self._lending)

    def start_event(self) -> dict[str, Any]:
        """Return the fields of the start event."""
        return {
            "schema": 1,
            "process_key": self.key,
            "parent_key": self.parent_key,
            "pid": os.getpid(),
            "ppid": os.getppid(),
            "argv": self.argv,
            "executable": encode_path(sys.executable or ""),
            "prefix": encode_path(sys.prefix),
            "base_prefix": encode_path(sys.base_prefix),
            "python_version": sys.version.split()[0],
            "implementation": sys.implementation.name,
            "build": sys.version,
            "path": [encode_path(entry) for entry in sys.path],
            "rank": self._rank,
            "local_rank": _integer("LOCAL_RANK"),
            "world_size": _integer("WORLD_SIZE"),
            "attempt": self._attempt,
            "started_at": clock.wall(),
            "forked": self.forked,
            "hash_randomization": bool(sys.flags.hash_randomization),
            "flags": {
                name: int(getattr(sys.flags, name))
                for name in dir(sys.flags)
                if name[0] != "_" and not name.startswith("n_") and name not in ("count", "index")
            },
        }

    def _handed_key(self) -> str:
        """Return the key that our parent has claimed for us, unless somebody has woken with it before."""
        key = os.environ.pop(CLAIMED_KEY, "")
        return key if key and self._take(f"{key}/.awake") is not False else ""

    def _own_key(self) -> str:
        if self.parent_key is None:
            if not self._is_one_of_many() and self._take("main"):
                return "main"
            prefix = ""
        else:
            prefix = self.parent_key + "/"
        if self._rank is not None and self._rank != _integer("REPRO_PROCESS_RANK"):
            key = f"{prefix}rank{self._rank}" + (f"@{self._attempt}" if self._attempt > 0 else "")
            return key if self._take(key) else self._claim(key, 2)
        return self._claim(prefix + encode_path(label(self.argv)))

    def _is_one_of_many(self) -> bool:
        """Say whether this is a rank among others, as a shell may start them together: all would race for `main`."""
        return self._rank is not None and (_integer("WORLD_SIZE") or 1) > 1

    def _claim(self, prefix: str, number: int = 1) -> str:
        while True:
            key = f"{prefix}.{number}"
            taken = self._take(key)
            if taken:
                return key
            if taken is None:
                return f"{prefix}.pid{os.getpid()}"
            number += 1

    def _take(self, key: str) -> Optional[bool]:
        """Claim a key: whether it was free, or `None` where claims cannot be made."""
        try:
            os.makedirs(f"{self._claims}/{key}")
        except FileExistsError:
            return False
        except OSError:
            return None
        return True

    def _publish(self) -> None:
        os.environ["REPRO_PROCESS_KEY"] = self.key
        if self._rank is not None:
            os.environ["REPRO_PROCESS_RANK"] = str(self._rank)


class HandedOver:
    """A context in which a key stands in the environment; one thread at a time.

    Args:
        key: The key.
        lock: Held meanwhile.
    """

    def __init__(self, key: str, lock: Any) -> None:
        self._key = key
        self._lock = lock

    def __enter__(self) -> None:
        self._lock.acquire()
        os.environ[CLAIMED_KEY] = self._key

    def __exit__(self, *_: object) -> None:
        os.environ.pop(CLAIMED_KEY, None)
        self._lock.release()


def awaits_key(program: Any, environment: Any) -> bool:
    """Say whether a program is a Python that will wake an agent of this run and has no key by its rank.

    Args:
        program: Its path or name.
        environment: What it will be started with, a mapping of strings.
    """
    events = environment.get("REPRO_EVENTS")  # another folder is another run's: a recorder inside this one
    if events is None or events != os.environ.get("REPRO_EVENTS"):
        return False
    if not os.path.basename(os.fsdecode(program)).startswith(_INTERPRETERS):
        return False
    rank = environment.get("RANK", "")
    return not rank.isdigit() or rank == environment.get("REPRO_PROCESS_RANK")


def _integer(variable: str) -> Optional[int]:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):
        return None
