"""Models as a record tells them: their size, what `buffer` is of, and in what two of them differ."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit.diff import diff
from repro.audit.models import model_rows, standings, trees
from repro.audit.trace.causes import Cause, Circumstances, cause
from repro.audit.trace.fingerprints import compare_fingerprints
from repro.audit.trace.words import first_sentence
from repro.evidence.model import Fingerprint, Model, ModelModule, ModelTensor

MODULES = (("", "net.Net"), ("0", "torch.nn.Linear"), ("1", "torch.nn.BatchNorm1d"), ("2", "torch.nn.Linear"))
TENSORS = (
    ("0.weight", "parameter", "[64, 3]", 1),
    ("0.bias", "parameter", "[64]", 2),
    ("1.running_mean", "buffer", "[64]", 3),
    ("1.num_batches_tracked", "buffer", "[]", 4),
    ("2.weight", "frozen", "[10, 64]", 5),
)


def with_model(record, modules=MODULES, tensors=TENSORS, *, step=0, ordinal=0, key="main", anchor="optimizer.0"):
    """Return a record with one more model, whose tensors hold the numbers given."""
    model = Model(
        process_key=key,
        ordinal=ordinal,
        anchor=anchor,
        step=step,
        class_name=modules[0][1],
        digest=f"sha256:{abs(hash((modules, tensors))):064x}",
    )
    rows = tuple(
        ModelModule(process_key=key, model=ordinal, place=place, path=path, class_name=name)
        for place, (path, name) in enumerate(modules)
    )
    held = tuple(
        ModelTensor(
            process_key=key,
            model=ordinal,
            place=place,
            name=name,
            kind=kind,
            shape=shape,
            dtype="int64" if shape == "[]" else "float32",
            device="cpu",
            word=f"{number:016x}",
        )
        for place, (name, kind, shape, number) in enumerate(tensors)
    )
    return replace(
        record,
        models=(*record.models, model),
        model_modules=(*record.model_modules, *rows[::-1]),
        model_tensors=(*record.model_tensors, *held[::-1]),
    )


def with_buffers(record, words=lambda step: (3 + step, 4 + step, 5)):
    """Return a traced record in which each step tells `buffer`, after the weights."""
    rows = []
    for row in record.fingerprints:
        if row.field == "gradient":
            told = "".join(f"{number:016x}" for number in words(row.step))
            rows.append(replace(row, field="buffer", words=told))
        rows.append(row)
    places: dict[tuple[str, int], int] = {}
    numbered: list[Fingerprint] = []
    for row in rows:
        place = places.setdefault((row.process_key, row.step), 0)
        numbered.append(replace(row, place=place))
        places[row.process_key, row.step] += 1
    return replace(record, fingerprints=tuple(numbered))


@pytest.fixture
def run(make):
    return with_buffers(with_model(make.traced(make.original())))


def changed(record, step, place):
    """Return the record with another word at a place of `buffer`, from a step on."""

    def other(row):
        if row.field != "buffer" or row.step < step:
            return row
        words = [row.words[at : at + 16] for at in range(0, len(row.words), 16)]
        words[place] = "f" * 16
        return replace(row, words="".join(words))

    return replace(record, fingerprints=tuple(map(other, record.fingerprints)))


def test_size_and_title(make):
    (row,) = model_rows(with_model(make.original()))
    assert row[:5] == (
        *("main", "optimizer.0", "before step 0", "net.Net"),
        "256 parameters, 640 frozen, 65 in 2 buffers",
    )
    wrapped = (("", "torch.nn.parallel.DistributedDataParallel"), ("module", "dynamo.OptimizedModule"))
    wrapped += (("module._orig_mod", "net.Net"), ("module._orig_mod.module", "net.Part"))
    ((tree,),) = trees(with_model(make.original(), wrapped, ())).values()
    assert tree.title.startswith("net.Part in Net in"), "what is named as a wrapper names it counts as one"
    ((tree,),) = trees(with_model(make.original(), wrapped[:3], ())).values()
    assert (tree.title, tree.size) == ("net.Net in OptimizedModule in DistributedDataParallel", "0 parameters")


def test_what_stands_is_what_was_told_last_all_trees_of_a_step_together(make):
    record = with_model(with_model(make.original()), tensors=TENSORS[2:3], ordinal=1)
    record = with_model(record, MODULES[:1], TENSORS[3:], step=5, ordinal=2)
    first, later = standings(record)["main", "optimizer.0"]
    assert (first.since, later.since) == (0, 5)
    assert [row.name for row in first.besides] == [*(name for name, *_ in TENSORS[2:]), "1.running_mean"]
    assert (len(first.classes), later.classes) == (8, ("net.Net",))
    assert [row.name for row in later.besides] == ["1.num_batches_tracked", "2.weight"]


@pytest.mark.parametrize(
    ("step", "place", "name", "kind"),
    [
        (5, 0, "1.running_mean", Cause.BUFFERS),
        (1, 1, "1.num_batches_tracked", Cause.BUFFERS),
        (5, 2, "2.weight", Cause.WEIGHTS_WRITTEN),
        (0, 2, "2.weight", Cause.INITIAL_WEIGHTS),
        (16, 0, "1.running_mean", Cause.UNTRACED),
        (16, 2, "2.weight", Cause.UNTRACED),
    ],
)
def test_a_difference_in_a_buffer_is_named_by_the_model(run, step, place, name, kind):
    found = compare_fingerprints(run, changed(run, step, place)).first
    assert found is not None
    assert (found.step, found.what.field, found.what.differing, found.what.of) == (step, "buffer", 1, 3)
    assert ([one.name for one in found.what.tensors], found.cause) == ([name], kind)
    assert found.absorbed == (name != "2.weight")
    assert f"1 of 3 tensors: {name} [" in first_sentence(found)


def test_a_buffer_comes_after_the_weights_and_before_the_gradients(make, run):
    other = make.altered(changed(run, 5, 0), 5, "gradient", 0)
    found = compare_fingerprints(run, other).first
    assert found is not None
    assert ("buffer", ["gradient"]) == (found.what.field, [one.field for one in found.also])
    other = make.altered(changed(run, 5, 0), 5, "weight", 0)
    found = compare_fingerprints(run, other).first
    assert found is not None
    assert ("weight", ["buffer"]) == (found.what.field, [one.field for one in found.also])


def test_buffers_that_equal_weights_and_untold_batches_led_to_are_open():
    known = Circumstances(
        field="buffer", step=3, weights_known=True, adjacent=True, batch_known=False, update_known=True
    )
    assert Cause.UNTOLD_INPUT is cause(known)
    assert Cause.UNTRACED is cause(replace(known, weights_known=False, batch_known=True))


def test_another_activation_is_a_structural_cause(make, run):
    other = make.traced(make.original())
    gelu = (*MODULES[:3], ("2", "torch.nn.GELU"))
    other = make.altered(with_buffers(with_model(other, gelu)), 0, "gradient", 0)
    found = compare_fingerprints(run, other).first
    assert found is not None
    assert (found.what.field, found.cause) == ("gradient", Cause.STRUCTURE)
    batch = compare_fingerprints(run, make.altered(other, 0, "batch")).first
    assert batch is not None
    assert batch.cause is Cause.BATCH_CONTENT, "what came in was another thing already"


def told(left, right):
    return [(d.name, d.left, d.right, d.note) for d in diff(left, right).section("model")]


def test_equal_models_do_not_differ(run):
    assert [] == told(run, run)


def test_modules_tensors_and_values_that_differ_are_named(make):
    left = with_model(make.original())
    modules = (*MODULES[:2], ("1", "torch.nn.LayerNorm"), ("3", "torch.nn.ReLU"))
    tensors = (("0.weight", "parameter", "[64, 3]", 9), ("0.bias", "frozen", "[64]", 2), ("new", "buffer", "[1]", 1))
    assert told(left, with_model(make.original(), modules, tensors)) == [
        ("optimizer.0 module 1", "torch.nn.BatchNorm1d", "torch.nn.LayerNorm", "main"),
        ("optimizer.0 module 2", "torch.nn.Linear", None, "main"),
        ("optimizer.0 module 3", None, "torch.nn.ReLU", "main"),
        ("optimizer.0 tensor 0.bias", "parameter float32 [64]", "frozen float32 [64]", "main"),
        ("optimizer.0 tensor 1.num_batches_tracked", "buffer int64 []", None, "main"),
        ("optimizer.0 tensor 1.running_mean", "buffer float32 [64]", None, "main"),
        ("optimizer.0 tensor 2.weight", "frozen float32 [10, 64]", None, "main"),
        ("optimizer.0 tensor new", None, "buffer float32 [1]", "main"),
        ("optimizer.0 values before step 0", None, None, "1 of 3 tensors held other values: 0.weight; main"),
    ]


def test_many_differences_are_counted_and_ranks_are_told_together(make):
    left = right = make.original()
    for number, key in enumerate(("main/rank0", "main/rank1")):
        modules = tuple((str(place), "torch.nn.ReLU") for place in range(20))
        left = with_model(left, (("", "net.Net"), *modules), (), ordinal=number, key=key)
        modules = tuple((path, "torch.nn.GELU") for path, _ in modules)
        right = with_model(right, (("", "net.Net"), *modules), (), ordinal=number, key=key)
    found = told(left, right)
    assert len(found) == 9
    assert {note.rpartition("; ")[2] for *_, note in found} == {"main/rank0, main/rank1"}
    assert found[-1] == ("optimizer.0 modules", None, None, "12 more modules differ; main/rank0, main/rank1")


def test_a_model_of_one_side_alone(make):
    left = with_model(make.original())
    right = with_model(left, ordinal=1, anchor="optimizer.1")
    assert told(left, right) == [("optimizer.1", None, "net.Net", "main")]
    (said,) = [one for one in diff(left, make.original()).not_compared if "model" in one]
    assert said == "The model was told of one of the runs alone."
    assert [] == told(left, make.original())
