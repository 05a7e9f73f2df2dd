from __future__ import annotations

import hashlib
import http.server
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from repro.evidence.model import Fact, Package
from repro.record.capture import Findings, Patience
from repro.record.capture import lock as capture
from repro.record.eventlog import Start
from repro.record.software import askindex, lock


def wheel(folder: Path, name: str, version: str, *requires: str) -> str:
    """Make a wheel with nothing in it, and return its hash."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package(name: str, version: str, origin: str = "index") -> Package:
    return Package(
        name=name,
        version=version,
        location="/site",
        origin=origin,
        direct_url=None,
        record_sha256=None,
        wheel_sha256=None,
    )


@pytest.fixture
def start() -> Start:
    return Start(
        process_key="main", parent_key=None, pid=1, argv=("python",), executable=sys.executable, prefix=sys.prefix,
        base_prefix=sys.base_prefix, python_version="{}.{}.{}".format(*sys.version_info), implementation="cpython",
        build="",
        path=(), rank=None, world_size=None, started_at=0.0,
    )  # fmt: skip


@pytest.fixture
def index(tmp_path: Path, environment: dict[str, str]) -> dict[str, str]:
    """Variables with which pip knows nothing but a folder of wheels."""
    return {
        **environment,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "wheels"),
        "PIP_CONFIG_FILE": "/dev/null",
    }


def test_the_lock_is_exactly_what_is_installed_and_can_be_installed(start: Start, index, tmp_path: Path) -> None:
    first = wheel(tmp_path / "wheels", "alpha", "1.0+cpu", "gamma")
    second = wheel(tmp_path / "wheels", "beta", "2.0")
    wheel(tmp_path / "wheels", "gamma", "3.0")  # needed by alpha, and not installed
    packages = (package("alpha", "1.0+cpu"), package("beta", "2.0", "unknown"), package("mine", "0.1", "editable"))
    found = lock.resolve(start, packages, index, Patience(60))
    assert found.text == f"alpha==1.0+cpu \\\n    --hash=sha256:{first}\nbeta==2.0 \\\n    --hash=sha256:{second}\n"
    assert [(gap.topic, gap.subject) for gap in found.gaps] == [("lock", "mine")]
    (tmp_path / "lock.txt").write_text(found.text)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--require-hashes",
        "--target",
        str(tmp_path / "t"),
    ]
    done = subprocess.run([*command, "-r", str(tmp_path / "lock.txt")], env=index, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t" / "alpha.py").exists()


def test_what_the_index_does_not_have_is_a_gap_and_the_rest_is_locked(start: Start, index, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "alpha", "1.0")
    packages = (package("alpha", "1.0"), package("lost-one", "9"), package("local", "1", "direct"))
    found = lock.resolve(start, packages, index, Patience(60))
    assert found.text.startswith("alpha==1.0 ")
    assert [gap.subject for gap in found.gaps] == ["local", "lost-one"]
    assert "from a file, a folder or a repository" in found.gaps[0].reason


def test_an_unreachable_index_is_a_gap_without_addresses(start: Start, environment) -> None:
    unreachable = {**environment, "PIP_INDEX_URL": "http://user:hunter2@127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    unreachable |= {"PIP_CONFIG_FILE": "/dev/null"}
    found = lock.resolve(start, (package("alpha", "1.0"),), unreachable, Patience(60))
    assert (found.text, len(found.gaps)) == ("", 1)
    assert "hunter2" not in repr(found)
    assert "://" not in found.gaps[0].reason


def test_no_time_is_a_gap(start: Start, index, tmp_path: Path) -> None:
    patience = Patience(0.0)
    patience.command_ended()
    found = lock.resolve(start, (package("alpha", "1.0"),), index, patience)
    assert (found.text, found.gaps[0].subject) == ("", "index")
    assert "took longer than the run could wait" in found.gaps[0].reason


def test_patience_can_be_lost_at_once() -> None:
    patience = Patience(1000.0)
    assert (patience.ended, patience.spent) == (False, False)
    patience.command_ended()
    assert (patience.ended, patience.spent) == (True, False)
    patience.lose()
    assert patience.spent


def test_another_python_need_not_be_started(start: Start, index, tmp_path: Path) -> None:
    digest = wheel(tmp_path / "wheels", "alpha", "1.0")
    other = replace(start, executable="/no/python", python_version="3.9.1")
    found = lock.resolve(other, (package("alpha", "1.0"),), index, Patience(60))
    assert (found.text, found.gaps) == (f"alpha==1.0 \\\n    --hash=sha256:{digest}\n", ())


def test_nothing_to_lock(start: Start, index) -> None:
    assert lock.resolve(start, (), index, Patience(1)) == lock.Lock(text="", gaps=())


@pytest.mark.parametrize(
    ("filename", "name", "version", "same"),
    [
        ("a_b-1.0-py3-none-any.whl", "a-b", "1.0", True),
        ("A.b-1.0.0-1-py3-none-any.whl", "a-b", "1.0", True),
        ("torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl", "torch", "2.13.0+cpu", True),
        ("torch-2.13.0-cp311-cp311-linux_x86_64.whl", "torch", "2.13.0+cpu", False),
        ("a-b-c-1.0.tar.gz", "a-b-c", "1.0", True),
        ("a-b-c-1.0.tar.gz", "a-b", "1.0", False),
        ("a-1.0rc1.zip", "a", "1.0-rc.1", True),
        ("a-1.0.exe", "a", "1.0", False),
        ("a-nonsense.tar.gz", "a", "1.0", False),
        ("a.whl", "a", "1.0", False),
    ],
)
def test_files_are_told_by_their_names(filename: str, name: str, version: str, same: bool) -> None:
    assert askindex.matches(filename, name, version) is same


class Handler(http.server.BaseHTTPRequestHandler):
    """An index: JSON for one project, HTML without hashes for another, an error for a third."""

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        project = self.path.split("/")[2]
        kind, body = self.server.pages.get(self.path if project == "files" else project, (None, b""))
        self.send_response(200 if kind else {"broken": 503, "closed": 401}.get(project, 404))
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    digest = wheel(tmp_path / "remote", "beta", "2.0")
    files = [
        {"filename": f"alpha-{version}-py3-none-any.whl", "hashes": {"sha256": version * 64}, "size": 7,
         "url": f"../../files/alpha-{version}-py3-none-any.whl"} for version in "12"
    ]  # fmt: skip
    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.asked, found.digest = [], digest
    beta = "beta-2.0-py3-none-any.whl"
    found.pages = {
        "alpha": ("application/vnd.pypi.simple.v1+json", json.dumps({"files": files, "name": "alpha"}).encode()),
        "beta": ("text/html", f'<a href="/simple/files/{beta}">{beta}</a>'.encode()),
        f"/simple/files/{beta}": ("application/zip", (tmp_path / "remote" / beta).read_bytes()),
    }
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture
def remote(server, environment: dict[str, str]) -> dict[str, str]:
    url = f"http://me:hunter2@127.0.0.1:{server.server_port}/simple"
    return {**environment, "PIP_INDEX_URL": url, "PIP_RETRIES": "0", "PIP_CONFIG_FILE": "/dev/null"}


def test_a_real_index_is_asked_once_for_each(start: Start, server, remote, tmp_path: Path) -> None:
    packages = (package("alpha", "1"), package("beta", "2.0"), package("broken", "1"), package("gone", "1"))
    found = lock.resolve(start, packages, remote, Patience(60), tmp_path / "cache")
    ones = "1" * 64
    assert found.text == lock.pin("alpha", "1", [ones]) + lock.pin("beta", "2.0", [server.digest])
    assert [gap.subject for gap in found.gaps] == ["index", "gone"]
    assert found.gaps[0].reason.startswith("not locked: 1 of 4 distributions (broken): ")
    assert [gap.subject for gap in found.gaps_besides({"broken"})] == ["gone"]
    assert [gap.subject for gap in found.gaps_besides({"gone"})] == ["index"]
    alpha = found.answers[0]
    assert (alpha.files[0].size_bytes, alpha.only_here) == (7, False)
    assert "hunter2" not in repr(found)
    assert b"hunter2" not in b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*.json"))
    server.asked.clear()
    again = lock.resolve(start, packages, remote, Patience(60), tmp_path / "cache")
    assert again.text == found.text
    assert {path.split("/")[2] for path in server.asked} == {"broken"}


def test_a_lock_that_was_cut_off_is_one_gap(start: Start, server, remote, tmp_path: Path) -> None:
    lock.resolve(start, (package("alpha", "1"),), remote, Patience(60), tmp_path / "cache")
    late = Patience(0.0)
    late.command_ended()
    packages = (package("alpha", "1"), *(package(f"late{number}", "1") for number in range(9)))
    (gap,) = lock.resolve(start, packages, remote, late, tmp_path / "cache").gaps
    assert gap.reason.startswith("not locked: 9 of 10 distributions (late0, late1, late2, late3, late4, …): asking")


def test_the_names_of_kept_answers_do_not_tell_a_password(start: Start, tmp_path: Path) -> None:
    where = {"PIP_INDEX_URL": "http://me:hunter2@localhost/simple"}
    plain = lock._configuration(where, start)
    assert lock._fingerprint(plain) == lock._fingerprint(plain) != hashlib.sha256(repr(plain).encode()).hexdigest()
    assert lock._fingerprint(plain) != lock._fingerprint(lock._configuration({}, start))


def test_an_index_that_wants_a_password_is_no_index_without(start: Start, remote) -> None:
    found = lock.resolve(start, (package("closed", "1"),), remote, Patience(60))
    assert ["index"] == [gap.subject for gap in found.gaps]
    assert "401" in found.gaps[0].reason
    assert "hunter2" not in repr(found)


def test_the_environments_own_configuration_counts(start: Start, server, remote, tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {remote['PIP_INDEX_URL']}\n")
    plain = {name: value for name, value in remote.items() if name not in ("PIP_INDEX_URL", "PIP_CONFIG_FILE")}
    found = lock.resolve(replace(start, prefix=str(tmp_path)), (package("alpha", "2"),), plain, Patience(60))
    assert found.text == lock.pin("alpha", "2", ["2" * 64])


def test_the_capture_asks_once_per_environment(start: Start, index, tmp_path: Path, context) -> None:
    wheel(tmp_path / "wheels", "alpha", "1.0")
    fingerprint = Fact(topic="environment", name="fingerprint", value="sha256:00", source="observed")
    packages = (package("alpha", "1.0"), package("lost", "1"))
    ctx = context(
        tmp_path, interpreter=start, environment=index, patience=Patience(60),
        findings=Findings(facts=(fingerprint,), packages=packages),
    )  # fmt: skip
    first = capture.beside(ctx)
    assert ctx.objects.get(first.fact("environment", "lock") or "").startswith(b"alpha==1.0 ")
    (tmp_path / "wheels" / "alpha-1.0-py3-none-any.whl").unlink()
    assert capture.beside(ctx) == first
    assert [gap.subject for gap in first.gaps] == ["lost"]
    elsewhere = replace(ctx, environment={**index, "PIP_FIND_LINKS": str(tmp_path)})
    assert capture.beside(elsewhere).fact("environment", "lock") is None


def test_a_replay_asks_for_no_lock(start: Start, tmp_path: Path, context) -> None:
    known = (Fact(topic="environment", name="fingerprint", value="sha256:00", source="observed"),)
    findings = Findings(facts=known, packages=(package("alpha", "1.0"),))
    ctx = context(tmp_path, interpreter=start, findings=findings, code_paths=("train.py",))
    assert capture.beside(ctx) == Findings()


def test_the_capture_has_nothing_to_do_without_an_environment(tmp_path: Path, context) -> None:
    assert capture.beside(context(tmp_path)) == Findings()
