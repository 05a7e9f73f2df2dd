"""Build ids of real programs, of programs made by hand, and of files that are none."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from repro.record.software import elf

NOTE = struct.pack("<III", 4, 4, 3) + b"GNU\0" + b"\xab\xcd\xef\x01"


def program(
    *, note: bytes = NOTE, wide: bool = True, order: str = "<", size: int | None = None, count: int = 1
) -> bytes:
    """Return an ELF file with one segment of notes and nothing else."""
    identity = b"\x7fELF" + bytes([2 if wide else 1, 2 if order == ">" else 1, 1]) + bytes(9)
    header_bytes, entry_bytes = (64, 56) if wide else (52, 32)
    at, claimed = header_bytes + entry_bytes, len(note) if size is None else size
    fields = (3, 62, 1, 0, header_bytes, 0, 0, header_bytes, entry_bytes, count, 0, 0, 0)
    header = struct.pack(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), *fields)
    entry = (4, 4, at, 0, 0, claimed, claimed, 4) if wide else (4, at, 0, 0, claimed, claimed, 4, 4)
    return identity + header + struct.pack(order + ("IIQQQQQQ" if wide else "IIIIIIII"), *entry) + note


def test_the_build_id_of_a_real_library_is_the_one_that_readelf_prints() -> None:
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("gcc: readelf is not installed")
    libc = next(
        line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if re.search(r"/libc[.-]", line)
    )
    printed = subprocess.run([readelf, "-n", libc], capture_output=True, text=True, check=True).stdout
    assert re.search(r"Build ID: ([0-9a-f]+)", printed)[1] == elf.build_id(Path(libc))  # type: ignore[index]


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_both_sizes_and_both_byte_orders(tmp_path: Path, wide: bool, order: str) -> None:
    note = struct.pack(order + "III", 4, 1, 1) + b"GNU\0" + b"x\0\0\0" + struct.pack(order + "III", 4, 4, 3) + NOTE[12:]
    (tmp_path / "a").write_bytes(program(note=note, wide=wide, order=order))
    assert "abcdef01" == elf.build_id(tmp_path / "a")


def test_a_file_that_is_cut_off_anywhere_has_none(tmp_path: Path) -> None:
    whole = program()
    for length in range(4, len(whole)):
        (tmp_path / "a").write_bytes(whole[:length])
        assert elf.build_id(tmp_path / "a") is None


@pytest.mark.parametrize(
    "content",
    [
        program(count=65535, note=b""),
        program(note=struct.pack("<III", 2**32 - 1, 2**32 - 1, 3)),
        program(note=struct.pack("<III", 4, 2**32 - 1, 3) + b"GNU\0"),
        program(note=struct.pack("<III", 4, 65, 3) + b"GNU\0" + bytes(68)),
        program(note=bytes(12) * 5000),
        b"\x7fELF" + b"\xff" * 300,
    ],
    ids=range(6),
)
def test_a_hostile_file_has_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    assert elf.build_id(tmp_path / "a") is None


def test_a_segment_that_claims_to_be_huge_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(program(size=2**63))
    assert "abcdef01" == elf.build_id(tmp_path / "a")


def test_what_is_no_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    os.mkfifo(tmp_path / "fifo")
    for name in ("text", "fifo"):
        with pytest.raises(ValueError, match="no ELF file"):
            elf.build_id(tmp_path / name)
    with pytest.raises(OSError, match="No such file"):
        elf.build_id(tmp_path / "missing")
