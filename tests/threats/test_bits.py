"""Threats 1 and 2: bits are flipped, bytes are cut off or added."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from repro.errors import AlteredError
from repro.evidence import seal


def members(victim: Any) -> dict[str, Path]:
    objects = [path for path in victim.store.objects.root.rglob("*") if path.is_file()]
    assert len(objects) == 5
    return {
        "manifest.duckdb": victim.directory.manifest,
        "statement.dsse.json": victim.directory.statement,
        **{path.relative_to(victim.store.root).as_posix(): path for path in objects},
    }


def test_1_a_flipped_bit_in_any_byte_of_the_envelope(victim: Any) -> None:
    """Either it is refused, or it was in what nobody signs (a keyid, a name that is ignored) and changes nothing."""
    data = victim.directory.statement.read_bytes()
    payload, trusted = victim.payload(), victim.trusted
    harmless = 0
    for position in range(len(data)):
        mutant = bytearray(data)
        mutant[position] ^= 1 << (position % 8)
        try:
            envelope = seal.open_envelope(bytes(mutant), trusted)
        except AlteredError:
            continue
        harmless += 1
        assert (payload, (victim.keyid,)) == (envelope.payload, envelope.signers)
    assert 0 < harmless <= len("keyid" + victim.keyid)


@pytest.mark.parametrize("bit", range(8))
def test_1_a_flipped_bit_in_an_object(victim: Any, bit: int) -> None:
    for name, path in members(victim).items():
        if not name.startswith("objects/"):
            continue
        data = path.read_bytes()
        victim.write(path, bytes([data[0] ^ 1 << bit]) + data[1:])
        assert [(name, "altered")] == [(problem.member, problem.kind) for problem in victim.examine().problems]
        victim.write(path, data)
    assert 0 == victim.exit_code()


def test_1_a_flipped_bit_in_the_manifest(victim: Any) -> None:
    """DuckDB misses a third of these by itself: they lie in unused space."""
    data = victim.directory.manifest.read_bytes()
    draw = random.Random(1)
    positions = [0, 8, 4095, 4096, 8192, len(data) - 1, *(draw.randrange(len(data)) for _ in range(94))]
    for position in positions:
        mutant = bytearray(data)
        mutant[position] ^= 1 << draw.randrange(8)
        victim.write(victim.directory.manifest, bytes(mutant))
        result = victim.examine()
        assert [("manifest.duckdb", "altered")] == [(problem.member, problem.kind) for problem in result.problems]
        assert result.record is None
    victim.write(victim.directory.manifest, data)
    assert 0 == victim.exit_code()


def test_2_every_member_cut_short_or_made_longer_or_emptied(victim: Any) -> None:
    for name, path in members(victim).items():
        data = path.read_bytes()
        for mutant in (data[:-1], data + b"\0", data + b"{}", b""):
            victim.write(path, mutant)
            result = victim.examine()
            assert [name] == [problem.member for problem in result.problems]
            assert "ALTERED" == result.light
            assert 3 == victim.exit_code()
        victim.write(path, data)
    assert 0 == victim.exit_code()
