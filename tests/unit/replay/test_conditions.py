from typing import Any

import pytest

from repro.evidence import commitment
from repro.evidence.model import Setting
from repro.replay import conditions
from repro.replay.data import Inspection, Mismatch
from repro.replay.tools import Tool


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


def _hidden(make: Any, **values: str) -> Any:
    salt = "ab" * 32
    committed = (make.fact("commitment", n, commitment.commit(salt, n, v, secret=False)) for n, v in values.items())
    return make.record(
        facts=(
            make.fact("environment", "other_variables", ",".join(values)),
            make.fact("environment", "commitment_salt", salt),
            *committed,
        )
    )


def test_how_hidden_variables_stand_here_is_told_by_their_commitments(make: Any) -> None:
    record = _hidden(make, DATA="/d", MODE="fast", TOKEN="t")
    [others] = conditions.of_hidden_variables(record, (), {"DATA": "/d", "MODE": "slow"})
    assert "the same value here: DATA" in others.sentence
    assert "another value here: MODE" in others.sentence
    assert "not set here: TOKEN" in others.sentence


def test_a_variable_that_is_passed_on_is_checked(make: Any) -> None:
    record = _hidden(make, MODE="fast")
    assert () == conditions.of_hidden_variables(record, ("MODE",), {"MODE": "fast"})
    [found] = conditions.of_hidden_variables(record, ("MODE",), {"MODE": "slow"})
    assert ("variable MODE", "bitwise at risk") == (found.name, found.effect)
    assert "another value" in found.sentence


def test_a_loader_variable_says_whether_passing_it_on_would_do(make: Any) -> None:
    record = _hidden(make, LD_LIBRARY_PATH="/opt/lib")
    [found] = conditions.of_hidden_variables(record, (), {"LD_LIBRARY_PATH": "/opt/lib"})
    assert found.sentence.endswith("--pass-env LD_LIBRARY_PATH (the same value here))")


def test_a_changed_dataset_is_one_condition(make: Any) -> None:
    def mismatch(number: int, found: str | None) -> Mismatch:
        return Mismatch(
            path=f"set/{number}",
            recorded_sha256=make.digest(b"old"),
            found_sha256=found,
            found_size_bytes=1,
            recorded_modified_at=None,
            found_modified_at=None,
            sentence=f"set/{number} changed",
            dataset="set",
        )

    wrong = (*(mismatch(n, make.digest(b"new")) for n in range(5000)), mismatch(5000, None))
    sets = (make.dataset("set", 10_000),)
    [found] = conditions.of_data(Inspection(mismatches=wrong), allow_changed=False, datasets=sets)
    assert ("dataset set", "impossible") == (found.name, found.effect)
    assert "5,001 of the 10,000 files of dataset set are not what they were, such as: set/0 changed" == found.note
    assert "5,000 of them changed, 1 gone or not readable" == found.here
    [allowed] = conditions.of_data(Inspection(mismatches=wrong), allow_changed=True, datasets=sets)
    assert ("bitwise at risk", None) == (allowed.effect, allowed.hint)
    assert 5001 == len(conditions.of_data(Inspection(mismatches=wrong), allow_changed=False))


def test_many_inputs_that_cannot_be_checked_are_counted(make: Any) -> None:
    found = conditions.of_data(Inspection(unchecked=tuple(map(str, range(100)))), allow_changed=False)
    assert (21, "80 more inputs cannot be checked") == (len(found), found[-1].note)


def test_programs_that_are_missing_or_others_put_the_bits_at_risk(make: Any) -> None:
    def tool(path: str, here: str | None, found: bytes | None) -> Tool:
        digest = None if found is None else make.digest(found)
        return Tool(path=path, here=here, recorded_sha256=make.digest(b"x"), found_sha256=digest)

    programs = (tool("/bin/a", "/bin/a", b"x"), tool("/bin/b", "/bin/b", b"y"), tool("/bin/c", None, None))
    other, missing = conditions.of_programs(Inspection(programs=programs))
    assert ("program /bin/b", "differs") == (other.name, other.state)
    assert ("program /bin/c", "missing") == (missing.name, missing.state)
    assert {"bitwise at risk"} == {other.effect, missing.effect}
    many = conditions.of_programs(Inspection(programs=tuple(tool(f"/bin/{n}", None, None) for n in range(50))))
    assert (21, "other programs") == (len(many), many[-1].name)


def test_edited_distributions_are_named_with_their_first_file(make: Any) -> None:
    record = make.record(package_changes=(make.edit("numpy", "/e/numpy/a.py"), make.edit("numpy", "/e/numpy/b.py")))
    [found] = conditions.of_edits(record)
    assert ("package numpy", "bitwise at risk") == (found.name, found.effect)
    assert "/e/numpy/a.py and 1 more files had been edited" in found.sentence
    assert found in make.plan(record).lacking, "an executor that takes the environment as it stands does not lack it"


def test_what_a_command_inherits(make: Any) -> None:
    def machine(**values: str) -> tuple[Any, ...]:
        return tuple(make.fact("environment", name.replace("__", "."), value) for name, value in values.items())

    there = machine(umask="0002", limit__nofile="65536:65536", limit__stack="100:200", limit__cpu="60:60")
    here = machine(
        umask="0022", limit__nofile="1024:4096", limit__stack="50:unlimited", limit__cpu="unlimited:unlimited"
    )
    found = {c.name.removeprefix("environment "): c for c in conditions.of_machine(make.record(facts=there), here)}
    assert "bitwise at risk" == found["limit.nofile"].effect
    assert "the replay sets the recorded soft limit" == found["limit.stack"].note
    assert "left as it is here" == found["limit.cpu"].note
    assert "the replay sets it as recorded" == found["umask"].note


def test_energy_says_nothing_about_a_machine(make: Any) -> None:
    record = make.record(facts=(make.fact("hardware", "energy_joules", "12"),))
    assert () == conditions.of_machine(record, ())


def test_what_is_held_of_the_processor_is_no_risk_and_what_cannot_be_is_said(make: Any) -> None:
    record = make.record(
        facts=(
            make.fact("hardware", "cpu_affinity", "0-3"),
            make.fact("hardware", "cpu_cores", "4"),
            make.fact("hardware", "cpu_vendor", "GenuineIntel"),
        ),
        settings=(Setting(process_key="main", moment="import", name="torch.num_threads", value="4"),),
    )
    here = (
        make.fact("hardware", "cpu_affinity", "0-1"),
        make.fact("hardware", "cpu_cores", "2"),
        make.fact("hardware", "cpu_vendor", "AuthenticAMD"),
    )
    found = {condition.name: condition for condition in conditions.of_machine(record, here)}
    assert "none" == found["hardware cpu_affinity"].effect == found["hardware cpu_cores"].effect
    assert "held to the recorded number of threads, 4" in found["hardware cpu_cores"].sentence
    assert found["hardware cpu_vendor"].matters
    assert "no variable changes" in found["hardware cpu_vendor"].sentence


def test_the_mode_of_determinism_is_said_where_there_was_one(make: Any) -> None:
    assert () == conditions.of_determinism(make.record())
    assert () == conditions.of_determinism(make.record(facts=(make.fact("determinism", "mode", "off"),)))
    strict = make.record(facts=(make.fact("determinism", "mode", "strict"),))
    assert ["determinism: strict"] == [condition.sentence for condition in conditions.of_determinism(strict)]
    assert "strict" == make.plan(strict).determinism
    assert make.plan(strict).digest != make.plan(make.record()).digest
