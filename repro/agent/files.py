"""Which files this process opens, renames and removes, and which programs it starts: seen by an audit hook (PEP 578).

The hook fires before the file is opened, and also for opens that fail, so each file is looked at first. Every path is
told once for reading and once for writing, until it is renamed or removed. What bypasses Python's `open` is not seen
here.
"""

from __future__ import annotations

import os
import sys
from stat import S_ISREG

from . import clock
from .callers import PACKAGE_FOLDERS
from .interrupts import pass_on
from .process import encode_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from repro.agent import Agent

MOST_PATHS = 1_000_000
"""How many paths are remembered, and so told, per process; a gap says when there are more."""

_CODE_ENDINGS = (".py", ".pyc", ".so")
_COMPILED_FOLDER = "/__pycache__/"


class Files:
    """Watches one process.

    Args:
        agent: Where to tell what was seen.
        folder: The folder for event logs, which is not watched.
    """

    def __init__(self, agent: Agent, folder: str) -> None:
        self._agent = agent
        self._seen: set[tuple[Any, bool]] = set()
        self._canary = folder + "/canary"
        self._awake = False
        self._not_watched = ("/proc/", "/sys/", folder + "/", os.path.dirname(__file__) + "/")
        self._standard_library = sys.base_prefix.rstrip("/") + "/"
        self._handlers: dict[str, Callable[..., None]] = {
            "open": self._on_open,
            "os.rename": self._on_rename,
            "os.remove": self._on_remove,
            "subprocess.Popen": self._on_spawn,
            "os.posix_spawn": self._on_posix_spawn,
            "os.exec": self._on_exec,
            "sqlite3.connect": self._on_sqlite,
            "ctypes.dlopen": self._on_dlopen,
            "os.system": self._on_system,
        }

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler = self._handlers.get(event)
            if handler is not None:
                try:
                    handler(*arguments)
                except Exception as error:
                    agent.gap("data", event, f"{type(error).__name__}: {error}")
                    pass_on(error)

        sys.addaudithook(hook)

    def watch(self, event: str, handler: Callable[..., None]) -> None:
        """Call a handler with the arguments of an audit event that is not watched yet."""
        self._handlers[event] = handler

    def forget(self) -> None:
        """Tell every file anew: this is a forked child, with a log of its own."""
        self._seen = set()

    def prove(self) -> None:
        """Open the canary, and tell of it only if the hook has seen that: whether it is awake is known, not assumed."""
        self._awake = False
        try:
            os.close(os.open(self._canary, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass  # there is none, but the hook comes first
        if self._awake:
            self._agent.emit("canary")

    def opened(self, path: Any, *, write: bool, library: str) -> None:
        """Tell of a file that a library opens by itself; called before it does."""
        if isinstance(path, (str, bytes, os.PathLike)):
            self._look(os.fspath(path), write, library)

    def _on_open(self, path: Any, mode: Any, flags: Any) -> None:
        if type(path) is not str and type(path) is not bytes:
            return
        if not isinstance(flags, int) or flags & os.O_DIRECTORY:
            return
        access = flags & os.O_ACCMODE
        if access == os.O_RDONLY and not (isinstance(mode, str) and mode.strip("rbtU")):
            self._look(path, False, "python")
            return
        exclusive = bool(flags & os.O_CREAT and flags & os.O_EXCL)
        if os.path.lexists(path) if exclusive else not flags & os.O_CREAT and not os.path.exists(path):
            return  # the call will fail
        if access == os.O_RDWR and not flags & os.O_TRUNC:
            self._look(path, False, "python")  # what was in it before is an input too
        self._look(path, True, "python")

    def _on_sqlite(self, database: Any) -> None:
        """Tell of a database, which SQLite opens by itself: as read if it is there, as written if it will be made."""
        if not isinstance(database, (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(database)
        if path.startswith("file:"):
            path = path[5:].partition("?")[0]  # a plain URI; one that is escaped is left to the kernel layer
        if path and path != ":memory:":
            self._look(path, not os.path.exists(path), "sqlite3")

    def _on_dlopen(self, name: Any) -> None:
        if isinstance(name, (str, bytes)) and "/" in os.fsdecode(name):
            self._look(name, False, "ctypes")

    def _look(self, path: Any, write: bool, library: str) -> None:
        if (path, write) in self._seen:
            return
        text = os.fsdecode(path)
        if text.endswith(_CODE_ENDINGS) or _COMPILED_FOLDER in text:
            found = self._source(text, write)
            if found is None:
                return
            text = found
        text = absolute(text)
        if (text, write) in self._seen:
            return
        if text.startswith(self._not_watched):
            self._awake = self._awake or text == self._canary
            return
        try:
            status = os.stat(text)
        except (OSError, ValueError):
            if not write:
                return
            status = None
        if status is not None and not S_ISREG(status.st_mode):
            return
        if not _allowed(text, write, status is not None):
            return
        self._tell(text, write, library, status)

    def _tell(self, path: str, write: bool, library: str, status: Optional[os.stat_result]) -> None:
        if len(self._seen) >= MOST_PATHS:
            self._agent.gap("data", "files", f"more than {MOST_PATHS} files were opened; the rest is not listed")
            return
        self._seen.add((path, write))
        fields: dict[str, Any] = {"path": encode_path(path), "mode": "write" if write else "read", "library": library}
        if status is not None:
            fields.update(size=status.st_size, mtime_ns=status.st_mtime_ns, ctime_ns=status.st_ctime_ns)
            fields.update(inode=status.st_ino, device=status.st_dev)
            if write:
                fields["existed"] = True
        self._agent.emit("open", **fields, at=self._agent.seconds())

    def _source(self, path: str, write: bool) -> Optional[str]:
        """Return the file to tell of when Python code is opened; `None` for code that belongs to the environment.

        Compiled code stands for its source: whether Python reads the one or the other depends on who ran it before.
        """
        if path.startswith(self._standard_library) or any(folder in path for folder in PACKAGE_FOLDERS):
            return None
        folder, compiled, name = path.partition(_COMPILED_FOLDER)
        if not compiled:
            return path
        source = f"{folder}/{name.partition('.')[0]}.py"
        return source if not write and os.path.exists(source) else None

    def _on_rename(self, source: Any, target: Any, source_fd: int = -1, target_fd: int = -1) -> None:
        source, target = absolute(os.fsdecode(source), source_fd), absolute(os.fsdecode(target), target_fd)
        if os.path.lexists(source) and not source.startswith(self._not_watched) and _COMPILED_FOLDER not in source:
            self._forget(source, target)
            seconds = self._agent.seconds()
            self._agent.emit("rename", source=encode_path(source), target=encode_path(target), at=seconds)

    def _on_remove(self, path: Any, folder_fd: int = -1) -> None:
        path = absolute(os.fsdecode(path), folder_fd)
        if os.path.lexists(path) and not path.startswith(self._not_watched):
            self._forget(path)
            self._agent.emit("remove", path=encode_path(path), at=self._agent.seconds())

    def _forget(self, *paths: str) -> None:
        for path in paths:
            self._seen.discard((path, True))
            self._seen.discard((path, False))

    def _on_spawn(self, executable: Any, argv: Any, *_: Any) -> None:
        words = [argv] if isinstance(argv, (str, bytes, os.PathLike)) else argv
        words = [os.fsdecode(word) for word in words]
        name = words[0] if executable is None else os.fsdecode(executable)
        self._agent.emit("spawn", executable=encode_path(name), argv=words)

    def _on_posix_spawn(self, executable: Any, argv: Any, *_: Any) -> None:
        caller = sys._getframe(2)  # beyond the hook
        if caller.f_globals.get("__name__") != "subprocess":  # which has told of it already
            self._on_spawn(executable, argv)

    def _on_exec(self, path: Any, argv: Any, *_: Any) -> None:
        self._on_spawn(path, argv)
        if isinstance(path, (str, bytes)) and os.access(path, os.X_OK):
            self._agent.emit("end", ended_at=clock.wall())  # exec runs no exit handler; if it fails, a later one counts

    def _on_system(self, command: Any) -> None:
        self._on_spawn("/bin/sh", ["sh", "-c", command])


def absolute(path: str, folder_fd: int = -1) -> str:
    """Return an absolute path to the same file, symbolic links kept except before a `..`."""
    if not path.startswith("/"):
        folder = os.readlink(f"/proc/self/fd/{folder_fd}") if folder_fd >= 0 else os.getcwd()
        path = f"{folder}/{path}"
    if "/../" in path or path.endswith("/.."):
        folder, _, name = path.rpartition("/")
        return os.path.realpath(path) if name == ".." else os.path.realpath(folder) + "/" + name
    if "//" in path or "/./" in path:
        return os.path.normpath(path)
    return path


def _allowed(path: str, write: bool, exists: bool) -> bool:
    """Say whether an open may succeed, as the kernel layer does: what fails for certain reads and writes nothing."""
    if exists:
        return os.access(path, os.W_OK if write else os.R_OK)
    return os.access(os.path.dirname(path), os.W_OK | os.X_OK)
