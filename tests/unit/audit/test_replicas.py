"""Ranks of one run hold the same weights under DistributedDataParallel: where they do not, step, ranks and tensors."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.audit.diff import diff
from repro.audit.findings import checks, findings
from repro.audit.trace.replicas import broken, replicas, sentences
from repro.evidence.integrity import Integrity, RecordLight
from repro.evidence.model import Fingerprint, Model, ModelModule, ModelTensor, Process, TracedTensor

DDP = "torch.nn.parallel.distributed.DistributedDataParallel"
NAMES = ("module.weight", "module.bias")
EQUAL = (0, 1, 2, 4, 8)


def process(rank: int, size: int, **more) -> Process:
    return Process(
        **{
            "process_key": f"main/rank{rank}",
            "parent_key": "main",
            "pid": 10 + rank,
            "argv": ("python",),
            "executable": "python",
            "python_version": "3.11.7",
            "rank": rank,
            "world_size": size,
            "started_at": "2026-11-20T14:03:22.200000Z",
            "ended_at": None,
            **more,
        }
    )


def tensors(key: str, *, outermost: str = DDP, path: str = "") -> dict[str, tuple]:
    """Return the model and the traced tensors of a process, both in a wrapper that lies at a path."""
    model = Model(
        process_key=key, ordinal=0, anchor="optimizer.0", step=0, class_name=outermost, digest="sha256:" + "0" * 64
    )
    module = ModelModule(process_key=key, model=0, place=0, path=path, class_name=outermost)
    rows = [
        ModelTensor(
            process_key=key,
            model=0,
            place=place,
            name=name,
            kind="parameter",
            shape="[3]",
            dtype="float32",
            device="cpu",
            word="0" * 16,
        )
        for place, name in enumerate(NAMES)
    ]
    traced = [
        TracedTensor(
            process_key=key,
            anchor="optimizer.0",
            step=0,
            ordinal=place,
            name=name,
            shape="[3]",
            dtype="float32",
            device="cpu",
        )
        for place, name in enumerate(NAMES)
    ]
    return {
        "models": (model,),
        "model_modules": (module,),
        "model_tensors": tuple(rows),
        "traced_tensors": tuple(traced),
    }


def word(*parts: object) -> str:
    return f"{abs(hash(parts)) % 2**64:016x}"


def steps(key: str, traced=EQUAL, *, changed=()) -> tuple[Fingerprint, ...]:
    """Return what a rank tells; `changed` has pairs of step and field whose second word differs."""
    rows = []
    for step in traced:
        fields = ("weight", "gradient", "parameter") if step - 1 in (*traced, -1) else ("gradient", "parameter")
        for place, field in enumerate(fields):
            own = key if (step, field) in changed else ""
            rows.append(
                Fingerprint(
                    process_key=key,
                    anchor="optimizer.0",
                    step=step,
                    place=place,
                    field=field,
                    words=word(field, step, 0) + word(field, step, 1, own),
                    at_seconds=float(step),
                )
            )
    return tuple(rows)


@pytest.fixture
def ranks(make):
    """Return a function that makes a record of ranks; `changed` has by rank what differs in it."""

    def built(size: int = 2, *, changed=None, processes=None, traced=None, **wrapping):
        rows = processes or tuple(process(rank, size) for rank in range(size))
        told = [tensors(row.process_key, **wrapping) for row in rows if row.rank is not None]
        return replace(
            make.original(),
            processes=rows,
            fingerprints=tuple(
                each
                for row in rows
                for each in steps(
                    row.process_key, (traced or {}).get(row.rank, EQUAL), changed=(changed or {}).get(row.rank, ())
                )
            ),
            **{name: tuple(each for one in told for each in one[name]) for name in told[0]},
        )

    return built


def test_ranks_that_agree(ranks) -> None:
    (found,) = replicas(ranks(4))
    assert ((0, 1, 2, 3), 5, 5, None) == (found.ranks, found.compared_steps, found.equal_steps, found.parting)
    assert ("optimizer.0: the same in ranks 0, 1, 2, 3 at 5 traced steps",) == sentences(ranks(4))
    assert () == broken(ranks(4))


def test_the_one_rank_that_differs_is_named_with_step_and_tensor(ranks) -> None:
    record = ranks(4, changed={2: {(4, "parameter"), (8, "parameter"), (8, "gradient")}})
    (found,) = replicas(record)
    parting = found.parting
    assert parting is not None
    assert (4, "parameter", (2,), 2, True) == (
        parting.step,
        parting.field,
        parting.apart,
        parting.last_equal,
        parting.gradients_equal,
    )
    assert (("module.bias [3] float32",), 1, 2) == (parting.tensors, parting.differing, parting.of)
    assert 3 == found.equal_steps
    expected = (
        "optimizer.0: not the same in ranks 0, 1, 2, 3: rank 2 differs from the others from step 4 on, in the weights "
        "after the step (1 of 2 tensors: module.bias [3] float32); they were the same after step 2; its gradients were "
        "the same in all of them"
    )
    assert (expected,) == broken(record)


def test_of_two_ranks_neither_is_blamed_and_unshared_gradients_are_told(ranks) -> None:
    record = ranks(2, changed={1: {(1, "gradient"), (1, "parameter")}})
    (found,) = replicas(record)
    assert ((0, 1), False) == (found.parting.apart, found.parting.gradients_equal)
    assert "they differ from step 1 on" in broken(record)[0]
    assert "ranks did not share them" in broken(record)[0]


def test_weights_that_change_between_two_steps(ranks) -> None:
    (found,) = replicas(ranks(3, changed={0: {(2, "weight"), (2, "parameter")}}))
    parting = found.parting
    assert (2, "weight", (0,), None) == (parting.step, parting.field, parting.apart, parting.gradients_equal)


def test_gradients_alone_break_nothing(ranks) -> None:
    """Steps skip what was not used, and scaled gradients differ before they are unscaled: the weights decide."""
    assert () == broken(ranks(2, changed={1: {(1, "gradient")}}))


def test_ranks_that_begin_apart_are_of_other_groups(ranks) -> None:
    begin = {(0, "weight")}
    found = replicas(ranks(3, changed={2: {*begin, (1, "parameter")}}))
    assert [(0, 1), (2,)] == [each.ranks for each in found]
    assert [None, None] == [each.parting for each in found]
    assert "rank 2 began with weights that no other rank has" in sentences(ranks(3, changed={2: begin}))[1]


def test_an_optimizer_that_is_split_among_ranks_has_no_replicas(ranks) -> None:
    """Each rank steps tensors of its own, as under ZeroRedundancyOptimizer."""
    record = ranks(2)
    moved = tuple(
        replace(row, name=f"{row.name}.{row.process_key}", shape="[2]" if "rank1" in row.process_key else "[3]")
        for row in record.traced_tensors
    )
    assert () == replicas(replace(record, traced_tensors=moved))


@pytest.mark.parametrize("outermost", ["torch.nn.modules.linear.Linear", "torch.distributed.fsdp.FSDPLinear"])
def test_what_no_wrapper_holds_is_not_judged(ranks, outermost) -> None:
    assert () == replicas(ranks(2, outermost=outermost, changed={1: {(1, "parameter")}}))


def test_a_parameter_beside_the_wrapper_is_not_judged(ranks) -> None:
    assert () == replicas(ranks(2, path="other"))
    assert 1 == len(replicas(ranks(2, path="module")))


def test_ranks_are_compared_at_steps_that_all_of_them_traced(ranks) -> None:
    """With uneven inputs, one ends before the others."""
    record = ranks(2, traced={0: EQUAL, 1: (0, 1)}, changed={0: {(4, "parameter")}})
    (found,) = replicas(record)
    assert (2, None) == (found.compared_steps, found.parting)


def test_attempts_are_groups_of_their_own(ranks) -> None:
    again = [process(r, 2, process_key=f"main/rank{r}@1", attempt=1) for r in range(2)]
    found = replicas(ranks(processes=(*(process(r, 2) for r in range(2)), *again)))
    assert [("main/rank0", "main/rank1"), ("main/rank0@1", "main/rank1@1")] == [each.process_keys for each in found]


def test_two_launchers_are_told_apart(ranks) -> None:
    other = [process(r, 2, process_key=f"main/b/rank{r}", parent_key="main/b") for r in range(2)]
    found = replicas(ranks(processes=(*(process(r, 2) for r in range(2)), *other)))
    assert [("main/b/rank0", "main/b/rank1"), ("main/rank0", "main/rank1")] == [each.process_keys for each in found]


def test_groups_that_one_launcher_starts_one_after_the_other(ranks) -> None:
    later = [process(r, 2, process_key=f"main/fork.{r}", started_at=f"2026-11-20T14:05:0{r}.000000Z") for r in range(2)]
    found = replicas(ranks(processes=(*later, *(process(r, 2) for r in range(2)))))
    assert [("main/fork.0", "main/fork.1"), ("main/rank0", "main/rank1")] == [each.process_keys for each in found]


def test_a_launcher_that_is_itself_a_rank_and_the_workers_of_ranks(ranks) -> None:
    """Lightning starts the other ranks from the first; workers that load data inherit their rank's number."""
    first = process(0, 2, process_key="main", parent_key=None)
    second = process(1, 2, process_key="main/train.py.1")
    worker = process(1, 2, process_key="main/train.py.1/fork.1", parent_key="main/train.py.1")
    (found,) = replicas(ranks(processes=(first, second, worker)))
    assert ("main", "main/train.py.1") == found.process_keys


def test_a_run_of_one_rank_has_no_replicas(ranks, make) -> None:
    assert () == replicas(ranks(1)) == replicas(make.original())


def test_the_report_and_the_diff_say_it(ranks) -> None:
    good, bad = ranks(3), ranks(3, changed={1: {(8, "parameter")}})
    assert () == diff(good, good).replicas
    ((run_id, sentence),) = diff(good, bad).replicas
    assert (bad.run.run_id, broken(bad)[0]) == (run_id, sentence)
    for record, outcome in ((good, "passed"), (bad, "failed")):
        examined = Integrity(
            run_id=record.run.run_id,
            light=RecordLight.UNSIGNED,
            record=record,
            statement=None,
            problems=(),
            signers=(),
            strangers=(),
        )
        (check,) = [c for c in checks(examined, None, None, None) if "across the ranks" in c.name]
        assert ("Weights of optimizer.0 across the ranks of the record", outcome) == (check.name, check.outcome)
        titles = [finding.title for finding in findings(examined, None, None, None, ())]
        assert (outcome == "failed") == ("The ranks of the record ceased to hold the same weights" in titles)
