"""Wheels of a real environment: kept as they were, or made again from what is installed."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from repro.evidence.objects import Objects
from repro.record.capture import Findings, Patience, environment
from repro.record.capture import lock as capture
from repro.record.eventlog import Start
from repro.record.software import installed, repack

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


def encoded(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def make_wheel(folder: Path, name: str = "tiny", version: str = "1.0+cpu") -> Path:
    """Make a wheel with all kinds of files."""
    stem = f"{name}-{version}"
    files = {
        f"{name}.py": "VALUE = 1\n",
        f"{name}_data/a,b.txt": "text",
        f"{stem}.data/scripts/{name}-run": "#!python\nprint(1)\n",
        f"{stem}.data/data/share/{name}.cfg": "x = 1\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\n"
        "Tag: py2-none-any\nTag: py3-none-any\n",
        f"{stem}.dist-info/entry_points.txt": f"[console_scripts]\n{name}-Say = {name}:main\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-py2.py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, text in files.items():
            info = zipfile.ZipInfo(member)
            info.external_attr = (0o100755 if "/scripts/" in member else 0o100644) << 16
            archive.writestr(info, text)
        lines = "".join(f'"{member}",{encoded(text.encode())},{len(text)}\n' for member, text in files.items())
        archive.writestr(f"{stem}.dist-info/RECORD", f"{lines}{stem}.dist-info/RECORD,,\n")
    return path


def make_prefix(prefix: Path, *arguments: object, variables: dict[str, str] | None = None) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    pip = [sys.executable, "-m", "pip", "--python", prefix, "install", "-q", "--no-deps", "--compile", *arguments]
    subprocess.run(pip, check=True, env={**os.environ, **(variables or {})})
    return prefix


@pytest.fixture
def start() -> Callable[[Path], Start]:
    def make(prefix: Path) -> Start:
        return Start(
            process_key="main", parent_key=None, pid=1, argv=("python",), executable=str(prefix / "bin/python"),
            prefix=str(prefix), base_prefix=sys.base_prefix, python_version=VERSION, implementation="cpython",
            build="b", path=(str(prefix / "lib" / f"python{VERSION}" / "site-packages"),), rank=None, world_size=None,
            started_at=0.0,
        )  # fmt: skip

    return make


@pytest.fixture
def look(start, context, environment: dict[str, str], tmp_path: Path) -> Callable[..., Findings]:
    """Run the capture on a prefix; pip knows no index, unless `index` says where one is."""

    def run(prefix: Path, mode: str = "auto", changes: tuple = (), patience: Patience | None = None, **index: str):
        from repro.record.capture import environment as listing

        packages, _ = listing.distributions(start(prefix), tmp_path)
        variables = {**environment, "PIP_CONFIG_FILE": "/dev/null", **(index or {"PIP_NO_INDEX": "1"})}
        ctx = context(
            tmp_path, interpreter=start(prefix), environment=variables, patience=patience or Patience(60),
            findings=Findings(packages=packages, package_changes=changes), wheelhouse=mode,
        )  # fmt: skip
        return capture.beside(ctx)

    return run


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Objects(tmp_path / "store" / "objects")


def test_a_wheel_from_a_file_that_is_still_there_is_kept_as_it_is(look, objects: Objects, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    found = look(make_prefix(tmp_path / "env", wheel))
    digest = f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    assert [digest] == [package.wheel_sha256 for package in found.packages]
    assert (wheel.name, None) == (
        found.fact("environment", "wheel.tiny"),
        found.fact("environment", "wheels_repacked"),
    )
    text = objects.get(found.fact("environment", "lock") or "").decode()
    assert text == f"# wheel: {digest} {wheel.name}\ntiny==1.0+cpu \\\n    --hash={digest}\n"
    assert () == found.gaps


def test_one_that_is_gone_is_made_again_and_installs_the_same_files(look, objects: Objects, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    prefix = make_prefix(tmp_path / "env", wheel)
    wheel.unlink()
    found = look(prefix)
    assert "tiny" == found.fact("environment", "wheels_repacked")
    name = found.fact("environment", "wheel.tiny") or ""
    assert "tiny-1.0+cpu-py2.py3-none-any.whl" == name
    (tmp_path / "again").mkdir()
    again = tmp_path / "again" / name
    again.write_bytes(objects.get(found.packages[0].wheel_sha256 or ""))
    other = make_prefix(tmp_path / "env2", again)
    assert contents(prefix) == contents(other)
    assert "1" == subprocess.run([other / "bin/tiny-run"], capture_output=True, text=True, check=True).stdout.strip()
    assert not any(name.startswith("tiny-1.0+cpu.data/scripts/tiny-Say") for name in zipfile.ZipFile(again).namelist())


def contents(prefix: Path) -> dict[str, bytes]:
    """Return the files that a wheel brought, without what tells the prefix and the installer."""
    files = {path.relative_to(prefix).as_posix(): path for path in prefix.rglob("*") if path.is_file()}
    added = ("RECORD", "direct_url.json", "pyvenv.cfg", ".pyc")
    return {
        name: path.read_bytes().replace(os.fsencode(prefix), b"")
        for name, path in files.items()
        if not path.is_symlink() and not name.endswith(added) and "/activate" not in name.lower()
    }


def test_the_same_files_give_the_same_wheel(tmp_path: Path) -> None:
    wheel, digests = make_wheel(tmp_path / "wheels"), set()
    for number in "12":
        prefix = make_prefix(tmp_path / number, wheel)
        [record] = prefix.rglob("RECORD")
        (tmp_path / f"out{number}").mkdir()
        made = repack.repack(record, tmp_path / f"out{number}", lambda: False)
        digests.add(hashlib.sha256(made.read_bytes()).hexdigest())
    assert 1 == len(digests)


def test_a_changed_distribution_is_kept_as_it_was_run(look, objects: Objects, tmp_path: Path, start) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    prefix = make_prefix(tmp_path / "env", wheel)
    [module] = prefix.rglob("tiny.py")
    module.write_text("VALUE = 2\n")
    packages, _ = environment.distributions(start(prefix), tmp_path)
    changes = tuple(installed.compare(packages, tmp_path / "keep", lambda: False).changes)
    found = look(prefix, changes=changes)
    digest = found.packages[0].wheel_sha256 or ""
    assert b"VALUE = 2\n" == zipfile.ZipFile(objects.path(digest)).read("tiny.py")
    module.write_text("VALUE = 3\n")
    assert digest != look(prefix, changes=changes).packages[0].wheel_sha256


def test_another_file_of_that_name_is_not_taken(look, tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "env", make_wheel(tmp_path / "wheels"))
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny-1.0+cpu-py2.py3-none-any.whl", "w") as archive:
        archive.writestr("tiny.py", "evil")
    assert "tiny" == look(prefix).fact("environment", "wheels_repacked")


def test_a_folder_of_wheels_is_no_index(look, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    places = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels")}
    prefix = make_prefix(tmp_path / "env", "tiny==1.0+cpu", variables=places)
    found = look(prefix, **places)
    assert ["index"] == [package.origin for package in found.packages]
    assert [f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"] == [p.wheel_sha256 for p in found.packages]
    assert () == look(prefix, "never", **places).packages


@pytest.fixture
def index(tmp_path: Path) -> Iterator[str]:
    """Serve a simple index with one project."""
    wheel = make_wheel(tmp_path / "served" / "simple" / "tiny")
    page = f'<a href="{wheel.name.replace("+", "%2B")}">{wheel.name}</a>'
    (wheel.parent / "index.html").write_text(page)
    handler = partial(Quiet, directory=os.fspath(tmp_path / "served"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/simple"
    server.shutdown()
    server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_what_an_index_has_is_kept_only_if_all_is(look, index: str, tmp_path: Path) -> None:
    places = {"PIP_INDEX_URL": index}
    prefix = make_prefix(tmp_path / "env", "tiny==1.0+cpu", variables=places)
    assert () == look(prefix, **places).packages
    found = look(prefix, "always", **places)
    [wheel] = (tmp_path / "served").rglob("*.whl")
    assert [f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"] == [p.wheel_sha256 for p in found.packages]
    assert None is found.fact("environment", "wheels_repacked")
    wheel.unlink()
    assert look(prefix, "always", **places).packages == found.packages


def test_what_cannot_be_kept_is_a_gap(look, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "wheels")
    prefix = make_prefix(tmp_path / "env", wheel)
    wheel.unlink()
    lost = Patience(60)
    lost.lose()
    gaps = {gap.topic: gap.reason for gap in look(prefix, patience=lost).gaps}
    assert "longer than the run could wait" in gaps["environment"]
    [record] = prefix.rglob("RECORD")
    record.write_text(record.read_text() + "/etc/hostname,,\n")
    assert ["its wheel could not be kept: it has files outside the environment"] == [
        gap.reason for gap in look(prefix).gaps if gap.topic == "environment"
    ]
    (record.parent / "WHEEL").unlink()
    assert ["its wheel could not be kept: it was not installed from a wheel"] == [
        gap.reason for gap in look(prefix).gaps if gap.topic == "environment"
    ]


def test_editable_installs_have_no_wheel(look, tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "env", make_wheel(tmp_path / "wheels"))
    [url] = prefix.rglob("direct_url.json")
    url.write_text('{"url": "file:///src", "dir_info": {"editable": true}}')
    assert () == look(prefix, "always").packages


def test_first_lines_of_scripts() -> None:
    assert b"#!python\nx" == repack._plain_script(b"#!/env/bin/python3.11\nx")
    assert b"#!pythonw -E\nx" == repack._plain_script(b"#!/env/bin/pythonw -E\nx")
    long = b"#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''\nimport x\n"
    assert b"#!python\nimport x\n" == repack._plain_script(long)
    assert b"#!/bin/sh\necho" == repack._plain_script(b"#!/bin/sh\necho")


def test_a_damaged_memory_is_none(look, tmp_path: Path) -> None:
    prefix = make_prefix(tmp_path / "env", make_wheel(tmp_path / "wheels"))
    first = look(prefix)
    [memory] = (tmp_path / "store" / "cache" / "wheels").iterdir()
    for text in ("{", "[]", '{"digest": "sha256:00", "file_name": "x", "repacked": false}'):
        memory.write_text(text)
        assert first.packages == look(prefix).packages
