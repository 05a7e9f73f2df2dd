"""The environment lock, and the wheels that a replay could not fetch again, beside the training.

They are one capture, as the wheels depend on what the index said, and the lock on the wheels: the lock also pins what
no index has, by the hash of its kept wheel. A line `# wheel: sha256:… NAME.whl` names each kept wheel, so that who
installs the lock knows what to take from the store.
"""

from __future__ import annotations

import os

from repro.evidence.canonical import decode_path
from repro.evidence.model import Gap
from repro.record import lowpriority
from repro.record.capture import Context, Findings, observed
from repro.record.eventlog import Start
from repro.record.software import lock, pylock
from repro.record.software.lock import Lock
from repro.record.software.wheelhouse import Kept, Wheelhouse


def beside(context: Context) -> Findings:
    """Store the lock of the packages that the environment capture listed."""
    packages, interpreter = context.findings.packages, context.interpreter
    if context.code_paths is not None:
        return Findings()  # a replay: its environment came from the original's lock, or was the original's
    if interpreter is None or not packages:
        return Findings()
    found = lock.resolve(interpreter, packages, context.environment, context.patience, context.cache)
    kept, gaps = _keep_wheels(context, interpreter, found)
    names = {wheel.package.name for wheel in kept}
    texts = {"lock": text(found, kept), "pylock": pylock.render(found.answers, interpreter.python_version)}
    facts = [observed("environment", name, context.objects.put(each.encode())) for name, each in texts.items() if each]
    facts += [observed("environment", f"wheel.{wheel.package.name}", wheel.file_name) for wheel in kept]
    if repacked := ",".join(wheel.package.name for wheel in kept if wheel.repacked):
        facts.append(observed("environment", "wheels_repacked", repacked))
    return Findings(
        facts=tuple(facts),
        gaps=(*found.gaps_besides(names), *gaps),
        packages=tuple(wheel.package for wheel in kept),
    )


def _keep_wheels(context: Context, interpreter: Start, found: Lock) -> tuple[tuple[Kept, ...], tuple[Gap, ...]]:
    house = Wheelhouse(
        mode=context.wheelhouse,
        executable=os.fsdecode(decode_path(interpreter.executable)),
        environment=context.environment,
        objects=context.objects,
        cache=context.cache,
        patience=context.patience,
    )
    changed = frozenset(change.package for change in context.findings.package_changes)
    return lowpriority.run(lambda: house.keep(context.findings.packages, found.answers, changed), "wheels")


def text(found: Lock, kept: tuple[Kept, ...]) -> str:
    """Return the lock with the kept wheels in it."""
    pins = {answer.name: (answer.version, [file.sha256 for file in answer.files]) for answer in found.answers}
    head = ""
    for wheel in kept:
        digest = wheel.package.wheel_sha256 or ""
        _, hashes = pins.get(wheel.package.name, ("", []))
        pins[wheel.package.name] = (wheel.package.version, [*hashes, digest.removeprefix("sha256:")])
        head += f"# wheel: {digest} {wheel.file_name}\n"
    return head + "".join(lock.pin(name, *pins[name]) for name in sorted(pins) if pins[name][1])
