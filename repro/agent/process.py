"""Which process this is: its key, and what the start event tells.

Keys name roles, not pids, so that a recording and its replay line up: `main`, `main/fork.1`, `main/rank0`,
`main/worker.py.1`. A key is claimed by making a directory of that name below `<events>/claims`, which only one
process can.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

_OPTIONS_WITH_VALUE = "WX"


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
        self.key = os.environ.pop("REPRO_CLAIMED_KEY", "") or self._own_key()
        self._publish()

    def fork(self) -> None:
        """Become the child that `os.fork` has just made."""
        self.parent_key, self.forked = self.key, True
        self.key = self._claim(f"{self.key}/fork", self._forks)
        self._forks = 0
        self._publish()

    def before_fork(self) -> None:
        """Count the fork that is about to happen."""
        self._forks += 1

    def claim_for_child(self, name: str) -> str:
        """Claim a key for a child about to be started: children started together would race for their numbers."""
        return self._claim(f"{self.key}/{encode_path(name)}")

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
            "started_at": time.time(),
            "forked": self.forked,
            "hash_randomization": bool(sys.flags.hash_randomization),
            "flags": {
                name: int(getattr(sys.flags, name))
                for name in dir(sys.flags)
                if name[0] != "_" and not name.startswith("n_") and name not in ("count", "index")
            },
        }

    def _own_key(self) -> str:
        if self.parent_key is None:
            if self._take("main"):
                return "main"
            prefix = ""
        else:
            prefix = self.parent_key + "/"
        if self._rank is not None and self._rank != _integer("REPRO_PROCESS_RANK"):
            key = f"{prefix}rank{self._rank}"
            return key if self._take(key) else self._claim(key, 2)
        return self._claim(prefix + encode_path(label(self.argv)))

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


def _integer(variable: str) -> Optional[int]:
    try:
        return int(os.environ[variable])
    except (KeyError, ValueError):
        return None
