"""Code that is not in the captured tree, found by what the agent and the kernel saw."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from repro.record import eventlog
from repro.record.capture import Context, Findings, code
from repro.record.kernel.log import Executed, KernelEvents, Opened

Look = Callable[..., Findings]


@pytest.fixture
def project(repository: Path) -> Path:
    """Return a repository that ignores a folder."""
    (repository / ".gitignore").write_text("/ignored/\n")
    (repository / "ignored").mkdir()
    return repository


@pytest.fixture
def look(project: Path, context: Callable[..., Context], write_log: Callable[..., Path]) -> Look:
    """Return a function that captures the code that events tell of."""

    def run(*events: dict[str, Any], kernel: KernelEvents | None = None, **changes: Any) -> Findings:
        started_at_ns = changes.pop("started_at_ns", time.time_ns())
        found = eventlog.read(write_log(*events, prefix=changes.pop("prefix", "/env")))
        ctx = context(project, started_at_ns=started_at_ns, kernel=kernel, **changes)
        return code.after(replace(ctx, events=found, findings=code.before(ctx)))

    return run


def opened(path: Path, mode: str = "read", at: float = 1.0, **more: Any) -> dict[str, Any]:
    return {"event": "open", "path": str(path), "mode": mode, "library": "python", "at": at, "size": 1, **more}


def seen(path: Path, mode: Any = "read", at: float = 1.0, size_bytes: int | None = 1) -> Opened:
    state: dict[str, Any] = dict.fromkeys(("mtime_ns", "ctime_ns", "inode", "device", "before"))
    return Opened(pid=1, path=str(path), mode=mode, existed=True, size_bytes=size_bytes, at=at, **state)


def made(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def names(found: Findings) -> dict[str, str]:
    return {file.path: file.state for file in found.code_files}


def test_ignored_code_is_kept_and_ignored_data_is_not(look: Look, project: Path) -> None:
    module = made(project / "ignored" / "a.py")
    table = made(project / "ignored" / "b.csv")
    found = look(opened(module), opened(table), opened(project / "train.py"))
    assert ({"ignored/a.py": "ignored"}, ()) == (names(found), found.gaps)


def test_cached_byte_code_stands_for_its_source(look: Look, project: Path) -> None:
    made(project / "ignored" / "a.py")
    cached = made(project / "ignored" / "__pycache__" / "a.cpython-311.pyc")
    kernel = KernelEvents(layer="seccomp", opens=[seen(cached)])
    assert {"ignored/a.py": "ignored"} == names(look(kernel=kernel))


def test_what_the_kernel_saw_opened_and_executed(look: Look, project: Path) -> None:
    module, tool = made(project / "ignored" / "fast.so"), made(project / "ignored" / "tool")
    absent = seen(project / "ignored" / "absent.py", size_bytes=None)
    executed = Executed(pid=2, parent=1, path=str(tool), argv=("tool",), at=2.0)
    kernel = KernelEvents(layer="seccomp", opens=[seen(module), absent], executions=[executed])
    found = look(kernel=kernel)
    assert ({"ignored/fast.so": "ignored", "ignored/tool": "ignored"}, ()) == (names(found), found.gaps)


def test_libraries_are_known_by_their_versioned_names_too(look: Look, project: Path) -> None:
    library, table = made(project / "ignored" / "libm-1a.so.5.0.0"), made(project / "ignored" / "b.so.csv")
    kernel = KernelEvents(layer="seccomp", opens=[seen(library), seen(table)])
    assert {"ignored/libm-1a.so.5.0.0": "ignored"} == names(look(kernel=kernel))


def test_built_modules_beside_imported_sources_are_kept(look: Look, project: Path) -> None:
    module = made(project / "ignored" / "a.py")
    made(project / "ignored" / "_fast.cpython-311-x86_64-linux-gnu.so")
    made(project / "ignored" / "deeper" / "_other.so")
    assert ["ignored/_fast.cpython-311-x86_64-linux-gnu.so", "ignored/a.py"] == sorted(names(look(opened(module))))


def test_code_that_the_run_wrote_first_is_an_output(look: Look, project: Path) -> None:
    module, moved = made(project / "ignored" / "a.py"), made(project / "ignored" / "b.py")
    rename = {"event": "rename", "source": str(project / "x"), "target": str(moved), "at": 1.5}
    found = look(opened(module, "write"), opened(module, at=2.0), rename, opened(moved, at=2.0))
    assert ({}, ()) == (names(found), found.gaps)


def test_code_that_the_run_wrote_over_is_a_gap(look: Look, project: Path) -> None:
    module = made(project / "ignored" / "a.py")
    found = look(opened(module), opened(module, "write", at=2.0))
    assert {} == names(found)
    assert [("ignored/a.py", True)] == [(gap.subject, "wrote over it" in gap.reason) for gap in found.gaps]


def test_code_that_changed_after_the_start_is_kept_with_a_gap(look: Look, project: Path) -> None:
    module = made(project / "ignored" / "a.py")
    found = look(opened(module), started_at_ns=time.time_ns() - 60_000_000_000)
    assert {"ignored/a.py": "ignored"} == names(found)
    assert ["ignored/a.py"] == [gap.subject for gap in found.gaps]


def test_code_that_is_gone_is_a_gap(look: Look, project: Path) -> None:
    found = look(opened(project / "ignored" / "a.py"))
    assert [("ignored/a.py", True)] == [(gap.subject, "it is gone" in gap.reason) for gap in found.gaps]


def test_an_environment_in_the_tree_is_not_code(look: Look, project: Path) -> None:
    module = made(project / "ignored" / "env" / "lib" / "x.py")
    installed = made(project / "ignored" / "site-packages" / "y.py")
    found = look(opened(module), opened(installed), prefix=str(project / "ignored" / "env"))
    assert ({}, ()) == (names(found), found.gaps)


def test_the_command_itself_and_its_script(look: Look, project: Path) -> None:
    script = made(project / "ignored" / "run.sh")
    tool = made(project / "ignored" / "tool")
    os.chmod(tool, 0o755)
    found = look(argv=("./ignored/tool", "-x", script.name, "ignored/run.sh"))
    assert {"ignored/run.sh": "ignored", "ignored/tool": "ignored"} == names(found)
