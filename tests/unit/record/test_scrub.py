"""What a capture let through does not get into the sealed record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from repro.evidence.model import (
    DataFile,
    Dataset,
    Entropy,
    Fact,
    Gap,
    Hyperparameter,
    Package,
    Program,
    Seed,
    TracedTensor,
)
from repro.record import assemble, scrub
from repro.record.assemble import Ended, Identity
from repro.record.capture import Findings
from repro.record.eventlog import Events

IDENTITY = Identity(
    run_id="0" * 12,
    replay_of=None,
    argv=("train",),
    root="/x",
    working_directory=".",
    recorder_version="0",
    tolerances=(),
)
ENDED = Ended(
    returncode=0,
    relayed=frozenset(),
    started_at=0.0,
    ended_at=1.0,
    wall_seconds=1.0,
    cpu_seconds=1.0,
    peak_memory_bytes=1,
)
ADDRESS = "https://me:hunter2@host/x"


def given(name: str, value: str) -> Hyperparameter:
    return Hyperparameter(process_key="main", source="argparse", name=name, ordinal=0, value=value, site=f"{ADDRESS}:1")


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("lr", "0.1", "0.1"),
        ("max_tokens", "512", "512"),
        ("use_auth_token", "true", "true"),
        ("password", "", ""),
        ("data.token", "hunter2", "<redacted>"),
        ("optimizer.AUTH", "hunter2", "<redacted>"),
        ("command", "run --password hunter2 --lr 1", "run --password <redacted> --lr 1"),
        ("config", "{'api_key': 'hunter2', 'lr': 1}", "{'api_key': <redacted>, 'lr': 1}"),
        ("model", "hf_abcdefghijklmnopqrstuvwxyz", "<redacted>"),
    ],
)
def test_hyperparameters_lose_their_secrets_alone(name: str, value: str, kept: str) -> None:
    record = replace(assemble.assemble(IDENTITY, ENDED, Events(), Findings()), hyperparameters=(given(name, value),))
    (cleaned,) = scrub.clean(record).hyperparameters
    assert (name, kept) == (cleaned.name, cleaned.value)


def test_every_table_that_may_hold_a_secret_is_cleaned_and_digests_are_left_alone() -> None:
    commitment = Fact(topic="commitment", name="N", value="hmac-sha256:00", source="observed")
    record = replace(
        assemble.assemble(IDENTITY, ENDED, Events(), Findings()),
        facts=(Fact(topic="code", name="remote", value=ADDRESS, source="observed"), commitment),
        gaps=tuple(Gap(topic="lock", subject=f"pip {ADDRESS}", reason=f"--password hunter2 {n}") for n in "12"),
        packages=(
            Package(
                name="a",
                version="1",
                location="/x",
                origin="direct",
                direct_url=ADDRESS,
                record_sha256=None,
                wheel_sha256=None,
            ),
        ),
        data_files=(
            DataFile(
                path=ADDRESS,
                role="input",
                category="data",
                dataset=None,
                size_bytes=None,
                digest=None,
                modified_at=None,
                process_key="main",
                library="fsspec",
                seen_by="agent",
                changed_during_run=False,
            ),
        ),
        datasets=(Dataset(name=ADDRESS, kind="dvc", file_count=1, size_bytes=1, digest="sha256:0", reference=ADDRESS),),
        programs=(
            Program(
                ordinal=0,
                process_key="main",
                pid=1,
                parent_pid=0,
                path="/bin/x",
                argv=("x", "--token", "hunter2"),
                sha256=None,
                started_at="",
            ),
        ),
        seeds=(Seed(process_key="main", ordinal=0, function="f", argument=ADDRESS, site=f"{ADDRESS}:1"),),
        entropy=(Entropy(process_key="main", stream="s", ordinal=0, value="00", site=f"{ADDRESS}:1"),),
        traced_tensors=(
            TracedTensor(
                process_key="main",
                anchor="optimizer.0",
                step=0,
                ordinal=0,
                name=ADDRESS,
                shape="[1]",
                dtype="float32",
                device="cpu",
            ),
        ),
        hyperparameters=(given("wandb.api_key", "hunter2"), given(ADDRESS, ADDRESS)),
    )
    assert "hunter2" in str(record)
    cleaned = scrub.clean(record)
    assert "hunter2" not in str(cleaned)
    assert commitment in cleaned.facts
    assert 2 == len(cleaned.gaps)
    assert cleaned == scrub.clean(cleaned)
