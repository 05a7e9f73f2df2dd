"""What differs between two runs, section by section."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from repro.audit.diff import SECTIONS, diff
from repro.evidence.model import CodeFile, Entropy, Process, Seed


def only(found, section):
    """Return the one difference that there is, and make sure that it is in this section."""
    assert [section] == [d.section for d in found.differences]
    return found.differences[0]


def changed(record, field, position, **changes):
    rows = list(getattr(record, field))
    rows[position] = replace(rows[position], **changes)
    return replace(record, **{field: tuple(rows)})


def with_fact(record, topic, name, value):
    return replace(
        record, facts=tuple(replace(f, value=value) if (f.topic, f.name) == (topic, name) else f for f in record.facts)
    )


def test_a_run_does_not_differ_from_itself(make):
    found = diff(make.original(), make.original())
    assert (found.same, found.differences, found.not_compared) == (True, (), ())


def test_a_faithful_replay_does_not_differ_from_its_original(make):
    found = diff(make.original(), make.replay())
    assert found.differences == ()
    assert found.same
    assert [s for s in found.not_compared if "RECORD" in s]


def test_two_replays_of_one_run_do_not_differ(make):
    other = make.replay()
    other = replace(other, run=replace(other.run, run_id="ffffffffffff"))
    assert diff(make.replay(), other).same


def test_a_changed_option_is_named_with_both_values(make):
    record = make.original()
    argv = tuple("0.1" if item == "0.05" else item for item in record.run.argv)
    found = only(diff(record, replace(record, run=replace(record.run, argv=argv))), "arguments")
    assert (found.name, found.left, found.right) == ("--lr", "0.05", "0.1")


def test_another_working_directory_is_an_argument(make):
    record = make.original()
    found = only(diff(record, replace(record, run=replace(record.run, working_directory="sub"))), "arguments")
    assert found.name == "working directory"


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"sha256": "sha256:" + "0" * 64}, "content changed"),
        ({"mode": 0o755}, "mode 0644 became 0755"),
        ({"kind": "symlink"}, "file became symlink"),
    ],
)
def test_a_changed_code_file_is_named(make, change, note):
    record = make.original()
    found = only(diff(record, changed(record, "code_files", 0, **change)), "code")
    assert (found.name, found.note) == ("train.py", note)


def test_code_files_that_come_and_go_are_named(make):
    record = make.original()
    other = replace(record, code_files=(*record.code_files[1:], make.code("new.py", "new")))
    found = diff(record, other)
    assert [(d.name, d.note, d.left is None) for d in found.section("code")] == [
        ("new.py", "added", True),
        ("train.py", "removed", False),
    ]


def test_another_commit_is_a_difference_between_runs_but_not_from_a_replay(make):
    record = make.original()
    assert only(diff(record, with_fact(record, "code", "commit", "00" * 20)), "code").name == "commit"
    assert diff(record, make.replay()).same


def test_files_of_the_tree_that_the_run_writes_anew_are_no_missing_code(make):
    record = make.original()
    record = replace(record, code_files=(*record.code_files, make.code("runs/timing.json", "an older run")))
    found = diff(record, make.replay(record, code_files=make.original().code_files))
    assert found.differences == ()
    assert any("runs/timing.json" in sentence for sentence in found.not_compared)


def test_a_changed_data_file_is_named_with_both_digests(make):
    record = make.original()
    found = only(diff(record, changed(record, "data_files", 0, digest=make.digest("other"))), "data")
    assert (found.name, found.left, found.right) == ("data/train.npz", make.digest("train"), make.digest("other"))
    assert found.note == "content changed"


def test_the_same_content_under_another_path_is_recognised(make):
    record = make.original()
    found = only(diff(record, changed(record, "data_files", 0, path="/mnt/train.npz")), "data")
    assert (found.left, found.right, found.note) == (
        "data/train.npz",
        "/mnt/train.npz",
        "same content under another path",
    )


def test_data_read_on_one_side_alone_is_named(make):
    record = make.original()
    extra = replace(record, data_files=(*record.data_files, make.read("extra.csv", "extra")))
    assert only(diff(record, extra), "data").note == "only read on the right"
    assert only(diff(extra, record), "data").note == "only read on the left"


def test_data_without_a_digest_are_unknown_and_not_equal(make):
    record = changed(make.original(), "data_files", 0, digest=None)
    found = only(diff(record, record), "data")
    assert (found.left, found.right) == ("not hashed", "not hashed")
    assert "cannot be compared" in found.note


def test_what_the_system_holds_is_no_data(make):
    record = make.original()
    row = make.read("/etc/hosts", "x", category="system")
    assert diff(record, replace(record, data_files=(*record.data_files, row))).same


def test_code_that_was_read_outside_the_tree_counts_and_inside_is_compared_as_code(make):
    record = make.original()
    inside = replace(record, data_files=(*record.data_files, make.read("train.py", "x", category="code")))
    outside = replace(record, data_files=(*record.data_files, make.read("/opt/shared.py", "x", category="code")))
    assert diff(record, inside).same
    assert only(diff(record, outside), "data").name == "/opt/shared.py"


def test_another_version_of_a_package_is_named(make):
    record = make.original()
    found = only(diff(record, changed(record, "packages", 1, version="2.3.5")), "environment")
    assert (found.name, found.left, found.right) == ("numpy", "2.4.0", "2.3.5")


def test_the_same_version_from_elsewhere_is_a_difference(make):
    record = make.original()
    found = only(diff(record, changed(record, "packages", 1, direct_url="file:///wheels/numpy.whl")), "environment")
    assert (found.left, found.right) == ("2.4.0", "2.4.0 from file:///wheels/numpy.whl")


def test_a_package_that_was_changed_in_its_place_is_found_by_its_record(make):
    record = make.original()
    found = only(diff(record, changed(record, "packages", 1, record_sha256=make.digest("patched"))), "environment")
    assert (found.name, "RECORD" in found.note) == ("numpy", True)


def test_packages_that_come_and_go_are_named(make):
    record = make.original()
    found = diff(record, replace(record, packages=(*record.packages[:2], make.package("jax", "0.9"))))
    assert [(d.name, d.left, d.right) for d in found.differences] == [
        ("jax", None, "0.9"),
        ("scikit-learn", "1.8.0", None),
    ]


@pytest.mark.parametrize(
    ("topic", "name", "section"),
    [
        ("environment", "python_version", "environment"),
        ("variable", "OMP_NUM_THREADS", "variables"),
        ("hardware", "cpu_model", "hardware"),
        ("randomness", "hash_seed", "randomness"),
    ],
)
def test_a_fact_that_differs_is_in_its_section(make, topic, name, section):
    record = make.original()
    found = only(diff(record, with_fact(record, topic, name, "other")), section)
    assert (found.name, found.right) == (name, "other")


def test_what_sums_up_is_not_reported_beside_its_parts(make):
    record = make.original()
    other = replace(record, facts=(*record.facts, *make.facts("environment", fingerprint="x", lock="y")))
    assert diff(record, other).same


def test_a_setting_that_differs_all_along_is_reported_once(make):
    record = make.original()
    settings = tuple(replace(s, value="1") if s.name == "torch.num_threads" else s for s in record.settings)
    found = only(diff(record, replace(record, settings=settings)), "settings")
    assert (found.left, found.right) == ("2", "1")
    assert found.note == "main at end, main at first-step, main at import"


def test_settings_of_many_processes_are_counted_and_not_listed(make):
    record = make.original()
    many = tuple(
        replace(s, process_key=f"main/fork.{n}") for n in range(9) for s in record.settings if s.moment == "end"
    )
    left = replace(record, settings=many)
    right = replace(record, settings=tuple(replace(s, value="x") if "threads" in s.name else s for s in many))
    assert only(diff(left, right), "settings").note.endswith(" and 5 more")


def test_settings_of_a_process_that_one_side_lacks_are_no_difference_of_settings(make):
    record = make.original()
    extra = tuple(replace(s, process_key="main/fork.1") for s in record.settings)
    assert diff(record, replace(record, settings=(*record.settings, *extra))).same


def test_seeds_are_compared_by_call(make):
    record = make.original()
    seeds = (*record.seeds, Seed(process_key="main", ordinal=1, function="torch.manual_seed", argument="8", site="x"))
    found = only(diff(record, replace(record, seeds=seeds)), "seeds")
    assert (found.name, found.left, found.right, found.note) == (
        "torch.manual_seed",
        None,
        "8",
        "first at call 1; 1 call in main",
    )


def test_seeds_that_a_loader_deals_out_are_drawn_anew(make):
    site = "/env/lib/python3.11/site-packages/torch/utils/data/_utils/worker.py:257"
    seed = Seed(process_key="main/fork.1", ordinal=0, function="random.seed", argument="8", site=site)
    record = make.original()
    ours, theirs = (replace(record, seeds=(*record.seeds, replace(seed, argument=text))) for text in ("8", "9"))
    found = diff(ours, theirs)
    assert [("randomness", "random.seed", "8", "9")] == [
        (d.section, d.name, d.left, d.right) for d in found.differences
    ]
    assert found.same


def test_entropy_is_one_difference_per_stream(make):
    record = make.original()
    entropy = tuple(replace(e, value="1") for e in record.entropy)
    found = only(diff(record, replace(record, entropy=entropy)), "randomness")
    assert (found.name, found.note) == ("numpy.randbits", "first at draw 0; 2 draws in main")
    other = (Entropy(process_key="main", stream="uuid.uuid4", ordinal=0, value="ab", site="x"),)
    assert only(diff(record, replace(record, entropy=(*record.entropy, *other))), "randomness").name == "uuid.uuid4"


def test_generator_states_are_compared_by_moment(make):
    record = make.original()
    found = only(diff(record, changed(record, "generator_states", 0, sha256=make.digest("x"))), "randomness")
    assert found.name == "torch.cpu state, main at first-step"


def test_processes_are_compared_by_role(make):
    record = make.original()
    rank = Process(
        **{f: getattr(record.processes[0], f) for f in Process.__slots__}
        | {"process_key": "main/rank0", "rank": 0, "world_size": 2}
    )
    found = only(diff(record, replace(record, processes=(*record.processes, rank))), "processes")
    assert (found.name, found.left, found.right) == ("main/rank0", None, "Python 3.11.7, rank 0 of 2")


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"digest": "sha256:" + "1" * 64}, "content differs"),
        ({"digest": None}, "cannot be compared: not hashed on both sides"),
    ],
)
def test_an_output_that_differs_is_named(make, change, note):
    record = make.original()
    found = only(diff(record, changed(record, "data_files", 2, **change)), "outputs")
    assert (found.name, found.note) == ("runs/best.pt", note)


def test_outputs_of_one_side_are_named(make):
    record = make.original()
    less = replace(record, data_files=record.data_files[:2] + record.data_files[3:])
    assert only(diff(record, less), "outputs").note == "only written on the left"
    assert only(diff(less, record), "outputs").note == "only written on the right"


def test_bytecode_and_temporary_files_are_no_outputs(make):
    record = make.original()
    rows = (
        make.output("__pycache__/x.cpython-311.pyc", "1", category="code"),
        make.output("/tmp/x", "1", category="temporary"),
    )
    assert diff(record, replace(record, data_files=(*record.data_files, *rows))).same


def test_what_was_printed_is_compared_by_digest(make):
    record = make.original()
    found = only(diff(record, with_fact(record, "stream", "stdout_sha256", make.digest("other"))), "outputs")
    assert found.name == "stdout"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"status": "failed", "exit_code": 3}, "failed with exit code 3"),
        ({"status": "killed", "exit_code": None, "signal": "SIGKILL"}, "killed by SIGKILL"),
        ({"status": "interrupted", "exit_code": None, "signal": "SIGINT"}, "interrupted by SIGINT"),
    ],
)
def test_another_end_is_a_difference(make, change, expected):
    record = make.original()
    found = only(diff(record, replace(record, run=replace(record.run, **change))), "outcome")
    assert (found.left, found.right) == ("completed", expected)


def test_gaps_are_compared_with_all_their_reasons(make):
    record = make.original()
    one, two = make.gap("data", "/x", "a"), make.gap("data", "/x", "b")
    found = only(diff(replace(record, gaps=(two,)), replace(record, gaps=(two, one))), "gaps")
    assert (found.name, found.left, found.right) == ("data: /x", "b", "a; b")


def test_a_differing_metric_makes_two_runs_different_though_no_section_differs(make):
    record = make.original()
    found = diff(record, replace(record, metrics=(*make.losses(60, wrong_from=7), *record.metrics[60:])))
    assert (found.same, found.differences) == (False, ())
    assert [m.first.step for m in found.metrics if m.first] == [7]


def test_roots_that_differ_are_said_and_are_no_difference(make):
    record = make.original()
    found = diff(record, replace(record, run=replace(record.run, root="/home/bob/digits")))
    assert (found.same, found.not_compared) == (
        True,
        ("The code trees stand at different places: /home/ada/digits and /home/bob/digits.",),
    )


def test_differences_come_in_the_order_of_the_sections(make):
    record = make.original()
    other = with_fact(record, "hardware", "cpu_model", "other")
    other = changed(changed(other, "code_files", 0, mode=0), "packages", 0, version="1")
    other = replace(other, run=replace(other.run, status="failed", exit_code=1), gaps=(make.gap("data"),))
    places = [SECTIONS.index(d.section) for d in diff(record, other).differences]
    assert places == sorted(places)
    assert len(places) == 5


def test_a_replay_with_more_variables_of_its_own_environment_does_not_differ(make):
    replay = make.replay()
    more = make.facts("variable", VIRTUAL_ENV="/built", PYTHONHASHSEED="123")
    assert diff(make.original(), replace(replay, facts=(*replay.facts, *more))).same
    assert not diff(make.original(), replace(make.original(), facts=(*make.original().facts, *more))).same


def test_the_path_map_is_used_for_data_outside_the_root(make):
    record = make.original(data_files=(make.read("/data/x", "x"),))
    facts = make.facts("replay", path_map=json.dumps([["/data", "/tmp/scratch/data"]]))
    replay = make.replay(record, facts=(*record.facts, *facts), data_files=(make.read("/tmp/scratch/data/x", "x"),))
    assert not diff(record, replay).section("data")


def test_what_every_run_draws_anew_is_told_and_counts_by_its_effect_alone(make):
    record = make.original()
    redrawn = changed(record, "generator_states", 0, sha256=make.digest("x"))
    assert (True, "randomness") == (diff(record, redrawn).same, diff(record, redrawn).differences[0].section)
    assert not diff(record, changed(redrawn, "metrics", 0, value=2.0)).same


def test_a_file_that_both_runs_write_is_an_output_and_not_code(make):
    left = make.original()
    output = next(row for row in left.data_files if row.role == "output")
    stale = CodeFile(
        path=output.path, kind="file", mode=0o644, size_bytes=1, sha256=make.digest("before"), state="untracked"
    )
    assert diff(left, replace(left, code_files=(*left.code_files, stale))).same
