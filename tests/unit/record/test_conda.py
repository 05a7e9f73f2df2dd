"""A conda environment as conda leaves it: JSON files as its documentation of PrefixRecord has them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from repro.evidence.model import SystemPackage
from repro.record.capture import Findings, conda
from repro.record.eventlog import Start

CHANNEL = "https://channel.example.org/forge"


def record(name: str, version: str, build: str, *depends: str, subdir: str = "linux-64", **more: Any) -> dict:
    fn = f"{name}-{version}-{build}.conda"
    return {
        "arch": "x86_64", "build": build, "build_number": 0, "channel": f"{CHANNEL}/{subdir}", "constrains": [],
        "depends": list(depends), "extracted_package_dir": f"/opt/conda/pkgs/{name}", "features": "", "files": [],
        "fn": fn, "license": "MIT", "link": {"source": f"/opt/conda/pkgs/{name}", "type": 1}, "md5": "a" * 32,
        "name": name, "package_tarball_full_path": f"/opt/conda/pkgs/{fn}", "paths_data": {"paths": [],
        "paths_version": 1}, "platform": "linux", "requested_spec": "", "sha256": "b" * 64, "size": 1,
        "subdir": subdir, "timestamp": 1700000000000, "track_features": "", "url": f"{CHANNEL}/{subdir}/{fn}",
        "version": version, **more,
    }  # fmt: skip


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    prefix = tmp_path / "conda"
    (prefix / "conda-meta").mkdir(parents=True)
    (prefix / "conda-meta" / "history").write_text("==> 2026-01-01 <==\n")
    write(prefix, record("a-needs-z", "1.0", "py311_0", "zlib >=1.2,<2", "python >=3.11", "__glibc >=2.17"))
    write(prefix, record("zlib", "1.3.1", "hb9d3cd8_2"))
    write(prefix, record("python", "3.11.9", "hb806964_0_cpython", "zlib", "tzdata"))
    write(prefix, record("tzdata", "2024a", "h0c530f3_0", "python", subdir="noarch"))  # a ring, as pip and python
    return prefix


def write(prefix: Path, found: dict[str, Any]) -> None:
    path = prefix / "conda-meta" / f"{found['name']}-{found['version']}-{found['build']}.json"
    path.write_text(json.dumps(found))


def start(prefix: Path) -> Start:
    return Start(
        process_key="main", parent_key=None, pid=1, argv=("python",), executable=str(prefix / "bin/python"),
        prefix=str(prefix), base_prefix=str(prefix), python_version="3.11.9", implementation="cpython", build="b",
        path=tuple(sys.path), rank=None, world_size=None, started_at=0.0,
    )  # fmt: skip


def test_the_explicit_list_is_the_one_that_conda_takes(prefix: Path, context) -> None:
    ctx = context(prefix, interpreter=start(prefix))
    found = conda.beside(ctx)
    text = ctx.objects.get(found.fact("environment", "conda_explicit") or "").decode()
    assert text.splitlines()[:4] == [
        "# This file may be used to create an environment using:",
        "# $ conda create --name <env> --file <this file>",
        "# platform: linux-64",
        "@EXPLICIT",
    ]
    lines = text.splitlines()[4:]
    assert f"{CHANNEL}/linux-64/zlib-1.3.1-hb9d3cd8_2.conda#{'a' * 32}" in lines
    order = [line.rpartition("/")[2].split("-")[0] for line in lines]
    assert order.index("zlib") < order.index("python") < order.index("a")
    assert sorted(order) == ["a", "python", "tzdata", "zlib"]
    assert found.gaps == ()


def test_rows_have_build_and_channel(prefix: Path, context) -> None:
    rows = conda.beside(context(prefix, interpreter=start(prefix))).system_packages
    assert ["a-needs-z", "python", "tzdata", "zlib"] == [row.name for row in rows]
    assert rows[2] == SystemPackage(
        manager="conda",
        name="tzdata",
        version="2024a",
        architecture="noarch",
        build=f"h0c530f3_0 {CHANNEL}/noarch",
    )


def test_credentials_of_private_channels_stay_out(prefix: Path, context) -> None:
    secret = "https://me:hunter2@host.example/t/tk-hunter2/private/linux-64"
    write(prefix, record("own", "1", "0", channel=secret, url=f"{secret}/own-1-0.conda"))
    ctx = context(prefix, interpreter=start(prefix))
    found = conda.beside(ctx)
    assert "hunter2" not in repr(found)
    assert b"hunter2" not in ctx.objects.get(found.fact("environment", "conda_explicit") or "")


def test_what_is_broken_or_from_nowhere_is_a_gap(prefix: Path, context) -> None:
    (prefix / "conda-meta" / "half-1-0.json").write_text('{"name": "half"')
    (prefix / "conda-meta" / "list-1-0.json").write_text("[]")
    write(prefix, record("built", "1", "0", url="/home/me/built-1-0.conda", depends=7))
    found = conda.beside(context(prefix, interpreter=start(prefix)))
    assert [gap.reason for gap in found.gaps] == [
        "2 records could not be read: half-1-0.json, list-1-0.json",
        "1 packages came from no channel, so that they are not in the explicit list: built",
    ]
    assert "built" in {row.name for row in found.system_packages}


def test_an_activated_environment_counts_where_no_python_ran(prefix: Path, context) -> None:
    found = conda.beside(context(prefix, environment={"CONDA_PREFIX": str(prefix)}))
    assert "4" == found.fact("environment", "conda_packages")


def test_without_conda_there_is_nothing(tmp_path: Path, context) -> None:
    assert Findings() == conda.beside(context(tmp_path, interpreter=start(tmp_path)))
    (tmp_path / "conda-meta").mkdir()
    assert Findings() == conda.beside(context(tmp_path, interpreter=start(tmp_path)))
