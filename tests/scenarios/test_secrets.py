"""Secrets are put everywhere that a run can meet them, and then looked for in every byte that was written."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

SCRIPT = """
import os, subprocess, sys
import private_package
for name in (".env", os.path.expanduser("~/.netrc")):
    open(name).read()
child = os.environ["CHILD_TOKEN"]
subprocess.run(["true", "--token", child])
subprocess.run(["sh", "-c", "PGPASSWORD=" + child + " true"])
subprocess.run([sys.executable, "-I", "-c", "pass", "--api-key=" + child])
subprocess.run([sys.executable, "-c", "pass", "--db-password", child])
os.system("MYSQL_PWD=" + child + " true")
print("trained")
"""
CRASH = "import os\nraise RuntimeError('cannot log in with ' + os.environ['CRASH_TOKEN'])\n"


class Canaries:
    """Words that nobody could have guessed, one for each place."""

    def __init__(self) -> None:
        self.words: dict[str, str] = {}

    def __call__(self, place: str, *, prefix: str = "") -> str:
        self.words[place] = prefix + "cAnArY" + secrets.token_hex(12)
        return self.words[place]

    def found_in(self, data: bytes) -> Iterator[str]:
        """Return the places whose word is in some bytes, in any of the forms in which it may have got there."""
        for place, word in self.words.items():
            raw = word.encode()
            shifted = (base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3))
            forms = {raw, raw.hex().encode(), word.encode("utf-16-le"), word.encode("utf-16-be"), raw[::-1], *shifted}
            if any(form in data for form in forms):
                yield place


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture
def home(tmp_path: Path, canaries: Canaries) -> Path:
    """Return a home with what people keep there."""
    folder = tmp_path / "user"
    (folder / ".config/pip").mkdir(parents=True)
    (folder / ".config/pip/pip.conf").write_text(
        f"[global]\nextra-index-url = http://me:{canaries('pip.conf')}@127.0.0.1:9/simple\n"
    )
    (folder / ".netrc").write_text(f"machine example.org login me password {canaries('netrc')}\n")
    return folder


@pytest.fixture
def code(tmp_path: Path, canaries: Canaries) -> Path:
    """Return a repository with credentials in its configuration, beside a package that was installed with some."""
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "crash.py").write_text(CRASH)
    (folder / ".gitignore").write_text(".env\n")
    (folder / ".env").write_text(f"TOKEN={canaries('ignored .env')}\n")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Start")
    git(folder, "remote", "add", "origin", f"https://me:{canaries('remote')}@127.0.0.1/x.git")
    git(folder, "config", "submodule.x.url", f"https://me:{canaries('submodule')}@127.0.0.1/y.git")
    git(folder, "config", "http.extraHeader", f"Authorization: Basic {canaries('header')}")
    package = tmp_path / "packages/private_package-1.0.dist-info"
    package.mkdir(parents=True)
    (package.parent / "private_package.py").write_text("")
    (package / "METADATA").write_text("Name: private-package\nVersion: 1.0\n")
    address = f"git+https://me:{canaries('direct_url')}@127.0.0.1/z.git"
    (package / "direct_url.json").write_text(json.dumps({"url": address, "vcs_info": {"vcs": "git", "commit_id": "0"}}))
    return folder


@pytest.fixture
def variables(tmp_path: Path, home: Path, canaries: Canaries) -> dict[str, str]:
    """Return an environment full of secrets, under names that say so and names that do not."""
    return {
        "HOME": str(home),
        "PYTHONPATH": str(tmp_path / "packages"),
        "PIP_INDEX_URL": f"http://me:{canaries('PIP_INDEX_URL')}@127.0.0.1:9/simple",
        "PIP_RETRIES": "0",
        "PIP_TIMEOUT": "1",
        "CHILD_TOKEN": canaries("argv of children"),
        "CRASH_TOKEN": canaries("crash"),
        "HF_TOKEN": canaries("HF_TOKEN", prefix="hf_"),
        "AWS_SECRET_ACCESS_KEY": canaries("AWS_SECRET_ACCESS_KEY"),
        "DATABASE_URL": f"postgres://me:{canaries('DATABASE_URL')}@127.0.0.1/x",
        "AN_INNOCENT_NAME": canaries("AN_INNOCENT_NAME"),
        "SLURM_JWT_TOKEN": canaries("SLURM_JWT_TOKEN"),
        "TORCH_MIRROR": f"https://me:{canaries('TORCH_MIRROR')}@127.0.0.1/",
        "CUDA_NOTE": "ghp_" + canaries("CUDA_NOTE") + "ghp_" + "a1B2" * 9,
    }


def arguments(canaries: Canaries) -> list[str]:
    return [
        "--password",
        canaries("--password X"),
        f"--api-key={canaries('--api-key=X')}",
        f"--env=DB_PASS={canaries('--env=DB_PASS=X')}",
        f"+model.private_key={canaries('+model.private_key=X')}",
        f"--url=https://me:{canaries('--url')}@127.0.0.1/x?sig={canaries('?sig=')}",
        f"--header=Authorization: Bearer {canaries('Bearer')}",
        json.dumps({"wandb": {"api_key": canaries("JSON"), "lr": 1}}),
        f"hf_{canaries('a known shape').replace('cAnArY', 'abcdef')}",
        f"https://{canaries('user alone')}@127.0.0.1/x",
    ]


def everything(home: Path) -> Iterator[tuple[str, bytes]]:
    """Return all that repro has written: the bytes of each file, and the rows of each manifest."""
    for path in sorted(home.rglob("*")):
        yield str(path.relative_to(home)), str(path).encode()
        if path.is_file():
            yield str(path.relative_to(home)), path.read_bytes()
        if path.suffix == ".duckdb":
            with duckdb.connect(str(path), read_only=True) as connection:
                for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    rows = connection.execute(f'SELECT * FROM "{table}"').fetchall()
                    yield f"table {table}", "\n".join(map(repr, rows)).encode()


def leaks(canaries: Canaries, home: Path, *printed: str, allowed: frozenset[str] = frozenset()) -> list[str]:
    found = [f"{place} in {name}" for name, data in everything(home) for place in canaries.found_in(data)]
    found += [f"{place} in what was printed" for text in printed for place in canaries.found_in(text.encode())]
    return sorted({leak for leak in found if leak.partition(" in ")[0] not in allowed})


def test_no_secret_of_any_place_is_written_or_printed(
    repro, code: Path, variables, canaries: Canaries, repro_home: Path, tmp_path: Path
) -> None:
    told = {**variables, "CHILD_TOKEN": variables["CHILD_TOKEN"]}
    command = [sys.executable, "train.py", *arguments(canaries)]
    recorded = repro("record", "--lock-timeout", "20", "--", *command, cwd=code, variables=told)
    assert recorded.exit_status == 0, recorded.err
    assert "trained\n" == recorded.out
    shown = repro("show", "@last", "--json", cwd=code, variables=told)
    read = repro("show", "@last", cwd=code, variables=told)
    report = repro("report", "@last", "--out", tmp_path / "report", cwd=code, variables=told)
    assert [0, 0, 0] == [shown.exit_status, read.exit_status, report.exit_status], (shown.err, read.err, report.err)
    pages = [path.read_text(errors="replace") for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert pages
    printed = [recorded.err, shown.out, shown.err, read.out, read.err, report.out, report.err, *pages]
    assert [] == leaks(canaries, repro_home, *printed)
    facts = {(fact["topic"], fact["name"]): fact["value"] for fact in shown.answer["facts"]}
    assert "https://127.0.0.1/x.git" == facts["code", "remote.origin"]
    assert {"HF_TOKEN", "AN_INNOCENT_NAME", "DATABASE_URL"} <= {name for topic, name in facts if topic == "commitment"}
    assert "--password <redacted>" in " ".join(shown.answer["run"]["argv"])


def test_a_shell_command_loses_its_secrets_too(repro, record, tmp_path: Path, canaries, repro_home: Path) -> None:
    script = (
        f"export DB_PASSWORD='{canaries('export')}'; PGPASSWORD={canaries('assignment')} true; "
        f"curl -s -u me:{canaries('curl')} http://127.0.0.1:9/ || true; "
        f"curl -s -H 'Authorization: Bearer {canaries('bearer')}' http://127.0.0.1:9/ || true"
    )
    recorded = record(["bash", "-c", script], cwd=tmp_path)
    assert recorded.exit_status == 0, recorded.err
    assert [] == leaks(canaries, repro_home, recorded.err, repro("show", "@last", cwd=tmp_path).out)


def test_a_crashed_training_keeps_its_own_words_and_nothing_else_repeats_them(
    repro, record, code: Path, variables, canaries: Canaries, repro_home: Path
) -> None:
    recorded = record([sys.executable, "crash.py"], cwd=code, variables=variables)
    assert recorded.exit_status == 1
    # What the user's program prints is its output, kept byte for byte, and no affair of ours.
    assert canaries.words["crash"] in recorded.err
    kept = re.findall(r"sha256:([0-9a-f]{64})", repro("show", "@last", "--json", cwd=code).out)
    leaked = leaks(canaries, repro_home, repro("show", "@last", "--json", cwd=code).out)
    assert all(re.fullmatch(r"crash in objects/([0-9a-f]{2})/[0-9a-f]{62}", leak) for leak in leaked), leaked
    assert {leak.removeprefix("crash in objects/").replace("/", "") for leak in leaked} <= set(kept)
    assert 1 == len(leaked)


def test_an_untracked_store_of_secrets_is_left_out_with_a_gap(
    repro, record, code: Path, canaries: Canaries, repro_home: Path
) -> None:
    for name in (".env.local", "id_rsa", "key.pem", "credentials.json"):
        (code / name).write_text(canaries(name))
    (code / ".env").unlink()
    (code / "train.py").write_text("print(1)\n")
    recorded = record([sys.executable, "train.py"], cwd=code)
    assert recorded.exit_status == 0, recorded.err
    assert [] == leaks(canaries, repro_home)
    gaps = repro("show", "@last", "--json", cwd=code).answer["gaps"]
    assert {".env.local", "id_rsa", "key.pem", "credentials.json"} <= {gap["subject"] for gap in gaps}


def test_the_search_finds_what_is_there(tmp_path: Path, canaries: Canaries) -> None:
    word = canaries("it")
    for form in (
        word.encode(),
        base64.b64encode(f"ab{word}c".encode()),
        word.encode().hex().encode(),
        word.encode("utf-16-le"),
    ):
        (tmp_path / "a").write_bytes(b"\0" + form + b"\0")
        assert ["it in a"] == leaks(canaries, tmp_path)
    with duckdb.connect(str(tmp_path / "x.duckdb")) as connection:
        connection.execute("CREATE TABLE t (v VARCHAR)")
        connection.execute("INSERT INTO t SELECT ? FROM range(5000)", [word])
    os.unlink(tmp_path / "a")
    assert "it in table t" in leaks(canaries, tmp_path)
