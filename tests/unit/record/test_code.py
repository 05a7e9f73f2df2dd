from __future__ import annotations

import hashlib
import os
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.evidence import canonical
from repro.record.capture import Context, Findings, code
from repro.record.tree import contents, snapshot, worktree


def states(found: Findings) -> dict[str, str]:
    return {file.path: file.state for file in found.code_files}


def restore(found: Findings, context: Context, target: Path) -> None:
    """Write a captured tree back from the object store."""
    for file in found.code_files:
        path = os.path.join(os.fsencode(target), canonical.decode_path(file.path))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        data = context.objects.get(file.sha256)
        if file.kind == "symlink":
            os.symlink(data, path)
        else:
            with open(path, "wb") as out:
                out.write(data)
            os.chmod(path, file.mode)


def listing(root: Path) -> dict[bytes, tuple]:
    found = {}
    for folder, folders, files in os.walk(os.fsencode(root)):
        if b".git" in folders:
            folders.remove(b".git")
        for name in [*files, *(f for f in folders if os.path.islink(os.path.join(folder, f)))]:
            path = os.path.join(folder, name)
            key = os.path.relpath(path, os.fsencode(root))
            if os.path.islink(path):
                found[key] = ("symlink", os.readlink(path))
            else:
                found[key] = (stat.S_IMODE(os.lstat(path).st_mode), Path(os.fsdecode(path)).read_bytes())
    return found


def look(context: Context) -> Findings:
    """Run both halves of the capture."""
    before = code.before(context)
    from dataclasses import replace

    return before + code.beside(replace(context, findings=before))


def diff_text(found: Findings, context: Context) -> str:
    return context.objects.get(found.fact("code", "diff") or "").decode()


def test_a_clean_tree_is_committed(repository: Path, context, git) -> None:
    ctx = context(repository)
    found = look(ctx)
    assert states(found) == {"logo.bin": "committed", "train.py": "committed"}
    assert found.fact("code", "dirty") == "false"
    assert found.fact("code", "commit") == git(repository, "rev-parse", "HEAD").decode().strip()
    assert found.fact("code", "branch") == "main"
    assert found.fact("code", "diff") is None
    assert found.fact("code", "tree") == canonical.tree_digest(found.code_files)
    assert found.gaps == ()


def test_every_kind_of_change_is_captured_and_restored_byte_for_byte(repository: Path, context, git, tmp_path) -> None:
    (repository / "gone.py").write_text("gone\n")
    (repository / "script.sh").write_text("#!/bin/sh\n")
    (repository / "moved.py").write_text("moved\n" * 20)
    (repository / ".gitignore").write_text("*.log\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "second")
    (repository / "train.py").write_text("print(2)\n")
    git(repository, "add", "train.py")
    (repository / "train.py").write_text("print(3)\n")  # staged and unstaged differ
    (repository / "logo.bin").write_bytes(b"\0\xff\2")
    (repository / "gone.py").unlink()
    (repository / "script.sh").chmod(0o755)
    (repository / "moved.py").rename(repository / "renamed.py")  # without git add
    (repository / "new.py").write_text("new\n")
    (repository / "staged.py").write_text("staged\n")
    git(repository, "add", "staged.py")
    (repository / "ignored.log").write_text("x")
    (repository / "link").symlink_to("train.py")
    (repository / "dangling").symlink_to("/no/where")
    (repository / "sub").mkdir()
    (repository / "sub" / "näme with space\n.py").write_text("odd\n")
    with open(os.fsencode(repository) + b"/bad\xff\\name.txt", "wb") as out:
        out.write(b"bytes\n")
    ctx = context(repository)
    found = look(ctx)
    assert states(found) == {
        ".gitignore": "committed",
        "bad\\xff\\\\name.txt": "untracked",
        "dangling": "untracked",
        "link": "untracked",
        "logo.bin": "modified",
        "new.py": "untracked",
        "renamed.py": "untracked",
        "script.sh": "modified",
        "staged.py": "modified",
        "sub/näme with space\n.py": "untracked",
        "train.py": "modified",
    }
    assert found.fact("code", "dirty") == "true"
    assert found.gaps == ()
    text = diff_text(found, ctx)
    assert "-print(1)\n+print(3)" in text
    assert "+new" in text
    assert "-gone" in text
    assert "logo.bin differs (binary)" in text
    restore(found, ctx, tmp_path / "again")
    expected = listing(repository)
    del expected[b"ignored.log"]
    assert listing(tmp_path / "again") == expected


def test_the_index_is_not_believed(repository: Path, context, git) -> None:
    git(repository, "update-index", "--assume-unchanged", "train.py")
    (repository / "train.py").write_text("print(9)\n")
    found = code.before(context(repository))
    assert states(found)["train.py"] == "modified"
    assert found.fact("code", "dirty") == "true"


def test_a_repository_without_a_commit(tmp_path: Path, context, git) -> None:
    git(tmp_path, "init", "-q", "fresh")
    root = tmp_path / "fresh"
    (root / "a.py").write_text("a\n")
    found = look(context(root))
    assert (states(found), found.fact("code", "commit"), found.fact("code", "dirty")) == (
        {"a.py": "untracked"},
        None,
        "true",
    )
    assert found.gaps == ()


def test_a_detached_head_has_no_branch(repository: Path, context, git) -> None:
    git(repository, "tag", "v1")
    git(repository, "checkout", "-q", "--detach")
    found = look(context(repository))
    assert (found.fact("code", "branch"), found.fact("code", "describe")) == (None, "v1")


def test_a_linked_work_tree(repository: Path, context, git, tmp_path: Path, environment) -> None:
    git(repository, "worktree", "add", "-q", str(tmp_path / "second"), "-b", "other")
    root, gaps = worktree.find_root(tmp_path / "second", environment)
    found = look(context(root))
    assert (root, gaps, found.fact("code", "branch")) == (tmp_path / "second", (), "other")
    assert states(found) == {"logo.bin": "committed", "train.py": "committed"}


def test_a_subdirectory_belongs_to_the_whole_tree(repository: Path, environment) -> None:
    inner = repository / "deep" / "er"
    inner.mkdir(parents=True)
    assert worktree.find_root(inner, environment) == (repository, ())


def test_variables_that_redirect_git_are_dropped(repository: Path, environment, tmp_path: Path) -> None:
    hostile = {**environment, "GIT_DIR": "/no/where", "GIT_WORK_TREE": str(tmp_path), "GIT_INDEX_FILE": "/no/index"}
    assert worktree.find_root(repository, hostile) == (repository, ())


def test_sha256_repositories(tmp_path: Path, context, git) -> None:
    root = tmp_path / "modern"
    git(tmp_path, "init", "-q", "--object-format=sha256", "modern")
    (root / "a.py").write_text("a\n")
    (root / "b.py").write_text("b\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "x")
    (root / "b.py").write_text("c\n")
    ctx = context(root)
    found = look(ctx)
    assert states(found) == {"a.py": "committed", "b.py": "modified"}
    assert "-b\n+c" in diff_text(found, ctx)


def test_submodules_are_part_of_the_tree(repository: Path, context, git, tmp_path: Path) -> None:
    library = tmp_path / "library"
    git(tmp_path, "init", "-q", "library")
    (library / "lib.py").write_text("lib\n")
    (library / "dirty.py").write_text("one\n")
    git(library, "add", "-A")
    git(library, "commit", "-q", "-m", "lib")
    git(repository, "submodule", "add", "-q", str(library), "vendor/lib")
    git(repository, "commit", "-q", "-m", "submodule")
    (repository / "vendor" / "lib" / "dirty.py").write_text("two\n")
    (repository / "vendor" / "lib" / "extra.py").write_text("extra\n")
    ctx = context(repository)
    found = look(ctx)
    assert states(found) == {
        ".gitmodules": "committed",
        "logo.bin": "committed",
        "train.py": "committed",
        "vendor/lib/lib.py": "committed",
        "vendor/lib/dirty.py": "modified",
        "vendor/lib/extra.py": "untracked",
    }
    assert "-one\n+two" in diff_text(found, ctx)
    assert found.gaps == ()


def test_a_submodule_that_is_not_checked_out_is_a_gap(repository: Path, context, git, tmp_path: Path) -> None:
    library = tmp_path / "library"
    git(tmp_path, "init", "-q", "library")
    (library / "lib.py").write_text("lib\n")
    git(library, "add", "-A")
    git(library, "commit", "-q", "-m", "lib")
    git(repository, "submodule", "add", "-q", str(library), "lib")
    git(repository, "commit", "-q", "-m", "submodule")
    git(repository, "submodule", "deinit", "-q", "-f", "lib")
    found = code.before(context(repository))
    assert [(gap.subject, gap.reason) for gap in found.gaps] == [
        ("lib", "its files were not captured: the submodule is not checked out")
    ]


def test_a_repository_inside_the_repository_is_captured(repository: Path, context, git) -> None:
    git(repository, "init", "-q", "nested")
    (repository / "nested" / "n.py").write_text("n\n")
    assert states(code.before(context(repository)))["nested/n.py"] == "untracked"


def test_lfs_content_that_fits_its_pointer_is_committed(repository: Path, context, git) -> None:
    weights = os.urandom(5000)
    oid = hashlib.sha256(weights).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 5000\n"
    (repository / "weights.bin").write_text(pointer)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "pointer")
    (repository / "weights.bin").write_bytes(weights)
    assert states(code.before(context(repository)))["weights.bin"] == "committed"


HOSTILE = """
[core]
    fsmonitor = touch {canary}-fsmonitor
    hooksPath = {hooks}
    sshCommand = touch {canary}-ssh
    pager = touch {canary}-pager
[filter "evil"]
    clean = touch {canary}-clean; cat
    smudge = touch {canary}-smudge; cat
    process = touch {canary}-process
[diff "evil"]
    textconv = touch {canary}-textconv
[diff]
    external = touch {canary}-external
[protocol]
    allow = always
[protocol "ext"]
    allow = always
[remote "origin"]
    url = "ext::sh -c touch% {canary}-ext"
    promisor = true
    partialclonefilter = blob:none
[extensions]
    partialClone = origin
"""


def test_a_hostile_repository_runs_nothing(repository: Path, context, git, tmp_path: Path) -> None:
    (repository / ".gitattributes").write_text("*.py filter=evil diff=evil\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "attributes")
    canary, hooks = tmp_path / "canary", tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-index-change", "fsmonitor-watchman", "reference-transaction", "post-checkout"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {canary}-hook\n")
        (hooks / name).chmod(0o755)
    git(repository, "config", "core.repositoryformatversion", "1")
    with (repository / ".git" / "config").open("a") as out:
        out.write(HOSTILE.format(canary=canary, hooks=hooks))
    (repository / "train.py").write_text("print('changed')\n")
    blob = git(repository, "rev-parse", "HEAD:logo.bin").decode().strip()
    (repository / "logo.bin").write_bytes(b"other")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()  # git would fetch it
    found = look(context(repository))
    assert states(found)["train.py"] == "modified"
    assert sorted(path.name for path in tmp_path.glob("canary*")) == []
    # The bait is real: git by itself takes it.
    subprocess.run(["git", "-C", str(repository), "status"], capture_output=True, check=False, timeout=60)
    assert list(tmp_path.glob("canary*"))


def test_remotes_lose_their_credentials(repository: Path, context, git) -> None:
    git(repository, "remote", "add", "origin", "https://me:hunter2@example.org/x.git")
    found = look(context(repository))
    assert found.fact("code", "remote.origin") == "https://example.org/x.git"


def test_git_that_refuses_makes_a_plain_folder_with_a_gap(repository: Path, context, environment) -> None:
    (repository / ".git" / "config").write_text("[core\n")
    root, gaps = worktree.find_root(repository, environment)
    found = code.before(context(root))
    assert (root, len(gaps)) == (repository, 1)
    assert "taken as a plain folder" in gaps[0].reason
    assert states(found) == {"logo.bin": "plain", "train.py": "plain"}
    assert "taken as a plain folder" in found.gaps[0].reason


def test_a_machine_without_git(repository: Path, context, environment) -> None:
    bare = {**environment, "PATH": "/no/where"}
    root, gaps = worktree.find_root(repository, bare)
    found = code.before(context(root, environment=bare))
    assert "could not be started" in gaps[0].reason
    assert states(found) == {"logo.bin": "plain", "train.py": "plain"}


def test_a_plain_folder_without_environments_and_caches(tmp_path: Path, context) -> None:
    root = tmp_path / "plain"
    for folder in (".git-not", "__pycache__", "node_modules", ".mypy_cache", "my-venv", "src"):
        (root / folder).mkdir(parents=True)
        (root / folder / "a.py").write_text("a\n")
    (root / "my-venv" / "pyvenv.cfg").write_text("")
    (root / "link").symlink_to("src")
    found = look(context(root))
    assert states(found) == {".git-not/a.py": "plain", "link": "plain", "src/a.py": "plain"}
    assert (found.fact("code", "dirty"), found.gaps) == (None, ())


@pytest.mark.parametrize("is_git", [True, False])
def test_the_store_is_no_code(repository: Path, tmp_path: Path, context, is_git) -> None:
    root = repository if is_git else tmp_path / "plain"
    for folder in ("records/runs/1", "records-of-mine"):
        (root / folder).mkdir(parents=True)
        (root / folder / "a.py").write_text("a\n")
    found = look(context(root, home=root / "records"))
    assert {path for path, state in states(found).items() if state != "committed"} == {"records-of-mine/a.py"}


def test_what_is_no_file_is_a_gap(tmp_path: Path, context) -> None:
    root = tmp_path / "plain"
    root.mkdir()
    os.mkfifo(root / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "socket"))
        found = code.before(context(root))
    assert [(gap.subject, gap.reason) for gap in found.gaps] == [
        ("fifo", "it is not a regular file: not in the captured tree"),
        ("socket", "it is not a regular file: not in the captured tree"),
    ]


def test_an_unreadable_file_is_a_gap(context) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own folders are closed to anybody else
        root = Path(folder)
        root.chmod(0o777)
        (root / "closed").write_text("x")
        (root / "closed").chmod(0)
        assert "not readable" in _as_nobody(lambda: code.before(context(root)).gaps[0].reason)


def _as_nobody(look: Callable[[], str]) -> str:
    """Run a function in a child that is not root: root reads everything."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            os.write(theirs, look().encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with open(ours, encoding="utf-8") as pipe:
        return pipe.read()


def test_limits_are_gaps_and_never_silence(tmp_path: Path, context, monkeypatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_PLAIN_BYTES", 100)
    monkeypatch.setattr(snapshot, "MAX_TOTAL_BYTES", 150)
    monkeypatch.setattr(worktree, "MAX_PLAIN_FILES", 4)
    root = tmp_path / "plain"
    root.mkdir()
    for name, size in (("a", 101), ("b", 90), ("c", 90), ("d", 1), ("e", 1)):
        (root / name).write_bytes(b"x" * size)
    found = code.before(context(root))
    assert sorted(states(found)) == ["b", "d"]
    assert [gap.subject for gap in found.gaps] == ["a", "c", str(root)]


def test_many_gaps_are_counted(tmp_path: Path, context, monkeypatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_PLAIN_BYTES", 0)
    for number in range(120):
        (tmp_path / f"{number:03}").write_text("x")
    found = code.before(context(tmp_path, working_directory=tmp_path))
    assert (len(found.gaps), found.gaps[-1].subject) == (101, "20 more files")


def test_large_files_are_read_in_pieces(repository: Path, context, git, monkeypatch) -> None:
    monkeypatch.setattr(contents, "IN_MEMORY_BYTES", 4)
    ctx = context(repository)
    found = code.before(ctx)
    assert states(found) == {"logo.bin": "committed", "train.py": "committed"}
    assert ctx.objects.get(found.code_files[1].sha256) == b"print(1)\n"


def test_a_file_that_keeps_changing_is_a_gap(tmp_path: Path, context, monkeypatch) -> None:
    (tmp_path / "busy.py").write_text("x")
    ticks = iter(range(1000))
    monkeypatch.setattr(contents, "_moment", lambda about: next(ticks))
    found = code.before(context(tmp_path))
    assert [gap.reason for gap in found.gaps] == ["it changed while it was read: not in the captured tree"]


def test_a_replay_captures_the_paths_that_it_is_given(tmp_path: Path, context) -> None:
    (tmp_path / "a.py").write_text("a\n")
    (tmp_path / "output.txt").write_text("not code\n")
    found = look(context(tmp_path, code_paths=("a.py", "gone.py")))
    assert states(found) == {"a.py": "plain"}
    assert [gap.subject for gap in found.gaps] == ["gone.py"]


def test_a_diff_of_a_file_too_large_to_show(repository: Path, context, monkeypatch) -> None:
    from repro.record.tree import patch

    monkeypatch.setattr(patch, "MAX_FILE_BYTES", 10)
    (repository / "train.py").write_text("print('a longer program')\n")
    (repository / "logo.bin").unlink()
    (repository / "mode.py").write_text("x")
    ctx = context(repository)
    text = diff_text(look(ctx), ctx)
    assert "train.py differs: 26 bytes" in text
    assert "+x\n" in text


def test_a_diff_that_cannot_be_made_is_a_gap(repository: Path, context, environment) -> None:
    from dataclasses import replace

    from repro.record.tree import patch

    (repository / "train.py").write_text("print(2)\n")
    ctx = context(repository)
    ctx = replace(ctx, findings=code.before(ctx), environment={**environment, "PATH": "/no/where"})
    diff, gaps = patch.against_head(ctx, "HEAD")
    assert (diff, "could not be made" in gaps[0].reason) == (b"", True)


def test_a_changed_mode_is_said_in_the_diff(repository: Path, context) -> None:
    (repository / "train.py").chmod(0o755)
    ctx = context(repository)
    assert "train.py has the bytes of HEAD, but mode or kind differ: now file 755" in diff_text(look(ctx), ctx)
