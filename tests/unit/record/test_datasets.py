from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from repro.evidence.canonical import encode_path
from repro.evidence.model import DataFile
from repro.record.files import datasets, listing


def row(
    path: Path | str, root: Path, digest: str = "sha256:aa", role: str = "input", category: str = "data"
) -> DataFile:
    text = encode_path(path)
    return DataFile(
        path=text.removeprefix(f"{root}/"), role=role, category=category, dataset=None, size_bytes=2, digest=digest,
        modified_at=None, process_key="main", library="python", seen_by="both", changed_during_run=False,
    )  # fmt: skip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def grouped(context, root: Path):
    def group(*paths: str | Path, **changes):
        return datasets.group([row(root / path, root) for path in paths], datasets.Places(context(root, **changes)))

    return group


def told(found: datasets.Grouped) -> dict[str, tuple[str, int]]:
    return {each.name: (each.kind, each.file_count) for each in found.datasets}


def test_files_below_one_folder_of_the_root_are_one_data_set(grouped) -> None:
    found = grouped("data/train/a/1.png", "data/train/b/2.png", "data/test/3.png", "points.json", "more/x.csv")
    assert told(found) == {"data": ("folder", 3), "points.json": ("file", 1), "more/x.csv": ("file", 1)}
    assert list(found.names.values()) == ["data", "data", "data", "points.json", "more/x.csv"]
    assert next(each.size_bytes for each in found.datasets if each.name == "data") == 6


def test_elsewhere_it_is_the_deepest_folder_that_holds_them_all(grouped) -> None:
    found = grouped(
        "/data/imagenet/train/1.jpg", "/data/imagenet/train/2.jpg", "/tmp/x.bin", "/tmp/deep/a", "/tmp/deep/b"
    )
    assert told(found) == {
        "/data/imagenet/train": ("folder", 2), "/tmp/x.bin": ("file", 1), "/tmp/deep": ("folder", 2),
    }  # fmt: skip


def test_many_files_of_one_suffix_in_no_folder_of_their_own_are_one_data_set(grouped) -> None:
    found = grouped(*(f"{i:03}.png" for i in range(12)), "points.json", *(f"/tmp/{i}" for i in range(9)))
    assert told(found) == {"*.png": ("folder", 12), "points.json": ("file", 1), "/tmp/*": ("folder", 9)}
    assert {name for path, name in found.names.items() if path.endswith(".png")} == {"*.png"}


def test_the_home_itself_is_no_data_set(grouped, environment) -> None:
    home = environment["HOME"]
    found = grouped(f"{home}/a.csv", f"{home}/b.csv", f"{home}/sets/cifar/1", f"{home}/sets/cifar/2")
    assert told(found) == {
        f"{home}/a.csv": ("file", 1), f"{home}/b.csv": ("file", 1), f"{home}/sets/cifar": ("folder", 2),
    }  # fmt: skip


def test_the_digest_is_over_the_sorted_list_of_paths_and_digests(root: Path, context) -> None:
    rows = [row(root / "data/b", root, "sha256:bb"), row(root / "data/a", root, "sha256:aa")]
    (found,) = datasets.group(rows, datasets.Places(context(root))).datasets
    listed = json.dumps([["a", "sha256:aa"], ["b", "sha256:bb"]], separators=(",", ":")).encode()
    assert found.digest == f"sha256:{hashlib.sha256(listed).hexdigest()}"


def test_outputs_code_and_the_environment_belong_to_none(root: Path, context) -> None:
    rows = [row(root / "data/a", root, role="output"), row(root / "data/b.py", root, category="code")]
    found = datasets.group(rows, datasets.Places(context(root)))
    assert (found.datasets, found.names) == ((), {})


def test_what_is_declared_is_one_data_set_whatever_else_it_is(grouped) -> None:
    found = grouped("data/train/1", "data/train/2", "data/test/1", "one.csv", declared=("data/train", "one.csv"))
    assert told(found) == {"data/train": ("declared", 2), "data/test/1": ("file", 1), "one.csv": ("declared", 1)}


def test_hugging_face_caches_are_named_by_repository_and_commit(grouped, environment) -> None:
    hub = f"{environment['HOME']}/.cache/huggingface/hub"
    found = grouped(
        f"{hub}/models--org--bert/snapshots/abc123/config.json",
        f"{hub}/models--org--bert/snapshots/abc123/onnx/model.bin",
        f"{environment['HOME']}/.cache/huggingface/datasets/org___glue/sst2/0.0.0/fd8e/glue-train.arrow",
    )
    assert {each.name: (each.kind, each.file_count, each.reference) for each in found.datasets} == {
        "hf:org/bert": ("huggingface", 2, "org/bert@abc123"), "hf:org/glue": ("huggingface", 1, "org/glue@fd8e"),
    }  # fmt: skip


def test_a_blob_is_named_by_the_only_commit(tmp_path: Path, grouped) -> None:
    folder = tmp_path / "hub" / "datasets--org--set"
    (folder / "snapshots" / "c0ffee").mkdir(parents=True)
    (found,) = grouped(folder / "blobs" / "0123").datasets
    assert (found.name, found.reference) == ("hf:org/set", "org/set@c0ffee")


def test_two_commits_of_one_repository_are_two_data_sets(grouped, environment) -> None:
    hub = f"{environment['HOME']}/hub/models--org--bert/snapshots"
    assert sorted(told(grouped(f"{hub}/one/x", f"{hub}/two/x"))) == ["hf:org/bert@one", "hf:org/bert@two"]


def test_dvc_pointers_are_references_and_small_files_are_checked(root: Path, grouped) -> None:
    (root / "set").mkdir()
    (root / "set.dvc").write_text(
        "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  nfiles: 2\n  hash: md5\n  path: set\n"
    )
    for name, content in (("right", b"right"), ("wrong", b"wrong")):
        (root / f"{name}.csv").write_bytes(content)
        (root / f"{name}.csv.dvc").write_text(f"outs:\n- md5: {hashlib.md5(b'right').hexdigest()}\n  hash: md5\n")
    found = grouped("set/1", "set/deep/2", "right.csv", "wrong.csv")
    assert {each.name: (each.kind, each.file_count) for each in found.datasets} == {
        "set": ("dvc", 2), "right.csv": ("dvc", 1), "wrong.csv": ("dvc", 1),
    }  # fmt: skip
    assert found.datasets[1].reference == "md5:0123456789abcdef0123456789abcdef.dir"
    assert [gap.subject for gap in found.gaps] == ["wrong.csv"]


def test_declared_folders_are_walked_links_followed_each_once(tmp_path: Path) -> None:
    (tmp_path / "set" / "deep").mkdir(parents=True)
    (tmp_path / "set" / "a").write_text("a")
    (tmp_path / "set" / "deep" / "b").write_text("b")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "broken").symlink_to("nowhere")
    os.mkfifo(tmp_path / "set" / "fifo")
    (tmp_path / "one").write_text("1")
    found = [os.fsdecode(path) for path, _ in listing.declared(("set", "one"), tmp_path)]
    assert found == [f"{tmp_path}/set/a", f"{tmp_path}/set/deep/b", f"{tmp_path}/one"]
