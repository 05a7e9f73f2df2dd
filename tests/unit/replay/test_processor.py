from typing import Any

import pytest

from repro.evidence.model import Setting
from repro.replay import processor

FULL = "sse4_2 avx avx2 fma avx512f avx512bw avx512dq avx512vl"


def _record(make: Any, *, level: str = "AVX2", threads: str = "4", affinity: str = "0-3") -> Any:
    settings = tuple(
        Setting(process_key="main", moment="import", name=name, value=value)
        for name, value in (("torch.cpu_capability", level), ("torch.num_threads", threads))
    )
    return make.record(facts=(make.fact("hardware", "cpu_affinity", affinity),), settings=settings)


def _here(make: Any, *, isa: str = "sse4_2 avx avx2 fma", affinity: str = "0-3") -> tuple[Any, ...]:
    return (make.fact("hardware", "cpu_isa", isa), make.fact("hardware", "cpu_affinity", affinity))


def test_the_same_processor_needs_nothing(make: Any) -> None:
    assert {} == processor.variables(_record(make), _here(make))


def test_libraries_are_held_to_the_recorded_instruction_set(make: Any) -> None:
    expected = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
    assert expected == processor.variables(_record(make), _here(make, isa=FULL))


def test_a_recorded_default_level_is_held_too(make: Any) -> None:
    assert {"ATEN_CPU_CAPABILITY": "default"} == processor.variables(_record(make, level="DEFAULT"), _here(make))


@pytest.mark.parametrize("isa", ["sse4_2 avx", "asimd sve"])
def test_what_the_host_has_not_is_not_asked_for(make: Any, isa: str) -> None:
    assert {} == processor.variables(_record(make, level="AVX512"), _here(make, isa=isa))


def test_thread_counts_are_set_where_the_number_of_cores_differs(make: Any) -> None:
    found = processor.variables(_record(make), _here(make, affinity="0-1,4-7"))
    assert {"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "4", "MKL_DYNAMIC": "FALSE"} == found


def test_other_cores_of_the_same_number_change_nothing(make: Any) -> None:
    assert {} == processor.variables(_record(make), _here(make, affinity="2,5,7-8"))


def test_a_run_without_pytorch_needs_nothing(make: Any) -> None:
    assert {} == processor.variables(make.record(), _here(make, isa=FULL, affinity="0"))


@pytest.mark.parametrize(("ranges", "expected"), [("0", 1), ("0-3,8", 5), ("", 0), ("a-b", 0), ("0-", 1)])
def test_count(ranges: str, expected: int) -> None:
    assert expected == processor.count(ranges)


def test_onednn_and_mkl_look_at_the_cpu_and_not_at_what_aten_was_told(make: Any) -> None:
    """Recorded under ATEN_CPU_CAPABILITY=avx2 on a CPU with AVX-512: the other two ran with that."""
    record = _record(make)
    recorded = make.record(facts=(*record.facts, make.fact("hardware", "cpu_isa", FULL)), settings=record.settings)
    assert {"ATEN_CPU_CAPABILITY": "avx2"} == processor.variables(recorded, _here(make, isa=FULL))


def test_onednn_is_held_below_instructions_that_are_new_here(make: Any) -> None:
    record = _record(make, level="AVX512")
    recorded = make.record(facts=(*record.facts, make.fact("hardware", "cpu_isa", FULL)), settings=record.settings)
    newer = f"{FULL} avx512_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16"
    assert {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"} == processor.variables(recorded, _here(make, isa=newer))


def test_ranks_that_shared_the_cores_are_left_to_their_launcher(make: Any) -> None:
    record = _record(make, threads="8")
    rank = Setting(process_key="main/rank0", moment="import", name="torch.num_threads", value="1")
    recorded = make.record(facts=record.facts, settings=(*record.settings, rank))
    assert {"MKL_DYNAMIC": "FALSE"} == processor.variables(recorded, _here(make, affinity="0"))


@pytest.mark.parametrize(
    ("affinity", "at_risk", "said"),
    [("0-7", False, "may use 4 of them"), ("0-1", False, "held to the recorded number of threads, 4")],
)
def test_what_becomes_of_other_numbers_of_cpus(make: Any, affinity: str, at_risk: bool, said: str) -> None:
    stand = processor.stands(_record(make), _here(make, affinity=affinity))["cpu_affinity"]
    assert at_risk == stand[0]
    assert said in stand[1]


def test_fewer_cpus_for_a_run_without_pytorch_put_the_bits_at_risk(make: Any) -> None:
    record = make.record(facts=(make.fact("hardware", "cpu_affinity", "0-3"),))
    stands = processor.stands(record, _here(make, affinity="0"))
    assert stands["cpu_affinity"][0]
    assert "cpu_cores" not in stands


@pytest.mark.parametrize(
    ("level", "isa", "said"),
    [
        ("AVX512", "sse4_2 avx avx2 fma", "which this CPU cannot run"),
        ("AVX2", FULL, "ATEN_CPU_CAPABILITY=avx2, MKL_ENABLE_INSTRUCTIONS=AVX2, ONEDNN_MAX_CPU_ISA=AVX2"),
        ("AVX2", f"{FULL} sha", "Intel CPUs alone"),
        ("AVX512", f"{FULL} sha", "no library is known"),
    ],
)
def test_what_can_be_held_of_instruction_sets_is_said(make: Any, level: str, isa: str, said: str) -> None:
    at_risk, note = processor.stands(_record(make, level=level), _here(make, isa=isa))["cpu_isa"]
    assert at_risk
    assert said in note
