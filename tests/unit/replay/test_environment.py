"""Real virtual environments, installed by the real pip from a folder of wheels made here."""

import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from repro.errors import ExecutionError
from repro.evidence.objects import Objects
from repro.replay import environment, keptwheels
from repro.replay.interpreters import Interpreter, probe

Wheel = Callable[..., tuple[Path, str]]


@pytest.fixture
def python() -> Interpreter:
    found = probe(Path(sys.base_prefix) / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    assert found is not None
    return found


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    return tmp_path / "venvs"


def _packages(built: environment.Built) -> str:
    probe = "from importlib.metadata import distributions as d; print(*sorted(f'{x.name}={x.version}' for x in d()))"
    return subprocess.run([built.python, "-I", "-c", probe], capture_output=True, text=True, check=True).stdout.strip()


def test_exactly_the_lock_is_installed_and_the_environment_is_kept(
    python: Interpreter, cache: Path, wheel: Wheel, offline: Path, lines: list[str]
) -> None:
    lock = (wheel()[1] + wheel("other", "2.0")[1]).encode()
    with environment.build(lock, python, cache, progress=lines.append) as built:
        assert "other=2.0 tiny=1.0" == _packages(built)
        assert not built.reused
        assert (built.prefix / "bin" / "tiny-say").exists()
        assert () == built.built_from_source
    assert any(line.startswith("installing 2 distributions from the lock: other, tiny") for line in lines)
    lines.clear()
    with environment.build(lock, python, cache, progress=lines.append) as again:
        assert again.reused
        assert built.prefix == again.prefix
    assert [] == lines


def test_an_environment_that_somebody_touched_is_built_anew(
    python: Interpreter, cache: Path, wheel: Wheel, offline: Path
) -> None:
    lock = wheel()[1].encode()
    with environment.build(lock, python, cache, progress=print) as built:
        [module] = built.prefix.rglob("tiny.py")
    module.write_text("VALUE = 2\n")
    with environment.build(lock, python, cache, progress=print) as again:
        assert not again.reused
        assert "VALUE = 1\n" == module.read_text()


def test_compiled_code_that_python_writes_is_not_touching_it(
    python: Interpreter, cache: Path, wheel: Wheel, offline: Path
) -> None:
    lock = wheel()[1].encode()
    with environment.build(lock, python, cache, progress=print) as built:
        for compiled in built.prefix.rglob("*.pyc"):
            compiled.unlink()
        subprocess.run([built.python, "-c", "import tiny"], check=True)
    with environment.build(lock, python, cache, progress=print) as again:
        assert again.reused


def test_an_incomplete_environment_is_removed_first(
    python: Interpreter, cache: Path, wheel: Wheel, offline: Path
) -> None:
    lock = wheel()[1].encode()
    with environment.build(lock, python, cache, progress=print) as built:
        pass
    (built.prefix / ".complete").unlink()
    (built.prefix / "left-over").write_text("")
    with environment.build(lock, python, cache, progress=print) as again:
        assert not again.reused
        assert not (built.prefix / "left-over").exists()


def test_another_hash_is_an_execution_error(python: Interpreter, cache: Path, wheel: Wheel, offline: Path) -> None:
    lock = f"tiny==1.0 --hash=sha256:{'0' * 64}\n".encode()
    wheel()
    with pytest.raises(ExecutionError, match="offers other bytes than those that were locked"):
        environment.build(lock, python, cache, progress=print)
    assert [] == [path for path in cache.iterdir() if path.is_dir()]


def test_a_distribution_that_no_index_has(python: Interpreter, cache: Path, offline: Path) -> None:
    lock = f"nowhere==1.0 --hash=sha256:{'0' * 64}\n".encode()
    with pytest.raises(ExecutionError, match="No matching distribution found for nowhere") as caught:
        environment.build(lock, python, cache, progress=print)
    assert caught.value.hint is not None
    assert "--executor host" in caught.value.hint


def test_an_index_that_cannot_be_reached(
    python: Interpreter, cache: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:hunter2@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    lock = f"tiny==1.0 --hash=sha256:{'0' * 64}\n".encode()
    with pytest.raises(ExecutionError, match="the package index could not be reached") as caught:
        environment.build(lock, python, cache, progress=lines.append)
    assert "hunter2" not in caught.value.message
    assert "127.0.0.1" not in caught.value.message
    assert "the package index does not answer; pip tries again" in lines


def test_an_empty_lock_gives_an_empty_environment(python: Interpreter, cache: Path) -> None:
    with environment.build(b"", python, cache, progress=print) as built:
        assert "" == _packages(built)


def test_what_is_built_from_source_is_said(
    python: Interpreter, cache: Path, offline: Path, tmp_path: Path, lines: list[str]
) -> None:
    backend = (
        "import zipfile\n"
        "def build_wheel(folder, config_settings=None, metadata_directory=None):\n"
        "    name = 'src-1.0-py3-none-any.whl'\n"
        "    with zipfile.ZipFile(folder + '/' + name, 'w') as z:\n"
        "        z.writestr('src.py', '')\n"
        "        z.writestr('src-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: src\\nVersion: 1.0\\n')\n"
        "        wheel = 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n'\n"
        "        z.writestr('src-1.0.dist-info/WHEEL', wheel)\n"
        "        z.writestr('src-1.0.dist-info/RECORD', '')\n"
        "    return name\n"
    )
    source = tmp_path / "src-1.0"
    source.mkdir()
    (source / "backend.py").write_text(backend)
    (source / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: src\nVersion: 1.0\n")
    (source / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        "[project]\nname = 'src'\nversion = '1.0'\n"
    )
    archive = offline / "src-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, "src-1.0")
    lock = f"src==1.0 --hash=sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}\n".encode()
    with environment.build(lock, python, cache, progress=lines.append) as built:
        assert ("src",) == built.built_from_source
    assert "building src from source: its bits depend on this machine's compiler" in lines
    with environment.build(lock, python, cache, progress=print) as again:
        assert ("src",) == again.built_from_source


def test_an_interpreter_that_cannot_make_an_environment(tmp_path: Path, cache: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'Error: No module named venv' >&2\nexit 1\n")
    broken.chmod(0o755)
    python = Interpreter(executable=broken, version="3.11.7", implementation="cpython", build="b", base_prefix="/")
    with pytest.raises(ExecutionError, match="could not make a virtual environment: Error: No module named venv"):
        environment.build(b"", python, cache, progress=print)


def test_a_cache_that_cannot_be_made(python: Interpreter, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExecutionError, match="cannot keep environments in"):
        environment.build(b"", python, tmp_path / "file" / "venvs", progress=print)


def test_two_replays_do_not_build_the_same_environment_at_once(
    python: Interpreter, cache: Path, lines: list[str]
) -> None:
    cache.mkdir()
    hold = os.open(cache / f"{environment._key(b'', python)}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(hold, fcntl.LOCK_EX)
    results: list[environment.Built] = []
    worker = threading.Thread(
        target=lambda: results.append(environment.build(b"", python, cache, progress=lines.append))
    )
    worker.start()
    while not lines:
        time.sleep(0.01)
    assert ["waiting for another replay that uses the same environment"] == lines
    assert [] == results
    os.close(hold)
    worker.join()
    [built] = results
    again = os.open(cache / f"{environment._key(b'', python)}.lock", os.O_RDWR)
    with pytest.raises(BlockingIOError):  # while it is in use, nobody may rebuild it
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    built.close()
    fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(again)


def test_python_and_repro_variables_do_not_reach_pip(
    python: Interpreter, cache: Path, wheel: Wheel, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nonexistent")
    monkeypatch.setenv("PIP_TARGET", "/nonexistent")
    with environment.build(wheel()[1].encode(), python, cache, progress=print) as built:
        monkeypatch.undo()
        assert "tiny=1.0" == _packages(built)


def test_kept_wheels_are_installed_without_an_index(
    python: Interpreter, cache: Path, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    objects = Objects(tmp_path / "objects")
    path, pin = wheel("ti_ny")
    digest, _ = objects.put_file(path)
    path.unlink()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    other = f"{pin.rstrip()} --hash=sha256:{'0' * 64}\n"
    lock = f"# wheel: {digest} {path.name}\n{other}".replace("ti_ny==", "ti-ny==").encode()
    with environment.build(lock, python, cache, progress=lines.append, objects=objects) as built:
        assert "ti_ny=1.0" == _packages(built)
        assert not (built.prefix / "wheels").exists()
    assert "1 of them from kept wheels, without an index" in lines
    assert not any("does not answer" in line for line in lines)
    with environment.build(lock, python, cache, progress=print, objects=objects) as again:
        assert again.reused


def test_what_was_not_kept_comes_from_the_index(
    python: Interpreter, cache: Path, wheel: Wheel, offline: Path, tmp_path: Path
) -> None:
    objects = Objects(tmp_path / "objects")
    path, pin = wheel()
    digest, _ = objects.put_file(path)
    path.unlink()
    gone, gone_pin = wheel("gone")
    comments = f"# wheel: {digest} {path.name}\n# wheel: sha256:{'1' * 64} {gone.name}\n"
    lock = f"{comments}{pin}{wheel('other', '2.0')[1]}{gone_pin}"
    with environment.build(lock.encode(), python, cache, progress=print, objects=objects) as built:
        assert "gone=1.0 other=2.0 tiny=1.0" == _packages(built)


def test_a_kept_wheel_with_other_bytes_is_refused(
    python: Interpreter, cache: Path, wheel: Wheel, offline: Path, tmp_path: Path
) -> None:
    objects = Objects(tmp_path / "objects")
    path, pin = wheel()
    digest, _ = objects.put_file(path)
    objects.path(digest).chmod(0o644)
    objects.path(digest).write_bytes(wheel(source="VALUE = 2\n")[0].read_bytes())
    with pytest.raises(ExecutionError, match="other bytes than those that were locked"):
        environment.build(
            f"# wheel: {digest} {path.name}\n{pin}".encode(), python, cache, progress=print, objects=objects
        )


@pytest.mark.parametrize(
    "name", ["../../evil-1-py3-none-any.whl", "evil.whl", "a-1-py3-none-any.whl x", "a b-1-2-3-4.whl"]
)
def test_hostile_names_of_wheels_are_left_out(name: str, tmp_path: Path) -> None:
    objects = Objects(tmp_path / "objects")
    lock = f"# wheel: {objects.put(b'x')} {name}\na==1 --hash=sha256:{'0' * 64}\n"
    found = keptwheels.split(lock, objects, tmp_path / "wheels")
    assert ("", not (tmp_path / "wheels").exists()) == (found.kept, True)
    assert found.rest.startswith("a==1 ")
