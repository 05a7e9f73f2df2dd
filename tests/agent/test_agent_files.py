"""Files that are opened, renamed and removed: told once, with what they were before."""

import os

import pytest
from event_logs import of_kind

pytestmark = pytest.mark.usefixtures("unmeasured_jobs")


def opened(events, folder, mode=None):
    """Paths below the folder, relative to it, in order; the script itself left out."""
    prefix = f"{folder}/"
    return [
        event["path"][len(prefix) :]
        for event in of_kind(events, "open")
        if event["path"].startswith(prefix)
        and mode in (None, event["mode"])
        and not event["path"].endswith("script.py")
    ]


def test_modes(run_agent, python, tmp_path):
    for name in ("r", "w", "a", "rplus", "aplus", "wplus", "bytes", "fd"):
        (tmp_path / name).write_text("before")
    script = """
import os, io, pathlib
open('r').close()
open('w', 'w').close()
open('a', 'a').close()
open('rplus', 'r+').close()
open('aplus', 'ab+').close()
open('wplus', 'w+').close(); open('x', 'x').close(); open(b'bytes', 'rb').close(); pathlib.Path('path').write_text('')
os.close(os.open('fd', os.O_RDONLY))
os.close(os.open('made', os.O_WRONLY | os.O_CREAT))
open(os.open('fd', os.O_RDONLY)).close()
"""
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    assert ["r", "rplus", "aplus", "bytes", "fd"] == opened(events, tmp_path, "read")
    assert ["w", "a", "rplus", "aplus", "wplus", "x", "path", "made"] == opened(events, tmp_path, "write")
    event = next(event for event in of_kind(events, "open") if event["path"].endswith("/r"))
    status = (tmp_path / "r").stat()
    assert (
        6,
        status.st_mtime_ns,
        status.st_ino,
        status.st_dev,
    ) == (event["size"], event["mtime_ns"], event["inode"], event["device"])
    written = {event["path"].rpartition("/")[2]: event for event in of_kind(events, "open") if event["mode"] == "write"}
    assert written["w"]["existed"] is True
    assert 6 == written["w"]["size"]
    assert "existed" not in written["x"]
    assert "size" not in written["x"]
    assert {"python"} == {event["library"] for event in of_kind(events, "open")}


def test_what_is_not_a_file_is_not_told(run_agent, python, tmp_path):
    script = """
import os, subprocess, tempfile, json, email
for path in ('missing', '.', '/proc/self/status', '/sys/kernel/mm/transparent_hugepage/enabled', '/dev/null'):
    try: open(path).close()
    except OSError: pass
os.mkfifo('fifo')
os.close(os.open('fifo', os.O_RDWR))
os.close(os.open('.', os.O_RDONLY | os.O_DIRECTORY))
os.listdir('.')
open('/dev/null', 'w').close(); subprocess.run(['true'], stdout=subprocess.DEVNULL)
for bad in ('nul\\0', b'nul\\0', 'x' * 5000, '', -1):
    try: open(bad)
    except (OSError, ValueError): pass
"""
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    assert [f"{tmp_path}/script.py"] == [event["path"] for event in of_kind(events, "open")]
    assert [] == of_kind(events, "gap")


def test_what_cannot_be_opened_is_not_told(run_agent, python, tmp_path):
    (tmp_path / "there").write_text("x")
    (tmp_path / "closed").mkdir()
    (tmp_path / "secret").write_text("x")
    script = """
import os
os.chmod('closed', 0o500); os.chmod('secret', 0)
denied = [('closed/x', 'w'), ('secret', 'r'), ('secret', 'a')] if os.geteuid() else []
for path, mode in [('none/x', 'w'), ('none', 'r+'), ('there', 'x'), *denied]:
    try: open(path, mode)
    except OSError: pass
"""
    events, finished = run_agent(script, python=python)
    assert ("", []) == (finished.stderr, opened(events, tmp_path))


def test_each_path_is_told_once_until_it_goes(run_agent, python, tmp_path):
    script = """
import os
for _ in range(3): open('a', 'w').close(); open('a').close(); open('./a').close(); open(os.path.abspath('a')).close()
os.rename('a', 'b'); open('b').close(); open('a', 'w').close(); os.replace('a', 'b'); open('b').close()
os.remove('b'); open('b', 'w').close(); os.unlink('b')
try: os.remove('b')
except OSError: pass
try: os.rename('b', 'c')
except OSError: pass
"""
    events, _ = run_agent(script, python=python)
    prefix = f"{tmp_path}/"
    told = [
        (
            event["event"],
            *(event[name].replace(prefix, "") for name in ("mode", "source", "target", "path") if name in event),
        )
        for event in events
        if event["event"] in ("open", "rename", "remove") and not event.get("path", "").endswith("script.py")
    ]
    assert [
        ("open", "write", "a"),
        ("open", "read", "a"),
        ("rename", "a", "b"),
        ("open", "read", "b"),
        ("open", "write", "a"),
        ("rename", "a", "b"),
        ("open", "read", "b"),
        ("remove", "b"),
        ("open", "write", "b"),
        ("remove", "b"),
    ] == told


def test_paths(run_agent, python, tmp_path):
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/deep")
    (tmp_path / "real/beside").write_text("x")
    (tmp_path / "real/deep/in").write_text("x")
    (tmp_path / "new\nline é").write_text("x")
    with open(os.fsencode(tmp_path) + b"/\xff\\", "w"):
        pass
    script = """
import os
open('link/../beside').close()
open('real//deep/./in').close()
open('new\\nline \\u00e9').close()
open(b'\\xff\\\\').close()
os.chdir('real'); open('beside', 'a').close()
fd = os.open('deep', os.O_RDONLY | os.O_DIRECTORY)
os.rename('in', 'out', src_dir_fd=fd, dst_dir_fd=fd)
os.remove('out', dir_fd=fd)
"""
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    assert ["real/beside", "real/deep/in", "new\nline é", "\\xff\\\\", "real/beside"] == opened(events, tmp_path)
    assert [(f"{tmp_path}/real/deep/in", f"{tmp_path}/real/deep/out")] == [
        (event["source"], event["target"]) for event in of_kind(events, "rename")
    ]
    assert [f"{tmp_path}/real/deep/out"] == [event["path"] for event in of_kind(events, "remove")]


@pytest.mark.parametrize("round", ["compiled by this run", "compiled before"])
def test_code_is_told_as_source(run_agent, python, tmp_path, round):
    (tmp_path / "mine.py").write_text("x = 1\n")
    if round == "compiled before":
        run_agent("import mine", python=python, agent=False)
    events, _ = run_agent("import mine, json, decimal", python=python)
    assert ["mine.py"] == opened(events, tmp_path)
    assert 2 == len(of_kind(events, "open"))
    assert [] == of_kind(events, "rename")


def test_packages_code_is_left_to_the_environment_but_their_data_is_not(run_agent, python, tmp_path):
    package = tmp_path / "site-packages/thing"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(
        "import os\ndata = open(os.path.join(os.path.dirname(__file__), 'data.csv')).close()\n"
    )
    (package / "data.csv").write_text("1")
    events, finished = run_agent("import sys; sys.path.append('site-packages'); import thing", python=python)
    assert "" == finished.stderr
    assert ["site-packages/thing/data.csv"] == opened(events, tmp_path)


def test_too_many_files_are_a_gap(run_agent, python):
    script = """
import sys
sys.modules['_repro_agent.files'].MOST_PATHS = 10
for number in range(20): open('f%d' % number, 'w').close()
"""
    events, finished = run_agent(script, python=python)
    assert "" == finished.stderr
    assert 10 == len(of_kind(events, "open"))
    assert [("data", "files")] == [(gap["topic"], gap["subject"]) for gap in of_kind(events, "gap")]


def test_a_failing_handler_is_a_gap_and_the_file_is_opened(run_agent, python):
    script = """
import sys
def broken(*_): raise RuntimeError('broken')
sys.modules['_repro_agent.files'].absolute = broken
open('x', 'w').write('1')
print(open('x').read())
"""
    events, finished = run_agent(script, python=python)
    assert ("1\n", "") == (finished.stdout, finished.stderr)
    assert "RuntimeError: broken" == of_kind(events, "gap")[0]["reason"]


def test_forked_children_tell_anew(run_agent, python, tmp_path):
    events, _ = run_agent(
        (
            "import os\nopen('x', 'w').close()\nif os.fork() == 0:\n    open('x').close(); "
            "raise SystemExit\nos.wait(); open('x').close()"
        ),
        python=python,
    )
    assert ["x"] == opened(of_kind(events, "open", "main/fork.1"), tmp_path)
    assert ["x", "x"] == opened(of_kind(events, "open", "main"), tmp_path)
