"""The code tree comes back byte for byte from the store alone, whatever state it was in when the run started."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def listing(root: Path) -> dict[str, tuple[Any, ...]]:
    """Return every file and link of a folder, without git's own: kind, mode, content."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*files, *links]:
            path = Path(folder, name)
            if name == ".git":
                continue
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = ("link", os.readlink(path))
            else:
                found[key] = ("file", stat.S_IMODE(path.stat().st_mode), path.read_bytes())
    return found


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository(folder: Path, **files: str | bytes) -> Path:
    """Make a repository with one commit."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q")
    for name, content in {"train.py": "print(1)\n", **files}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "Start")
    return folder


@pytest.fixture
def back(repro, record, tmp_path: Path) -> Callable[..., Any]:
    """Record a command in a tree, delete the tree, restore it, and compare; return the answer of `repro restore`."""

    def run(root: Path, *argv: str, cwd: Path | None = None, gone: tuple[Path, ...] = (), **more: Any) -> Any:
        expected = {place: listing(place) for place in (root, *gone)}
        ran = record(argv or ("true",), cwd=cwd or root, **more)
        assert ran.exit_status == 0, ran.err
        for place in expected:
            shutil.rmtree(place)
        restored = repro("restore", "@last", tmp_path / "restored", "--json", cwd=tmp_path)
        assert restored.exit_status == 0, restored.err
        answer = restored.answer
        assert listing(Path(answer["tree"])) == expected.pop(root)
        for place, content in expected.items():
            assert listing(Path(answer["outside"]) / str(place).lstrip("/")) == content
        return answer

    return run


def test_e1_text_edit_changed_binary_and_untracked_module(back, tmp_path: Path) -> None:
    root = repository(tmp_path / "p", **{"logo.bin": bytes(range(256)), "moved.py": "moved\n" * 30})
    (root / "train.py").write_text("print(2)\n")
    (root / "logo.bin").write_bytes(bytes(range(255, -1, -1)))
    (root / "new_module.py").write_text("VALUE = 3\n")
    (root / "moved.py").rename(root / "renamed.py")  # without git add
    assert [] == back(root)["missing"]


def test_e2_submodules_with_edits_of_their_own(back, tmp_path: Path) -> None:
    deep = repository(tmp_path / "deep", **{"deep.py": "deep\n"})
    library = repository(tmp_path / "library", **{"lib.py": "one\n"})
    git(library, "submodule", "add", "-q", str(deep), "inner")
    git(library, "commit", "-qm", "Inner")
    root = repository(tmp_path / "p")
    git(root, "submodule", "add", "-q", str(library), "vendor/lib")
    git(root, "commit", "-qm", "Library")
    git(root, "submodule", "update", "-q", "--init", "--recursive")
    inner = root / "vendor" / "lib" / "inner"
    (root / "vendor" / "lib" / "lib.py").write_text("two\n")
    (root / "vendor" / "lib" / "extra.py").write_text("extra\n")
    (inner / "deep.py").write_text("deeper\n")
    git(inner, "commit", "-qam", "Not pushed")
    (inner / "deep.py").write_text("deepest\n")
    # One git directory named absolutely, as old versions of git did.
    (inner / ".git").write_text(f"gitdir: {git(inner, 'rev-parse', '--absolute-git-dir')}\n")
    assert [] == back(root)["missing"]


def test_e8_a_run_that_imports_an_untracked_module(back, tmp_path: Path) -> None:
    root = repository(tmp_path / "p", **{"train.py": "import helper\nprint(helper.VALUE)\n"})
    (root / "helper.py").write_text("VALUE = 42\n")
    assert [] == back(root, sys.executable, "-B", "train.py")["missing"]


def test_e14_one_file_edited_staged_and_edited_again(back, tmp_path: Path) -> None:
    root = repository(tmp_path / "p", **{"train.py": "a\nb\nc\n", "only.py": ""})
    (root / "train.py").write_text("A\nb\nc\n")
    git(root, "add", "train.py")
    (root / "train.py").write_text("A\nb\nC\n")
    git(root, "rm", "-q", "--cached", "only.py")  # untracked again, and still there
    git(root, "checkout", "-q", "--detach")
    assert [] == back(root)["missing"]


def test_links_modes_and_names(back, tmp_path: Path) -> None:
    root = repository(tmp_path / "p", **{"a/x.py": "x\n", "data/old.py": "old\n"})
    for name, mode in (("run.sh", 0o755), ("secret.py", 0o600), ("tool", 0o700)):
        (root / name).write_text(name)
        (root / name).chmod(mode)
    (root / "dangling").symlink_to("/no/where")
    (root / "folder").symlink_to("a")
    (root / "absolute").symlink_to(root / "train.py")
    (root / "a").chmod(0o2775)
    (root / "--output=x").write_text("an option?\n")
    (root / "new\nline ✓.py").write_text("odd\n")
    with open(os.fsencode(root) + b"/bad\xff.py", "wb") as file:
        file.write(b"bytes\r\n")
    (root / "data" / "old.py").unlink()
    (root / "data").rmdir()
    (root / "data").symlink_to("a")  # a tracked folder became a link
    (root / "a" / "old.py").write_text("behind the link\n")
    (root / "train.py").unlink()
    (root / "train.py").mkdir()  # a tracked file became a folder
    (root / "train.py" / "inside.py").write_text("inside\n")
    assert [] == back(root)["missing"]


def test_attributes_and_flags_do_not_change_a_byte(back, tmp_path: Path) -> None:
    attributes = "*.py ident text eol=crlf working-tree-encoding=UTF-16\n"
    root = repository(tmp_path / "p", **{"crlf.txt": "one\r\ntwo\n", "Case.py": "case\n", "hidden.py": "1\n"})
    git(root, "config", "core.autocrlf", "true")
    git(root, "config", "core.ignoreCase", "true")
    (root / ".gitattributes").write_text(attributes)
    (root / "ident.py").write_bytes(b"# $Id$\r\nx = 1\n")
    (root / "Case.py").rename(root / "case.py")
    git(root, "update-index", "--assume-unchanged", "hidden.py")
    (root / "hidden.py").write_text("2\n")
    git(root, "update-index", "--skip-worktree", "crlf.txt")
    (root / "crlf.txt").write_bytes(b"one\ntwo\r\n")
    assert [] == back(root)["missing"]


def test_a_subfolder_of_a_monorepo(back, tmp_path: Path) -> None:
    root = repository(tmp_path / "p", **{"jobs/a/train.py": "print(1)\n", "shared/x.py": "x\n"})
    (root / "shared" / "x.py").write_text("y\n")
    assert [] == back(root, cwd=root / "jobs" / "a")["missing"]


@pytest.mark.parametrize("kind", ["shallow", "partial", "sparse", "worktree"])
def test_clones_that_have_not_everything(back, tmp_path: Path, kind: str) -> None:
    origin = repository(tmp_path / "origin", **{"src/a.py": "1\n", "other/b.py": "b\n"})
    (origin / "src" / "a.py").write_text("2\n")
    git(origin, "commit", "-qam", "Second")
    git(origin, "config", "uploadpack.allowFilter", "true")
    root = tmp_path / "clone"
    if kind == "worktree":
        git(origin, "worktree", "add", "-q", str(root), "-b", "other")
    else:
        options = {"shallow": ["--depth=1"], "partial": ["--filter=blob:none"], "sparse": ["--sparse"]}[kind]
        git(tmp_path, "clone", "-q", *options, origin.as_uri(), str(root))
    if kind == "sparse":
        git(root, "sparse-checkout", "set", "src")
    shutil.rmtree(origin) if kind != "worktree" else None
    (root / "src" / "a.py").write_text("3\n")
    assert [] == back(root)["missing"]


def test_a_sparse_checkout_is_not_dirty(repro, record, tmp_path: Path) -> None:
    root = repository(tmp_path / "p", **{"src/a.py": "1\n", "other/b.py": "b\n"})
    git(root, "sparse-checkout", "set", "src")
    assert not (root / "other").exists()
    assert 0 == record(("true",), cwd=root).exit_status
    shown = repro("show", "@last", "--json", cwd=root).answer
    facts = {fact["name"]: fact["value"] for fact in shown["facts"] if fact["topic"] == "code"}
    assert ("false", None) == (facts["dirty"], facts.get("diff"))


def test_no_git_and_no_commit(back, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    (plain / "deep" / "er").mkdir(parents=True)
    (plain / "deep" / "er" / "a.py").write_text("a\n")
    (plain / "deep" / "link").symlink_to("../nowhere")
    assert [] == back(plain)["missing"]
    shutil.rmtree(tmp_path / "restored")
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    git(fresh, "init", "-q")
    (fresh / "a.py").write_text("a\n")
    git(fresh, "add", "a.py")
    (fresh / "b.py").write_text("b\n")
    assert [] == back(fresh)["missing"]


def test_a_repository_that_the_environment_names_is_not_asked(back, tmp_path: Path) -> None:
    other = repository(tmp_path / "other", **{"other.py": "other\n"})
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "a.py").write_text("a\n")
    answer = back(plain, variables={"GIT_DIR": f"{other}/.git", "GIT_WORK_TREE": str(other)})
    assert ["GIT_DIR names a repository elsewhere"] == [gap["reason"].partition(",")[0] for gap in answer["missing"]]


def test_a_repository_of_another_user_is_a_plain_folder_with_a_gap(back, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("root: only root can give a folder away")
    root = repository(tmp_path / "p")
    (root / "new.py").write_text("new\n")
    for folder, _, files in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            os.chown(path, 65534, 65534)
    assert any("dubious ownership" in gap["reason"] for gap in back(root)["missing"])


def test_lfs_content_is_kept_and_an_unfetched_pointer_is_named(back, tmp_path: Path) -> None:
    weights = os.urandom(5000)
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 5000\n"
    fetched, missing = (pointer.format(hashlib.sha256(data).hexdigest()) for data in (weights, b"elsewhere"))
    root = repository(tmp_path / "p", **{"fetched.bin": fetched, "missing.bin": missing})
    (root / "fetched.bin").write_bytes(weights)
    (gap,) = back(root)["missing"]
    assert ("missing.bin", True) == (gap["subject"], "Git LFS did not fetch its content" in gap["reason"])


def test_ignored_files_that_the_run_used_come_back_and_others_do_not(repro, record, tmp_path: Path) -> None:
    script = (
        "import subprocess, generated\n"
        "subprocess.run(['sh', 'ignored/run.sh'], check=True)\n"
        "subprocess.run(['./ignored/tool'], check=True)\n"
        "open('ignored/made.py', 'w').write('MADE = 1')\n"
        "from ignored import made\n"
    )
    root = repository(tmp_path / "p", **{"train.py": script, ".gitignore": "/generated.py\n/ignored/\n"})
    (root / "generated.py").write_text("VALUE = 1\n")
    (root / "ignored").mkdir()
    (root / "ignored" / "run.sh").write_text("exit 0\n")
    (root / "ignored" / "tool").write_text("#!/bin/sh\nexit 0\n")
    (root / "ignored" / "tool").chmod(0o755)
    (root / "ignored" / "unused.py").write_text("unused\n")
    ran = record((sys.executable, "-B", "train.py"), cwd=root)
    assert ran.exit_status == 0, ran.err
    shown = repro("show", "@last", "--json", cwd=root).answer
    states = {file["path"]: file["state"] for file in shown["code_files"]}
    ignored = {path for path, state in states.items() if state == "ignored"}
    assert {"generated.py", "ignored/run.sh", "ignored/tool"} == ignored
    expected = listing(root)
    shutil.rmtree(root)
    restored = repro("restore", "@last", tmp_path / "restored", "--json", cwd=tmp_path)
    assert restored.exit_status == 0, restored.err
    del expected["ignored/unused.py"], expected["ignored/made.py"]
    assert expected == listing(tmp_path / "restored" / "tree")


def test_a_directory_that_is_not_empty_is_refused(repro, record, tmp_path: Path) -> None:
    root = repository(tmp_path / "p")
    assert 0 == record(("true",), cwd=root).exit_status
    for name in ("full/file", "plainfile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        refused = repro("restore", "@last", tmp_path / name.partition("/")[0], cwd=root)
        assert (2, True) == (refused.exit_status, "hint:" in refused.err)
        assert "mine" == (tmp_path / name).read_text()
    (tmp_path / "empty").mkdir()
    restored = repro("restore", "@last", "empty", cwd=tmp_path)
    assert (0, True) == (restored.exit_status, f"1 files in {tmp_path}/empty/tree" in restored.out)


def test_an_altered_record_is_not_restored(repro, record, tmp_path: Path, repro_home: Path) -> None:
    root = repository(tmp_path / "p")
    assert 0 == record(("true",), cwd=root).exit_status
    digest = hashlib.sha256(b"print(1)\n").hexdigest()
    stored = repro_home / "objects" / digest[:2] / digest[2:]
    stored.chmod(0o644)
    stored.write_bytes(b"print(2)\n")
    assert 3 == repro("restore", "@last", tmp_path / "out", cwd=root).exit_status
    assert not (tmp_path / "out").exists()


def _environment(folder: Path, *lines: str) -> Path:
    """Make a virtual environment whose site-packages holds one `.pth` file with these lines; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "__editable__.mine.pth").write_text("".join(f"{line}\n" for line in lines))
    return folder / "bin" / "python"


@pytest.mark.parametrize("form", ["pth", "finder", "develop"])
def test_editable_installs_outside_the_root_come_back_with_their_edits(back, repro, tmp_path: Path, form: str) -> None:
    library = repository(tmp_path / "lib" / "mine", **{"src/mine/__init__.py": "VALUE = 1\n", "pyproject.toml": "#\n"})
    (library / "src" / "mine" / "__init__.py").write_text("VALUE = 2\n")
    (library / "src" / "mine" / "new.py").write_text("NEW = 1\n")
    source = library / "src"
    python = _environment(tmp_path / "env", "import __editable___mine_finder" if form == "finder" else str(source))
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    if form == "finder":
        (site / "__editable___mine_finder.py").write_text(
            f"import sys\nMAPPING: dict[str, str] = {{'mine': {str(source / 'mine')!r}}}\n"
            f"sys.path.append({str(source)!r})\n"
        )
    if form == "develop":
        (site / "mine.egg-link").write_text(f"{source}\n.")
    else:
        info = site / "mine-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        url = {"url": library.as_uri(), "dir_info": {"editable": True}}
        (info / "direct_url.json").write_text(json.dumps(url))
    root = repository(tmp_path / "p", **{"train.py": "import mine\nprint(mine.VALUE, mine.__file__)\n"})
    kept = source if form == "develop" else library
    answer = back(root, str(python), "-B", "train.py", gone=(kept,))
    assert [] == answer["missing"]
    shown = repro("show", "@last", "--json", cwd=tmp_path).answer
    assert {"editable"} == {f["state"] for f in shown["code_files"] if f["path"].startswith("/")}


def test_a_replay_imports_the_recorded_sources_and_not_those_of_today(repro, record, tmp_path: Path) -> None:
    library = tmp_path / "lib"
    library.mkdir()
    (library / "mine.py").write_text("VALUE = 1\n")
    python = _environment(tmp_path / "env", str(library))
    root = repository(tmp_path / "p", **{"train.py": "import mine\nopen('out.txt', 'w').write(str(mine.VALUE))\n"})
    ran = record((python, "train.py"), cwd=root)
    assert ran.exit_status == 0, ran.err
    (library / "mine.py").write_text("VALUE = 2\n")
    replayed = repro("replay", "@last", "--executor", "host", "--json", "--keep", cwd=root)
    assert replayed.exit_status == 0, replayed.err
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"]


def test_a_replay_has_the_ignored_code_that_the_run_used(repro, record, tmp_path: Path) -> None:
    script = "import generated\nopen('out.txt', 'w').write(str(generated.VALUE))\n"
    root = repository(tmp_path / "p", **{"train.py": script, ".gitignore": "/generated.py\n/out.txt\n"})
    (root / "generated.py").write_text("VALUE = 1\n")
    ran = record((sys.executable, "train.py"), cwd=root)
    assert ran.exit_status == 0, ran.err
    shutil.rmtree(root)
    replayed = repro("replay", "@last", "--executor", "host", "--json", cwd=tmp_path)
    assert replayed.exit_status == 0, replayed.err
    assert "MATCHED-EXACTLY" == replayed.answer["verdict"]["word"]
    differences = repro("diff", "@prev", "@last", "--json", cwd=tmp_path).answer["differences"]
    assert [] == [found for found in differences if found["section"] in ("code", "metrics", "outputs")]


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="git-lfs: not installed")
def test_a_real_lfs_repository_is_clean_and_comes_back(back, repro, tmp_path: Path) -> None:
    root = repository(tmp_path / "p", **{".gitattributes": "*.bin filter=lfs diff=lfs merge=lfs -text\n"})
    git(root, "lfs", "install", "--local")
    (root / "weights.bin").write_bytes(os.urandom(20_000))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "Weights")
    assert git(root, "show", "HEAD:weights.bin").startswith("version https://git-lfs")
    assert [] == back(root)["missing"]
    shown = repro("show", "@last", "--json", cwd=tmp_path).answer
    assert ["false"] == [fact["value"] for fact in shown["facts"] if (fact["topic"], fact["name"]) == ("code", "dirty")]
