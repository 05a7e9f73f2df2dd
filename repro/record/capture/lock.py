"""The environment lock: resolved once per environment, beside the training."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

from repro.evidence.model import Gap, Package
from repro.record import lock
from repro.record.capture import Context, Findings, observed
from repro.record.lock import Lock

_HEADER: Final = "# gap\t"


def beside(context: Context) -> Findings:
    """Store the lock of the packages that the environment capture listed."""
    packages, fingerprint = context.findings.packages, context.findings.fact("environment", "fingerprint")
    if context.code_paths is not None:
        return Findings()  # a replay: its environment came from the original's lock, or was the original's
    if context.interpreter is None or fingerprint is None or not packages:
        return Findings()
    kept = context.cache / "locks" / f"{_cache_name(fingerprint, context)}.txt"
    found = _read(kept)
    if found is None:
        found = lock.resolve(context.interpreter, packages, context.environment, context.patience)
        if _is_lasting(found, packages):
            _write(kept, found)
    facts = (observed("environment", "lock", context.objects.put(found.text.encode())),) if found.text else ()
    return Findings(facts=facts, gaps=found.gaps)


def _cache_name(fingerprint: str, context: Context) -> str:
    """Name a lock by its environment, and by where pip looks: another index may give another lock."""
    pip = sorted((name, value) for name, value in context.environment.items() if name.startswith("PIP_"))
    return hashlib.sha256(repr((fingerprint, pip)).encode("utf-8", "backslashreplace")).hexdigest()


def _is_lasting(found: Lock, packages: tuple[Package, ...]) -> bool:
    """Say whether asking again would give the same: not where the index could not be reached, or time ran out."""
    return bool(found.text) and not any(gap.subject == "index" for gap in found.gaps)


def _read(path: Path) -> Lock | None:
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, ValueError):
        return None
    gaps = [line.removeprefix(_HEADER).rstrip("\n").partition("\t") for line in lines if line.startswith(_HEADER)]
    text = "".join(line for line in lines if not line.startswith(_HEADER))
    return Lock(text=text, gaps=tuple(Gap(topic="lock", subject=subject, reason=reason) for subject, _, reason in gaps))


def _write(path: Path, found: Lock) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    text = "".join(f"{_HEADER}{gap.subject}\t{gap.reason}\n" for gap in found.gaps) + found.text
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.parent, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)  # noqa: PTH105 - complete, or not there
