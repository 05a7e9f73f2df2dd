"""In which container the run takes place, as far as it can be known from inside.

Podman writes the image into `/run/.containerenv`. Docker and Kubernetes tell a container nothing of its image, so
whoever starts it may say it: `REPRO_IMAGE` and `REPRO_IMAGE_DIGEST` in its environment, which are kept as *declared*.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from repro.evidence.canonical import storable
from repro.evidence.model import Fact, Gap

_MARKS: Final = {".dockerenv": "docker", "run/.containerenv": "podman", ".singularity.d": "apptainer"}
_ID: Final = re.compile(
    r"(?:/docker/containers/|/overlay-containers/|docker-|cri-containerd-|libpod-|/docker/)([0-9a-f]{64})"
)
_KUBERNETES: Final = "KUBERNETES_SERVICE_HOST"
_DECLARED: Final = {"REPRO_IMAGE": "container_image", "REPRO_IMAGE_DIGEST": "container_image_digest"}
_APPTAINER: Final = {"APPTAINER_CONTAINER": "container_image", "SINGULARITY_CONTAINER": "container_image"}
_HINT: Final = "the image cannot be seen from inside: start it with REPRO_IMAGE_DIGEST set to the digest of the image"


def look(environment: Mapping[str, str], root: Path = Path("/")) -> tuple[tuple[Fact, ...], tuple[Gap, ...]]:
    """Return what is known of the container around us; nothing where there is none."""
    found = {fact.name: fact for fact in reversed([*_declared(environment), *_seen(environment, root)])}
    facts = tuple(found[name] for name in sorted(found))
    engine = found.get("container_engine")
    if engine is None or found.keys() & {"container_image_digest", "container_image_id"}:
        return facts, ()
    return facts, (Gap(topic="environment", subject=f"container image ({engine.value})", reason=_HINT),)


def _declared(environment: Mapping[str, str]) -> Iterator[Fact]:
    for variable, name in _DECLARED.items():
        if value := environment.get(variable):
            yield Fact(topic="environment", name=name, value=storable(value), source="declared")


def _seen(environment: Mapping[str, str], root: Path) -> Iterator[Fact]:
    engine = _engine(environment, root)
    if engine is None:
        return
    yield _fact("container_engine", engine)
    about = dict(_assignments(_text(root / "run/.containerenv")))
    for key, name in (("image", "container_image"), ("imageid", "container_image_id"), ("id", "container_id")):
        if value := about.get(key):
            yield _fact(name, value)
    for variable, name in _APPTAINER.items():
        if value := environment.get(variable):
            yield _fact(name, value)
    if known := _ID.search(_text(root / "proc/self/mountinfo") + _text(root / "proc/self/cgroup")):
        yield _fact("container_id", known[1])
    if namespace := _text(root / "var/run/secrets/kubernetes.io/serviceaccount/namespace"):
        yield _fact("kubernetes_namespace", namespace)


def _engine(environment: Mapping[str, str], root: Path) -> str | None:
    if marked := next((engine for mark, engine in _MARKS.items() if (root / mark).exists()), None):
        return marked
    if _KUBERNETES in environment:
        return "kubernetes"
    # systemd-nspawn, LXC and others say it to their first process; some pass it on to all.
    return environment.get("container") or None


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals:
            yield name.strip(), value.strip().strip('"')


def _fact(name: str, value: str) -> Fact:
    return Fact(topic="environment", name=name, value=storable(value), source="observed")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
