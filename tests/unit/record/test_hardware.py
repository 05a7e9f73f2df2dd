"""Processors, memory and disks, from this machine and from the files of others."""

from __future__ import annotations

from pathlib import Path

from repro.evidence.model import DataFile
from repro.record.capture import Findings, hardware
from repro.record.machine import disks, processors


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_layout_of_a_server_with_two_sockets(tmp_path: Path) -> None:
    cpus = "sys/devices/system/cpu"
    for index, (level, kind, size) in enumerate(
        (("1", "Data", "48K"), ("1", "Instruction", "32K"), ("3", "Unified", "36M"))
    ):
        write(tmp_path, f"{cpus}/cpu0/cache/index{index}/level", level)
        write(tmp_path, f"{cpus}/cpu0/cache/index{index}/type", kind)
        write(tmp_path, f"{cpus}/cpu0/cache/index{index}/size", size)
        write(tmp_path, f"{cpus}/cpu0/cache/index{index}/shared_cpu_list", "0,32")
    write(tmp_path, f"{cpus}/smt/active", "1")
    for cpu, governor in enumerate(("performance", "performance", "powersave")):
        write(tmp_path, f"{cpus}/cpu{cpu}/cpufreq/scaling_governor", governor)
    write(tmp_path, f"{cpus}/cpu0/cpufreq/cpuinfo_max_freq", "3800000")
    write(tmp_path, f"{cpus}/intel_pstate/no_turbo", "1")
    for node, (cpulist, distance) in enumerate((("0-15,32-47", "10 21"), ("16-31,48-63", "21 10"))):
        write(tmp_path, f"sys/devices/system/node/node{node}/cpulist", cpulist)
        write(tmp_path, f"sys/devices/system/node/node{node}/distance", distance)
    write(tmp_path, "sys/devices/system/edac/mc/mc0/dimm0/dimm_edac_mode", "S8ECD8ED")
    write(tmp_path, "proc/swaps", "Filename Type Size Used Priority\n/dev/sda2 partition 1024 0 -2\n")
    assert {
        "cpu_caches": "L1d 48K (CPUs 0,32), L1i 32K (CPUs 0,32), L3 36M (CPUs 0,32)",
        "cpu_smt": "on",
        "cpu_governor": "performance,powersave",
        "cpu_max_mhz": 3800,
        "cpu_boost": "off",
        "numa_cpus": "0: 0-15,32-47; 1: 16-31,48-63",
        "numa_distances": "10 21; 21 10",
        "memory_error_correction": "S8ECD8ED",
        "swap_bytes": 1024 * 1024,
    }.items() <= dict(processors.layout(tmp_path)).items()


def test_accelerators_are_counted_and_those_that_cannot_be_asked_are_gaps(tmp_path: Path) -> None:
    for index, (kind, vendor, driver) in enumerate(
        (
            ("0x030200", "0x10de", "nvidia"),
            ("0x030200", "0x10de", "nvidia"),
            ("0x120000", "0x1002", "amdgpu"),
            ("0x020000", "0x1", "net"),
            ("0x030000", "0x1002", "amdgpu"),
        )
    ):
        device = f"sys/bus/pci/devices/0000:0{index}:00.0"
        write(tmp_path, f"{device}/class", kind)
        write(tmp_path, f"{device}/vendor", vendor)
        write(tmp_path, f"{device}/device", "0x2330")
        (tmp_path / "drivers" / driver).mkdir(parents=True, exist_ok=True)
        (tmp_path / device / "driver").symlink_to(tmp_path / "drivers" / driver)
    found = processors.accelerators(tmp_path)
    assert {"10de:2330 nvidia": 2, "1002:2330 amdgpu": 1, "1002:2330 amdgpu (display)": 1} == found
    assert ["accelerator 1002:2330 amdgpu"] == [gap.subject for gap in hardware._undescribed(found)]


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert {"", None} >= set(dict(processors.layout(tmp_path)).values())


def test_a_folder_lies_on_the_mount_nearest_to_it(tmp_path: Path) -> None:
    data = tmp_path / "big data"
    (data / "set").mkdir(parents=True)
    escaped = str(data).replace(" ", "\\040")
    write(
        tmp_path,
        "proc/self/mountinfo",
        "20 1 0:20 / / rw,relatime - overlay overlay rw,lowerdir=/secret\n"
        f"21 20 8:1 / {escaped} ro,noatime shared:1 - ext4 /dev/sda1 rw\n"
        f"22 20 0:30 / {escaped}2 rw - nfs4 server:/export rw\n"
        "broken\n",
    )
    write(tmp_path, "devices/sda/sda1/partition", "1")
    write(tmp_path, "devices/sda/device/model", "Samsung SSD 980")
    write(tmp_path, "devices/sda/device/serial", "S0SECRET")
    write(tmp_path, "devices/sda/queue/rotational", "0")
    (tmp_path / "sys/dev/block").mkdir(parents=True)
    (tmp_path / "sys/dev/block/8:1").symlink_to(tmp_path / "devices/sda/sda1")
    expected = "ext4 ro on /dev/sda1 (Samsung SSD 980, solid state or virtual)"
    mounts = disks.Mounts(tmp_path)
    assert expected == mounts.describe(data / "set") == mounts.describe(data)
    assert "nfs4 rw on server:/export" == mounts.describe(Path(f"{data}2/x"))
    assert "overlay rw on overlay" == mounts.describe(Path("/elsewhere"))
    assert disks.Mounts(tmp_path / "nowhere").describe(data) is None


def test_what_the_data_lie_on_is_told_once_they_are_known(tmp_path: Path, context) -> None:
    row = DataFile(
        path="/proc/self/status",
        role="input",
        category="data",
        dataset=None,
        size_bytes=1,
        digest=None,
        modified_at=None,
        process_key="main",
        library="python",
        seen_by="agent",
        changed_during_run=False,
    )
    found = hardware.after(context(tmp_path, findings=Findings(data_files=(row,))))
    assert (found.fact("hardware", "disk.data") or "").startswith("proc ")
    assert () == hardware.after(context(tmp_path)).facts
