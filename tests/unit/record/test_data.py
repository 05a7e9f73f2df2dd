from __future__ import annotations

import hashlib
import importlib.util
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from repro.evidence import hashing, manyfiles
from repro.evidence.canonical import encode_path
from repro.evidence.model import Gap
from repro.record.capture import code, data
from repro.record.eventlog import Events, Open, Rename, Start
from repro.record.files import datafiles, hashedahead, moments, territory
from repro.record.kernel.log import Executed, KernelEvents, Linked, Opened, Renamed
from repro.record.settings import Settings


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


def about_data(found) -> list[str]:
    """What gaps of this topic name; that no kernel layer watched is another topic."""
    return [gap.subject for gap in found.gaps if gap.topic == "data"]


def rows(found) -> dict[tuple[str, str], tuple]:
    return {(f.path, f.role): (f.category, f.digest, f.changed_during_run) for f in found.data_files}


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
    assert about_data(found) == []


def test_the_settings_choose_how_inputs_are_hashed_and_outputs_keep_sha256(project: Path, look) -> None:
    (project / "in.csv").write_bytes(b"1\n")
    events = [opened(project / "in.csv"), opened(project / "out.pt", "write", at=2.0)]
    (project / "out.pt").write_bytes(b"model")
    found = rows(look(*events, settings=Settings(hash="blake3")))
    assert found["in.csv", "input"][1] == f"blake3:{blake3(b'1' + bytes([10])).hexdigest()}"
    assert found["out.pt", "output"][1] == sha(b"model")


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
        ("state", "input"): ("data", None, True),
        ("state", "output"): ("data", sha(b"after!!"), False),
    }
    assert about_data(found) == ["state"]


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
    monkeypatch.setattr(territory.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    events = [opened(tmp_path / "tmp" / "x"), opened("/gone/y")]
    found = look(*events, environment={"TMPDIR": str(tmp_path / "tmp")})
    assert rows(found) == {
        ("/gone/y", "input"): ("data", None, False),
        (str(tmp_path / "tmp" / "x"), "input"): ("temporary", None, False),
    }
    assert about_data(found) == ["/gone/y"]


def test_what_a_compiler_keeps_is_temporary(project: Path, look, tmp_path: Path, monkeypatch) -> None:
    """A run that compiles writes there, and a replay reads it or writes it again: it stands in no replay's way."""
    monkeypatch.setattr(territory.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    kept = [
        tmp_path / "tmp" / "torchinductor_ada" / "fx" / "c1.py",
        tmp_path / "home" / ".cache" / "torch_extensions" / "py311_cpu" / "op" / "build.ninja",
        tmp_path / "chosen" / "c2.main.cpp",
        tmp_path / "home" / ".triton" / "cache" / "h" / "kernel.cubin",
    ]
    others = [tmp_path / "tmp" / "torchinductor.csv", tmp_path / "home" / ".triton" / "config.csv"]
    for path in (*kept, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"made by a compiler")
    variables = {"TMPDIR": str(tmp_path / "tmp"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "chosen")}
    found = look(*(opened(path, "write") for path in (*kept, *others)), environment=variables)
    categories = {path: about[0] for (path, _), about in rows(found).items()}
    assert categories == dict.fromkeys(map(str, kept), "temporary") | dict.fromkeys(map(str, others), "data")


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
    now = time.time() + 1
    found = look(opened(cached, at=now), opened(project / "alone.pyc", at=now), opened(cached, "write", at=now + 1))
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

    def fail(paths: list[bytes], algorithm: str = "sha256", **options):
        yield from ((index, hashing.Outcome(error="it could not be read")) for index, _ in enumerate(paths))

    monkeypatch.setattr(moments.manyfiles, "digest_files", fail)
    found = look(opened(project / "in"))
    assert rows(found) == {("in", "input"): ("data", None, False)}
    assert ("in", "it could not be hashed: it could not be read") in [(gap.subject, gap.reason) for gap in found.gaps]


def test_long_hashing_says_so(project: Path, look, monkeypatch) -> None:
    monkeypatch.setattr(moments, "_SAY_AFTER_SECONDS", 0.0)
    (project / "in").write_bytes(b"1")
    said: list[str] = []
    look(opened(project / "in"), progress=said.append)
    assert said == ["hashing data files … in"]


def test_without_events_there_is_nothing_to_say(context, project: Path) -> None:
    assert data.after(context(project)) == data.Findings()


def watched(path: Path, mode: str = "read", *, at: float = 1.0, pid: int = 1, before: str | None = None) -> Opened:
    """An open as the kernel layer tells it, with the state of the file just before."""
    about = path.stat() if path.exists() else None
    return Opened(
        pid=pid, path=encode_path(path), mode=mode, existed=about is not None, size_bytes=about and about.st_size,
        mtime_ns=about and about.st_mtime_ns, ctime_ns=about and about.st_ctime_ns, inode=about and about.st_ino,
        device=about and about.st_dev, before=before, at=at,
    )  # fmt: skip


@pytest.fixture
def look_at_kernel(context, project: Path, start: Start):
    """Look at what the kernel layer told, in a run of one Python process that has seen its canary."""

    def run(*opens: Opened, events: tuple[Open, ...] = (), declared: tuple[str, ...] = (), **changes):
        known = {"layer": "seccomp", "complete": True, "canaries": {1}, "opens": list(opens), **changes}
        seen = Events(starts=[start], opens=list(events), canaries={"main"})
        kernel = KernelEvents(**known)
        ctx = context(project, interpreter=start, events=seen, kernel=kernel, declared=declared)
        return data.after(replace(ctx, started_at_ns=time.time_ns()))

    return run


def test_rows_are_the_union_of_both_layers(project: Path, look_at_kernel) -> None:
    for name in ("both", "native", "missed"):
        (project / name).write_text(name)
    found = look_at_kernel(
        watched(project / "both", at=1.1), watched(project / "native", at=1.2),
        events=(opened(project / "both", library="torch"), opened(project / "missed")),
    )  # fmt: skip
    assert {f.path: (f.library, f.seen_by, f.process_key) for f in found.data_files} == {
        "both": ("torch", "both", "main"), "native": ("native", "kernel", "main"),
        "missed": ("python", "agent", "main"),
    }  # fmt: skip
    assert [(gap.topic, gap.subject) for gap in found.gaps] == [("lineage", f"{project}/missed")]
    assert (found.fact("data", "lineage"), found.fact("data", "lineage_layers")) == (
        "partial", "agent, kernel (seccomp)",
    )  # fmt: skip


def test_an_input_that_the_run_wrote_over_keeps_the_digest_from_before(project: Path, look_at_kernel) -> None:
    state = project / "state"
    state.write_bytes(b"before")
    events = [watched(state), watched(state, "write", at=2.0, before=sha(b"before"))]
    state.write_bytes(b"after!!")
    found = look_at_kernel(*events)
    assert rows(found) == {
        ("state", "input"): ("data", sha(b"before"), False),
        ("state", "output"): ("data", sha(b"after!!"), False),
    }
    assert (found.gaps, found.fact("data", "lineage")) == ((), "complete")


def test_the_time_of_change_gives_a_change_away(project: Path, look_at_kernel) -> None:
    path = project / "in"
    path.write_bytes(b"1")
    about, event = path.stat(), watched(path)
    time.sleep(0.05)
    path.write_bytes(b"2")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    found = look_at_kernel(event)
    assert rows(found) == {("in", "input"): ("data", None, True)}
    assert about_data(found) == ["in"]


def test_another_mode_is_taken_for_a_change_since_only_the_time_of_change_tells(project: Path, look_at_kernel) -> None:
    """Whoever writes other bytes and sets the time of modification back leaves the same trace as `chmod`."""
    path = project / "in"
    path.write_bytes(b"1")
    event = watched(path)
    time.sleep(0.05)
    path.chmod(0o600)
    assert about_data(look_at_kernel(event)) == ["in"]


def test_an_input_that_was_renamed_is_hashed_where_it_lies(project: Path, look_at_kernel) -> None:
    path = project / "in"
    path.write_bytes(b"1")
    event = watched(path)
    path.rename(project / "done")
    renamed = Renamed(pid=1, source=str(path), target=str(project / "done"), at=2.0)
    found = look_at_kernel(event, renames=[renamed])
    assert rows(found) == {("in", "input"): ("data", sha(b"1"), False)}
    assert [(c.action, c.path, c.target, c.process_key) for c in found.file_changes] == [
        ("renamed", "in", "done", "main")
    ]


def test_what_the_run_wrote_is_no_input_through_a_symbolic_link(project: Path, look_at_kernel) -> None:
    path, link = project / "step-100", project / "latest"
    write = watched(path, "write", at=1.0)
    path.write_bytes(b"model")
    link.symlink_to(path)
    assert list(rows(look_at_kernel(write, watched(link, at=2.0)))) == [("step-100", "output")]


def test_what_is_written_under_one_name_is_an_output_under_all(project: Path, look_at_kernel) -> None:
    path, other = project / "in", project / "linked"
    path.write_text("1")
    os.link(path, other)
    event = watched(other, "write", at=2.0)
    other.write_text("2")
    link = Linked(pid=1, source=encode_path(path), target=encode_path(other), at=1.5)
    found = look_at_kernel(event, links=[link])
    assert {row.path for row in found.data_files if row.role == "output"} == {"in", "linked"}


def test_code_of_the_environment_has_no_rows_but_its_data_does(project: Path, tmp_path: Path, look_at_kernel) -> None:
    package = tmp_path / "env" / "lib" / "python3.11" / "site-packages" / "thing"
    package.mkdir(parents=True)
    for name in ("a.py", "b.so", "c.so.1", "d.csv", "e.pth"):
        (package / name).write_text("x")
    own = project / "own.so"
    own.write_text("x")
    found = look_at_kernel(*(watched(package / name) for name in os.listdir(package)), watched(own))
    assert {path: about[0] for (path, _), about in rows(found).items()} == {
        f"{package}/d.csv": "environment", "own.so": "code",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"canaries": set()}, "main"),
        ({"io_uring": {1}}, "main"),
        ({"io_uring": {77}}, "77"),
        ({"unresolved": 2}, "paths"),
        ({"restarts": 1}, "the kernel layer"),
        ({"complete": False}, "the kernel layer"),
        ({"gaps": [Gap(topic="lineage", subject="sudo", reason="it ran without its privileges")]}, "sudo"),
    ],
)
def test_what_a_layer_missed_makes_the_lineage_partial(look_at_kernel, changes: dict, subject: str) -> None:
    found = look_at_kernel(**changes)
    assert [(gap.topic, gap.subject) for gap in found.gaps] == [("lineage", subject)]
    assert found.fact("data", "lineage") == "partial"


def test_without_a_kernel_layer_a_gap_says_what_is_lost(context, project: Path, start: Start) -> None:
    seen = Events(starts=[start], canaries={"main"})
    found = data.after(context(project, events=seen, trace=False))
    assert [(gap.topic, "--no-trace" in gap.reason) for gap in found.gaps] == [("lineage", True)]
    assert (found.fact("data", "lineage"), found.fact("data", "lineage_layers")) == ("partial", "agent")
    assert data.after(context(project, events=Events())).fact("data", "lineage") == "none"


def test_declared_data_are_hashed_whole(project: Path, look_at_kernel) -> None:
    (project / "set").mkdir()
    for name in ("read", "unread", "made"):
        (project / "set" / name).write_bytes(name.encode())
    time.sleep(0.05)
    found = look_at_kernel(
        watched(project / "set" / "read"), watched(project / "set" / "made", "write"), declared=("set",)
    )
    assert {f.path: (f.digest, f.seen_by, f.dataset) for f in found.data_files if f.role == "input"} == {
        "set/read": (sha(b"read"), "kernel", "set"), "set/unread": (sha(b"unread"), "declared", "set"),
    }  # fmt: skip
    assert [(each.name, each.kind, each.file_count) for each in found.datasets] == [("set", "declared", 2)]


def test_programs_are_told_with_their_digest_and_without_secrets(project: Path, look_at_kernel) -> None:
    tool = project / "tool"
    tool.write_bytes(b"#!/bin/sh\n")
    run = Executed(pid=2, parent=1, path=str(tool), argv=("tool", "--password", "hunter2"), at=3.0)
    (program,) = look_at_kernel(executions=[run]).programs
    assert (program.process_key, program.argv, program.sha256, program.started_at) == (
        "main>tool", ("tool", "--password", "<redacted>"), sha(b"#!/bin/sh\n"), "1970-01-01T00:00:03.000000Z",
    )  # fmt: skip


def test_the_file_on_standard_input_is_an_input(project: Path, look_at_kernel) -> None:
    (project / "config").write_bytes(b"x = 1\n")
    time.sleep(0.05)
    kept = os.dup(0)
    with (project / "config").open("rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        (row,) = look_at_kernel().data_files
    finally:
        os.dup2(kept, 0)
        os.close(kept)
    assert (row.path, row.library, row.process_key, row.digest) == ("config", "stdin", "main", sha(b"x = 1\n"))


def test_what_the_agent_of_a_replay_puts_back_is_no_input(context, project: Path, start: Start, tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("entropy.json", "data.json")}
    for path in paths.values():
        path.write_text("{}")
    kernel = KernelEvents(layer="seccomp", opens=[watched(path) for path in paths.values()])
    ctx = context(project, interpreter=start, events=Events(), kernel=kernel, entropy=paths["entropy.json"])
    assert [row.path for row in data.after(ctx).data_files] == [encode_path(paths["data.json"])]


def test_the_users_settings_and_tools_are_the_environment_and_caches_are_data(
    project: Path, look_at_kernel, environment: dict[str, str]
) -> None:
    home = Path(environment["HOME"])
    expected = {
        ".netrc": "environment", ".config/tool/rc": "environment", ".pyenv/shims/python": "environment",
        ".cache/set/1.bin": "data", "sets/1.bin": "data",
    }  # fmt: skip
    for name in expected:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
    found = look_at_kernel(*(watched(home / name) for name in expected))
    assert {os.path.relpath(f.path, home): f.category for f in found.data_files} == expected


@pytest.fixture
def declared_set(project: Path) -> tuple[Path, ...]:
    (project / "set").mkdir()
    files = tuple(project / "set" / name for name in ("a", "b"))
    for file in files:
        file.write_bytes(file.name.encode())
    time.sleep(0.05)  # what was touched just now is hashed again
    return files


def test_declared_data_that_are_known_make_the_rows_that_hashing_them_makes(
    context, project: Path, look_at_kernel, tmp_path: Path
) -> None:
    names = ["set/a", "set/grün", "set/z", "set/deep/odd\\\udcff", "set/deep/b", "set.csv", "one.csv", "../far/x"]
    for name in names:
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(name, errors="surrogateescape")
    time.sleep(0.05)
    declared = ("set", "one.csv", str(tmp_path / "far"), "set/deep")
    first, again = (look_at_kernel(declared=declared) for _ in range(2))
    assert again == first
    assert {row.path: (row.digest, row.dataset) for row in again.data_files} == {
        encode_path(path).removeprefix(f"{project}/"): (sha(os.fsencode(name)), dataset)
        for path, name, dataset in [
            *((project / name, name, "set") for name in names[:5]),
            (project / "one.csv", "one.csv", "one.csv"),
            (tmp_path / "far/x", "../far/x", f"{tmp_path}/far"),
        ]
    }
    assert {each.name: (each.file_count, each.size_bytes) for each in again.datasets} == {
        "set": (5, sum(len(os.fsencode(name)) for name in names[:5])), "one.csv": (1, 7), f"{tmp_path}/far": (1, 8),
    }  # fmt: skip


def test_of_known_declared_data_what_was_read_or_changed_is_told_apart(project: Path, look_at_kernel) -> None:
    (project / "set").mkdir()
    for name in ("made", "quiet", "read", "touched"):
        (project / "set" / name).write_text(name)
    time.sleep(0.05)
    look_at_kernel(declared=("set",))
    read = watched(project / "set" / "read")
    (project / "set" / "touched").write_text("anew")
    found = look_at_kernel(read, watched(project / "set" / "made", "write"), declared=("set",))
    assert {(row.path, row.role): (row.digest, row.seen_by, row.dataset) for row in found.data_files} == {
        ("set/made", "output"): (sha(b"made"), "kernel", None),
        ("set/quiet", "input"): (sha(b"quiet"), "declared", "set"),
        ("set/read", "input"): (sha(b"read"), "kernel", "set"),
        ("set/touched", "input"): (sha(b"anew"), "declared", "set"),
    }


@pytest.mark.parametrize("known", [False, True])
def test_more_files_than_a_record_lists_are_counted(
    project: Path, look_at_kernel, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    monkeypatch.setattr(datafiles, "MOST_ROWS", 3)
    (project / "set").mkdir()
    for name in "abcde":
        (project / "set" / name).write_text(name)
    time.sleep(0.05)
    if known:
        look_at_kernel(declared=("set",))
    found = look_at_kernel(watched(project / "set" / "b"), declared=("set",))
    assert [row.path for row in found.data_files] == ["set/a", "set/b", "set/c"]
    assert [gap.reason for gap in found.gaps if gap.subject == "files"] == [
        "2 more files were opened than a record lists (3)"
    ]
    assert [(each.name, each.file_count) for each in found.datasets] == [("set", 3)]


def test_declared_data_are_hashed_while_the_command_runs(
    context, project: Path, declared_set: tuple[Path, ...], monkeypatch
) -> None:
    monkeypatch.setattr(hashedahead, "_SHORT_SECONDS", 0.0)
    read: list[list[bytes]] = []
    digest_files = manyfiles.digest_files
    monkeypatch.setattr(
        manyfiles, "digest_files", lambda paths, *a, **k: read.append(paths) or digest_files(paths, *a, **k)
    )
    ctx = context(project, declared=("set",))
    data.alongside(ctx)
    ctx.notes[data.__name__]._thread.join(timeout=60)
    assert len(read) == len(declared_set)
    declared_set[1].write_bytes(b"new")
    ctx.patience.command_ended()
    found = data.after(ctx)
    names = [os.fsencode(file) for file in declared_set]
    assert [paths for paths in read if paths] == [[names[0]], [names[1]], [names[1]]]
    assert {row.path: row.digest for row in found.data_files} == {"set/a": sha(b"a"), "set/b": sha(b"new")}


def test_a_short_command_is_not_disturbed_and_its_data_are_hashed_afterwards(
    context, project: Path, declared_set: tuple[Path, ...], monkeypatch
) -> None:
    monkeypatch.setattr(hashedahead.HashedAhead, "_hash", lambda self: pytest.fail("it began"))
    ctx = context(project, declared=("set",))
    data.alongside(ctx)
    ctx.patience.command_ended()
    found = data.after(ctx)
    assert {row.path: row.digest for row in found.data_files} == {"set/a": sha(b"a"), "set/b": sha(b"b")}
