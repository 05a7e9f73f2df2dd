"""Watch by strace, where seccomp user notification is not to be had: `strace --seccomp-bpf`, from version 5.3.

strace runs detached (`-DD`), so the command stays our own child: its exit status, signals and terminal are its own. Its
output is turned into the kernel layer's log when the command has ended. What is weaker than with user notification:

- calls are told after they happened, so there is no digest from before a first write, and a file's state at an open is
  only known where nothing has changed the file since;
- a debugger or profiler cannot attach to the run, and programs that gain privileges run without them unless root
  records;
- should strace be killed, the next watched call of the command fails with ENOSYS, or the kernel ends the command: that
  is strace's own nature (strace/strace#274), and cannot be mended from here.

Format: strace(1); `-xx` (every byte of a string as hexadecimal) and `-y` (paths of descriptors) make it exact.
"""

# Paths are bytes here, which pathlib does not take.
# ruff: noqa: PTH112, PTH116, PTH120

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from repro.errors import UsageError
from repro.evidence.canonical import encode_path
from repro.record.kernel import NAME, SCHEMA
from repro.record.kernel.programs import is_privileged
from repro.record.streams import Wanted
from repro.record.supervise import Job, Launcher, find_command, start_local

_CALLS: Final = (
    "open,openat,openat2,creat,open_by_handle_at,truncate,execve,execveat,rename,renameat,renameat2,unlink,unlinkat,"
    "link,linkat,chdir,fchdir,clone,clone3,fork,vfork,io_uring_setup"
)
_OPTIONS: Final = ("-DD", "-f", "--seccomp-bpf", "-q", "-y", "-ttt", "-s", "131072", "-xx")
_OUTPUT: Final = "strace.log"
_LINE: Final = re.compile(rb"(\d+) +(\d+\.\d+) (.*)", re.DOTALL)
_CALL: Final = re.compile(rb"(\w+)\((.*)\) += (-?\d+|\?)(?:<([^>]*)>)?", re.DOTALL)
_RESUMED: Final = re.compile(rb"<\.\.\. \w+ resumed>(.*)", re.DOTALL)
_STRING: Final = re.compile(rb'(?:(AT_FDCWD|\d+)(?:<([^>]*)>)?, )?"((?:\\x[0-9a-f]{2})*)"')
_FOLDER_FD: Final = re.compile(rb"(?:AT_FDCWD|\d+)<([^>]*)>")
_CURRENT_FOLDER: Final = re.compile(rb"AT_FDCWD<([^>]*)>")
_NO_FILES: Final = re.compile(rb"/proc/|/sys/|/dev/(?!shm/)")
_AT_FDCWD: Final = -100
_STATX_BTIME: Final = 0x800
_BTIME_AT: Final = 80
_TICK_NS: Final = 20_000_000
"""A file's times may lag behind by a tick of the kernel's clock, up to 10 ms."""
_PAUSE_SECONDS: Final = 0.01


def available(argv: tuple[str, ...], cwd: Path, env: Mapping[str, str]) -> str | None:
    """Return why this command cannot be watched in this way here, or `None` if it can; strace is tried for that."""
    program = shutil.which("strace")
    if program is None:
        return "it is not installed"
    try:
        command = Path(find_command(argv, cwd, env)).resolve()
        if os.geteuid() != 0 and is_privileged(str(command), command.stat()):
            return f"{command.name} gives privileges, which it could not while it is traced"
    except (UsageError, OSError):
        return None  # starting it will say so
    trial = [program, *_OPTIONS, "-e", "trace=chdir", "-o", os.devnull, "--", "true"]
    tried = subprocess.run(trial, capture_output=True, text=True, check=False, timeout=10)
    if tried.returncode != 0 or tried.stderr:
        return f"a trial failed: {tried.stderr.strip() or f'exit status {tried.returncode}'}"[:200]
    return None


class Strace:
    """One command to be watched; a `Watch`.

    Args:
        events: The run's folder for event logs.
        launcher: Starts the command as a child of this process.
    """

    layer = "strace"

    def __init__(self, events: Path, launcher: Launcher = start_local) -> None:
        self._events = events.absolute()
        self._launcher = launcher

    def start(self, argv: tuple[str, ...], cwd: Path, env: Mapping[str, str], streams: Wanted) -> Job:
        """Start the command under the watch.

        Raises:
            UsageError: There is no such command, or it cannot be executed.
        """
        find_command(argv, cwd, env)
        program = shutil.which("strace") or "strace"
        output = str(self._events / _OUTPUT)
        watched = (program, *_OPTIONS, "-e", f"trace={_CALLS}", "-o", output, "--", *argv)
        return self._launcher(watched, cwd, env, streams)

    def finish(self, timeout_seconds: float) -> None:
        """Wait until strace has told of the end of all processes, and write the log."""
        deadline = time.monotonic() + timeout_seconds
        reading = Reading(os.fsencode(self._events))
        with (self._events / _OUTPUT).open("rb") as output:
            while not self._read(output, reading) and time.monotonic() < deadline:
                time.sleep(_PAUSE_SECONDS)
        (self._events / NAME).write_bytes(reading.log())

    def _read(self, output: Any, reading: Reading) -> bool:
        """Take the whole lines that there are; return whether all processes have ended."""
        at = output.tell()
        for line in output:
            if not line.endswith(b"\n"):
                output.seek(at)
                break
            at += len(line)
            reading.take(line[:-1])
        return reading.ended


class Reading:
    """Makes events of the kernel layer's log from the lines of strace.

    Args:
        events: The run's folder for event logs, absolute: nothing in it is told, but for the canary.
    """

    def __init__(self, events: bytes) -> None:
        self.ended = False
        self._events: list[dict[str, Any]] = []
        self._canary, self._folder = events + b"/canary", events + b"/"
        self._told: set[tuple[bytes, str]] = set()
        self._begun: dict[int, bytes] = {}
        self._alive: set[int] = set()
        self._announced: set[int] = set()
        self._gone: set[int] = set()
        self._process: dict[int, int] = {}
        self._cwd: dict[int, bytes] = {}
        self._name: dict[int, str] = {}
        self._parents: dict[int, int] = {}
        self._unresolved = 0
        self._began_at = 0.0

    def log(self) -> bytes:
        """Return the kernel layer's log."""
        first = {"event": "layer", "schema": SCHEMA, "layer": "strace", "no_new_privs": False, "at": self._began_at}
        last = {"event": "end", "at": time.time(), "restarts": 0, "unresolved": self._unresolved}
        events = [first, *self._events, *([last] if self.ended else [])]
        return b"".join(json.dumps(event, ensure_ascii=True).encode() + b"\n" for event in events)

    def take(self, line: bytes) -> None:
        """Take one line; those that tell of nothing that counts are passed over."""
        found = _LINE.fullmatch(line)
        if found is None:
            return
        tid, at, rest = int(found[1]), float(found[2]), found[3]
        self._began_at = self._began_at or at
        if rest.startswith(b"+++ "):
            self._exit(tid)
            return
        self._meet(tid, at)
        if rest.endswith(b" <unfinished ...>"):
            self._begun[tid] = b"%f " % at + rest.removesuffix(b" <unfinished ...>")
            return
        if resumed := _RESUMED.fullmatch(rest):
            begun_at, _, begun = self._begun.pop(tid, b"0 ").partition(b" ")
            at, rest = float(begun_at) or at, begun + resumed[1]
        if call := _CALL.match(rest):
            self._call(tid, at, call)

    def _call(self, tid: int, at: float, call: re.Match[bytes]) -> None:
        name, arguments, result = call[1].decode(), call[2], call[3]
        if result == b"?" or int(result) < 0:
            return
        pid = self._process.get(tid, tid)
        if folder := _CURRENT_FOLDER.search(arguments):
            self._cwd[pid] = _bytes(folder[1])  # what strace itself looked up
        if name in ("clone", "clone3", "fork", "vfork"):
            self._fork(pid, int(result), at, is_thread=b"CLONE_THREAD" in arguments)
            return
        if name in ("chdir", "fchdir"):
            self._change_folder(pid, name, arguments)
            return
        if name == "io_uring_setup":
            self._events.append({"event": "io_uring", "pid": pid, "at": at})
            return
        if name == "open_by_handle_at":
            self._open(pid, at, _bytes(call[4] or b""), arguments, _bytes(call[4] or b""))
            return
        paths = [self._path(pid, found) for found in _STRING.finditer(arguments)]
        if paths:
            self._on_paths(name, pid, at, paths, arguments, _bytes(call[4] or b""))

    def _on_paths(
        self, name: str, pid: int, at: float, paths: list[bytes | None], arguments: bytes, opened: bytes
    ) -> None:
        first, second = paths[0], paths[1] if len(paths) > 1 else None
        if name in ("open", "openat", "openat2", "creat", "truncate"):
            flags = arguments if name.startswith("open") else b"O_WRONLY|O_TRUNC"
            self._open(pid, at, first, flags + (b"|O_CREAT" if name == "creat" else b""), opened)
        elif name.startswith("exec"):
            self._execute(pid, at, first, arguments)
        elif first is None or (second is None and not name.startswith("unlink")):
            self._unresolved += 1
        elif name.startswith("unlink"):
            if b"AT_REMOVEDIR" not in arguments:
                self._change("remove", pid, at, path=first)
        elif name.startswith("rename"):
            self._change("rename", pid, at, source=first, target=second or b"")
        elif name.startswith("link"):
            self._link(pid, at, first, second or b"")

    def _link(self, pid: int, at: float, source: bytes, target: bytes) -> None:
        if source.startswith(b"/proc/") or not source:  # an O_TMPFILE gets its name
            self._open(pid, at, target, b"O_WRONLY|O_CREAT|O_EXCL", target)
        else:
            self._change("link", pid, at, source=source, target=target)

    def _open(self, pid: int, at: float, path: bytes | None, flags: bytes, opened: bytes) -> None:
        """Tell of a file that was opened.

        Args:
            pid: Of the process.
            at: When, in seconds since the epoch.
            path: As it was asked for; `None` where that cannot be told.
            flags: Text with the names of flags of open(2) in it.
            opened: What strace says that the descriptor leads to, every link followed.
        """
        if path is None or _NO_FILES.match(path) or b"/../" in path:
            path = opened or path
        if path is None:
            self._unresolved += 1
        elif path == self._canary:
            self._events.append({"event": "canary", "pid": pid, "at": at})
        elif (
            path.startswith(b"/")
            and not path.startswith(self._folder)
            and not _NO_FILES.match(path)
            and not any(flag in flags for flag in (b"O_DIRECTORY", b"O_PATH", b"O_TMPFILE"))
        ):
            self._tell(pid, at, path, flags)

    def _tell(self, pid: int, at: float, path: bytes, flags: bytes) -> None:
        state = _state(path)
        if state is not None and not stat.S_ISREG(state.st_mode):
            return
        writes = b"O_WRONLY" in flags or b"O_RDWR" in flags or b"O_TRUNC" in flags
        existed = b"O_CREAT" not in flags or not (b"O_EXCL" in flags or _born_ns(path) + _TICK_NS >= at * 1e9)
        modes = ["read"] if not writes or (b"O_RDWR" in flags and b"O_TRUNC" not in flags) else []
        for mode in modes + (["write"] if writes else []):
            if (path, mode) in self._told or (mode == "read" and not existed):
                continue
            self._told.add((path, mode))
            event = {"event": "open", "pid": pid, "path": encode_path(path), "mode": mode, "existed": existed, "at": at}
            if state is not None and max(state.st_mtime_ns, state.st_ctime_ns) + _TICK_NS < at * 1e9:
                event |= {"existed": True, "size": state.st_size, "mtime_ns": state.st_mtime_ns}
                event |= {"ctime_ns": state.st_ctime_ns, "inode": state.st_ino, "device": state.st_dev}
            self._events.append(event)

    def _change(self, event: str, pid: int, at: float, **paths: bytes) -> None:
        if any(path.startswith(self._folder) or _NO_FILES.match(path) for path in paths.values()):
            return
        for path in paths.values():
            self._told -= {(path, "read"), (path, "write")}
        if "target" in paths and os.path.isdir(paths["target"]):
            below = (paths["source"] + b"/", paths["target"] + b"/")
            self._told = {each for each in self._told if not each[0].startswith(below)}
        texts = {name: encode_path(path) for name, path in paths.items()}
        self._events.append({"event": event, "pid": pid, **texts, "at": at})

    def _execute(self, pid: int, at: float, path: bytes | None, arguments: bytes) -> None:
        self._process[pid] = pid
        words = [_bytes(found[3]) for found in _STRING.finditer(arguments)][1:]
        if path is None:
            self._unresolved += 1
            return
        self._name[pid] = encode_path(path.rpartition(b"/")[2])
        event = {"event": "execute", "pid": pid, "parent": self._parents.get(pid, 0), "path": encode_path(path)}
        self._events.append({**event, "argv": [word.decode("utf-8", "backslashreplace") for word in words], "at": at})

    def _meet(self, tid: int, at: float) -> None:
        """Note a thread at its first line, which may come before its parent's call is told to have returned."""
        if tid in self._alive:
            return
        self._alive.add(tid)
        if tid in self._announced:
            return
        callers = [(pid, call) for pid, call in self._begun.items() if b" clone" in call or b"fork(" in call]
        if callers:
            parent, call = callers[-1]
            self._introduce(self._process.get(parent, parent), tid, at, is_thread=b"CLONE_THREAD" in call)
        elif not self._process:
            self._introduce(os.getpid(), tid, at, is_thread=False)

    def _fork(self, parent: int, child: int, at: float, *, is_thread: bool) -> None:
        if child in self._gone:
            self._gone.discard(child)
            return
        self._announced.add(child)
        if child not in self._alive or self._process.get(child) != (parent if is_thread else child):
            self._introduce(parent, child, at, is_thread=is_thread)
        self._alive.add(child)

    def _introduce(self, parent: int, child: int, at: float, *, is_thread: bool) -> None:
        self._process[child] = parent if is_thread else child
        if is_thread:
            return
        if parent in self._cwd:
            self._cwd.setdefault(child, self._cwd[parent])
        self._parents[child] = parent
        name = self._name[child] = self._name.get(parent, "")[:15]
        self._events.append({"event": "process", "pid": child, "parent": parent, "name": name, "at": at})

    def _exit(self, tid: int) -> None:
        self._alive.discard(tid)
        if tid in self._announced:
            self._announced.discard(tid)
        else:
            self._gone.add(tid)
        if self._process.pop(tid, None) == tid:
            self._cwd.pop(tid, None)
        self.ended = not self._alive

    def _change_folder(self, pid: int, name: str, arguments: bytes) -> None:
        if name == "fchdir":
            found = _FOLDER_FD.match(arguments)
            if found:
                self._cwd[pid] = _bytes(found[1])
        elif (string := _STRING.match(arguments)) and (path := self._path(pid, string)) is not None:
            self._cwd[pid] = os.path.realpath(path)

    def _path(self, pid: int, found: re.Match[bytes]) -> bytes | None:
        """Return an absolute path, links kept; `None` where the folder that it starts from is not known."""
        path = _bytes(found[3])
        if not path.startswith(b"/"):
            folder = _bytes(found[2]) if found[2] is not None else self._cwd.get(pid)
            if folder is None:
                return None
            path = folder + b"/" + path if path else folder
        if b"/../" in path or path.endswith(b"/.."):
            return os.path.realpath(os.path.dirname(path)) + b"/" + os.path.basename(path)  # noqa: PTH119 - bytes
        if b"//" in path or b"/./" in path:
            return b"/" + os.path.normpath(path).lstrip(b"/")
        return path


def _bytes(text: bytes) -> bytes:
    return bytes.fromhex(text.replace(rb"\x", b"").decode()) if text.startswith(rb"\x") else text


def _born_ns(path: bytes) -> int:
    """Return when a file was made, in nanoseconds since the epoch, by statx(2); 0 where nothing knows."""
    about = ctypes.create_string_buffer(256)
    if getattr(ctypes.CDLL(None), "statx", None) is None:
        return 0
    failed = ctypes.CDLL(None).statx(_AT_FDCWD, path, 0, _STATX_BTIME, about)
    seconds, nanoseconds = struct.unpack_from("<qI", about, _BTIME_AT)
    return 0 if failed or not about.raw[1] & _STATX_BTIME >> 8 else seconds * 1_000_000_000 + nanoseconds


def _state(path: bytes) -> os.stat_result | None:
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None
