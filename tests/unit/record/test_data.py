from __future__ import annotations

import hashlib
import importlib.util
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from repro.evidence.canonical import encode_path
from repro.record.capture import code, data
from repro.record.eventlog import Events, Open, Rename, Start


def sha(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def opened(
    path: Path | str | bytes, mode: str = "read", *, at: float = 1.0, library: str = "python", key: str = "main"
) -> Open:
    """An open event as the agent writes it: with the state of the file just before."""
    try:
        about = os.stat(path)
    except OSError:
        about = None
    return Open(
        process_key=key,
        path=encode_path(path),
        mode=mode,
        library=library,
        at=at,
        size_bytes=about and about.st_size,
        mtime_ns=about and about.st_mtime_ns,
        inode=about and about.st_ino,
        existed=about is not None,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    return root


@pytest.fixture
def start(tmp_path: Path) -> Start:
    prefix = tmp_path / "env"
    return Start(
        process_key="main", parent_key=None, pid=1, argv=("python",), executable=f"{prefix}/bin/python",
        prefix=str(prefix),
        base_prefix="/usr", python_version="3.11.7", implementation="cpython", build="", path=(), rank=None,
        world_size=None, started_at=0.0,
    )  # fmt: skip


@pytest.fixture
def look(context, project: Path, start: Start):
    def run(*events: Open | Rename, tree: bool = False, **changes):
        ctx = context(project, interpreter=start, **changes)
        if tree:
            ctx = replace(ctx, findings=code.before(ctx), started_at_ns=time.time_ns())
        seen = Events(
            opens=[e for e in events if isinstance(e, Open)], renames=[e for e in events if isinstance(e, Rename)]
        )
        return data.after(replace(ctx, events=seen))

    return run


def rows(found) -> dict[tuple[str, str], tuple]:
    return {(f.path, f.role): (f.category, f.sha256, f.changed_during_run) for f in found.data_files}


def test_inputs_and_outputs_have_digests(project: Path, look, tmp_path: Path) -> None:
    (project / "in.csv").write_bytes(b"1\n")
    outside = tmp_path / "elsewhere.csv"
    outside.write_bytes(b"2\n")
    events = [opened(project / "in.csv"), opened(outside), opened(project / "out.pt", "write", library="torch", at=2.0)]
    (project / "out.pt").write_bytes(b"model")
    found = look(*events)
    assert rows(found) == {
        ("in.csv", "input"): ("data", sha(b"1\n"), False),
        (str(outside), "input"): ("data", sha(b"2\n"), False),
        ("out.pt", "output"): ("data", sha(b"model"), False),
    }
    assert next(f for f in found.data_files if f.role == "output").library == "torch"
    assert found.gaps == ()


def test_the_digest_of_inputs_depends_on_their_content(project: Path, look) -> None:
    (project / "in.csv").write_bytes(b"1\n")
    first = look(opened(project / "in.csv")).fact("data", "inputs_digest")
    (project / "in.csv").write_bytes(b"2\n")
    assert look(opened(project / "in.csv")).fact("data", "inputs_digest") != first


def test_what_the_run_wrote_itself_is_no_input(project: Path, look) -> None:
    (project / "made").write_bytes(b"x")
    found = look(opened(project / "made", at=2.0, key="main/fork.1"), opened(project / "made", "write", at=1.0))
    assert list(rows(found)) == [("made", "output")]


def test_a_file_that_is_read_and_then_overwritten_is_both(project: Path, look) -> None:
    (project / "state").write_bytes(b"before")
    read, write = opened(project / "state", at=1.0), opened(project / "state", "write", at=2.0)
    (project / "state").write_bytes(b"after!!")
    found = look(read, write)
    assert rows(found) == {
        ("state", "input"): ("data", sha(b"after!!"), True),
        ("state", "output"): ("data", sha(b"after!!"), False),
    }
    assert [gap.subject for gap in found.gaps] == ["state"]


def test_an_input_of_the_code_tree_keeps_the_digest_from_before(project: Path, look, context) -> None:
    (project / "state").write_bytes(b"before")
    found = look(opened(project / "state"), tree=True)
    assert rows(found) == {("state", "input"): ("data", sha(b"before"), False)}


def test_a_change_of_the_code_tree_during_the_run_is_seen(project: Path, look, context, start) -> None:
    (project / "state").write_bytes(b"before")
    ctx = context(project, interpreter=start)
    ctx = replace(ctx, findings=code.before(ctx), started_at_ns=time.time_ns())
    read = opened(project / "state")
    (project / "state").write_bytes(b"other!!")
    found = data.after(replace(ctx, events=Events(opens=[read])))
    assert rows(found) == {("state", "input"): ("data", sha(b"before"), False)}


def test_renames_are_followed(project: Path, look) -> None:
    (project / "final.pt").write_bytes(b"model")
    (project / "ckpt").mkdir()
    (project / "ckpt" / "w").write_bytes(b"weights")
    found = look(
        opened(project / "final.pt.tmp", "write", at=1.0),
        Rename(source=str(project / "final.pt.tmp"), target=str(project / "final.pt"), at=2.0),
        opened(project / "tmp-ckpt" / "w", "write", at=1.0),
        Rename(source=str(project / "tmp-ckpt"), target=str(project / "ckpt"), at=3.0),
    )
    assert sorted(rows(found)) == [("ckpt/w", "output"), ("final.pt", "output")]


def test_outputs_that_are_gone_are_dropped(project: Path, look) -> None:
    assert rows(look(opened(project / "scratch", "write"))) == {}


def test_an_input_that_is_gone_is_a_gap_unless_it_was_temporary(
    project: Path, look, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(data.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    events = [opened(tmp_path / "tmp" / "x"), opened("/gone/y")]
    found = look(*events, environment={"TMPDIR": str(tmp_path / "tmp")})
    assert rows(found) == {
        ("/gone/y", "input"): ("data", None, False),
        (str(tmp_path / "tmp" / "x"), "input"): ("temporary", None, False),
    }
    assert [gap.subject for gap in found.gaps] == ["/gone/y"]


def test_categories(project: Path, look, tmp_path: Path, start: Start) -> None:
    library = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "bundled.csv"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"bundled")
    (project / "mod.py").write_text("pass")
    (project / "notes.md").write_text("read me")
    outside = tmp_path / "shared.py"
    outside.write_text("shared = 1\n")
    found = look(
        *map(opened, (library, project / "mod.py", project / "notes.md", outside, "/etc/hostname", "/dev/null"))
    )
    assert {path: about[0] for (path, _), about in rows(found).items()} == {
        str(library): "environment",
        "mod.py": "code",
        "notes.md": "data",
        str(outside): "code",
        "/etc/hostname": "system",
        "/dev/null": "system",
    }
    assert rows(found)[(str(library), "input")][1] == sha(b"bundled")
    assert rows(found)[("/dev/null", "input")][1] is None


def test_code_from_outside_the_tree_is_stored(project: Path, look, context, tmp_path: Path) -> None:
    outside = tmp_path / "shared.py"
    outside.write_bytes(b"shared = 1\n")
    look(opened(outside))
    assert context(project).objects.get(sha(b"shared = 1\n")) == b"shared = 1\n"


def test_byte_code_stands_for_its_source(project: Path, look) -> None:
    source = project / "mod.py"
    source.write_text("pass\n")
    cached = Path(importlib.util.cache_from_source(str(source)))
    cached.parent.mkdir()
    cached.write_bytes(b"compiled")
    (project / "alone.pyc").write_bytes(b"compiled")
    found = look(opened(cached), opened(project / "alone.pyc"), opened(cached, "write", at=2.0))
    assert rows(found) == {
        ("mod.py", "input"): ("code", sha(b"pass\n"), False),
        ("alone.pyc", "input"): ("code", sha(b"compiled"), False),
    }


def test_the_store_is_not_data_but_a_tree_inside_it_is(look, context, tmp_path: Path, start: Start) -> None:
    root = tmp_path / "store" / "scratch"
    root.mkdir(parents=True)
    (root / "in").write_bytes(b"1")
    (tmp_path / "store" / "secret").write_bytes(b"2")
    events = Events(opens=[opened(root / "in"), opened(tmp_path / "store" / "secret")])
    assert list(rows(data.after(context(root, interpreter=start, events=events)))) == [("in", "input")]


def test_odd_names_survive(project: Path, look) -> None:
    name = os.fsencode(project) + b"/odd\xff\n\\.csv"
    with open(name, "wb") as out:
        out.write(b"1")
    assert rows(look(opened(name))) == {("odd\\xff\n\\\\.csv", "input"): ("data", sha(b"1"), False)}


def test_a_file_that_cannot_be_hashed_is_a_gap(project: Path, look, monkeypatch) -> None:
    (project / "in").write_bytes(b"1")

    def fail(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(data.canonical, "digest_file", fail)
    found = look(opened(project / "in"))
    assert rows(found) == {("in", "input"): ("data", None, False)}
    assert [(gap.subject, gap.reason) for gap in found.gaps] == [("in", "it could not be hashed: Permission denied")]


def test_long_hashing_says_so(project: Path, look, monkeypatch) -> None:
    monkeypatch.setattr(data, "_SAY_AFTER_SECONDS", 0.0)
    (project / "in").write_bytes(b"1")
    said: list[str] = []
    look(opened(project / "in"), progress=said.append)
    assert said == ["hashing data files … in"]


def test_without_events_there_is_nothing_to_say(context, project: Path) -> None:
    assert data.after(context(project)) == data.Findings()
