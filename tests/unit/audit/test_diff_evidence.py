"""What differs below the code: datasets, edits, libraries, programs, system packages, hidden variables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit.diff import diff


def with_rows(record, **rows):
    return replace(record, **rows)


def images(make, changed=(), left_out=(), count=10):
    """Rows of a dataset of so many files."""
    return tuple(
        make.read(f"images/{i}.png", f"other {i}" if i in changed else f"{i}", dataset="images")
        for i in range(count)
        if i not in left_out
    )


def with_images(make, content, **changes):
    record = make.original()
    rows = images(make, **changes)
    return replace(
        record,
        data_files=(*record.data_files, *rows),
        datasets=(make.dataset("images", len(rows), content),),
    )


def only(found):
    assert len(found.differences) == 1, found.differences
    return found.differences[0]


def test_a_changed_dataset_is_one_line_that_names_the_first_file(make):
    found = only(diff(with_images(make, "a"), with_images(make, "b", changed=(3, 4, 7))))
    assert (found.section, found.name, found.left, found.right) == (
        "data",
        "images",
        make.digest("a"),
        make.digest("b"),
    )
    assert found.note == "3 of 10 files: 3 content changed (first images/3.png)"


def test_files_that_came_and_went_are_counted_beside_those_that_changed(make):
    found = only(diff(with_images(make, "a"), with_images(make, "b", changed=(1,), left_out=(5, 6))))
    assert "1 content changed (first images/1.png)" in found.note
    assert "2 only read on the left (first images/5.png)" in found.note


def test_a_dataset_before_single_files(make):
    left, right = with_images(make, "a"), with_images(make, "b", changed=(3,))
    rows = tuple(replace(r, digest=make.digest("x")) if r.path == "data/train.npz" else r for r in right.data_files)
    names = [d.name for d in diff(left, replace(right, data_files=rows)).differences]
    assert names == ["images", "data/train.npz"]


def test_a_dataset_whose_pointer_moved_although_the_files_are_the_same(make):
    left, right = with_images(make, "a"), with_images(make, "a")
    rows = (replace(right.datasets[0], reference="org/images@2"),)
    before = replace(left, datasets=(replace(rows[0], reference="org/images@1"),))
    found = only(diff(before, replace(right, datasets=rows)))
    assert found.note == "reference org/images@1 became org/images@2"


def test_files_beyond_those_that_the_records_list(make):
    found = only(diff(with_images(make, "a"), with_images(make, "b")))
    assert "the digests of the whole differ" in found.note


def test_what_only_the_kernel_saw_is_no_difference_where_it_watched_one_run_alone(make):
    right = make.original()
    left = replace(right, data_files=(*right.data_files, make.read("native.arrow", "x", seen_by="kernel")))
    assert only(diff(left, right)).note == "only read on the left"
    layers = {"lineage_layers": "agent"}
    blind = tuple(replace(f, value=layers.get(f.name, f.value)) for f in right.facts)
    found = diff(left, replace(right, facts=blind))
    assert found.differences == ()
    assert [s for s in found.not_compared if "native.arrow" in s]


def test_a_replay_declares_nothing(make):
    left = make.original()
    left = replace(
        left,
        data_files=(*left.data_files, make.read("extra.csv", "x", seen_by="declared", dataset="extra.csv")),
        datasets=(make.dataset("extra.csv", 1, "x", kind="declared"),),
    )
    assert diff(left, make.replay()).differences == ()


def test_digests_of_two_algorithms_cannot_be_compared(make):
    left = make.original()
    rows = tuple(replace(r, digest="blake3:" + "0" * 64) if r.path == "data/train.npz" else r for r in left.data_files)
    assert "different algorithms" in only(diff(left, replace(left, data_files=rows))).note


def test_a_dataset_outside_the_root_is_the_same_where_a_replay_has_it(make):
    def holding(record, folder):
        rows = (make.read(f"{folder}/1", "1", dataset=folder), make.read(f"{folder}/2", "2", dataset=folder))
        return replace(record, data_files=rows, datasets=(make.dataset(folder, 2, "x"),))

    left = holding(make.original(), "/home/ada/.venv/share/set")
    right = holding(make.replay(left), "/var/repro/cache/venvs/1a2b/share/set")
    assert diff(left, right).differences == ()


def test_an_edited_distribution_is_one_line(make):
    left = make.original()
    right = replace(left, package_changes=(make.edit("numpy", "/v/a.py"), make.edit("numpy", "/v/b.py", None)))
    found = only(diff(left, right))
    assert (found.section, found.name, found.left, found.right) == ("environment", "numpy", None, "2 edited files")
    assert "/v/a.py, /v/b.py" in found.note
    assert diff(right, right).same


def test_another_build_of_a_library_is_named_by_its_build_ids(make):
    def mapped(*rows):
        return replace(make.original(), shared_objects=rows)

    left = mapped(make.library("/lib/libcudnn.so.9", "aa"), make.library("/lib/libc.so.6", "cc"))
    right = mapped(make.library("/opt/libcudnn.so.9", "bb"), make.library("/lib/libc.so.6", "cc"))
    found = only(diff(left, right))
    assert (found.section, found.name) == ("environment", "libcudnn")
    assert (found.left, found.right) == ("libcudnn.so.9 build aa", "libcudnn.so.9 build bb")


def test_the_name_that_a_wheel_builder_gave_is_no_other_library(make):
    left = replace(make.original(), shared_objects=(make.library("/a/libopenblas64_p-r0-2f7c42d4.3.18.so", "aa"),))
    right = replace(make.original(), shared_objects=(make.library("/a/libopenblas64_p-r0-0cf96a72.3.23.so", "bb"),))
    assert only(diff(left, right)).name == "libopenblas64_p-r0"


def test_libraries_of_one_side_are_one_line_and_of_a_replay_a_remark(make):
    left = replace(
        make.original(), shared_objects=(make.library("/lib/libc.so.6", "cc"), make.library("/lib/libm.so.6", "mm"))
    )
    right = replace(left, shared_objects=left.shared_objects[:1])
    found = only(diff(left, right))
    assert (found.name, found.left, found.note) == ("libraries on the left alone", "1 mapped", "libm")
    replayed = diff(left, replace(make.replay(), shared_objects=left.shared_objects[:1]))
    assert replayed.differences == ()
    assert [s for s in replayed.not_compared if "libm" in s]


def test_system_packages_by_version_and_at_most_forty_of_them(make):
    def installed(version, count=1):
        rows = tuple(make.system_package(f"p{i:03}", version) for i in range(count))
        return replace(make.original(), system_packages=rows)

    found = only(diff(installed("1"), installed("2")))
    assert (found.section, found.name, found.left, found.right) == ("environment", "dpkg p000:amd64", "1", "2")
    many = diff(installed("1", 300), installed("2", 300)).differences
    assert len(many) == 41
    assert "260 more" in many[-1].note


def test_system_packages_of_one_side_alone_are_not_compared(make):
    left = replace(make.original(), system_packages=(make.system_package("libc6", "2.36"),))
    found = diff(left, make.original())
    assert found.same
    assert [s for s in found.not_compared if "operating system" in s]


def test_a_program_with_other_bytes_is_named(make):
    left = replace(make.original(), programs=(make.program("/usr/bin/sox", "old"),))
    right = replace(make.original(), programs=(make.program("/usr/bin/sox", "new", pid=1),))
    found = only(diff(left, right))
    assert (found.section, found.name) == ("processes", "/usr/bin/sox")
    assert diff(left, replace(left, programs=(replace(left.programs[0], pid=9, started_at="later"),))).same


def test_the_program_of_a_rebuilt_environment_is_the_recorded_one(make):
    left = replace(make.original(), programs=(make.program("/home/ada/.venv/bin/python"),))
    right = replace(make.replay(left), programs=(make.program("/var/repro/cache/venvs/1a2b/bin/python"),))
    assert diff(left, right).differences == ()


def test_hidden_variables_are_compared_by_name_since_every_run_has_its_own_salt(make):
    def hiding(**values):
        record = make.original()
        salt = make.facts("environment", commitment_salt=next(iter(values.values())))
        return replace(record, facts=(*record.facts, *make.facts("commitment", **values), *salt))

    left = hiding(WANDB_MODE="hmac-sha256:aa")
    assert diff(left, hiding(WANDB_MODE="hmac-sha256:bb")).same
    found = only(diff(left, hiding(OTHER="hmac-sha256:aa", WANDB_MODE="hmac-sha256:cc")))
    assert (found.section, found.name, found.left, found.right) == (
        "variables",
        "OTHER",
        None,
        "set, value not stored",
    )


@pytest.mark.parametrize(
    ("topic", "name", "differs"),
    [
        ("environment", "umask", True),
        ("environment", "timezone", True),
        ("environment", "locale", True),
        ("environment", "limit.nofile", True),
        ("environment", "pylock", False),
        ("environment", "wheel.torch", False),
        ("environment", "wheels_repacked", False),
        ("environment", "commitment_salt", False),
        ("hardware", "energy_joules", False),
        ("hardware", "energy_source", False),
        ("hardware", "gpu.0.name", True),
    ],
)
def test_facts_that_tell_and_facts_that_every_run_has_otherwise(make, topic, name, differs):
    def stated(value):
        record = make.original()
        return replace(record, facts=(*record.facts, *make.facts(topic, **{name: value})))

    assert diff(stated("1"), stated("2")).same is not differs


def test_what_there_was_no_time_for_is_no_difference(make):
    left = make.original()
    late = (make.gap("lock", "torch"), make.gap("environment", "installed files"), make.gap("environment", "libraries"))
    assert diff(left, replace(left, gaps=late)).same
    assert only(diff(left, replace(left, gaps=(make.gap("data", "x.csv"),)))).section == "gaps"


@pytest.mark.parametrize(("program", "same"), [("env/bin/python", True), ("env/bin/python3", False), ("python", False)])
def test_a_program_by_its_relative_path_is_the_same_by_its_whole_path(make, program, same):
    left, right = make.original(), make.replay()
    left = replace(left, run=replace(left.run, argv=(program, "train.py")))
    right = replace(right, run=replace(right.run, argv=(f"{make.scratch}/env/bin/python", "train.py")))
    assert (diff(left, right).section("arguments") == ()) is same
