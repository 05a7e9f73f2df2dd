"""Energy and GPUs: counters as the kernel shows them, and a real library that answers as the driver's does."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from repro.record.capture import energy
from repro.record.machine import nvml, rapl

SOURCE = r"""
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#define TEXT(name, ...) int name(__VA_ARGS__ char *text, unsigned size)
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, sub; char bus_id[32]; } Pci;
static const char *devices[2] = {"zero", "one"};
static int number(const void *device) { return device == devices[1]; }
int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
TEXT(nvmlSystemGetDriverVersion,) { return snprintf(text, size, "550.54") < 0; }
TEXT(nvmlSystemGetNVMLVersion,) { return snprintf(text, size, "12.550") < 0; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { if (HANG) sleep(60); *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, const void **device) { *device = devices[index]; return 0; }
TEXT(nvmlDeviceGetName, const void *device,) { return snprintf(text, size, "NVIDIA H%d", number(device)) < 0; }
TEXT(nvmlDeviceGetUUID, const void *device,) { return snprintf(text, size, "GPU-%d", number(device)) < 0; }
TEXT(nvmlDeviceGetVbiosVersion, const void *device,) { return snprintf(text, size, "96.00") < 0; }
int nvmlDeviceGetMemoryInfo(const void *device, Memory *memory) { memory->total = 81559ULL << 20; return 0; }
int nvmlDeviceGetPciInfo_v3(const void *device, Pci *pci) { strcpy(pci->bus_id, "00000000:0A:00.0"); return 0; }
int nvmlDeviceGetCudaComputeCapability(const void *device, int *major, int *minor) { *major = 9; *minor = 0; return 0; }
int nvmlDeviceGetEccMode(const void *device, unsigned *now, unsigned *later) { *now = 1; *later = 1; return 0; }
int nvmlDeviceGetMigMode(const void *device, unsigned *now, unsigned *later) { return 3; }
int nvmlDeviceGetPersistenceMode(const void *device, unsigned *mode) { *mode = 1; return 0; }
int nvmlDeviceGetComputeMode(const void *device, unsigned *mode) { *mode = 3; return 0; }
int nvmlDeviceGetMaxClockInfo(const void *device, unsigned clock, unsigned *mhz) { *mhz = 1000 + clock; return 0; }
int nvmlDeviceGetPowerManagementLimit(const void *device, unsigned *milliwatts) { *milliwatts = 700000; return 0; }
int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *on) { *on = link < 4; return link < 6 ? 0 : 2; }
int nvmlDeviceGetTopologyCommonAncestor(void *a, void *b, int *level) { *level = 40; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(const void *device, unsigned long long *millijoules) {
    FILE *file = fopen(COUNTER, "r");
    if (number(device) == 1 || !file) return 3;
    int read = fscanf(file, "%llu", millijoules);
    fclose(file);
    return read != 1;
}
"""


@pytest.fixture
def library(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that builds a library with the functions of NVIDIA's: two GPUs, of which one counts energy."""
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("gcc: not installed")

    def build(*, init: int = 0, hang: int = 0) -> Path:
        (tmp_path / "nvml.c").write_text(SOURCE)
        made = tmp_path / f"libnvidia-ml-{init}-{hang}.so.1"
        defined = [f"-DINIT={init}", f"-DHANG={hang}", f'-DCOUNTER="{tmp_path / "counter"}"']
        subprocess.run([gcc, "-shared", "-fPIC", "-w", *defined, "-o", made, tmp_path / "nvml.c"], check=True)
        return made

    return build


def zone(root: Path, path: str, name: str, microjoules: int, range_: int = 999) -> Path:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in (("name", name), ("energy_uj", microjoules), ("max_energy_range_uj", range_)):
        (folder / file).write_text(f"{content}\n")
    return folder


def test_the_library_tells_what_nvidia_smi_tells(library) -> None:
    facts = nvml.ask(lambda opened: dict(opened.facts()), 20, library())
    assert {
        "gpu_count": 2,
        "gpu_driver": "550.54",
        "gpu_driver_cuda": "12.4",
        "gpu.0.name": "NVIDIA H0",
        "gpu.1.uuid": "GPU-1",
        "gpu.0.driver_version": "550.54",
        "gpu.0.memory_mebibytes": 81559,
        "gpu.0.pci_bus_id": "00000000:0A:00.0",
        "gpu.0.compute_cap": "9.0",
        "gpu.0.ecc_mode_current": "Enabled",
        "gpu.0.mig_mode_current": "[N/A]",
        "gpu.0.persistence_mode": "Enabled",
        "gpu.0.compute_mode": "Exclusive_Process",
        "gpu.0.clock_max_memory_mhz": 1002,
        "gpu.0.power_limit_watts": "700",
        "gpu.0.nvlinks": 4,
        "gpu.0.path_to.1": "NUMA node",
    }.items() <= facts.items()
    assert "gpu.0.clock_application_memory_mhz" not in facts, "the driver does not know the function"


def test_a_library_that_is_missing_broken_or_hangs_is_told_apart(library, tmp_path: Path) -> None:
    for path, timeout, reason in (
        (tmp_path / "none.so", 20, "could not be loaded"),
        (library(init=9), 20, "its error 9"),
        (library(hang=1), 0.2, "did not answer"),
    ):
        with pytest.raises(nvml.NvmlError, match=reason):
            nvml.ask(lambda opened: dict(opened.facts()), timeout, path)


def test_packages_and_memory_add_up_and_a_counter_may_go_round(tmp_path: Path) -> None:
    package = zone(tmp_path, "intel-rapl:0", "package-0", 990)
    zone(tmp_path, "intel-rapl:0:0", "core", 500)
    memory = zone(tmp_path, "intel-rapl:0:1", "dram", 10)
    zone(tmp_path, "intel-rapl:1", "psys", 0)
    counters = rapl.Counters(tmp_path)
    zone(package.parent, package.name, "package-0", 5)
    counters.update()
    assert 15 == counters.microjoules
    zone(memory.parent, memory.name, "dram", 110)
    counters.update()
    assert 115 == counters.microjoules


def test_a_machine_without_counters_has_none_and_one_that_hides_them_says_so(tmp_path: Path) -> None:
    assert not rapl.Counters(tmp_path / "nothing")
    (zone(tmp_path, "intel-rapl:0", "package-0", 0) / "energy_uj").unlink()
    with pytest.raises(rapl.Unreadable, match="energy_uj"):
        rapl.Counters(tmp_path)
    meter = energy.Meter(tmp_path)
    meter.start()
    assert () == meter.end()
    assert ["energy of the processors"] == [gap.subject for gap in meter.gaps]


def test_processors_and_gpus_are_told_apart_and_added(library, tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0, range_=10**9)
    (tmp_path / "counter").write_text("1000")
    meter = energy.Meter(tmp_path, library())
    meter.start()
    while not meter._gpus:
        assert not meter.gaps
    zone(tmp_path, "intel-rapl:0", "package-0", 2_500_000, range_=10**9)
    (tmp_path / "counter").write_text("8000")
    told = {fact.name: fact.value for fact in meter.end()}
    assert ("9.500", "rapl+nvml") == (told["energy_joules"], told["energy_source"])
    assert ("2.500", "7.000") == (told["energy_rapl_joules"], told["energy_nvml_joules"])
    assert "other work" in told["energy_scope"]
    assert [] == meter.gaps


def test_a_driver_that_does_not_answer_is_a_gap_and_costs_no_processor(library, tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = energy.Meter(tmp_path, library(init=9))
    meter.start()
    told = {fact.name: fact.value for fact in meter.end()}
    assert "rapl" == told["energy_source"]
    assert ["energy of GPU"] == [gap.subject for gap in meter.gaps]


def test_an_estimate_is_marked_as_one() -> None:
    told = {fact.name: fact.value for fact in energy.estimate(12.0)}
    assert "120.000" == told["energy_joules"]
    assert told["energy_source"].startswith("estimate: ")
    assert "Permission denied" in str(energy.estimate(12.0, "its counters were not read: Permission denied"))


def test_a_recording_leaves_no_meter_behind(context, tmp_path: Path) -> None:
    here = context(tmp_path)
    assert () == energy.before(here).facts
    energy.after(here)
    assert here.patience not in energy._meters
