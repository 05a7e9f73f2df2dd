"""Checkpoints of two runs, tensor by tensor; and what a verdict makes of their files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from repro.audit.checkpoints import compare_checkpoints, last_written
from repro.audit.diff import diff
from repro.audit.outputs import compare_outputs
from repro.audit.verdict import Word, judge
from repro.evidence.model import Checkpoint, CheckpointTensor, Record


def written(ordinal: int, file_digest: str | None, **changes: Any) -> Checkpoint:
    row = Checkpoint(
        process_key="main",
        ordinal=ordinal,
        action="written",
        path="model.pt",
        library="torch",
        steps='{"optimizer.0":10}',
        tensor_count=2,
        digest="sha256:" + "0" * 64,
        file_digest=file_digest,
        at_seconds=float(ordinal),
    )
    return replace(row, **changes)


def tensors(ordinal: int, **words: str) -> tuple[CheckpointTensor, ...]:
    return tuple(
        CheckpointTensor(
            process_key="main", checkpoint=ordinal, place=place, name=name, shape="[2]", dtype="float32", word=word * 16
        )
        for place, (name, word) in enumerate(words.items())
    )


@pytest.fixture
def pair(make: Any) -> Any:
    """Return a function that makes a run and its replay with other bytes in `model.pt`, and these tensors in it."""

    def build(left: dict[str, str], right: dict[str, str], **changes: Any) -> tuple[Record, Record]:
        outputs = make.output("model.pt", "a", library="torch"), make.output("model.pt", "b", library="torch")
        digests = [row.digest for row in outputs]
        ours = make.original(
            data_files=(outputs[0],),
            checkpoints=(written(0, digests[0]),),
            checkpoint_tensors=tensors(0, **left),
        )
        theirs = make.replay(
            data_files=(outputs[1],),
            checkpoints=(replace(written(0, digests[1]), **changes),),
            checkpoint_tensors=tensors(0, **right),
        )
        return ours, theirs

    return build


def test_other_bytes_of_equal_tensors_are_named_and_decide_nothing(pair) -> None:
    original, replay = pair({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    (output,) = compare_outputs(original, replay)
    assert ("same-tensors", True, True) == (output.state, output.same, output.checkpoint)
    verdict = judge(original, replay)
    assert Word.MATCHED_EXACTLY is verdict.word
    sentence = "model.pt has other bytes, and all 2 tensors are equal"
    assert (sentence,) == verdict.differences
    assert sentence in verdict.sentence
    compared = diff(original, replay)
    assert () == compared.section("outputs") == compared.section("checkpoints")
    assert any(sentence in each for each in compared.not_compared)


def test_a_tensor_that_differs_is_named(pair) -> None:
    original, replay = pair({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "4", "c": "3"})
    verdict = judge(original, replay)
    assert Word.DID_NOT_MATCH is verdict.word
    assert verdict.sentence.startswith("Other bytes in model.pt (1 of 3 tensors: b [2] float32).")
    (difference,) = diff(original, replay).section("checkpoints")
    assert "1 of 3 tensors: b [2] float32" == difference.note


@pytest.mark.parametrize(
    ("left", "right", "differing", "unread"),
    [
        ({"a": "1"}, {"a": "1", "b": "2"}, 1, 0),
        ({"a": "1"}, {"c": "1"}, 2, 0),
        ({"a": "-"}, {"a": "-"}, 0, 1),
        ({"a": "-", "b": "1"}, {"a": "1", "b": "2"}, 1, 1),
    ],
)
def test_what_is_missing_differs_and_what_has_no_fingerprint_is_not_equal(pair, left, right, differing, unread) -> None:
    original, replay = pair(left, right)
    (compared,) = compare_checkpoints(original, replay)
    assert (differing, unread, False) == (compared.differing, compared.unread, compared.equal)
    assert Word.DID_NOT_MATCH is judge(original, replay).word, "the bytes differ, and nothing says that this is all"


def test_a_file_that_was_changed_after_it_was_written_is_not_its_tensors(pair) -> None:
    original, replay = pair({"a": "1"}, {"a": "1"}, file_digest=None)
    assert ["differs"] == [output.state for output in compare_outputs(original, replay)]
    assert Word.DID_NOT_MATCH is judge(original, replay).word


def test_each_writing_of_a_file_is_compared(make) -> None:
    rows = written(0, None), written(1, None)
    left = make.original(checkpoints=rows, checkpoint_tensors=(*tensors(0, a="1"), *tensors(1, a="2")))
    right = make.replay(checkpoints=rows[:1], checkpoint_tensors=tensors(0, a="3"))
    first, second = compare_checkpoints(left, right)
    assert [(0, 1), (1, 0)] == [(first.again, first.differing), (second.again, second.differing)]
    assert (first.equal, second.equal, second.right) == (False, False, None)
    assert [second] == list(last_written([first, second])["model.pt"])
    notes = [(each.name, each.note) for each in diff(left, right).section("checkpoints")]
    assert [
        ("model.pt (written by main)", "1 of 1 tensor: a [2] float32"),
        ("model.pt (written by main, time 2)", "only written on the left"),
    ] == notes
