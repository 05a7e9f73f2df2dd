"""The commands that list, show and trust, run as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from repro.cli import entry


@pytest.fixture
def repro(repro_home: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs the command line in this process: exit status, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["repro", *arguments])
        with pytest.raises(SystemExit) as exit_:
            entry.main()
        out, err = capfd.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture
def recorded(repro) -> None:
    assert 0 == repro("record", "--lock-timeout", "0", "--", "echo", "hello")[0]


def test_an_empty_store(repro) -> None:
    assert "no runs" in repro("runs")[1]
    assert (0, []) == (repro("runs", "--json")[0], json.loads(repro("runs", "--json")[1]))
    status, _, err = repro("show", "@last")
    assert (2, True) == (status, "@last" in err and "hint:" in err)
    assert "no keys" in repro("keys", "show")[1]


@pytest.mark.usefixtures("recorded")
def test_runs_and_show(repro) -> None:
    (run,) = json.loads(repro("runs", "--json")[1])
    status, out, _ = repro("runs")
    assert (0, True) == (status, run["run_id"] in out)
    status, out, _ = repro("show", run["run_id"][:6])
    assert (0, True) == (status, "echo hello" in out and "Gaps (" in out)
    assert len(repro("show", "--all")[1]) >= len(out)


@pytest.mark.usefixtures("recorded")
def test_keys(repro, tmp_path: Path, repro_home: Path) -> None:
    ((own),) = json.loads(repro("keys", "show", "--json")[1])
    assert own["fingerprint"] in repro("keys", "show")[1]
    pem = tmp_path / "alice.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", tmp_path / "alice.pem"], check=True)
    subprocess.run(["openssl", "pkey", "-in", tmp_path / "alice.pem", "-pubout", "-out", pem], check=True)
    status, out, _ = repro("keys", "trust", str(pem))
    assert (0, True) == (status, "alice" in out)
    assert 2 == len(json.loads(repro("keys", "show", "--json")[1]))
    status, _, err = repro("keys", "trust", str(tmp_path / "nobody.pub"))
    assert (2, True) == (status, "nobody.pub" in err)


@pytest.mark.usefixtures("recorded")
def test_verify_and_report(repro, tmp_path: Path) -> None:
    assert "INTACT" == json.loads(repro("verify", "--json")[1])["record"]
    status, out, _ = repro("report", "--out", str(tmp_path / "report"), "--format", "text", "--format", "html")
    assert (0, True) == (status, "Replay: NOT-ATTEMPTED" in out)
    assert (tmp_path / "report" / "report.html").read_text().startswith("<!doctype html>")
    assert json.loads(repro("report", "--json")[1])["files"]


@pytest.mark.usefixtures("recorded")
def test_a_report_is_checked_where_it_lies(repro, tmp_path: Path, repro_home: Path) -> None:
    folder = tmp_path / "report"
    assert 0 == repro("report", "--out", str(folder))[0]
    status, out, _ = repro("verify", str(folder))
    assert (0, True) == (status, "INTACT" in out and "Replay NOT-ATTEMPTED" in out)
    assert "INTACT" == json.loads(repro("verify", str(folder), "--json")[1])["report"]
    page = folder / "report.html"
    page.chmod(0o644)
    page.write_text(page.read_text().replace("NOT-ATTEMPTED", "MATCHED-EXACTLY"))
    status, _, err = repro("verify", str(folder))
    assert (3, True) == (status, "report.html" in err)
    page.unlink()
    assert 5 == repro("verify", str(folder))[0]
    assert 0 == repro("report", "--out", str(folder))[0]
    (repro_home / "keys").rename(repro_home / "lost")
    assert 4 == repro("verify", str(folder))[0]


@pytest.mark.usefixtures("unmeasured_jobs")
def test_a_dry_run_starts_nothing(repro) -> None:
    assert 0 == repro("record", "--lock-timeout", "0", "--", sys.executable, "-c", "pass")[0]
    status, out, _ = repro("replay", "--dry-run", "--executor", "host")
    assert (0, True) == (status, out.startswith("state"))
    status, out, _ = repro("replay", "--dry-run", "--json")
    assert 5 == status, "there is no lock to build an environment from"
    assert "impossible" in {condition["effect"] for condition in json.loads(out)["conditions"]}
    assert 1 == len(json.loads(repro("runs", "--json")[1]))


def test_a_recording_told_in_json(repro) -> None:
    status, out, err = repro("record", "--json", "--lock-timeout", "0", "--", "sh", "-c", "echo hello; exit 7")
    assert (7, "hello\n") == (status, out)
    told = json.loads(err.splitlines()[-1])
    assert ("failed", 7) == (told["status"], told["exit_status"])


def test_usage(repro) -> None:
    assert 2 == repro("no-such-command")[0]
    assert 2 == repro("replay", "--executor", "moon", "@last")[0]
    assert "repro 0." in repro("--version")[1]


def test_a_bug_of_ours_is_shown_whole(repro, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(entry, "_run", broken)
    status, _, err = repro("runs")
    assert (70, True) == (status, "ZeroDivisionError: ours" in err and "hint:" in err)


def test_interrupted(repro, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(arguments: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_run", interrupted)
    assert 130 == repro("runs")[0]
