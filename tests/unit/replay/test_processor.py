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
