"""The code tree as it stood before the command started: every byte, its state against HEAD, and a readable diff.

Beside the command the source trees of editable installs are added, which only its interpreter knows; after it, what it
used although git ignores it.
"""

from __future__ import annotations

import configparser
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from repro.evidence import canonical
from repro.evidence.canonical import encode_path, storable
from repro.evidence.model import CodeFile, Fact, Gap
from repro.record.capture import Context, Findings, observed
from repro.record.redact import url
from repro.record.statcache import StatCache
from repro.record.tree import askgit, patch, snapshot, worktree
from repro.record.tree.worktree import Tree

_MANY_FILES: Final = 5000


def before(context: Context) -> Findings:
    """Store the tree. HEAD is read now: what is committed during the run is not what the run started from."""
    tree = _tree(context)
    if len(tree.paths) > _MANY_FILES:
        context.progress(f"reading {len(tree.paths)} code files")
    replayed = context.code_paths is not None
    cache = None if replayed else StatCache(context.cache / "stat", roots=(os.fsencode(context.root),))
    taken = snapshot.take(context.objects, context.root, tree, cache=cache, must_be_there=replayed)
    gaps = taken.gaps + tree.gaps
    facts: list[Fact] = []
    if tree.is_git:
        there = {file.path for file in taken.files}
        deleted = any(encode_path(path) not in there for path in tree.head if path not in tree.sparse)
        unknown = not taken.complete or bool(tree.gaps)
        dirty = deleted or unknown or any(file.state != "committed" for file in taken.files)
        facts.append(observed("code", "dirty", str(dirty).lower()))
    if tree.commit:
        facts.append(observed("code", "commit", tree.commit))
    return Findings(facts=tuple(facts), gaps=gaps, code_files=taken.files)


def beside(context: Context) -> Findings:
    """Name branch and remotes, write the readable diff, and store the source trees of editable installs."""
    replayed = context.code_paths is not None
    secured = Findings() if replayed else _secured(context)
    lost = frozenset(secured.withdrawn)
    files = (file for file in context.findings.code_files if file.path[:1] != "/" and file.path not in lost)
    found = secured + Findings(facts=(observed("code", "tree", canonical.tree_digest(files)),))
    if replayed:
        return found
    found += _editable(context)
    commit = context.findings.fact("code", "commit")
    if context.findings.fact("code", "dirty") is None:
        return found
    diff, gaps = patch.against_head(context, commit)
    facts = [observed("code", "diff", context.objects.put(diff))] if diff else []
    named, more = _named(context.root, commit, context)
    return found + Findings(facts=(*facts, *named), gaps=gaps + more)


def after(context: Context) -> Findings:
    """Store the code that the run used although it is not in the captured tree."""
    from repro.record.tree import usedcode

    return usedcode.find(context)


def _tree(context: Context) -> Tree:
    if context.code_paths is not None:
        return Tree(paths=tuple(canonical.decode_path(path) for path in context.code_paths))
    if not worktree.is_work_tree(context.root):
        return worktree.list_plain(context.root, store=context.home)
    return worktree.without_store(_listed(context.root, context), context.root, context.home)


def _listed(root: Path, context: Context) -> Tree:
    try:
        return worktree.list_git(root, context.environment)
    except askgit.GitError as error:
        plain = worktree.list_plain(root, store=context.home)
        reason = storable(f"git could not be asked, so this was taken as a plain folder: {error}")
        return replace(plain, gaps=(*plain.gaps, Gap(topic="code", subject=encode_path(root), reason=reason)))


def _editable(context: Context) -> Findings:
    """Store what editable installs point to outside the root; what lies inside it was stored before."""
    if context.interpreter is None:
        return Findings()
    from repro.record.tree import sources

    found = sources.find(context.interpreter, context.working_directory)
    if not found.paths:
        return Findings()
    listed = json.dumps([encode_path(path) for path in found.paths], ensure_ascii=False)
    findings = Findings(facts=(observed("code", "source_paths", listed),), gaps=found.gaps)
    for directory in (tree for tree in found.trees if not tree.is_relative_to(context.root)):
        findings += _source_tree(directory, context)
    return findings


def _secured(context: Context) -> Findings:
    """Store the committed files of a large tree, from the disk, or from git where the run was faster."""
    commit = context.findings.fact("code", "commit")

    def blobs(paths: frozenset[str]) -> dict[str, bytes]:
        try:
            head = worktree.list_head(context.root, context.environment, commit or "HEAD")
            names = {name: blob for path, blob in head.items() if (name := encode_path(path)) in paths}
            found = patch.old_bytes(context, list(names.values()))
        except askgit.GitError:  # the run may have removed the repository, too
            return {}
        return {name: found[blob.object_id] for name, blob in names.items() if blob.object_id in found}

    gaps = snapshot.secure(context.objects, context.root, context.findings.code_files, blobs)
    return Findings(gaps=gaps, withdrawn=tuple(gap.subject for gap in gaps))


def _source_tree(directory: Path, context: Context) -> Findings:
    """Store one source tree: it is read beside the command, so what was modified since the start is said."""
    in_git, _ = worktree.find_root(directory, context.environment)
    tree = _listed(directory, context) if worktree.is_work_tree(in_git) else Tree(paths=())
    if not tree.paths:  # no repository, or one that ignores this folder
        tree = worktree.list_plain(directory, store=context.home)
    if directory in context.root.parents:
        prefix = os.fsencode(context.root.relative_to(directory)) + b"/"
        tree = replace(tree, paths=tuple(path for path in tree.paths if not path.startswith(prefix)))
    taken = snapshot.take(context.objects, directory, tree, state="editable")
    gaps = [replace(gap, subject=_absolute(directory, gap.subject)) for gap in tree.gaps] + list(taken.gaps)
    if taken.modified_at_ns >= context.started_at_ns:
        reason = (
            "a file in this source tree of an editable install was modified after the run started: "
            "what was captured may be newer than what was imported"
        )
        gaps.append(Gap(topic="code", subject=encode_path(directory), reason=reason))
    facts = [observed("code", f"source.{encode_path(directory)}", tree.commit)] if tree.commit else []
    return Findings(facts=tuple(facts), gaps=tuple(gaps), code_files=_unique(taken.files, context))


def _absolute(directory: Path, subject: str) -> str:
    return subject if subject.startswith("/") else f"{encode_path(directory)}/{subject}"


def _unique(files: tuple[CodeFile, ...], context: Context) -> tuple[CodeFile, ...]:
    known = {file.path for file in context.findings.code_files}
    return tuple(file for file in files if file.path not in known)


def _named(root: Path, commit: str | None, context: Context) -> tuple[tuple[Fact, ...], tuple[Gap, ...]]:
    """Ask GitPython for what has a name: branch, remotes, the nearest tag."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    import git
    from git.exc import GitError

    facts: list[Fact] = []
    try:
        with git.Repo(root) as repository:
            if not repository.head.is_detached:
                facts.append(observed("code", "branch", storable(repository.active_branch.name)))
            for remote in repository.remotes:
                address = remote.config_reader.get_value("url", "")
                facts.append(observed("code", f"remote.{storable(remote.name)}", url(storable(str(address)))))
        if commit:
            # By ourselves: GitPython would go to where `core.worktree` or the environment says.
            described = askgit.git(root, context.environment, "describe", "--tags", "--always", commit)
            facts.append(observed("code", "describe", storable(described.decode("utf-8", "replace").strip())))
    except (askgit.GitError, GitError, configparser.Error, ValueError, OSError, KeyError) as error:
        reason = storable(f"branch, remotes or tag could not be read: {type(error).__name__}")
        return tuple(facts), (Gap(topic="code", subject=encode_path(root), reason=reason),)
    return tuple(facts), ()
