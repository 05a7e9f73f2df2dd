from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from repro.errors import UsageError
from repro.evidence import manifest
from repro.evidence.model import Fact, Tolerance
from repro.evidence.store import Store
from repro.record import injection
from repro.record.capture import environment as environment_capture
from repro.record.recorder import Recorded, Request, record


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project with späce"
    root.mkdir()
    return root


@pytest.fixture
def run(store: Store, project: Path, environment, capfd):
    """Record a Python script, or another command, in the project."""

    def do(*argv: str, script: str = "", **changes) -> Recorded:
        if script:
            (project / "train.py").write_text(script)
        request = {
            "argv": argv or (sys.executable, "train.py"),
            "working_directory": project,
            "environment": environment,
            "lock_timeout_seconds": 0.0,
            **changes,
        }
        return record(Request(**request), store, progress=lambda message: None)

    return do


def test_a_run_is_sealed_and_can_be_read_again(run, store: Store, project: Path, capfd) -> None:
    (project / "in.csv").write_text("1\n")
    done = run(
        script="print(open('in.csv').read()); open('out.txt', 'w').write('x')",
        tolerances=(Tolerance(metric="loss", absolute=1.0),),
    )
    assert capfd.readouterr().out == "1\n\n"
    assert (done.exit_status, done.record.run.status) == (0, "completed")
    assert done.new_key
    assert manifest.read(done.directory.manifest) == done.record
    assert done.directory.statement.exists()
    assert not done.directory.events.exists()
    assert {(f.path, f.role) for f in done.record.data_files if f.category != "system"} == {
        ("in.csv", "input"),
        ("out.txt", "output"),
        ("train.py", "input"),
    }
    assert store.objects.get(done.record.fact("stream", "stdout_sha256") or "") == b"1\n\n"
    assert done.record.fact("stream", "stdout_size_bytes") == "3"
    assert [p.process_key for p in done.record.processes] == ["main"]
    assert done.record.packages
    assert done.record.fact("environment", "fingerprint")
    assert run(script="pass").new_key is None


@pytest.mark.parametrize(
    ("script", "status", "code", "name", "seen"),
    [
        ("raise ValueError", "failed", 1, None, 1),
        ("import sys; sys.exit(3)", "failed", 3, None, 3),
        ("import os; os.kill(os.getpid(), 9)", "killed", None, "SIGKILL", 137),
        ("import os; os.kill(os.getpid(), 15)", "killed", None, "SIGTERM", 143),
        ("raise KeyboardInterrupt", "interrupted", None, "SIGINT", 130),
    ],
)
def test_an_unlucky_run_is_sealed_true_to_what_happened(run, script, status, code, name, seen) -> None:
    done = run(script="open('partial', 'w').write('x')\n" + script)
    found = done.record.run
    assert (found.status, found.exit_code, found.signal, done.exit_status) == (status, code, name, seen)
    assert "partial" in {f.path for f in done.record.data_files}
    assert done.directory.statement.exists()


def test_a_command_that_is_not_python_is_said_as_a_gap(run) -> None:
    done = run("/bin/echo", "hi")
    assert [gap.reason for gap in done.record.gaps if gap.topic == "agent"] == [
        "no Python process reported to the agent: randomness, metrics and files were not observed"
    ]


def test_a_command_that_does_not_exist_records_nothing(run, store: Store) -> None:
    with pytest.raises(UsageError, match="command not found"):
        run("no-such-program")
    with pytest.raises(UsageError, match="could not be started"):
        run("./bad", start=lambda argv, cwd, env, streams: _refuse())
    assert store.runs() == ()


def _refuse():
    raise UsageError("it could not be started")


def test_the_hash_seed_is_chosen_unless_the_user_did(run, environment) -> None:
    first = run(script="print(hash('a'))")
    assert first.record.fact("randomness", "hash_seed_source") == "chosen by repro"
    assert 0 < int(first.record.fact("randomness", "hash_seed") or "") < 2**32
    second = run(environment={**environment, "PYTHONHASHSEED": "7"})
    assert second.record.fact("randomness", "hash_seed") == "7"
    assert second.record.fact("randomness", "hash_seed_source") == "set by the user"
    assert (
        run(environment={**environment, "PYTHONHASHSEED": "random"}).record.fact("variable", "PYTHONHASHSEED")
        == "random"
    )


def test_the_users_pythonpath_stays_and_is_recorded_without_ours(run, environment, tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "mine.py").write_text("x = 1\n")
    done = run(
        script="import mine, sys; print(mine.x)", environment={**environment, "PYTHONPATH": str(tmp_path / "lib")}
    )
    assert done.record.fact("variable", "PYTHONPATH") == str(tmp_path / "lib")
    assert done.exit_status == 0


def test_a_recording_inside_a_recording_starts_afresh(run, project: Path, tmp_path: Path) -> None:
    (project / "inner.py").write_text("import random; print(random.random())\n")
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from pathlib import Path
from repro.evidence.store import Store
from repro.record.recorder import Request, record
done = record(
    Request(argv=(sys.executable, "inner.py"), working_directory=Path.cwd(),
            environment=os.environ, lock_timeout_seconds=0.0),
    Store(Path({str(tmp_path / "inner")!r})), progress=print,
)
assert [p.process_key for p in done.record.processes] == ["main"], done.record.processes
assert "PYTHONPATH" not in {{f.name for f in done.record.facts if f.topic == "variable"}}
"""
    done = run(script=script)
    assert done.exit_status == 0
    assert len(Store(tmp_path / "inner").runs()) == 1


def test_a_capture_that_fails_is_a_gap_and_the_run_is_sealed(run, monkeypatch) -> None:
    def fail(context) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(environment_capture, "beside", fail)
    done = run(script="pass")
    assert [(g.subject, g.reason) for g in done.record.gaps if g.topic == "recorder"] == [
        ("capture environment, beside", "it failed: RuntimeError: boom")
    ]
    assert done.directory.statement.exists()


def test_a_replay_captures_what_it_is_told(run, project: Path, tmp_path: Path) -> None:
    (project / "train.py").write_text("pass")
    (project / "leftover.txt").write_text("x")
    given = Fact(topic="replay", name="executor", value="venv", source="declared")
    done = run(
        replay_of="0" * 12, root=project, code_paths=("train.py",), facts=(given,), entropy=tmp_path / "none.json"
    )
    assert [f.path for f in done.record.code_files] == ["train.py"]
    assert given in done.record.facts
    assert done.record.run.replay_of == "0" * 12


def test_secrets_of_the_environment_and_the_command_are_nowhere(run, store: Store, environment) -> None:
    canary = "hunter2-canary"
    hostile = {**environment, "WANDB_API_KEY": canary, "TF_TOKEN": canary, "MY_PLAIN_NAME": canary}
    run(sys.executable, "train.py", "--password", canary, f"--api-key={canary}", script="pass", environment=hostile)
    found = [p for p in store.root.rglob("*") if p.is_file() and canary.encode() in p.read_bytes()]
    assert found == []


def test_large_output_becomes_a_gap(run, monkeypatch, capfd) -> None:
    from repro.record import streams

    monkeypatch.setattr(streams.Copier.__init__, "__kwdefaults__", {"keep_bytes": 10})
    done = run(script="print('x' * 100)")
    gaps = [gap.reason for gap in done.record.gaps if gap.topic == "stream"]
    assert gaps == ["only the first 10 of 101 bytes were kept"]
    assert done.record.fact("stream", "stdout_size_bytes") == "101"


def recording(
    project: Path, tmp_path: Path, environment, *argv: str, before: str = "", **options
) -> subprocess.Popen[bytes]:
    """Record in a process of its own, so that signals can be sent to it."""
    code = f"""
import os, pathlib, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
from repro.evidence.store import Store
from repro.record.recorder import Request, record
{before}
done = record(
    Request(argv={argv!r}, working_directory=pathlib.Path.cwd(), environment=dict(os.environ), lock_timeout_seconds=60),
    Store(pathlib.Path({str(tmp_path / "store")!r})),
    progress=lambda message: print(message, file=sys.stderr, flush=True),
)
sys.exit(done.exit_status)
"""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **options,
    )


def test_sigterm_is_relayed_and_the_run_is_sealed_without_waiting_for_the_lock(
    project, tmp_path, environment, store
) -> None:
    (project / "train.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    with recording(project, tmp_path, environment, sys.executable, "train.py") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=50)
        assert process.returncode == 143
    (summary,) = store.runs()
    assert (summary.status, summary.signal) == ("interrupted", "SIGTERM")


SLOW_LOCK = """
from repro.record.software import lock
def slow(interpreter, packages, environment, patience):
    import time
    while not patience.spent: time.sleep(0.01)
    return lock.Lock(text="", gaps=())
lock.resolve = slow
"""


def test_ctrl_c_while_the_lock_is_awaited_seals_the_run(project, tmp_path, environment, store) -> None:
    (project / "train.py").write_text("print('up', flush=True)\n")
    with recording(project, tmp_path, environment, sys.executable, "train.py", before=SLOW_LOCK) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == b"\n", "no work of ours was under way while the command ran"
        assert process.stderr.readline().startswith(b"finishing the environment")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=50)
        assert process.returncode == 0
    assert [summary.status for summary in store.runs()] == ["completed"]


SLOW_CODE = """
from repro.record.capture import code
def slow(context):
    import time
    print("capturing", flush=True)
    time.sleep(1)
    return code.Findings()
code.before = slow
"""


def test_ctrl_c_before_the_command_started_records_nothing(project, tmp_path, environment, store) -> None:
    with recording(project, tmp_path, environment, "touch", "never", before=SLOW_CODE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"capturing\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=50)
    assert not (project / "never").exists()
    assert store.runs() == ()


def test_what_was_seen_of_a_run_stays_when_the_recorder_is_killed(project, tmp_path, environment, store) -> None:
    (project / "train.py").write_text("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n")
    with recording(project, tmp_path, environment, sys.executable, "train.py") as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.communicate(timeout=50)
    os.kill(pid, signal.SIGKILL)
    (summary,) = store.runs()
    assert summary.status == "unsealed"
    assert (store.runs_path / summary.run_id / "events" / "stdout.stream").read_bytes() == f"{pid}\n".encode()


def test_another_python_is_recorded_as_itself(run, project: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    done = run("bash", "-c", f"{python} train.py", script="print(1)")
    assert done.record.fact("environment", "prefix") == str(tmp_path / "bare")
    assert done.record.packages == ()
    assert done.exit_status == 0


def test_a_spawned_python_without_the_agent_is_a_gap(run) -> None:
    done = run(script="import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', 'pass'])")
    assert [g.topic for g in done.record.gaps if "-I, -E or -S" in g.reason] == ["agent"]


def test_variables_for_the_agent_are_added_and_taken_away() -> None:
    given = {
        "PYTHONPATH": f"{injection.INJECT}:/mine",
        "REPRO_EVENTS": "/x",
        "REPRO_PROCESS_KEY": "main",
        "REPRO_HOME": "/h",
    }
    assert injection.without_agent(given) == {"PYTHONPATH": "/mine", "REPRO_HOME": "/h"}
    assert injection.without_agent({"PYTHONPATH": str(injection.INJECT)}) == {}
    assert (injection.INJECT / "sitecustomize.py").exists()


def test_events_are_valid_json_to_the_last_line(run) -> None:
    """The start event is what everything hangs on: the recorder and the agent agree on it."""
    done = run(script="import random; random.seed(3)")
    assert [(s.function, s.argument) for s in done.record.seeds] == [("random.seed", "3")]
    assert json.dumps(done.record.processes[0].argv[1:]) == '["train.py"]'
    assert time.time() > 0
