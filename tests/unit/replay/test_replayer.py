"""The whole verb, with the real recorder: small scripts that need no distribution, so that the lock is empty."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.errors import AlteredError, InconclusiveError, UntrustedError, UsageError
from repro.evidence.model import Record
from repro.evidence.seal import seal_run
from repro.evidence.store import RunDirectory, Store
from repro.record.recorder import Recorded, Request, record
from repro.replay import replayer
from repro.replay.executors import Site
from repro.replay.relocation import Move
from repro.replay.replayer import Options, dry_run, replay

SCRIPT = """\
import pathlib, random, sys
data = pathlib.Path("data/in.txt").read_text()
out = pathlib.Path(sys.argv[1])
(out / "sum.txt").write_text(f"{data} {random.random()} {hash('x')}")
print(pathlib.Path.cwd().name, data)
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python environment with nothing installed."""
    prefix = tmp_path_factory.mktemp("bare") / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], check=True)
    return prefix


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "my project é"
    (root / "data").mkdir(parents=True)
    (root / "runs").mkdir()
    (root / "train.py").write_text(SCRIPT)
    (root / "data" / "in.txt").write_text("seven")
    (root / ".gitignore").write_text("data/\nruns/\n")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    return root


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept scratch directories go with the test's own folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def _record(store: Store, bare: Path, project: Path, *argv: str, **more: Any) -> Recorded:
    environment = {"PATH": f"{bare}/bin{os.pathsep}{os.environ['PATH']}", "HOME": os.environ["HOME"], "TZ": "UTC"}
    request = Request(argv=argv, working_directory=project, environment={**environment, **more}, lock_timeout_seconds=0)
    return record(request, store, progress=print)


def _again(store: Store, original: Record, **changes: Any) -> RunDirectory:
    """Seal a record that was changed by hand."""
    directory = store.create_run()
    seal_run(replace(original, run=replace(original.run, run_id=directory.run_id), **changes), directory, store)
    return directory


def _with_empty_lock(store: Store, make: Any, recorded: Recorded) -> RunDirectory:
    lock = make.fact("environment", "lock", store.objects.put(b""))
    facts = tuple(fact for fact in recorded.record.facts if (fact.topic, fact.name) != ("environment", "lock"))
    return _again(store, recorded.record, facts=(*facts, lock))


def _output(record: Record, path: str) -> str | None:
    return next(file.digest for file in record.data_files if (file.path, file.role) == (path, "output"))


def test_an_unseeded_run_is_repeated_in_a_rebuilt_environment(
    store: Store, bare: Path, project: Path, make: Any, lines: list[str]
) -> None:
    recorded = _record(store, bare, project, "python", f"{project}/train.py", f"{project}/runs")
    before = (project / "runs" / "sum.txt").read_text()
    found = replay(_with_empty_lock(store, make, recorded), store, Options(), progress=lines.append)
    assert 0 == found.replay.exit_status
    again = found.replay.record
    assert _output(recorded.record, "runs/sum.txt") == _output(again, "runs/sum.txt")
    assert found.original.run.run_id == again.run.replay_of
    assert str(store.cache / "venvs") in (again.fact("environment", "prefix") or "")
    assert recorded.record.fact("code", "tree") == again.fact("code", "tree")
    assert found.original.fact("environment", "lock") == again.fact("environment", "lock")
    assert not any("resolving" in line for line in lines)
    assert ("venv", "built", found.plan.digest) == tuple(
        again.fact("replay", name) for name in ("executor", "environment", "plan")
    )
    moved = dict(json.loads(again.fact("replay", "path_map") or ""))
    assert again.run.root == moved[str(project)]
    assert moved[str(bare)] == again.fact("environment", "prefix")
    assert "container" in json.loads(again.fact("replay", "isolation") or "")[0]
    assert before == (project / "runs" / "sum.txt").read_text()
    assert None is found.scratch
    assert not Path(again.run.root).exists()
    assert not any("secret" in line for line in lines)


def test_a_replay_can_be_replayed_and_the_host_executor_rebuilds_nothing(
    store: Store, bare: Path, project: Path
) -> None:
    recorded = _record(store, bare, project, "python", "train.py", "runs")
    first = replay(recorded.directory, store, Options(executor="host", keep=True), progress=print)
    assert first.scratch is not None
    assert (first.scratch / "runs" / "sum.txt").is_file()
    second = replay(first.replay.directory, store, Options(executor="host"), progress=print)
    assert first.replay.run_id == second.replay.record.run.replay_of
    digests = {_output(r, "runs/sum.txt") for r in (recorded.record, first.replay.record, second.replay.record)}
    assert 1 == len(digests)
    assert str(bare) == second.replay.record.fact("environment", "prefix")


def test_a_changed_data_file_stops_the_replay_before_it_starts(store: Store, bare: Path, project: Path) -> None:
    recorded = _record(store, bare, project, "python", "train.py", "runs")
    (project / "data" / "in.txt").write_text("eight")
    with pytest.raises(InconclusiveError, match=r"data/in\.txt changed on .* UTC, after it was recorded") as caught:
        replay(recorded.directory, store, Options(executor="host"), progress=print)
    assert caught.value.hint is not None
    assert "--allow-changed-data" in caught.value.hint
    options = Options(executor="host", allow_changed_data=True)
    found = replay(recorded.directory, store, options, progress=print)
    assert ["data/in.txt"] == [mismatch.path for mismatch in found.changed_data]
    assert _output(recorded.record, "runs/sum.txt") != _output(found.replay.record, "runs/sum.txt")
    assert "data/in.txt" in (found.replay.record.fact("replay", "changed_data") or "")


def test_a_dry_run_tells_all_and_starts_nothing(store: Store, bare: Path, project: Path) -> None:
    recorded = _record(store, bare, project, "python", "train.py", "runs")
    (project / "data" / "in.txt").unlink()
    count = len(store.runs())
    plan = dry_run(recorded.directory, store, Options(), progress=print)
    assert {"input data/in.txt"} <= {condition.name for condition in plan.impossible}
    assert {"python", "hardware cpu_model"} <= {condition.name for condition in plan.conditions}
    assert count == len(store.runs())
    assert not (store.cache / "venvs").exists()


def test_a_run_without_a_lock_is_not_replayed_silently(store: Store, bare: Path, project: Path) -> None:
    recorded = _record(store, bare, project, "python", "train.py", "runs")
    facts = tuple(fact for fact in recorded.record.facts if (fact.topic, fact.name) != ("environment", "lock"))
    with pytest.raises(InconclusiveError, match="the run has no lock") as caught:
        replay(_again(store, recorded.record, facts=facts), store, Options(), progress=print)
    assert caught.value.hint is not None
    assert "--executor host" in caught.value.hint


def test_a_replay_that_fails_for_want_of_a_package_blames_nobody(
    store: Store, bare: Path, project: Path, make: Any
) -> None:
    (project / "train.py").write_text("import os\n__import__(os.environ.get('WANTED', 'json'))\n")
    recorded = _record(store, bare, project, "python", "train.py")
    lock = make.fact("environment", "lock", store.objects.put(b""))
    facts = (
        *(f for f in recorded.record.facts if (f.topic, f.name) != ("environment", "lock")),
        lock,
    )
    packages = (make.package("plugin", origin="direct"),)
    original = _again(store, recorded.record, facts=facts, packages=packages)
    os.environ["WANTED"] = "no_such_module"
    try:
        with pytest.raises(InconclusiveError, match=r"lacked plugin: this says nothing about the run"):
            replay(original, store, Options(pass_variables=("WANTED",)), progress=print)
    finally:
        del os.environ["WANTED"]


def test_little_is_inherited_and_what_is_passed_is_passed(
    store: Store, bare: Path, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import os\nopen('runs/env','w').write(repr([os.environ.get(n) for n in ('A_SECRET', 'PASSED', 'TZ')]))\n"
    (project / "train.py").write_text(script)
    recorded = _record(store, bare, project, "python", "train.py", A_SECRET="1", PASSED="2")
    monkeypatch.setenv("A_SECRET", "1")
    monkeypatch.setenv("PASSED", "3")
    options = Options(executor="host", keep=True, pass_variables=("PASSED",))
    found = replay(recorded.directory, store, options, progress=print)
    assert found.scratch is not None
    assert "[None, '3', 'UTC']" == (found.scratch / "runs" / "env").read_text()
    monkeypatch.delenv("PASSED")
    with pytest.raises(UsageError, match="PASSED"):
        replay(recorded.directory, store, options, progress=print)


def test_a_killed_run_may_be_replayed_and_it_is_said(store: Store, bare: Path, project: Path, lines: list[str]) -> None:
    (project / "train.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    recorded = _record(store, bare, project, "python", "train.py")
    found = replay(recorded.directory, store, Options(executor="host"), progress=lines.append)
    assert 137 == found.replay.exit_status
    assert any("only what came before can be compared" in line for line in lines)


def test_a_command_that_is_not_python(store: Store, bare: Path, project: Path) -> None:
    recorded = _record(store, bare, project, "sh", "-c", f"cat '{project}/.gitignore' > '{project}/runs/copy'; pwd")
    found = replay(recorded.directory, store, Options(), progress=print)
    assert 0 == found.replay.exit_status
    assert f"cat '{found.replay.record.run.root}/.gitignore'" in found.replay.record.run.argv[2]
    assert (project / ".gitignore").read_text() == (project / "runs" / "copy").read_text()


def test_outputs_and_data_outside_the_tree(store: Store, bare: Path, project: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "sets").mkdir(parents=True)
    (outside / "sets" / "x.txt").write_text("x")
    (project / "train.py").write_text(
        "import pathlib, sys\nhere = pathlib.Path(__file__).resolve().parent\n"
        "out = pathlib.Path(sys.argv[1])\nout.mkdir()\n"
        "(out / 'a').write_text((here / '../outside/sets/x.txt').read_text())\n"
        "(here / '../outside/b').write_text(pathlib.Path(sys.argv[2]).read_text())\n"
    )
    sets = f"{outside}/sets/x.txt"
    recorded = _record(store, bare, project, "python", "train.py", f"{outside}/runs", sets)
    (outside / "runs" / "a").write_text("original")
    (outside / "b").unlink()
    found = replay(recorded.directory, store, Options(executor="host"), progress=print)
    assert 0 == found.replay.exit_status
    assert "original" == (outside / "runs" / "a").read_text()
    assert not (outside / "b").exists()
    assert sets == recorded.record.run.argv[3] == found.replay.record.run.argv[3]
    moved = [(here, there) for there, here in json.loads(found.replay.record.fact("replay", "path_map") or "")]
    outputs = {file.path for file in found.replay.record.data_files if file.role == "output"}
    turned = {next(path.replace(here, there) for here, there in moved if path.startswith(here)) for path in outputs}
    assert {f"{outside}/runs/a", f"{outside}/b"} == turned


def test_an_output_that_the_script_names_itself_is_not_written_over(
    store: Store, bare: Path, project: Path, tmp_path: Path
) -> None:
    (project / "train.py").write_text(f"open({str(tmp_path / 'fixed')!r}, 'w').write('x')\n")
    recorded = _record(store, bare, project, "python", "train.py")
    with pytest.raises(InconclusiveError, match="would write over the recorded output"):
        replay(recorded.directory, store, Options(executor="host"), progress=print)
    (tmp_path / "fixed").unlink()
    assert 0 == replay(recorded.directory, store, Options(executor="host"), progress=print).replay.exit_status


def test_a_record_that_was_altered_or_is_not_trusted_is_not_run(store: Store, bare: Path, project: Path) -> None:
    recorded = _record(store, bare, project, "python", "train.py", "runs")
    digest = next(file.sha256 for file in recorded.record.code_files if file.path == "train.py")
    path = store.objects.path(digest)
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"#")
    with pytest.raises(AlteredError):
        replay(recorded.directory, store, Options(executor="host"), progress=print)
    path.write_bytes(path.read_bytes()[:-1])
    shutil.rmtree(store.keys)
    with pytest.raises(UntrustedError):
        replay(recorded.directory, store, Options(executor="host"), progress=print)
    trusting = Options(executor="host", allow_unknown_signer=True)
    assert 0 == replay(recorded.directory, store, trusting, progress=print).replay.exit_status


def test_an_executor_that_does_not_exist(store: Store) -> None:
    with pytest.raises(UsageError, match="no executor named 'moon'") as caught:
        replay(RunDirectory(path=store.runs_path / "012345678901"), store, Options(executor="moon"), progress=print)
    assert caught.value.hint is not None
    assert "venv" in caught.value.hint


def test_an_executor_that_cannot_be_used_here(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from repro.replay.executors import host

    monkeypatch.setattr(host, "unavailable", lambda: "no engine answers")
    with pytest.raises(UsageError, match="the executor host cannot be used here: no engine answers"):
        replay(RunDirectory(path=store.runs_path / "012345678901"), store, Options(executor="host"), progress=print)


def test_a_python_that_is_none(store: Store, bare: Path, project: Path) -> None:
    recorded = _record(store, bare, project, "python", "train.py", "runs")
    with pytest.raises(UsageError, match="/bin/false is not a Python interpreter"):
        dry_run(recorded.directory, store, Options(python=Path("/bin/false")), progress=print)
    named = dry_run(recorded.directory, store, Options(python=bare / "bin" / "python"), progress=print)
    assert "same" == next(condition for condition in named.conditions if condition.name == "python").state


def test_all_that_stands_in_the_way_is_named_up_to_a_limit(make: Any) -> None:
    argv = tuple(f"--key{i}=<redacted>" for i in range(25))
    plan = make.plan(make.record(run={"argv": argv}))
    with pytest.raises(InconclusiveError, match=r"argument 19 held a secret.*; and 5 more"):
        replayer._refuse(plan)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("python", "python"),
        ("./train.sh", "./train.sh"),
        ("../.venv/bin/python", "/new/bin/python"),
        ("/home/me/project/.venv/bin/python", "/new/bin/python"),
        ("/home/me/project/run.sh", "/scratch/run.sh"),
    ],
)
def test_the_program_is_found_where_it_is_now(make: Any, program: str, expected: str) -> None:
    plan = make.plan(make.record(run={"argv": (program, "x"), "working_directory": "sub"}))
    site = Site(start=None, moves=(Move(recorded="/home/me/project/.venv", here="/new"),))  # type: ignore[arg-type]
    moves = (Move(recorded="/home/me/project", here="/scratch"), *site.moves)
    assert (expected, "x") == replayer._command(plan, site, moves)


def test_a_record_without_a_command_is_refused(make: Any) -> None:
    with pytest.raises(AlteredError, match="records no command"):
        replayer._command(make.plan(make.record(run={"argv": ()})), Site(start=None), ())  # type: ignore[arg-type]


def test_python_path_and_path_get_the_sites_directories_first(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/bin")
    facts = tuple(
        make.fact("variable", n, v) for n, v in (("PYTHONPATH", "/home/me/project/lib"), ("PYTHONHOME", "/x"))
    )
    site = Site(
        start=None,  # type: ignore[arg-type]
        path=("/v/bin",),
        python_path=("/scratch",),
        environment={"PYTHONHOME": None, "VIRTUAL_ENV": "/v"},
    )
    moves = (Move(recorded="/home/me/project", here="/scratch"),)
    found = replayer._environment(make.plan(make.record(facts=facts)), site, moves, ())
    assert ("/v/bin:/bin", "/scratch:/scratch/lib", "/v") == (found["PATH"], found["PYTHONPATH"], found["VIRTUAL_ENV"])
    assert "PYTHONHOME" not in found
