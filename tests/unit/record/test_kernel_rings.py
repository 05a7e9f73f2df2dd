from __future__ import annotations

import ctypes
import os
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.evidence.canonical import encode_path
from repro.record.kernel import log, seccomp
from repro.record.streams import Wanted

PYTHON = sys.executable
RING = '''
import ctypes, mmap, os, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
SQPOLL, SQE128, NO_MMAP, NO_SQARRAY = 1 << 1, 1 << 10, 1 << 14, 1 << 16
NOP, WRITE, POLL_ADD, READ, EPOLL_CTL = 0, 23, 6, 22, 29
OPENAT, OPENAT2, RENAMEAT, UNLINKAT, MKDIRAT, SYMLINKAT, LINKAT = 18, 28, 35, 36, 37, 38, 39
HERE = -100
kept = []


def at(data):
    """Return the address of bytes that stay where they are."""
    kept.append(ctypes.create_string_buffer(data))
    return ctypes.addressof(kept[-1])


class Ring:
    """A ring as a program without liburing uses it: io_uring_setup(2)."""

    def __init__(self, flags=0, entries=8):
        params = ctypes.create_string_buffer(120)
        struct.pack_into("<I", params, 8, flags)
        if flags & NO_MMAP:
            self.own = mmap.mmap(-1, 8192)
            start = ctypes.addressof(ctypes.c_char.from_buffer(self.own))
            struct.pack_into("<Q", params, 72, start + 4096)
            struct.pack_into("<Q", params, 112, start)
        self.fd = libc.syscall(425, entries, params)
        if self.fd < 0:
            sys.exit(77)
        self.has_array, self.stride = not flags & NO_SQARRAY, 128 if flags & SQE128 else 64
        self.entries = struct.unpack_from("<I", params)[0]
        _, self.tail_at, _, _, _, _, self.array_at = struct.unpack_from("<7I", params, 40)
        self.taken_at, self.made_at, _, _, _, self.results_at = struct.unpack_from("<6I", params, 80)
        if flags & NO_MMAP:
            self.ring, self.requests = memoryview(self.own)[:4096], memoryview(self.own)[4096:]
        else:
            self.ring = mmap.mmap(self.fd, 4096)
            self.requests = mmap.mmap(self.fd, self.stride * self.entries, offset=0x10000000)
        self.tail = self.taken = 0

    def put(self, opcode, fd=-1, addr=0, off=0, length=0, flags=0):
        index = self.tail % self.entries
        request = struct.pack("<BBHiQQIIQ24x", opcode, 0, 0, fd, off, addr, length, flags, opcode)
        self.requests[index * self.stride : index * self.stride + 64] = request
        if self.has_array:
            struct.pack_into("<I", self.ring, self.array_at + 4 * index, index)
        self.tail += 1
        struct.pack_into("<I", self.ring, self.tail_at, self.tail)

    def submit(self, number=1, flags=1, wait=None):
        return libc.syscall(426, self.fd, number, number if wait is None else wait, flags, None, 0)

    def results(self):
        """Return what each request that has ended came to, in the order of their end."""
        end = struct.unpack_from("<I", self.ring, self.made_at)[0]
        mask = self.entries * 2 - 1
        found = [struct.unpack_from("<i", self.ring, self.results_at + 16 * (n & mask) + 8)[0]
                 for n in range(self.taken, end)]
        self.taken = end
        struct.pack_into("<I", self.ring, self.taken_at, end)
        return found

    def do(self, opcode, *args, **kwargs):
        self.put(opcode, *args, **kwargs)
        self.submit()
        return self.results()[0]
'''


def _has_rings() -> bool:
    fd = int(ctypes.CDLL(None).syscall(425, 1, b"\0" * 120))
    if fd >= 0:
        os.close(fd)
    return fd >= 0


@pytest.fixture(autouse=True)
def _can_watch() -> None:
    if reason := seccomp.available(("/bin/true",), Path("/"), os.environ):
        pytest.skip(f"seccomp: {reason}")
    if not _has_rings():
        pytest.skip("io_uring: the kernel gives no ring")


@pytest.fixture
def work(tmp_path: Path) -> Path:
    work = tmp_path / "work"
    work.mkdir()
    (work / "ring.py").write_text(RING)
    return work


@pytest.fixture
def script(tmp_path: Path, work: Path) -> Callable[[str], log.KernelEvents]:
    """Return what runs lines of Python below the filter to their end, in a folder `work`, with rings at hand."""

    def run(text: str) -> log.KernelEvents:
        events = tmp_path / f"events-{time.monotonic_ns()}"
        events.mkdir()
        watching = seccomp.Seccomp(events)
        wanted = Wanted(stdout_is_terminal=False, stderr_is_terminal=False)
        job = watching.start((PYTHON, "-c", "from ring import *\n" + textwrap.dedent(text)), work, os.environ, wanted)
        for fd in (job.stdout_fd, job.stderr_fd):
            with open(fd, "rb") as stream:
                sys.stderr.write(stream.read().decode())
        code = job.wait()
        watching.finish(20)
        if code == 77:
            pytest.skip("io_uring: this kernel has no such ring")
        found = log.read(events)
        assert code == 0
        assert found is not None
        assert found.complete
        assert found.gaps == []
        return found

    return run


def _of(found: log.KernelEvents, work: Path) -> dict[str, list[str]]:
    """Return how each file in the folder was opened."""
    start, opened = encode_path(work) + "/", {}
    for each in found.opens:
        if each.path.startswith(start) and "ring.py" not in each.path and "__pycache__" not in each.path:
            opened.setdefault(each.path.removeprefix(start), []).append(each.mode)
    return opened


def _processes(found: log.KernelEvents) -> set[int]:
    return {found.executions[0].pid}


@pytest.mark.parametrize("layout", ["0", "NO_SQARRAY"])
def test_a_ring_that_touches_no_path_is_no_gap(layout: str, script: Callable[[str], log.KernelEvents]) -> None:
    found = script(f"""
        import select
        ring = Ring({layout})
        out, into = os.pipe()
        epoll = select.epoll()
        assert ring.do(NOP) == 0
        assert ring.do(EPOLL_CTL, epoll.fileno(), at(struct.pack('<IQ', 1, out)), out, 1) == 0
        assert ring.do(WRITE, into, at(b'x'), 0, 1) == 1
        assert ring.do(POLL_ADD, out, flags=1) == 1
        assert ring.do(READ, out, at(b' '), 0, 1) == 1
        for _ in range(100):
            assert ring.do(NOP) == 0
        assert libc.syscall(426, 0, 1, 0, 0, None, 0) == -1  # no ring at all
        assert libc.syscall(426, 999, 1, 0, 0, None, 0) == -1
    """)
    assert found.io_uring == set()


def test_each_ring_of_a_process_is_looked_at_where_its_requests_lie(script: Callable[[str], log.KernelEvents]) -> None:
    found = script("""
        first = Ring(NO_SQARRAY)
        first.do(NOP)
        second = Ring(NO_SQARRAY)
        second.do(NOP); first.do(NOP)
        if os.fork() == 0:
            second.do(NOP); Ring().do(NOP)
            os._exit(0)
        assert os.wait()[1] == 0
        first.requests.close(); first.ring.close(); os.close(first.fd)
        second.do(NOP); Ring().do(NOP)
    """)
    assert found.io_uring == set()


def test_a_call_that_only_waits_is_let_through(script: Callable[[str], log.KernelEvents]) -> None:
    found = script("Ring().submit(0, flags=1 << 4)")  # were it told, it could not be looked at
    assert found.io_uring == set()


@pytest.mark.parametrize("layout", ["0", "SQE128", "NO_MMAP"])
def test_files_opened_through_a_ring_are_told_as_any_other(
    layout: str, script: Callable[[str], log.KernelEvents], work: Path
) -> None:
    for name in ("absolute", "data", "removed", "both"):
        (work / name).write_text("x")
    (work / "folder").mkdir()
    (work / "folder/inner").write_text("x")
    found = script(f"""
        ring = Ring({layout})
        for number in range(6):  # so that the end of the ring's memory lies between the requests below
            assert ring.do(NOP) == 0
        how = at(struct.pack('<QQQ', os.O_RDWR, 0, 0))
        folder = os.open('folder', os.O_RDONLY)
        ring.put(OPENAT, HERE, at(os.path.abspath('absolute').encode()))
        ring.put(OPENAT, folder, at(b'inner'))
        ring.put(OPENAT, HERE, at(b'new'), flags=os.O_CREAT | os.O_WRONLY, length=0o644)
        ring.put(OPENAT, HERE, at(b'missing'))
        ring.put(OPENAT2, HERE, at(b'both'), how, 24)
        ring.put(UNLINKAT, HERE, at(b'removed'))
        assert ring.submit(6) == 6
        results = sorted(ring.results())
        assert results[:2] == [-2, 0] and len(results) == 6 and results[2] > 0, results
    """)
    assert _of(found, work) == {
        "absolute": ["read"],
        "folder/inner": ["read"],
        "new": ["write"],
        "both": ["read", "write"],
    }
    assert [each.path for each in found.removes] == [encode_path(work / "removed")]
    assert (found.io_uring, found.unresolved) == (set(), 0)


def test_a_ring_that_was_inherited_is_looked_at(script: Callable[[str], log.KernelEvents], work: Path) -> None:
    (work / "data").write_text("x")
    found = script("""
        ring = Ring()
        if os.fork() == 0:
            assert ring.do(OPENAT, HERE, at(b'data')) > 0
            os._exit(0)
        assert os.wait()[1] == 0
    """)
    (opened,) = (each for each in found.opens if each.path == encode_path(work / "data"))
    assert {opened.pid} != _processes(found)
    assert found.io_uring == set()


def test_threads_that_submit_at_once_are_no_gap(script: Callable[[str], log.KernelEvents], work: Path) -> None:
    (work / "data").write_text("x")
    found = script("""
        import threading
        ring, lock = Ring(entries=64), threading.Lock()
        def use():
            for _ in range(300):
                with lock:
                    ring.put(OPENAT, HERE, at(b'data'))
                ring.submit(1, wait=0, flags=0)
                with lock:
                    for each in ring.results():
                        if each >= 0: os.close(each)
        threads = [threading.Thread(target=use) for _ in range(4)]
        for each in threads: each.start()
        for each in threads: each.join()
    """)
    assert _of(found, work) == {"data": ["read"]}
    assert found.io_uring == set()


@pytest.mark.parametrize(
    "lines",
    [
        "Ring(SQPOLL)",
        "Ring(NO_SQARRAY).do(OPENAT, HERE, at(b'a'))",
        "Ring(NO_SQARRAY | SQE128).do(OPENAT, HERE, at(b'a'))",
        "Ring(NO_SQARRAY | NO_MMAP).do(NOP)",
        "Ring(NO_MMAP).do(NOP); Ring(NO_SQARRAY).do(NOP)",
        "Ring(NO_SQARRAY, entries=8192).do(NOP)",
        "ring = Ring(NO_SQARRAY); ring.put(NOP); ring.requests.close(); ring.submit()",
        "first = Ring(NO_SQARRAY); first.do(NOP); Ring(NO_SQARRAY).do(OPENAT, HERE, at(b'a'))",
        """
        first, second = Ring(NO_SQARRAY), Ring(NO_SQARRAY)
        first.do(NOP); second.put(NOP); second.requests.close(); second.submit()
        """,
        "Ring().do(RENAMEAT, HERE, at(b'a'), at(b'b'), HERE & 0xFFFFFFFF)",
        "Ring().do(LINKAT, HERE, at(b'a'), at(b'b'), HERE & 0xFFFFFFFF)",
        "Ring().do(MKDIRAT, HERE, at(b'made'))",
        "Ring().do(SYMLINKAT, HERE, at(b'a'), at(b'b'))",
        "Ring().do(255)",
        # a registered ring: io_uring_register(2) with IORING_REGISTER_RING_FDS
        """
        ring = Ring()
        if libc.syscall(427, ring.fd, 20, struct.pack('<IIQ', 0xFFFFFFFF, 0, ring.fd), 1) != 1: sys.exit(77)
        ring.fd = 0
        ring.put(NOP)
        assert ring.submit(1, flags=1 << 4 | 1) == 1
        """,
    ],
)
def test_what_cannot_be_told_is_flagged(lines: str, script: Callable[[str], log.KernelEvents], work: Path) -> None:
    (work / "a").write_text("x")
    found = script(lines)
    assert found.io_uring == _processes(found)
