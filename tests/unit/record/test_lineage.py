from __future__ import annotations

import pytest

from repro.record.eventlog import Events, Open, Remove, Rename, Start
from repro.record.files.actors import Actors
from repro.record.files.lineage import History, follow
from repro.record.kernel.log import Executed, KernelEvents, Linked, Opened, Removed, Renamed, Seen


def start(key: str, pid: int, at: float = 0.0) -> Start:
    return Start(
        process_key=key, parent_key=None, pid=pid, argv=(), executable="", prefix="", base_prefix="",
        python_version="3.11", implementation="cpython", build="", path=(), rank=None, world_size=None, started_at=at,
    )  # fmt: skip


def agent(path: str, mode: str, at: float, library: str = "python", key: str = "main") -> Open:
    return Open(
        process_key=key, path=path, mode=mode, library=library, at=at, size_bytes=1, mtime_ns=1, inode=1, existed=True
    )  # fmt: skip


def kernel(path: str, mode: str, at: float, pid: int = 1, before: str | None = None, **state) -> Opened:
    known = {"size_bytes": 1, "mtime_ns": 1, "ctime_ns": 1, "inode": 1, "device": 1, "existed": True, **state}
    return Opened(pid=pid, path=path, mode=mode, before=before, at=at, **known)


KINDS = {
    Open: "opens", Rename: "renames", Remove: "removes", Opened: "opens", Renamed: "renames", Removed: "removes",
    Linked: "links", Executed: "executions",
}  # fmt: skip


def happened(*events, starts: tuple[Start, ...] = (start("main", 1),), processes: tuple[Seen, ...] = ()) -> History:
    seen = Events(starts=list(starts))
    layer = KernelEvents(layer="seccomp", processes={each.pid: each for each in processes})
    for event in events:
        owner = seen if isinstance(event, Open | Rename | Remove) else layer
        getattr(owner, KINDS[type(event)]).append(event)
    return follow(seen, layer, Actors(seen, layer))


def test_what_both_layers_saw_is_one_file_with_the_agents_word_for_the_library() -> None:
    found = happened(agent("/in", "read", 1.0, library="torch"), kernel("/in", "read", 1.001))
    (file,) = found.inputs.values()
    assert (file.by_agent, file.by_kernel, file.library, file.process_key) == (True, True, "torch", "main")


def test_the_agents_word_counts_also_where_its_clock_is_late() -> None:
    found = happened(kernel("/db", "read", 1.0), kernel("/db", "write", 1.0), agent("/db", "read", 1.001, "sqlite3"))
    assert (found.inputs["/db"].library, found.inputs["/db"].by_agent, set(found.outputs)) == ("sqlite3", True, {"/db"})


def test_what_the_run_wrote_is_no_input_under_any_of_its_names() -> None:
    found = happened(
        kernel("/a.tmp", "write", 1.0, existed=False),
        Renamed(pid=1, source="/a.tmp", target="/a", at=2.0),
        Linked(pid=1, source="/a", target="/b", at=3.0),
        kernel("/a", "read", 4.0),
        kernel("/b", "read", 4.0),
    )
    assert (set(found.inputs), set(found.outputs)) == (set(), {"/a", "/b"})


def test_an_input_keeps_the_name_that_it_had_before_the_run() -> None:
    found = happened(
        Renamed(pid=1, source="/data", target="/moved", at=1.0),
        Renamed(pid=1, source="/moved/x", target="/moved/y", at=2.0),
        Renamed(pid=1, source="/moved", target="/again", at=3.0),
        Linked(pid=1, source="/in", target="/linked", at=3.0),
        kernel("/again/y", "read", 4.0),
        kernel("/again/z", "read", 4.0),
        kernel("/linked", "read", 4.0),
    )
    assert set(found.inputs) == {"/data/x", "/data/z", "/in"}
    assert found.names() == {"/data": ["/again"], "/data/x": ["/again/y"], "/in": ["/linked"]}
    assert [(c.action, c.path, c.target) for c in found.changes][:2] == [
        ("renamed", "/data", "/moved"), ("renamed", "/moved/x", "/moved/y"),
    ]  # fmt: skip


def test_an_input_is_followed_through_folders_that_go_and_come_back() -> None:
    found = happened(
        Renamed(pid=1, source="/in", target="/d/in", at=1.0),
        Renamed(pid=1, source="/d", target="/e", at=2.0),
        Renamed(pid=1, source="/e", target="/d", at=3.0),
        kernel("/d/in", "read", 4.0),
    )
    assert set(found.inputs) == {"/in"}


def test_a_folder_of_outputs_is_followed() -> None:
    found = happened(
        kernel("/tmp-ckpt/deep/w", "write", 1.0, existed=False),
        Renamed(pid=1, source="/tmp-ckpt", target="/ckpt", at=2.0),
    )
    assert set(found.outputs) == {"/ckpt/deep/w"}


def test_a_rename_that_failed_is_taken_back() -> None:
    """`shutil.move` asks for a rename first, and copies where that cannot be done: across devices."""
    found = happened(
        kernel("/a", "write", 1.0, existed=False),
        Renamed(pid=1, source="/a", target="/other/a", at=2.0),
        kernel("/a", "read", 3.0),
        kernel("/other/a", "write", 3.0, existed=False),
        Removed(pid=1, path="/a", at=4.0),
        kernel("/other/a", "read", 5.0),
    )
    assert (set(found.inputs), "/other/a" in found.outputs) == (set(), True)


def test_a_rename_that_is_asked_for_twice_happened_once() -> None:
    """`mv` asks for a rename that replaces nothing, and where that fails for one that does."""
    found = happened(
        kernel("/out", "write", 1.0, existed=False),
        Renamed(pid=1, source="/out", target="/there", at=2.0),
        Renamed(pid=1, source="/out", target="/there", at=2.1),
        Renamed(pid=1, source="/in", target="/also", at=3.0),
        kernel("/other", "read", 3.05, pid=2),
        Renamed(pid=1, source="/in", target="/also", at=3.1),
        kernel("/also", "read", 4.0),
    )
    assert (set(found.inputs), set(found.outputs)) == ({"/other", "/in"}, {"/there"})
    assert [(each.path, each.target) for each in found.changes] == [("/out", "/there"), ("/in", "/also")]


def test_an_output_that_goes_elsewhere_than_it_was_asked_to_did_not_go_there_first() -> None:
    found = happened(
        kernel("/old", "write", 1.0, existed=False),
        kernel("/out", "write", 1.0, existed=False),
        Renamed(pid=1, source="/out", target="/old", at=2.0),
        Renamed(pid=1, source="/out", target="/new", at=3.0),
    )
    assert set(found.outputs) == {"/old", "/new"}
    assert [(each.path, each.target) for each in found.changes] == [("/out", "/new")]


def test_what_is_made_again_is_renamed_again() -> None:
    found = happened(
        kernel("/tmp", "write", 1.0, existed=False),
        Renamed(pid=1, source="/tmp", target="/last", at=2.0),
        kernel("/tmp", "write", 3.0, existed=False),
        Renamed(pid=1, source="/tmp", target="/last", at=4.0),
        Renamed(pid=1, source="/link.tmp", target="/link", at=5.0),
        kernel("/tmp", "write", 6.0, existed=False),
        Renamed(pid=1, source="/link.tmp", target="/link", at=7.0),
    )
    assert [each.target for each in found.changes] == ["/last", "/last", "/link", "/link"]
    assert set(found.outputs) == {"/last", "/tmp"}


def test_what_somebody_else_put_in_the_place_of_a_removed_output_is_an_input() -> None:
    found = happened(
        kernel("/a", "write", 1.0, existed=False), Removed(pid=1, path="/a", at=2.0), kernel("/a", "read", 3.0)
    )
    assert (set(found.inputs), set(found.outputs)) == ({"/a"}, set())


@pytest.mark.parametrize(("inode", "expected"), [(1, "sha256:aa"), (2, None)])
def test_the_digest_before_the_first_write_is_that_of_the_input_if_it_is_the_same_file(inode, expected) -> None:
    found = happened(kernel("/a", "read", 1.0), kernel("/a", "write", 2.0, before="sha256:aa", inode=inode))
    assert found.inputs["/a"].before == expected


def test_a_state_that_was_not_known_is_learned_from_the_first_write() -> None:
    unknown = dict.fromkeys(("size_bytes", "mtime_ns", "ctime_ns", "inode", "device"))
    found = happened(kernel("/a", "read", 1.0, **unknown), agent("/a", "write", 2.0))
    assert (found.inputs["/a"].inode, found.inputs["/a"].size_bytes) == (1, 1)


def test_each_rename_is_told_once() -> None:
    found = happened(
        Rename(source="/a", target="/b", at=1.0, process_key="main"), Renamed(pid=1, source="/a", target="/b", at=1.0),
        Remove(path="/c", at=2.0, process_key="main"), Removed(pid=1, path="/c", at=2.0),
    )  # fmt: skip
    assert [change.action for change in found.changes] == ["renamed", "removed"]


def test_what_python_was_asked_for_does_not_count_where_the_kernel_layer_watched() -> None:
    """It leaves out what fails for certain; the agent is told before anything happens."""
    events = Events(
        starts=[start("main", 1), start("asleep", 2)],
        renames=[
            Rename(source="/out", target="/none/x", at=2.0, process_key="main"),
            Rename(source="/a", target="/b", at=2.0, process_key="asleep"),
        ],
        removes=[Remove(path="/out", at=3.0, process_key="main")],
    )
    layer = KernelEvents(layer="seccomp", canaries={1}, opens=[kernel("/out", "write", 1.0, existed=False)])
    found = follow(events, layer, Actors(events, layer))
    assert (set(found.outputs), [each.path for each in found.changes]) == ({"/out"}, ["/a"])


def test_who_opened_a_file_is_told_without_process_ids() -> None:
    def execute(pid: int, parent: int, path: str, at: float) -> Executed:
        return Executed(pid=pid, parent=parent, path=path, argv=(path,), at=at)

    found = happened(
        execute(1, 0, "/usr/bin/python3", 0.0),
        kernel("/python", "read", 0.5),
        kernel("/native", "read", 2.0),
        execute(2, 1, "/bin/bash", 2.0),
        kernel("/bash", "read", 2.5, pid=2),
        kernel("/subshell", "read", 2.5, pid=3),
        execute(4, 3, "/bin/cat", 3.0),
        kernel("/cat", "read", 3.5, pid=4),
        kernel("/forked", "read", 3.5, pid=5),
        execute(1, 0, "/bin/tail", 9.0),
        kernel("/exec", "read", 9.5),
        kernel("/nobody", "read", 9.5, pid=99),
        starts=(start("main", 1, 1.0), start("main/fork.1", 5, 3.0)),
        processes=(Seen(pid=3, parent=2, name="bash", at=2.4), Seen(pid=5, parent=1, name="python3", at=2.9)),
    )
    assert {path: (file.process_key, file.library) for path, file in found.inputs.items()} == {
        "/python": ("main", "python"),
        "/native": ("main", "native"),
        "/bash": ("main>bash", "bash"),
        "/subshell": ("main>bash", "bash"),
        "/cat": ("main>cat", "cat"),
        "/forked": ("main/fork.1", "native"),
        "/exec": ("main>tail", "tail"),
        "/nobody": (">unknown", "unknown"),
    }
