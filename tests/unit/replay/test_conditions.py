from typing import Any

import pytest

from repro.replay import conditions
from repro.replay.data import Inspection


def test_a_redacted_argument_cannot_be_given_again(make: Any) -> None:
    record = make.record(run={"argv": ("python", "t.py", "--token=<redacted>")})
    [found] = conditions.of_command(record)
    assert ("impossible", "argument 2") == (found.effect, found.name)
    assert found.hint is not None
    assert "--pass-env" in found.hint


@pytest.mark.parametrize("status", ["killed", "interrupted"])
def test_a_killed_run_may_be_replayed_and_it_is_said(make: Any, status: str) -> None:
    [found] = conditions.of_command(make.record(run={"status": status}))
    assert "none" == found.effect
    assert f"was {status}: only what came before can be compared" in found.sentence


def test_machine_facts_that_reach_the_bits_put_them_at_risk(make: Any) -> None:
    def facts(**values: str) -> tuple[Any, ...]:
        return tuple(make.fact("hardware", name, value) for name, value in values.items())

    record = make.record(facts=(*facts(cpu_model="A", cpu_affinity="0-1", hostname="x", cpu_isa="avx2"),))
    here = facts(cpu_model="B", cpu_affinity="4-5", hostname="y", cpu_isa="avx2", gpu_count="1")
    found = {c.name.removeprefix("hardware "): (c.state, c.effect) for c in conditions.of_machine(record, here)}
    expected = {
        "cpu_model": ("differs", "bitwise at risk"),
        "cpu_affinity": ("differs", "none"),
        "hostname": ("differs", "none"),
        "cpu_isa": ("same", "none"),
        "gpu_count": ("differs", "bitwise at risk"),
    }
    assert expected == found


def test_what_is_missing_here_is_called_missing(make: Any) -> None:
    record = make.record(
        facts=(make.fact("hardware", "gpu_count", "8"), make.fact("environment", "libc", "glibc-2.36"))
    )
    states = {c.name: c.state for c in conditions.of_machine(record, ())}
    assert {"hardware gpu_count": "missing", "environment libc": "missing"} == states


def test_variables_whose_values_were_not_stored_are_named(make: Any) -> None:
    record = make.record(facts=(make.fact("environment", "other_variables", "A,LD_LIBRARY_PATH,MY_TOKEN,PASSED"),))
    loader, rest = conditions.of_hidden_variables(record, ("PASSED",))
    assert ("variable LD_LIBRARY_PATH", "bitwise at risk") == (loader.name, loader.effect)
    assert ("A, MY_TOKEN", "none") == (rest.recorded, rest.effect)
    assert () == conditions.of_hidden_variables(make.record(), ())
    assert [loader] == list(conditions.of_hidden_variables(record, ("PASSED", "A", "MY_TOKEN")))


def test_outputs_outside_the_tree_are_not_written_over(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    inspection = Inspection(present_outputs=("/data/m.pt", "/moved/x/y", "/home/me/.cache/z"))
    written, cached = conditions.of_outputs(inspection, ("/moved/x",))
    assert ("impossible", "none") == (written.effect, cached.effect)
    assert "the replay would write over the recorded output" in written.sentence
    assert written.hint is not None
    assert "/data/m.pt" in written.hint


def test_changed_data_is_impossible_unless_allowed(make: Any) -> None:
    inspection = Inspection(unchecked=("d could not be hashed",))
    [doubt] = conditions.of_data(inspection, allow_changed=False)
    assert ("bitwise at risk", "d could not be hashed") == (doubt.effect, doubt.note)


def test_sentences(make: Any) -> None:
    same = conditions.Condition(name="python", recorded="3.11", here="3.11", effect="none")
    differs = conditions.Condition(name="cpu", recorded=None, here="B", effect="bitwise at risk")
    assert "python: 3.11" == same.sentence
    assert "cpu: recorded nothing, here B (bitwise at risk)" == differs.sentence
