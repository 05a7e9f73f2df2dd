"""Where a run stands in the whole training, told for processes together."""

from __future__ import annotations

from typing import Any

from repro.audit.diff import diff
from repro.audit.goingon import other_links, phrases
from repro.evidence.model import Checkpoint, CheckpointTensor, Continuation, Fingerprint

RUN = "0123456789ab"


def link(key: str, checkpoint: int = 0, steps: str = '{"optimizer.0":30}', origin: int = 5) -> Continuation:
    return Continuation(
        process_key=key, checkpoint=checkpoint, from_run_id=RUN, from_process_key="main/rank0", from_checkpoint=origin,
        matched_by="file", steps=steps,
    )  # fmt: skip


def read(key: str, ordinal: int, path: str) -> Checkpoint:
    return Checkpoint(
        process_key=key, ordinal=ordinal, action="read", path=path, library="torch", steps="{}", tensor_count=1,
        digest="sha256:" + "0" * 64, file_digest=None, at_seconds=1.0,
    )  # fmt: skip


def tensor(key: str, ordinal: int, word: str) -> CheckpointTensor:
    return CheckpointTensor(
        process_key=key, checkpoint=ordinal, place=0, name="a", shape="[2]", dtype="float32", word=word * 16
    )


def weight(key: str, word: str) -> Fingerprint:
    return Fingerprint(
        process_key=key, anchor="optimizer.0", step=0, place=3, field="weight", words=word * 16, at_seconds=2.0
    )


def test_ranks_that_read_one_file_are_told_together_and_a_teacher_is_a_link_alone(make: Any) -> None:
    ranks = "main/rank0", "main/rank1"
    record = make.original(
        continuations=(*map(link, ranks), link(ranks[0], 1, origin=9)),
        checkpoints=(*(read(rank, 0, "a.pt") for rank in ranks), read(ranks[0], 1, "teacher.pt")),
        checkpoint_tensors=(*(tensor(rank, 0, "1") for rank in ranks), tensor(ranks[0], 1, "2")),
        fingerprints=tuple(weight(rank, "1") for rank in ranks),
    )
    (phrase,) = phrases(record)
    assert (
        f"optimizer.0 in main/rank0, main/rank1 goes on from a.pt of run {RUN} (the same bytes), after 30 steps: "
        "step S is step S + 30 of the whole training"
    ) == phrase
    assert [9] == [each.from_checkpoint for each in other_links(record)]
    assert ((record.run.run_id, phrase),) == diff(record, make.original()).goes_on


def test_a_rank_that_was_given_its_weights_goes_on_from_what_the_other_read(make: Any) -> None:
    record = make.original(
        continuations=(link("main/rank0"),),
        checkpoints=(read("main/rank0", 0, "a.pt"),),
        checkpoint_tensors=(tensor("main/rank0", 0, "1"),),
        fingerprints=(weight("main/rank0", "1"), weight("main/rank1", "1"), weight("main/rank2", "3")),
    )
    assert ["optimizer.0 in main/rank0, main/rank1"] == [each.partition(" goes on")[0] for each in phrases(record)]
    assert () == other_links(record)
