"""Values by allow-list, commitments for the rest."""

from __future__ import annotations

import os

from repro.evidence.commitment import matches
from repro.record.capture import variables


def test_a_hidden_value_is_committed_to_and_never_stored(tmp_path, context) -> None:
    environment = {
        "OMP_NUM_THREADS": "2",
        "HF_TOKEN": "hunter2-canary",
        "HOME": "/home/canary",
        "DATABASE": "postgres://me:hunter2-canary@host/x",
        "TORCH_HOME": "https://me:hunter2-canary@host/x",
        "CUDA_NOTE": "ghp_" + "a1B2" * 9,
        "BYTES": os.fsdecode(b"\xff"),
    }
    here = context(tmp_path, environment=environment)
    found = variables.before(here) + variables.alongside(here)
    salt = found.fact("environment", "commitment_salt")
    assert salt is not None
    told = {fact.name: fact.value for fact in found.facts if fact.topic == "commitment"}
    assert set(environment) - {"OMP_NUM_THREADS"} == set(told)
    assert all(matches(told[name], salt, name, environment[name]) for name in told)
    assert {"HF_TOKEN", "DATABASE", "TORCH_HOME", "CUDA_NOTE"} == {n for n in told if told[n].startswith("scrypt:")}
    assert "hunter2" not in str(found)
    assert "a1B2" not in str(found)
    assert found.fact("variable", "OMP_NUM_THREADS") == "2"
    assert found.fact("variable", "TORCH_HOME") == "https://host/x"


def test_each_run_has_a_salt_of_its_own(tmp_path, context) -> None:
    here = context(tmp_path, environment={"A": "1"})
    assert variables.alongside(here).facts != variables.alongside(here).facts


def test_what_frameworks_choose_their_engines_by_is_stored(tmp_path, context) -> None:
    """A replay sets them: Keras without its variable would take another backend, or fail."""
    environment = {"KERAS_BACKEND": "torch", "ACCELERATE_MIXED_PRECISION": "bf16", "TORCHDYNAMO_DISABLE": "1"}
    found = variables.before(context(tmp_path, environment=environment))
    assert environment == {fact.name: fact.value for fact in found.facts if fact.topic == "variable"}
