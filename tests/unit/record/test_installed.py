"""Real environments, installed by the real pip, and files in them that somebody changed."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from repro.evidence.model import Package, PackageChange
from repro.record.capture import Findings, Patience, environment
from repro.record.capture import installed as capture
from repro.record.eventlog import Start
from repro.record.software import installed

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"
NAME = "od,d"


def encoded(data: bytes, algorithm: str = "sha256") -> str:
    raw = hashlib.new(algorithm, data).digest()
    return f"{algorithm}=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """A virtual environment with one distribution: a module, a program, a name with a comma in it."""
    prefix, info = tmp_path / "env", "tiny-1.0.dist-info"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    files = {
        "tiny.py": "VALUE = 1\n",
        f"{NAME}.txt": "text",
        "tiny-1.0.data/scripts/tiny-run": "#!python\nprint(1)\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ntiny-say = tiny:main\n",
    }
    wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        lines = "".join(f'"{name}",{encoded(text.encode())},{len(text)}\n' for name, text in files.items())
        archive.writestr(f"{info}/RECORD", f"{lines}{info}/RECORD,,\n")
    pip = [sys.executable, "-m", "pip", "--python", prefix, "install", "-q", "--no-deps", "--no-index", "--compile"]
    subprocess.run([*pip, wheel], check=True)
    return prefix


@pytest.fixture
def site(prefix: Path) -> Path:
    return prefix / "lib" / f"python{VERSION}" / "site-packages"


@pytest.fixture
def start(prefix: Path, site: Path) -> Start:
    return Start(
        process_key="main", parent_key=None, pid=1, argv=("python",), executable=str(prefix / "bin/python"),
        prefix=str(prefix), base_prefix=sys.base_prefix, python_version=VERSION, implementation="cpython", build="b",
        path=(str(site),), rank=None, world_size=None, started_at=0.0,
    )  # fmt: skip


@pytest.fixture
def look(start: Start, tmp_path: Path) -> Callable[..., installed.Compared]:
    def compare(is_late: Callable[[], bool] = lambda: False) -> installed.Compared:
        packages, _ = environment.distributions(start, tmp_path)
        return installed.compare(packages, tmp_path / "keep", is_late)

    return compare


def relist(site: Path, change: Callable[[str], str]) -> None:
    record = site / "tiny-1.0.dist-info" / "RECORD"
    record.write_text(change(record.read_text()))


def test_an_environment_as_it_was_installed_has_no_changes(look, site: Path) -> None:
    found = look()
    assert ([], [], [], [], 0) == (found.changes, found.unlisted, found.outside, found.unreadable, found.left)
    hashed = [row for row in installed.rows(site / "tiny-1.0.dist-info" / "RECORD") if row[1]]
    assert found.compared == len(hashed)
    assert {f"{NAME}.txt", "../../../bin/tiny-say", "../../../bin/tiny-run"} <= {row[0] for row in hashed}


def test_a_changed_and_a_missing_file_are_named(look, site: Path, prefix: Path) -> None:
    (site / "tiny.py").write_text("VALUE = 2\n")
    (prefix / "bin" / "tiny-say").unlink()
    new, old = (f"sha256:{hashlib.sha256(text).hexdigest()}" for text in (b"VALUE = 2\n", b"VALUE = 1\n"))
    changed, missing = sorted(look().changes, key=lambda change: change.state)
    assert changed == PackageChange(
        package="tiny", path=str(site / "tiny.py"), state="changed", recorded_sha256=old, found_sha256=new
    )
    assert (missing.path, missing.state, missing.found_sha256) == (str(prefix / "bin" / "tiny-say"), "missing", None)


def age(prefix: Path) -> None:
    """Wait until what was installed is old enough for its times to be believed."""
    newest = max(path.lstat().st_ctime for path in prefix.rglob("*"))
    time.sleep(max(0.0, newest + 2.1 - time.time()))


def test_what_was_compared_is_not_read_again_until_it_is_touched(look, site: Path, prefix: Path) -> None:
    age(prefix)
    whole = look().compared
    late = look(lambda: True)
    assert (whole, 0) == (late.compared, late.left)
    before = (site / "tiny.py").stat()
    (site / "tiny.py").write_text("VALUE = 3\n")  # as long as it was
    os.utime(site / "tiny.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert ["changed"] == [change.state for change in look().changes]
    assert 1 == look(lambda: True).left


def test_what_is_too_new_is_read_again(look, site: Path) -> None:
    (site / "tiny.py").write_text("VALUE = 1\n")
    look()
    assert look(lambda: True).left > 0


def test_a_damaged_memory_is_none(look, tmp_path: Path, prefix: Path) -> None:
    age(prefix)
    whole = look().compared
    for path in (tmp_path / "keep").iterdir():
        path.write_text("[1, 2")
    assert whole == look().compared


def test_no_path_out_of_the_environment_is_opened(look, site: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s")
    (site / "link.py").symlink_to(secret)
    (site / "folder").symlink_to(tmp_path)
    lines = ["/etc/hostname", "../../../../secret", "link.py", "folder/secret", "../" * 30 + "etc/passwd"]
    relist(site, lambda text: text + "".join(f"{line},{encoded(b'x')},1\n" for line in lines))
    found = look()
    assert (5, []) == (len(found.outside), found.changes)


def test_links_within_the_environment_are_followed(look, site: Path) -> None:
    (site / "link.py").symlink_to("tiny.py")
    relist(site, lambda text: text + f"link.py,{encoded(b'other')},5\n")
    assert [str(site / "link.py")] == [change.path for change in look().changes]


def test_odd_lines_are_left_out_or_read_as_they_are_meant(look, site: Path) -> None:
    (site / "fifo").parent.mkdir(exist_ok=True)
    os.mkfifo(site / "fifo")
    before = look().compared
    lines = [
        f"fifo,{encoded(b'')},0", "tiny.py,md5=abc,3", "tiny.py,sha256=short,1", "tiny.py,sha256=!!!,1", "tiny.py",
        ",,", f"tiny.py,{encoded(b'VALUE = 1' + bytes([10]), 'sha512')},x", f"tiny.py/below,{encoded(b'')},",
    ]  # fmt: skip
    relist(site, lambda text: text + "\n".join(lines) + "\n")
    found = look()
    assert [("fifo", "missing"), ("tiny.py/below", "missing")] == sorted(
        (os.path.relpath(change.path, site), change.state) for change in found.changes
    )
    assert before + 2 == found.compared


def test_a_distribution_without_a_list_is_named_unless_it_is_editable(look, site: Path) -> None:
    for name in ("bare", "edit"):
        (site / f"{name}-1.dist-info").mkdir()
        (site / f"{name}-1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
    (site / "edit-1.dist-info" / "direct_url.json").write_text('{"url": "file:///s", "dir_info": {"editable": true}}')
    assert ["bare"] == look().unlisted


def findings(start: Start, folder: Path) -> Findings:
    packages: tuple[Package, ...] = environment.distributions(start, folder)[0]
    return Findings(packages=packages)


def test_the_capture_tells_rows_and_counts(start: Start, site: Path, tmp_path: Path, context) -> None:
    (site / "tiny.py").write_text("VALUE = 2\n")
    found = capture.beside(context(tmp_path, findings=findings(start, tmp_path), patience=Patience(60)))
    assert ["tiny"] == [change.package for change in found.package_changes]
    assert "1" == found.fact("environment", "packages_changed")
    assert int(found.fact("environment", "packages_compared_files") or 0) > 5
    assert () == found.gaps
    assert Findings() == capture.beside(context(tmp_path))


def test_a_run_that_cannot_wait_says_what_is_left(start: Start, tmp_path: Path, context) -> None:
    patience = Patience(60)
    patience.lose()
    found = capture.beside(context(tmp_path, findings=findings(start, tmp_path), patience=patience))
    [gap] = found.gaps
    assert ("environment", "installed files") == (gap.topic, gap.subject)
    assert "were not compared" in gap.reason


def test_files_that_cannot_be_compared_are_a_gap(start: Start, site: Path, tmp_path: Path, context) -> None:
    relist(site, lambda text: f"/etc/hostname,{encoded(b'x')},1\n{text}")
    known = findings(start, tmp_path)
    bare = replace(known.packages[0], name="bare", record_sha256=None)
    known = replace(known, packages=(*known.packages, bare))
    found = capture.beside(context(tmp_path, findings=known, patience=Patience(60)))
    assert ["1 distributions have", "1 files lead out of"] == [" ".join(g.reason.split()[:len(w)]) for g, w in
        zip(found.gaps, (["1", "d", "h"], ["1", "f", "l", "o", "o"]), strict=True)]  # fmt: skip
