from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import jsonschema
import pytest

from repro.errors import UsageError
from repro.evidence.canonical import encode_path
from repro.record import kernel
from repro.record.kernel import holder, log, opens, seccomp, tasks
from repro.record.kernel.opens import LARGEST_HASHED_BYTES
from repro.record.streams import Wanted
from repro.record.supervise import start_local

pytestmark = pytest.mark.usefixtures("unmeasured_jobs")

ROOT = Path(__file__).resolve().parents[3]
PYTHON = sys.executable
NOBODY = 65534


@pytest.fixture(autouse=True)
def _can_watch() -> None:
    if reason := seccomp.available(("/bin/true",), Path("/"), os.environ):
        pytest.skip(f"seccomp: {reason}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    code: int
    stdout: bytes
    stderr: bytes
    events: log.KernelEvents
    folder: Path

    def modes(self, path: Path | bytes) -> list[str]:
        return [each.mode for each in self.events.opens if each.path == encode_path(path)]

    def opened(self, path: Path | bytes, mode: str) -> log.Opened:
        (found,) = (each for each in self.events.opens if each.path == encode_path(path) and each.mode == mode)
        return found


def _drain(fd: int) -> bytes:
    with open(fd, "rb") as stream:
        return stream.read()


@pytest.fixture
def watch(tmp_path: Path) -> Callable[..., Watched]:
    """Return what runs a command below the filter, in a folder `work`, to its end."""
    work = tmp_path / "work"
    work.mkdir()

    def run(*argv: str, env: Mapping[str, str] | None = None, cwd: Path = work) -> Watched:
        events = tmp_path / f"events-{time.monotonic_ns()}"
        events.mkdir()
        watching = seccomp.Seccomp(events)
        wanted = Wanted(stdout_is_terminal=False, stderr_is_terminal=False)
        job = watching.start(argv, cwd, {**os.environ, "EVENTS": str(events)} if env is None else env, wanted)
        stdout, stderr = _drain(job.stdout_fd), _drain(job.stderr_fd)
        code = job.wait()
        watching.finish(20)
        found = log.read(events)
        assert found is not None
        return Watched(code=code, stdout=stdout, stderr=stderr, events=found, folder=events)

    return run


@pytest.fixture
def script(watch: Callable[..., Watched]) -> Callable[[str], Watched]:
    """Return what runs lines of Python below the filter, and expects them to succeed and to be seen to the end."""

    def run(text: str) -> Watched:
        done = watch(PYTHON, "-c", textwrap.dedent(text))
        assert (done.code, done.stderr) == (0, b"")
        assert done.events.complete
        assert done.events.gaps == []
        return done

    return run


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


READERS = {
    "itself": "open('data').read()",
    "a forked child": "import os; os.fork() and os.wait() or open('data').read()",
    "a thread": "import threading; t = threading.Thread(target=lambda: open('data').read()); t.start(); t.join()",
    "another program": "import subprocess; subprocess.run(['cat', 'data'], stdout=-3)",
    "a shell's redirection": "import os; os.system('cat < data > /dev/null')",
    "a child with an empty environment": "import subprocess; subprocess.run(['/bin/cat', 'data'], env={}, stdout=-3)",
    "an isolated Python": """
        import subprocess, sys
        subprocess.run([sys.executable, '-I', '-S', '-c', 'open("data")'])
    """,
    "a C library": """
        import ctypes
        c = ctypes.CDLL(None)
        c.fopen.restype = ctypes.c_void_p
        assert c.fopen(b'data', b'r')
    """,
    "openat2": """
        import ctypes, struct
        how = struct.pack('QQQ', 0, 0, 0)
        assert ctypes.CDLL(None).syscall(437, -100, b'data', how, len(how)) > 2
    """,
    "from another folder": "import os; os.chdir('/'); os.chdir(os.environ['PWD_OF_DATA']); open('data')",
    "relative to a descriptor": """
        import os
        fd = os.open('.', os.O_DIRECTORY)
        os.chdir('/')
        os.open('data', os.O_RDONLY, dir_fd=fd)
    """,
    "by a roundabout path": "open('.//nowhere/..//./data') if __import__('os').makedirs('nowhere') is None else 0",
    "by the name of a descriptor": """
        import os
        os.dup2(os.open('data', os.O_PATH), 9)
        open('/proc/self/fd/9').read()
    """,
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_a_file_is_seen_whoever_reads_it(
    reader: str, script: Callable[[str], Watched], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PWD_OF_DATA", str(work))
    (work / "data").write_bytes(b"twelve bytes")
    state = (work / "data").stat()
    found = script(reader).opened(work / "data", "read")
    assert (found.existed, found.size_bytes, found.before) == (True, 12, None)
    assert (found.mtime_ns, found.ctime_ns) == (state.st_mtime_ns, state.st_ctime_ns)
    assert (found.inode, found.device) == (state.st_ino, state.st_dev)
    assert abs(found.at - time.time()) < 3600


def _compiled(work: Path, text: str, *options: str) -> str:
    if shutil.which("gcc") is None:
        pytest.skip("gcc: not installed")
    (work / "program.c").write_text(text)
    subprocess.run(["gcc", *options, "-o", "program", "program.c"], cwd=work, check=True, capture_output=True)
    return str(work / "program")


def test_a_static_program_is_seen(watch: Callable[..., Watched], work: Path) -> None:
    (work / "data").touch()
    program = _compiled(work, '#include <fcntl.h>\nint main() { return open("data", 0) < 0; }', "-static")
    done = watch(program)
    assert (done.code, done.modes(work / "data")) == (0, ["read"])


def test_a_32_bit_call_is_seen(watch: Callable[..., Watched], work: Path) -> None:
    text = """
        #define _GNU_SOURCE
        #include <sys/mman.h>
        #include <string.h>
        int main() {
            char *low = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
            long fd;
            strcpy(low, "data");
            __asm__ volatile("int $0x80" : "=a"(fd) : "a"(5), "b"(low), "c"(0), "d"(0) : "memory");
            return (int)fd < 0;
        }
    """
    if os.uname().machine != "x86_64":
        pytest.skip("x86_64: another architecture")
    (work / "data").touch()
    program = _compiled(work, text)
    if subprocess.run([program], cwd=work, check=False).returncode != 0:
        pytest.skip("i386: the kernel runs no 32-bit calls")
    done = watch(program)
    assert (done.code, done.modes(work / "data")) == (0, ["read"])


NAMES = [b"two\nlines", b'tab\tquote"back\\slash', b"\xff\xfe not UTF-8", "日本語".encode(), b"x" * 255, b"-"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_survives_as_it_is(name: bytes, watch: Callable[..., Watched], work: Path) -> None:
    path = os.fsencode(work) + b"/" + name
    Path(os.fsdecode(path)).touch()
    done = watch(PYTHON, "-c", "import os, sys; os.open(os.fsencode(sys.argv[1]), 0)", os.fsdecode(path))
    assert (done.code, done.modes(path)) == (0, ["read"])


def test_the_longest_path_is_read_whole(script: Callable[[str], Watched], work: Path) -> None:
    done = script("""
        import os
        here = os.getcwd()
        while len(os.getcwd()) < 4094 - 200:
            os.mkdir('d' * 199); os.chdir('d' * 199)
        rest = 4095 - len(os.getcwd()) - 1
        if rest > 255:
            os.mkdir('e' * 100); os.chdir('e' * 100); rest -= 101
        open('f' * rest, 'w').close()
        path = os.getcwd() + '/' + 'f' * rest
        assert len(path) == 4095
        os.chdir(here)
        open(path).close()
    """)
    longest = max(done.events.opens, key=lambda each: len(each.path))
    assert 4095 == len(longest.path)


def test_a_symbolic_link_keeps_its_name_except_before_a_parent(script: Callable[[str], Watched], work: Path) -> None:
    (work / "real/deep").mkdir(parents=True)
    (work / "real/data").touch()
    (work / "link").symlink_to("real/deep")
    (work / "alias").symlink_to("real/data")
    done = script("open('alias'); open('link/../data')")
    assert (done.modes(work / "alias"), done.modes(work / "real/data")) == (["read"], ["read"])


def test_what_fails_and_what_is_no_file_is_absent(script: Callable[[str], Watched], work: Path) -> None:
    (work / "there").touch()
    (work / "folder").mkdir()
    os.mkfifo(work / "pipe")
    (work / "link").symlink_to("there")
    done = script("""
        import contextlib, os
        os.open('folder', os.O_RDONLY); os.open('folder', os.O_DIRECTORY); os.listdir('folder')
        os.open('pipe', os.O_RDONLY | os.O_NONBLOCK); os.open('there', os.O_PATH)
        for path, flags in [
            ('missing', 0), ('no/folder', os.O_CREAT | os.O_WRONLY), ('there/below', 0),
            ('there', os.O_CREAT | os.O_EXCL | os.O_WRONLY), ('link', os.O_NOFOLLOW), ('folder', os.O_WRONLY),
        ]:
            with contextlib.suppress(OSError):
                os.open(path, flags)
                raise SystemExit(f'{path} could be opened')
        open('/proc/self/status'); open('/dev/null', 'w')
        with contextlib.suppress(OSError):
            os.rename('missing', 'other')
        with contextlib.suppress(OSError):
            os.unlink('missing')
        os.rmdir('folder')
    """)
    assert [] == [each for each in done.events.opens if each.path.startswith(encode_path(work) + "/")]
    assert [] == [each for each in done.events.opens if each.path.startswith(("/proc", "/dev"))]
    assert ([], []) == (done.events.renames, done.events.removes)


def test_what_was_in_a_file_is_hashed_before_its_first_write(script: Callable[[str], Watched], work: Path) -> None:
    for name in ("updated", "appended", "replaced", "read then replaced", "cut", "opened for both"):
        (work / name).write_bytes(name.encode())
    done = script("""
        import os
        open('updated', 'r+').write('new'); open('appended', 'a').write('new'); open('replaced', 'w').write('new')
        open('read then replaced').read(); open('read then replaced', 'w').write('new')
        os.truncate('cut', 1); open('fresh', 'w').write('new')
        os.close(os.open('opened for both', os.O_RDWR)); open('updated', 'r+').write('newer')
    """)
    before = {name: done.opened(work / name, "write").before for name in os.listdir(work)}
    kept = {name: f"sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in before}
    assert before == kept | {"replaced": None, "fresh": None}
    assert done.modes(work / "opened for both") == done.modes(work / "updated") == ["read", "write"]
    assert done.modes(work / "appended") == done.modes(work / "replaced") == done.modes(work / "fresh") == ["write"]
    fresh = done.opened(work / "fresh", "write")
    assert (fresh.existed, fresh.size_bytes, fresh.mtime_ns, fresh.inode) == (False, None, None, None)


def test_a_file_too_large_to_hash_in_passing_claims_no_earlier_bytes(
    script: Callable[[str], Watched], work: Path
) -> None:
    with (work / "large").open("wb") as file:
        file.truncate(LARGEST_HASHED_BYTES + 1)
    found = script("open('large', 'r+').write('x')").opened(work / "large", "write")
    assert (found.before, found.size_bytes) == (None, LARGEST_HASHED_BYTES + 1)


def test_what_cannot_be_renamed_is_not_told(script: Callable[[str], Watched], work: Path) -> None:
    (work / "d").mkdir()
    (work / "full").mkdir()
    for name in ("a", "b", "full/x"):
        (work / name).write_text(name)
    os.link(work / "a", work / "a2")
    found = script(
        """
        import ctypes, os
        for source, target in [("none", "x"), ("a", "d"), ("d", "a"), ("d", "full"), ("a", "none/x"), ("a", "a2")]:
            try:
                os.rename(source, target)
            except OSError:
                pass
        libc = ctypes.CDLL(None)
        libc.renameat2(-100, b"a", -100, b"b", 1)
        for source, target in [("a", "b"), ("none", "x")]:
            try:
                os.link(source, target)
            except OSError:
                pass
        libc.renameat2(-100, b"a", -100, b"b", 2)
        os.rename("full", "d")
        """
    )
    assert [(each.source, each.target) for each in found.events.renames] == [
        (encode_path(work / "a"), encode_path(work / "b")), (encode_path(work / "full"), encode_path(work / "d")),
    ]  # fmt: skip
    assert found.events.links == []


def test_each_file_is_told_once_until_it_is_another(script: Callable[[str], Watched], work: Path) -> None:
    for name in ("a", "b", "c"):
        (work / name).touch()
    done = script("""
        import os
        for name in 'abc' * 3:
            open(name).read()
        os.rename('a', 'b'); open('b').read()
        os.unlink('c'); open('c', 'w'); open('c').read()
        os.mkdir('folder'); open('folder/d', 'w').close(); os.rename('folder', 'moved'); os.mkdir('folder')
        open('folder/d', 'w').close()
        os.link('b', 'e')
    """)
    assert (done.modes(work / "a"), done.modes(work / "b")) == (["read"], ["read", "read"])
    assert (done.modes(work / "c"), done.modes(work / "folder/d")) == (["read", "write", "read"], ["write", "write"])
    here = encode_path(work)
    renames = [(each.source, each.target) for each in done.events.renames]
    assert renames == [(f"{here}/a", f"{here}/b"), (f"{here}/folder", f"{here}/moved")]
    assert [each.path for each in done.events.removes] == [f"{here}/c"]
    assert [(each.source, each.target) for each in done.events.links] == [(f"{here}/b", f"{here}/e")]


def test_a_file_that_gets_its_name_last_is_a_link(script: Callable[[str], Watched], work: Path) -> None:
    done = script("""
        import ctypes, os
        fd = os.open('.', os.O_TMPFILE | os.O_WRONLY)
        os.write(fd, b'x')
        assert ctypes.CDLL(None).linkat(-100, f'/proc/self/fd/{fd}'.encode(), -100, b'named', 0x400) == 0
    """)
    (found,) = done.events.links
    assert (work / "named").exists()
    assert found.target == encode_path(work / "named")
    assert found.source.endswith("(deleted)")


def test_programs_are_seen_with_their_arguments(watch: Callable[..., Watched], work: Path) -> None:
    tool = work / "tool"
    tool.write_text("#!/bin/sh -e\nexit 3\n")
    tool.chmod(0o755)
    lines = "import subprocess; subprocess.run(['tool', 'an argument', 'x' * 100000, ''])"
    done = watch(PYTHON, "-c", lines, env={"PATH": f"/nowhere:{work}:/bin"})
    (found,) = (each for each in done.events.executions if each.path == encode_path(tool))
    assert found.argv == ("tool", "an argument", "x" * 100000, "")
    assert done.opened(b"/bin/sh", "read").pid == found.pid  # the kernel opens it: no call tells of it
    first = done.events.executions[0]
    assert (first.path, first.argv, first.parent) == (PYTHON, (PYTHON, "-c", lines), os.getpid())
    assert found.parent == first.pid
    assert done.events.processes[found.pid].parent == first.pid
    assert "/nowhere" not in str(done.events.executions)


def test_a_program_executed_by_its_descriptor_is_seen(script: Callable[[str], Watched]) -> None:
    done = script("import os; os.execve(os.open('/bin/true', os.O_RDONLY), ['renamed'], {})")
    assert ("/bin/true", ("renamed",)) in {
        (each.path.replace("/usr", ""), each.argv) for each in done.events.executions
    }


def test_a_ring_that_opens_files_unseen_is_flagged(script: Callable[[str], Watched]) -> None:
    done = script("import ctypes; ctypes.CDLL(None).syscall(425, 1, b'\\0' * 8 + b'\\2' + b'\\0' * 111)")
    assert done.events.io_uring == {done.events.executions[0].pid}


def test_every_process_that_opens_the_canary_is_told(script: Callable[[str], Watched]) -> None:
    done = script("""
        import os
        def sing():
            try:
                open(os.environ['EVENTS'] + '/canary')
            except FileNotFoundError:
                pass
        sing(); sing()
        if os.fork() == 0:
            sing()
            os._exit(0)
        os.wait()
    """)
    assert len(done.events.canaries) == 2
    assert set(done.events.processes) == done.events.canaries
    assert [] == [each for each in done.events.opens if each.path.startswith(encode_path(done.folder))]


def test_every_line_is_what_the_schema_says(script: Callable[[str], Watched], work: Path) -> None:
    (work / "data").write_text("x")
    done = script("""
        import ctypes, os
        open('data', 'r+').write('y'); open('new', 'w'); os.link('new', 'link'); os.rename('new', 'other')
        os.unlink('other'); ctypes.CDLL(None).syscall(425, 1, b'\\0' * 8 + b'\\2' + b'\\0' * 111)
        try: open(os.environ['EVENTS'] + '/canary')
        except OSError: pass
    """)
    validator = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas/kernel-event-1.json").read_text()))
    lines = (done.folder / log.NAME).read_bytes().splitlines()
    told = [json.loads(line) for line in lines]
    for each in told:
        validator.validate(each)
    kinds = [each["event"] for each in told]
    assert ("layer", "end") == (kinds[0], kinds[-1])
    assert set(kinds) == set(validator.schema["$defs"]) - {"gap"}


def test_the_command_has_no_descriptor_that_it_would_not_have_alone(watch: Callable[..., Watched], work: Path) -> None:
    listing = textwrap.dedent("""
        import contextlib, os
        for fd in range(100):
            with contextlib.suppress(OSError):
                print(fd, os.readlink(f'/proc/self/fd/{fd}').partition(':')[0])
    """)
    wanted = Wanted(stdout_is_terminal=False, stderr_is_terminal=False)
    bare = start_local((PYTHON, "-c", listing), work, os.environ, wanted)
    expected = _drain(bare.stdout_fd)
    os.close(bare.stderr_fd)
    assert bare.wait() == 0
    assert watch(PYTHON, "-c", listing).stdout == expected


def test_a_file_that_hangs_is_given_up_and_the_job_goes_on(
    watch: Callable[..., Watched], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = opens.Opens._state

    def hang(self: opens.Opens, task: tasks.Task, path: bytes, *, follow: bool) -> os.stat_result | None:
        if path.endswith(b"/hangs"):
            time.sleep(600)
        return look(self, task, path, follow=follow)

    monkeypatch.setattr(opens.Opens, "_state", hang)  # the watcher is forked, and takes this with it
    monkeypatch.setattr(holder, "LONGEST_LOOK_SECONDS", 0.2)
    (work / "hangs").touch()
    (work / "after").touch()
    done = watch(PYTHON, "-c", "open('hangs'); open('after'); open('new', 'w')")
    assert (done.code, done.stderr, done.events.complete) == (0, b"", True)
    assert ([gap.subject for gap in done.events.gaps], done.events.unresolved) == (["files"], 1)
    assert (done.modes(work / "hangs"), done.modes(work / "after")) == ([], ["read"])
    assert done.modes(work / "new") == ["write"]


def _needs_root(tool: str) -> None:
    if os.geteuid() != 0 or shutil.which(tool) is None:
        pytest.skip(f"root: {tool} needs it")


def test_a_path_below_another_root_is_told_as_ours(watch: Callable[..., Watched], work: Path) -> None:
    _needs_root("chroot")
    (work / "root").mkdir()
    (work / "root/inside").touch()
    program = _compiled(work, '#include <fcntl.h>\nint main() { return open("/inside", 0) < 0; }', "-static")
    shutil.move(program, work / "root/program")
    done = watch("chroot", "root", "/program")
    assert (done.code, done.events.gaps) == (0, [])
    assert done.modes(work / "root/inside") == ["read"]
    assert done.events.executions[-1].path == encode_path(work / "root/program")


def test_a_process_that_changes_its_root_is_followed(script: Callable[[str], Watched], work: Path) -> None:
    _needs_root("chroot")
    for name in ("inside", "root/inside"):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).touch()
    done = script("""
        import os
        open('inside'); os.chroot('root'); os.chdir('/'); open('/inside'); os.open('inside', os.O_WRONLY)
    """)
    assert (done.modes(work / "inside"), done.modes(work / "root/inside")) == (["read"], ["read", "write"])


def test_a_path_that_means_another_file_in_a_container_is_not_told(watch: Callable[..., Watched], work: Path) -> None:
    _needs_root("unshare")
    (work / "data").touch()
    (work / "folder").mkdir()
    (work / "folder/same").touch()
    lines = (
        "cat data; mount -t tmpfs none folder; echo > folder/same; cat folder/same; sh -c 'cat folder/same; cat data'"
    )
    done = watch("unshare", "--mount", "sh", "-c", lines)
    here = encode_path(work) + "/"
    assert (done.code, done.stderr) == (0, b"")
    assert {"data"} == {each.path.removeprefix(here) for each in done.events.opens if each.path.startswith(here)}
    assert {"a container" in gap.reason for gap in done.events.gaps} == {True}
    assert done.events.unresolved == 3


def test_the_thread_that_started_the_command_lives_as_long_as_the_command(script: Callable[[str], Watched]) -> None:
    done = script("""
        import ctypes, time
        ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
        time.sleep(0.3)
        print('alive')
    """)
    assert done.stdout == b"alive\n"


def test_a_debugger_may_attach(watch: Callable[..., Watched]) -> None:
    done = watch(
        PYTHON,
        "-c",
        textwrap.dedent("""
            import ctypes, os, signal, sys
            pid = os.fork()
            if pid == 0:
                while True: open('/etc/hostname').close()
            c = ctypes.CDLL(None, use_errno=True)
            assert c.ptrace(16, pid, 0, 0) == 0, ctypes.get_errno()  # PTRACE_ATTACH
            assert os.WIFSTOPPED(os.waitpid(pid, 0)[1])
            assert c.ptrace(17, pid, 0, 0) == 0  # PTRACE_DETACH
            os.kill(pid, signal.SIGKILL)
        """),
    )
    assert (done.code, done.stderr) == (0, b"")


def test_a_second_listener_is_refused_by_name(script: Callable[[str], Watched]) -> None:
    done = script(f"""
        import os, pathlib, sys
        sys.path.insert(0, {str(ROOT)!r})
        from repro.record.kernel import seccomp
        print(seccomp.available(('true',), pathlib.Path('/'), os.environ))
    """)
    assert b"only one can" in done.stdout


def test_what_outlives_the_command_is_a_gap_and_lives_on(tmp_path: Path) -> None:
    watching = seccomp.Seccomp(tmp_path)
    lines = "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3, stderr=-3).pid)"
    wanted = Wanted(stdout_is_terminal=False, stderr_is_terminal=False)
    job = watching.start((PYTHON, "-c", lines), tmp_path, os.environ, wanted)
    pid = int(_drain(job.stdout_fd))
    os.close(job.stderr_fd)
    assert job.wait() == 0
    watching.finish(0.2)
    found = log.read(tmp_path)
    assert found is not None
    assert not found.complete
    assert [gap.subject for gap in found.gaps] == ["sleep"]
    os.kill(pid, 0)
    os.kill(pid, signal.SIGKILL)
    watching.finish(20)
    assert log.read(tmp_path).complete


def test_a_command_that_cannot_be_started_says_so_and_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "text").chmod(0o755)
    watching = seccomp.Seccomp(tmp_path)
    with pytest.raises(UsageError, match="could not be started"):
        watching.start(("./text",), tmp_path, os.environ, Wanted(stdout_is_terminal=False, stderr_is_terminal=False))
    watching.finish(20)
    assert log.read(tmp_path).complete


def test_the_best_layer_is_chosen(tmp_path: Path) -> None:
    found, gaps = kernel.choose(("/bin/true",), tmp_path, os.environ, tmp_path)
    assert found is not None
    assert (found.layer, gaps) == ("seccomp", ())


def test_where_no_layer_can_watch_the_gap_says_why(tmp_path: Path) -> None:
    tool = tmp_path / "singularity"
    shutil.copy("/bin/true", tool)
    found, gaps = kernel.choose((str(tool),), tmp_path, {"PATH": ""}, tmp_path)
    if found is None:
        (gap,) = gaps
        assert gap.topic == "lineage"
        assert "seccomp: singularity" in gap.reason
        assert "strace: " in gap.reason
    else:
        assert (found.layer, gaps) == ("strace", ())


def test_a_container_tool_is_not_put_below_a_filter(tmp_path: Path) -> None:
    tool = tmp_path / "apptainer"
    shutil.copy("/bin/true", tool)
    assert "apptainer" in seccomp.available((str(tool),), tmp_path, os.environ)


@pytest.fixture
def as_nobody() -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Return what runs lines without privileges, in a folder of nobody's; what they need is imported before."""
    if os.geteuid() != 0:
        pytest.skip("root: these tests give privileges up")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    os.chown(folder, NOBODY, NOBODY)
    head = f"""
        import ctypes, os, pathlib, shutil, stat, sys
        sys.path.insert(0, {str(ROOT)!r})
        from repro.record.kernel import holder, log, seccomp
        from repro.record.streams import Wanted
        os.chdir({str(folder)!r})
        here = pathlib.Path.cwd()
        tool = here.parent / (here.name + '.tool')
        shutil.copy('/bin/cat', tool)
        tool.chmod(0o4755)
        os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})
        ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after any exec
        def run(*argv):
            (here / 'events').mkdir()
            watching = seccomp.Seccomp(here / 'events')
            wanted = Wanted(stdout_is_terminal=False, stderr_is_terminal=False)
            job = watching.start(argv, here, {{'PATH': '/usr/bin:/bin'}}, wanted)
            output = os.fdopen(job.stdout_fd).read()
            print(job.wait(), output)
            watching.finish(20)
            return log.read(here / 'events')
    """

    def run(lines: str) -> subprocess.CompletedProcess[str]:
        text = textwrap.dedent(head) + textwrap.dedent(lines)
        return subprocess.run([PYTHON, "-c", text], capture_output=True, text=True, check=False, timeout=60)

    yield run
    shutil.rmtree(folder)
    Path(f"{folder}.tool").unlink(missing_ok=True)


def test_no_privileges_are_needed(as_nobody: Callable[[str], subprocess.CompletedProcess[str]]) -> None:
    done = as_nobody("""
        assert seccomp.available(('cat',), here, os.environ) is None
        (here / 'data').write_text('content')
        found = run('sh', '-c', 'cat data; exit 4')
        assert found.no_new_privs and found.complete and not found.gaps, found
        assert [each.mode for each in found.opens if each.path == str(here / 'data')] == ['read'], found.opens
    """)
    assert (done.stdout, done.stderr) == ("4 content\n", "")


def test_where_only_an_ancestor_may_look_the_recorder_does(
    watch: Callable[..., Watched], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(task: tasks.Task) -> int:  # as Yama does; the watcher is forked, and takes this with it
        os.stat("stat", dir_fd=task.fd)
        raise PermissionError

    monkeypatch.setattr(seccomp.Seccomp, "_must_lend", staticmethod(lambda: True))
    monkeypatch.setattr(tasks, "open_memory", refuse)
    (work / "data").touch()
    lines = """
        import os, subprocess, threading
        subprocess.run(['cat', 'data'])
        if os.fork() == 0:
            open('data', 'a')
            os.execvp('cat', ['cat', 'data'])
        os.wait()
        threading.Thread(target=lambda: os.execv('/bin/sh', ['sh', '-c', 'exec cat < data'])).start()
    """
    done = watch(PYTHON, "-c", textwrap.dedent(lines))
    assert (done.code, done.stderr, done.events.gaps, done.events.complete) == (0, b"", [], True)
    assert done.modes(work / "data") == ["read", "write"]
    names = [each.argv[0] for each in done.events.executions]
    assert names == [PYTHON, "cat", "cat", "sh", "cat"]


def test_memory_that_is_kept_open_is_never_that_of_an_earlier_program(
    script: Callable[[str], Watched], work: Path
) -> None:
    names = [f"{number:0{size}}" for number, size in enumerate((1, 200, 40, 255, 3, 254, 90))]
    for name in (*names, "child", "thread"):
        (work / name).touch()
    (work / "chain.py").write_text(
        textwrap.dedent("""
            import os, sys, threading
            open(sys.argv[1]).close()
            if sys.argv[2:]:
                go_on = [os.execv, sys.executable, [sys.executable, '-I', '-S', 'chain.py', *sys.argv[2:]]]
                threading.Thread(target=go_on[0], args=go_on[1:]).start() if len(sys.argv) % 2 else go_on[0](*go_on[1:])
        """)
    )
    done = script(f"""
        import os, subprocess, sys, threading
        for _ in range(20):
            for program in ('/nonexistent', '/bin/true'):  # a child that shares our memory, until it is a program
                actions = [(os.POSIX_SPAWN_OPEN, 5, 'child', os.O_RDONLY, 0)]
                try:
                    os.waitpid(os.posix_spawn(program, [program], os.environ, file_actions=actions), 0)
                except OSError:
                    pass
            thread = threading.Thread(target=lambda: open('thread').close())
            thread.start()
            thread.join()
        subprocess.run([sys.executable, '-I', '-S', 'chain.py', *{names!r}], check=True)
    """)
    told = [Path(each.path).name for each in done.events.opens if each.path.startswith(f"{work}/")]
    assert sorted(told) == sorted([*names, "child", "thread", "chain.py"])


@pytest.mark.parametrize("lends", [False, True])
def test_what_the_recorder_itself_opens_is_not_told(
    lends: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seccomp.Seccomp, "_must_lend", staticmethod(lambda: lends))
    watching = seccomp.Seccomp(tmp_path)
    wanted = Wanted(stdout_is_terminal=True, stderr_is_terminal=True)  # opens a device while it holds Python's lock
    job = watching.start(("/bin/true",), tmp_path, os.environ, wanted)
    os.close(job.stdout_fd)
    os.close(job.stderr_fd)
    job.wait()
    watching.finish(20)
    found = log.read(tmp_path)
    assert os.getpid() not in found.processes
    assert (len(found.processes), found.gaps, found.complete) == (1, [], True)


def test_a_program_that_loses_its_privileges_is_named(
    as_nobody: Callable[[str], subprocess.CompletedProcess[str]],
) -> None:
    done = as_nobody("""
        assert 'gives privileges' in seccomp.available((str(tool),), here, os.environ)
        found = run('sh', '-c', f'{tool} /dev/null')
        assert [gap.subject for gap in found.gaps] == [str(tool)], found.gaps
    """)
    assert (done.stdout, done.stderr) == ("0 \n", "")


def test_a_result_keeps_its_bits(watch: Callable[..., Watched], work: Path) -> None:
    lines = (
        "import math, os, random; random.seed(1); print([math.sin(random.random()) for _ in range(1000)], os.getcwd())"
    )
    bare = subprocess.run([PYTHON, "-c", lines], cwd=work, capture_output=True, check=True)
    assert watch(PYTHON, "-c", lines).stdout == bare.stdout
