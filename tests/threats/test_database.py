"""Threats 23 to 26 and 28: a DuckDB file is a program, and may be a hostile one."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from repro.errors import AlteredError
from repro.evidence import canonical, manifest, tables

ROOT = Path(manifest.__file__).parents[2]


def tamper(path: Path, *statements: str) -> None:
    path.chmod(0o644)
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


@pytest.mark.parametrize("suffix", [".wal", ".tmp", ".lock", ".wal.recovery", ".wal.checkpoint"])
@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_23_a_sidecar_of_any_kind(victim: Any, suffix: str, make: Callable[[Path], None]) -> None:
    make(victim.directory.manifest.with_name("manifest.duckdb" + suffix))
    (problem,) = victim.examine().problems
    assert ("manifest.duckdb", "altered") == (problem.member, problem.kind)
    assert problem.sentence.startswith(f"manifest.duckdb{suffix} lies beside manifest.duckdb")
    assert 3 == victim.exit_code()


def test_23_a_write_ahead_log_forges_rows_of_an_untouched_file(victim: Any) -> None:
    path = victim.directory.manifest
    path.chmod(0o644)
    forge = (
        "import duckdb, os, sys\n"
        "connection = duckdb.connect(sys.argv[1])\n"
        "connection.execute(\"PRAGMA disable_checkpoint_on_shutdown; UPDATE run SET status = 'FORGED'\")\n"
        "os._exit(0)\n"
    )
    digest = canonical.digest_file(path)
    subprocess.run([sys.executable, "-c", forge, str(path)], check=True, timeout=60)
    assert digest == canonical.digest_file(path)
    with duckdb.connect(str(path), read_only=True) as connection:  # a control: this is what DuckDB itself believes
        assert [("FORGED",)] == connection.execute("SELECT status FROM run").fetchall()
    assert 3 == victim.exit_code()
    with pytest.raises(AlteredError, match=r"manifest\.duckdb\.wal lies beside"):
        manifest.read(path)


TOLERANCE = "metric VARCHAR NOT NULL, absolute"
PEEK = "FROM read_text('{canary}')"
ACTIVE = {
    "a view for a table": (f"CREATE VIEW tolerance AS SELECT content AS metric, 0.0 AS absolute {PEEK}",),
    "a view beside the tables": (f"CREATE VIEW extra AS SELECT * {PEEK}",),
    "a view for the version": (f"CREATE VIEW manifest AS SELECT 1::BIGINT AS schema_version {PEEK}",),
    "a table macro": (f"CREATE MACRO peek() AS TABLE SELECT * {PEEK}",),
    "a macro": ("CREATE MACRO look(name) AS current_setting(name)",),
    "a default that reads": ("ALTER TABLE gap ALTER reason SET DEFAULT current_setting('home_directory')",),
    "an extra table": ("CREATE TABLE extra (a INTEGER)",),
    "a table in another schema": ("CREATE SCHEMA other", "CREATE TABLE other.run AS FROM main.run"),
    "a sequence": ("CREATE SEQUENCE counter",),
    "an index": ("CREATE INDEX odd ON fact (value)",),
    "a type": ("CREATE TYPE mood AS ENUM ('good', 'bad')",),
    "a missing table": ("DROP TABLE gap",),
    "an extra column": ("ALTER TABLE gap ADD COLUMN extra VARCHAR",),
    "a missing column": ("ALTER TABLE seed DROP COLUMN site",),
    "a renamed column": ("ALTER TABLE seed RENAME COLUMN site TO place",),
    "a column that may be NULL": ("ALTER TABLE seed ALTER site DROP NOT NULL",),
    "another type": (f"CREATE TABLE tolerance ({TOLERANCE} VARCHAR NOT NULL)",),
    "a narrower type": (f"CREATE TABLE tolerance ({TOLERANCE} FLOAT NOT NULL)",),
    "a computed column": (f"CREATE TABLE tolerance ({TOLERANCE} DOUBLE AS (random()))",),
    "a check": (f"CREATE TABLE tolerance ({TOLERANCE} DOUBLE NOT NULL CHECK (absolute >= 0))",),
    "a key that DuckDB keeps": (
        "CREATE TABLE tolerance (metric VARCHAR NOT NULL PRIMARY KEY, absolute DOUBLE NOT NULL)",
    ),
    "no version": ("DROP TABLE manifest",),
    "no run": ("DELETE FROM run",),
    "two runs": ("INSERT INTO run SELECT * REPLACE ('ffffffffffff' AS run_id) FROM run",),
}


@pytest.mark.parametrize("statements", ACTIVE.values(), ids=ACTIVE.keys())
def test_24_and_25_anything_but_the_tables_of_a_manifest(
    victim: Any, tmp_path: Path, statements: tuple[str, ...]
) -> None:
    """Also where the signer himself put it there: the digests are right."""
    canary = tmp_path / "canary"
    canary.write_text("canary")
    os.utime(canary, ns=(0, 0))
    path = victim.directory.manifest
    for name in ("tolerance", "manifest"):
        if any(f"CREATE TABLE {name}" in text or f"CREATE VIEW {name}" in text for text in statements):
            tamper(path, f"DROP TABLE {name}")
    tamper(path, *(statement.format(canary=canary) for statement in statements))
    with pytest.raises(AlteredError, match=r"manifest") as caught:
        manifest.read(path)
    assert "canary" not in caught.value.message.replace(str(canary), "")
    assert 0 == canary.stat().st_atime_ns  # nobody read it
    digest = canonical.digest_file(path)[0].removeprefix("sha256:")
    victim.resign(lambda document: document["subject"][0]["digest"].update(sha256=digest))
    assert ["manifest.duckdb"] == [problem.member for problem in victim.examine().problems]
    assert 3 == victim.exit_code()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM '/etc/hostname'",
        "COPY (SELECT 1) TO '/tmp/repro-canary.csv'",
        "ATTACH '/tmp/repro-canary.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '1TB'",
        "UPDATE run SET status = 'completed'",
        "EXPORT DATABASE '/tmp/repro-canary'",
    ],
)
def test_24_the_connection_can_do_nothing_but_read_its_copy(
    victim: Any, monkeypatch: pytest.MonkeyPatch, statement: str
) -> None:
    def attack(connection: duckdb.DuckDBPyConnection, name: str) -> None:
        with pytest.raises(duckdb.Error):
            connection.execute(statement).fetchall()

    monkeypatch.setattr(manifest, "_refuse_unexpected", attack)
    assert victim.record.run == manifest.read(victim.directory.manifest).run
    assert not list(Path("/tmp").glob("repro-canary*"))


MUTATE = """
import random, resource, sys
from pathlib import Path
from repro.errors import ReproError
from repro.evidence import manifest

resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (120, 120))
original, work, seed = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3])
expected = repr(manifest.read(Path(sys.argv[1])))
draw = random.Random(seed)
for _ in range(int(sys.argv[4])):
    mutant = bytearray(original)
    for _ in range(draw.choice((1, 1, 1, 8, 64))):
        mutant[draw.randrange(len(mutant))] = draw.randrange(256)
    if draw.random() < 0.1:
        del mutant[draw.randrange(len(mutant)):]
    work.write_bytes(mutant)
    print("trying", flush=True)
    try:
        same = repr(manifest.read(work)) == expected
        print("same" if same else "DIFFERENT", flush=True)
    except ReproError:
        print("refused", flush=True)
"""


def test_26_mutants_of_the_database_never_take_the_verifier_down(victim: Any, tmp_path: Path) -> None:
    """DuckDB alone, without the digest that comes first: in a process of its own, for it may crash, but never lie."""
    command = [sys.executable, "-c", MUTATE, str(victim.directory.manifest), str(tmp_path / "mutant.duckdb")]
    seen: list[str] = []
    for seed in range(2):
        ran = subprocess.run(
            [*command, str(seed), "40"], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
        seen += ran.stdout.split()
        assert "DIFFERENT" not in seen
        assert ran.returncode <= 0, ran.stderr  # a signal is DuckDB's affair; an exception of another class is ours
    assert seen.count("refused") > 20
    assert seen.count("trying") > 20


def test_26_no_mutant_passes(victim: Any) -> None:
    data, draw = victim.directory.manifest.read_bytes(), random.Random(26)
    for _ in range(100):
        mutant = bytearray(data)
        position = draw.randrange(len(mutant))
        mutant[position] ^= draw.randrange(1, 256)
        victim.write(victim.directory.manifest, bytes(mutant))
        result = victim.examine()
        assert ("ALTERED", None) == (result.light, result.record)


def test_28_content_edited_with_the_old_digest_of_the_table_kept(victim: Any) -> None:
    path = victim.directory.manifest
    tamper(path, "UPDATE metric SET value = 0.125 WHERE step = 5")
    assert 3 == victim.exit_code()
    digest = canonical.digest_file(path)[0].removeprefix("sha256:")
    victim.resign(lambda document: document["subject"][0]["digest"].update(sha256=digest))
    problems = victim.examine().problems
    assert [
        "table metric of manifest.duckdb has the digest",
        "statement.dsse.json and manifest.duckdb disagree about metrics",
    ] == [problem.sentence.partition(" sha256:")[0] for problem in problems]


def test_28_content_kept_with_another_digest_of_the_table(victim: Any) -> None:
    victim.resign(lambda document: document["predicate"]["tables"]["seed"].update(sha256="sha256:" + "0" * 64))
    (problem,) = victim.examine().problems
    assert ("sha256:" + "0" * 64, tables.digests(victim.record)["seed"]) == (problem.expected, problem.found)
    assert 3 == victim.exit_code()


def test_28_the_number_of_rows_is_bound_too(victim: Any) -> None:
    victim.resign(lambda document: document["predicate"]["tables"]["seed"].update(rows=7))
    assert json.loads(victim.payload())["predicate"]["tables"]["seed"]["rows"] == 7
    assert 3 == victim.exit_code()
