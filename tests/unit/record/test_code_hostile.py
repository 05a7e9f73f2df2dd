"""Repositories that try to run a program or to hide a file: each trick by itself, with a canary that it would touch."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from repro.record.capture import Context, Findings, code
from repro.record.tree import worktree

Git = Callable[..., bytes]


@pytest.fixture
def look(repository: Path, context: Callable[..., Context], environment: dict[str, str], tmp_path: Path):
    """Return a function that captures the repository, and fails if anything touched a canary."""

    def run(**variables: str) -> Findings:
        root, gaps = worktree.find_root(repository, {**environment, **variables})
        ctx = context(root, environment={**environment, **variables})
        before = code.before(ctx)
        found = before + code.beside(replace(ctx, findings=before))
        assert [] == sorted(path.name for path in tmp_path.glob("canary*"))
        return replace(found, gaps=gaps + found.gaps)

    return run


def paths(found: Findings) -> set[str]:
    return {file.path for file in found.code_files}


CONFIGURED = {
    "fsmonitor": "[core]\nfsmonitor = {touch}",
    "hooks": "[core]\nhooksPath = {hooks}",
    "ssh": "[core]\nsshCommand = {touch}",
    "pager": "[core]\npager = {touch}\n[pager]\nls-files = {touch}\nls-tree = {touch}\ndescribe = {touch}",
    "editor": "[core]\neditor = {touch}\naskPass = {touch}\ngitProxy = {touch}",
    "filter": '[filter "evil"]\nclean = {touch}; cat\nsmudge = {touch}; cat\nrequired = true',
    "process": '[filter "evil"]\nprocess = {touch}\nrequired = true',
    "textconv": '[diff "evil"]\ntextconv = {touch}\ncommand = {touch}\n[diff]\nexternal = {touch}',
    "merge": '[merge "evil"]\ndriver = {touch}',
    "alias": "[alias]\nls-files = !{touch}\nls-tree = !{touch}\nrev-parse = !{touch}\ndescribe = !{touch}",
    "credential": "[credential]\nhelper = !{touch}",
    "include": '[include]\npath = {more}\n[includeIf "gitdir:/"]\npath = {more}',
    "alternate": "[core]\nalternateRefsCommand = {touch}",
    "remote helper": '[remote "origin"]\nurl = "ext::{touch}"\nvcs = evil\npromisor = true\nuploadpack = {touch}\n'
    "[protocol]\nallow = always\n[extensions]\npartialClone = origin",
    "local remote": '[remote "origin"]\nurl = "/"\npromisor = true\nuploadpack = {touch}\n'
    "[protocol]\nallow = always\n[extensions]\npartialClone = origin",
    "gpg": "[gpg]\nprogram = {touch}\n[log]\nshowSignature = true",
    "submodules": "[submodule]\nrecurse = true\n[fetch]\nrecurseSubmodules = true",
}


@pytest.mark.parametrize("trick", CONFIGURED)
def test_a_configuration_runs_nothing(look, repository: Path, git: Git, tmp_path: Path, trick: str) -> None:
    (repository / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "Attributes")
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "post-checkout"):
        for folder in (hooks, repository / ".git" / "hooks"):
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/canary-hook\n")
            (folder / name).chmod(0o755)
    more = tmp_path / "more.config"
    more.write_text(f"[core]\nfsmonitor = touch {tmp_path}/canary-included\n")
    git(repository, "config", "core.repositoryformatversion", "1")
    with (repository / ".git" / "config").open("a") as config:
        config.write(CONFIGURED[trick].format(touch=f"touch {tmp_path}/canary", hooks=hooks, more=more) + "\n")
    blob = os.fsdecode(git(repository, "rev-parse", "HEAD:logo.bin").strip())
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()  # git would fetch it
    (repository / "logo.bin").write_bytes(b"other")
    (repository / "train.py").write_text("print(2)\n")
    assert {".gitattributes", "logo.bin", "train.py"} == paths(look())


@pytest.mark.parametrize(
    "variable",
    ["GIT_EXTERNAL_DIFF", "GIT_SSH_COMMAND", "GIT_PAGER", "GIT_PROXY_COMMAND", "GIT_ASKPASS", "GIT_TRACE2_EVENT"],
)
def test_a_variable_runs_nothing(look, tmp_path: Path, variable: str) -> None:
    value = f"{tmp_path}/canary" if "TRACE" in variable else f"touch {tmp_path}/canary"
    assert {"logo.bin", "train.py"} == paths(look(**{variable: value}))


def test_a_submodule_that_names_a_program_as_its_address(look, repository: Path, git: Git, tmp_path: Path) -> None:
    (repository / ".gitmodules").write_text(
        f'[submodule "x"]\n\tpath = x\n\turl = "ext::touch {tmp_path}/canary"\n\tupdate = "!touch {tmp_path}/canary"\n'
    )
    commit = os.fsdecode(git(repository, "rev-parse", "HEAD").strip())
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{commit},x")
    (repository / "x").mkdir()
    (gap,) = look().gaps
    assert ("x", True) == (gap.subject, "not checked out" in gap.reason)


def test_a_branch_and_files_that_look_like_options(look, repository: Path, git: Git, tmp_path: Path) -> None:
    commit = os.fsdecode(git(repository, "rev-parse", "HEAD").strip())
    name = f"--output={tmp_path}/canary"
    (repository / ".git" / "refs" / "heads" / "--output=x").write_text(f"{commit}\n")
    (repository / ".git" / "HEAD").write_text("ref: refs/heads/--output=x\n")
    (repository / name.replace("/", "_")).write_text("x")
    (repository / "--upload-pack=touch canary").mkdir()
    (repository / "--upload-pack=touch canary" / "a.py").write_text("a\n")
    found = look()
    assert {"--upload-pack=touch canary/a.py", name.replace("/", "_"), "logo.bin", "train.py"} == paths(found)
    assert ("--output=x", commit) == (found.fact("code", "branch"), found.fact("code", "commit"))


def test_a_work_tree_elsewhere_is_not_captured(look, repository: Path, git: Git, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "private").write_text("not of this run")
    git(repository, "config", "core.worktree", str(tmp_path / "elsewhere"))
    found = look()
    assert {"logo.bin", "train.py"} == paths(found)
    assert "says that its work tree is" in found.gaps[0].reason


def test_a_submodule_whose_work_tree_is_elsewhere(look, repository: Path, git: Git, tmp_path: Path) -> None:
    git(repository, "init", "-q", "nested")
    (repository / "nested" / "n.py").write_text("n\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "private").write_text("not of this run")
    git(repository, "config", "-f", "nested/.git/config", "core.worktree", str(tmp_path / "elsewhere"))
    found = look()
    assert {"logo.bin", "train.py", "nested/n.py"} == paths(found)
    assert [True] == ["plain folder" in gap.reason for gap in found.gaps]


@pytest.mark.parametrize("setting", ["core.ignoreCase", "core.untrackedCache", "core.precomposeUnicode"])
def test_a_setting_hides_no_file(look, repository: Path, git: Git, setting: str) -> None:
    git(repository, "config", setting, "true")
    git(repository, "update-index", "--untracked-cache") if "untracked" in setting else None
    git(repository, "status")
    (repository / "TRAIN.py").write_text("another\n")
    assert {"TRAIN.py", "logo.bin", "train.py"} == paths(look())


@pytest.mark.parametrize("part", ["index", "HEAD", "config", "objects", "info"])
def test_parts_of_git_that_are_links(look, repository: Path, tmp_path: Path, part: str) -> None:
    place = repository / ".git" / part
    place.rename(tmp_path / part)
    place.symlink_to(tmp_path / part)
    assert {"logo.bin", "train.py"} == paths(look())


@pytest.mark.parametrize("text", ["gitdir: /no/where\n", "gitdir: {loop}\n", "", "nonsense\n", "\0" * 100])
def test_a_git_file_that_leads_nowhere(look, repository: Path, text: str) -> None:
    shutil.rmtree(repository / ".git")
    (repository / ".git").write_text(text.format(loop=repository / ".git"))
    found = look()
    assert {"logo.bin", "train.py"} == paths(found)
    assert all("taken as a plain folder" in gap.reason for gap in found.gaps)
    assert found.gaps


def test_nothing_in_the_repository_is_written(look, repository: Path, git: Git) -> None:
    os.utime(repository / "train.py")  # git would refresh its index
    state = {path: path.lstat().st_mtime_ns for path in (repository / ".git").rglob("*")}
    look()
    assert state == {path: path.lstat().st_mtime_ns for path in (repository / ".git").rglob("*")}
