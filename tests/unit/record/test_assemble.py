from __future__ import annotations

from dataclasses import replace

import pytest

from repro.evidence.model import CodeFile, DataFile, Entropy, Gap, Metric, Seed, Setting, Tolerance
from repro.record import assemble
from repro.record.capture import Findings, observed
from repro.record.eventlog import Events, Spawn, Start

IDENTITY = assemble.Identity(
    run_id="0" * 12, replay_of=None, argv=("python", "train.py", "--token", "hunter2"), root="/r",
    working_directory=".",
    recorder_version="0", tolerances=(Tolerance(metric="loss", absolute=0.5), Tolerance(metric="loss", absolute=9.0)),
)  # fmt: skip
ENDED = assemble.Ended(
    returncode=0,
    relayed=frozenset(),
    started_at=0.0,
    ended_at=1.5,
    wall_seconds=1.5,
    cpu_seconds=1.0,
    peak_memory_bytes=5,
)
START = Start(
    process_key="main", parent_key=None, pid=1, argv=("python", "train.py", "--token", "hunter2"), executable="/p",
    prefix="/e", base_prefix="/usr", python_version="3.11.7", implementation="cpython", build="", path=(), rank=0,
    world_size=2, started_at=0.25,
)  # fmt: skip


def made(events: Events | None = None, ended: assemble.Ended = ENDED, findings: Findings | None = None):
    return assemble.assemble(IDENTITY, ended, events or Events(starts=[START]), findings or Findings())


@pytest.mark.parametrize(
    ("returncode", "relayed", "status", "exit_code", "name", "seen"),
    [
        (0, (), "completed", 0, None, 0),
        (3, (), "failed", 3, None, 3),
        (130, (2,), "failed", 130, None, 130),
        (-2, (), "interrupted", None, "SIGINT", 130),
        (-15, (), "killed", None, "SIGTERM", 143),
        (-15, (15,), "interrupted", None, "SIGTERM", 143),
        (-9, (15,), "killed", None, "SIGKILL", 137),
        (-40, (), "killed", None, "SIGRTMIN+6", 168),
        (-33, (), "killed", None, "signal 33", 161),
    ],
)
def test_the_status_says_what_happened(returncode, relayed, status, exit_code, name, seen) -> None:
    run = made(ended=replace(ENDED, returncode=returncode, relayed=frozenset(relayed))).run
    assert (run.status, run.exit_code, run.signal) == (status, exit_code, name)
    assert assemble.exit_status(returncode) == seen


def test_times_are_utc() -> None:
    run = made().run
    assert (run.started_at, run.ended_at) == ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:01.500000Z")


def test_secrets_leave_the_command_and_the_processes() -> None:
    record = made()
    assert record.run.argv == ("python", "train.py", "--token", "<redacted>")
    assert record.processes[0].argv == record.run.argv
    assert [gap.subject for gap in record.gaps] == ["argv[3]"]
    assert "hunter2" not in repr(record)


def test_a_process_says_goodbye_or_not() -> None:
    child = replace(START, process_key="main/fork.1", parent_key="main")
    processes = made(Events(starts=[START, child], ended_at={"main": 2.0})).processes
    assert [(p.process_key, p.parent_key, p.ended_at) for p in processes] == [
        ("main", None, "1970-01-01T00:00:02.000000Z"),
        ("main/fork.1", "main", None),
    ]
    assert (processes[0].rank, processes[0].world_size, processes[0].started_at) == (
        0,
        2,
        "1970-01-01T00:00:00.250000Z",
    )


def test_one_row_for_each_primary_key() -> None:
    metric = Metric(process_key="main", name="loss", step=0, value=1.0, dtype="float32", at_seconds=0.0)
    seed = Seed(process_key="main", ordinal=0, function="f", argument="1", site="")
    entropy = Entropy(process_key="main", stream="s", ordinal=0, value="1", site="")
    setting = Setting(process_key="main", moment="end", name="n", value="1")
    gap = Gap(topic="trace", subject="s", reason="r")
    events = Events(
        starts=[START, START],
        metrics=[metric, replace(metric, value=2.0), replace(metric, step=1)],
        seeds=[seed, replace(seed, argument="2")],
        entropy=[entropy, entropy],
        settings=[setting, replace(setting, value="2")],
        gaps=[gap, gap],
    )
    facts = (observed("code", "tree", "a"), observed("code", "tree", "b"))
    record = made(events, findings=Findings(facts=facts))
    assert [m.value for m in record.metrics] == [1.0, 1.0]
    assert [s.argument for s in record.seeds] == ["1"]
    assert (len(record.entropy), len(record.settings), len(record.processes)) == (1, 1, 1)
    assert record.facts == facts[:1]
    assert [t.absolute for t in record.tolerances] == [0.5]
    reasons = {g.reason for g in record.gaps}
    assert "1 points came twice for one process and step; the first of each was kept" in reasons
    assert "more than one process reported under this name; they were taken as one" in reasons
    assert sum(g == gap for g in record.gaps) == 1


def test_the_first_row_of_each_file_is_kept_in_whatever_order_they_come() -> None:
    row = DataFile(
        path="a", role="input", category="data", dataset=None, size_bytes=1, digest=None, modified_at=None,
        process_key="", library="", seen_by="declared", changed_during_run=False,
    )  # fmt: skip
    output, other = replace(row, role="output"), replace(row, path="b")
    for rows in ((row, output, other), (other, row, output)):
        again = (*rows, replace(row, size_bytes=2))
        assert made(findings=Findings(data_files=rows)).data_files == rows
        assert made(findings=Findings(data_files=again)).data_files == rows


def test_a_command_in_which_no_python_reported_is_a_gap() -> None:
    record = made(Events())
    assert [(g.topic, g.subject) for g in record.gaps if g.topic == "agent"] == [("agent", "python")]


def spawned(*argv: str) -> Spawn:
    return Spawn(process_key="main", executable=argv[0] if argv else "python3.12", argv=argv)


def test_a_python_that_was_started_and_never_reported_is_a_gap() -> None:
    child = replace(START, process_key="main/w.py.1", argv=("python3", "w.py"))
    events = Events(
        starts=[START, child],
        spawns=[
            spawned("/usr/bin/python3", "w.py"),
            spawned("/usr/bin/python3", "w.py"),
            spawned("python3.12", "-sE", "x.py", "--password", "hunter2"),
            spawned("/bin/ls", "-I"),
            spawned(),
        ],
    )
    found = {g.subject: g.reason for g in made(events).gaps if g.topic == "agent"}
    assert "never reported" in found["/usr/bin/python3 w.py"]
    assert "-I, -E or -S" in found["python3.12 -sE x.py --password <redacted>"]
    assert len(found) == 3


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("python", True),
        ("/x/python3.13t", True),
        ("pypy3", True),
        ("python-config", False),
        ("ls", False),
        ("ipython", False),
    ],
)
def test_is_python(program: str, expected: bool) -> None:
    assert assemble.is_python(program) is expected


def test_code_that_was_withdrawn_has_no_row() -> None:
    def file(path: str) -> CodeFile:
        return CodeFile(path=path, kind="file", mode=0o644, size_bytes=1, sha256="sha256:aa", state="committed")

    found = Findings(code_files=(file("a.py"), file("b.py"))) + Findings(withdrawn=("a.py",))
    assert [each.path for each in made(findings=found).code_files] == ["b.py"]


def test_the_chain_of_each_process_is_a_fact_that_is_sealed() -> None:
    events = Events(starts=[START], chains={"main": "ab" * 32, "main/fork.1": "broken"})
    facts = [(f.topic, f.name, f.value, f.source) for f in made(events).facts]
    assert [
        ("trace", "chain.main", "ab" * 32, "observed"),
        ("trace", "chain.main/fork.1", "broken", "observed"),
    ] == facts


def test_what_a_replay_has_put_back_is_counted() -> None:
    streams = ("os.listdir a", "os.listdir b", "random.seed@pool_0", "random.seed")
    record = made(Events(starts=[START], substituted=[("main", stream) for stream in streams]))
    assert record.fact("replay", "put_back") == '["os.listdir: 2", "random.seed: 2"]'
    assert made().fact("replay", "put_back") is None
