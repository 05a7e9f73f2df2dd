"""The libraries and programs that the run had mapped as code: which build of each, by digest and build id.

Three see them: the agent at the end of each Python process, a look at `/proc` every few seconds while the command runs,
and the kernel layer, which sees programs that neither of the others reaches. Large libraries are hashed while the
command runs, once for each build.
"""

from __future__ import annotations

import functools
import os
import re
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from repro.evidence.canonical import decode_path, encode_path
from repro.evidence.model import Fact, Gap, SharedObject
from repro.record.capture import Context, Findings, Patience, observed
from repro.record.software.mapped import Watcher

if TYPE_CHECKING:
    from repro.record.software.sharedobjects import Describer

_LIBRARY: Final = re.compile(r"\.so(\.[\w.-]+)?$")
_DELETED: Final = b" (deleted)"
_NO_FILES: Final = (b"/memfd:", b"/dev/", b"/SYSV", b"/anon_hugepage", b"/proc/")
_ASKED_FOR: Final = {
    "glibc": r"libc(-[\d.]+)?\.so",
    "libstdcxx": r"libstdc\+\+",
    "libgomp": r"libgomp",
    "libiomp": r"libiomp5|libomp",
    "mkl": r"libmkl_(rt|core)",
    "onednn": r"libdnnl|libmkldnn",
    "openblas": r"lib(scipy_)?openblas",
    "blis": r"libblis",
    "cuda_runtime": r"libcudart",
    "cuda_driver": r"libcuda\.so",
    "cudnn": r"libcudnn\.so",
    "cublas": r"libcublas(Lt)?\.so",
    "cusolver": r"libcusolver\.so",
    "cufft": r"libcufft\.so",
    "nccl": r"libnccl",
    "torch": r"libtorch_(cpu|cuda)\.so",
    "tensorflow": r"libtensorflow_(framework|cc)",
    "rocm": r"lib(amdhip64|rocblas|MIOpen|rccl)\.so",
    "mpi": r"libmpi\.so",
}
"""Libraries whose version people ask for first; each with how its file is called, whatever follows."""
_NAMED: Final = {name: re.compile(pattern) for name, pattern in _ASKED_FOR.items()}
_SAY_AFTER_SECONDS: Final = 1.0
_MAX_SUBJECT_NAMES: Final = 5

_watches: WeakKeyDictionary[Patience, _Watch] = WeakKeyDictionary()
"""The watch of each recording that goes on: patience is the one thing that a recording has from start to end."""


class _Watch:
    """Follows one run while it goes on."""

    def __init__(self, context: Context) -> None:
        self._patience = context.patience
        self._progress = context.progress
        self._cache = context.cache
        self._said = threading.Event()
        self.deleted: set[bytes] = set()
        self.watcher = Watcher(self.add)
        self._ended_at: float | None = None

    @functools.cached_property
    def describer(self) -> Describer:
        """Made by whoever comes first, beside the command: it reads a cache."""
        from repro.record.software.sharedobjects import Describer

        return Describer(self._cache, self._gives_up)

    def add(self, paths: Iterable[bytes]) -> None:
        """Describe files, as the kernel names them."""
        found = {path for path in paths if not path.startswith(_NO_FILES)}
        replaced = {path for path in found if path.endswith(_DELETED)}
        self.deleted |= {path.removesuffix(_DELETED) for path in replaced}
        self.describer.add({os.path.realpath(path) for path in found - replaced})

    def _gives_up(self) -> bool:
        if self._patience.ended:
            self._ended_at = self._ended_at or time.monotonic()
            if time.monotonic() - self._ended_at > _SAY_AFTER_SECONDS and not self._said.is_set():
                self._said.set()
                self._progress("hashing the libraries of the run (once for each build; Ctrl-C goes on without) …")
        return self._patience.spent


def before(context: Context) -> Findings:
    """Start to look; the first look comes when the command has had time to load something."""
    watch = _Watch(context)
    _watches[context.patience] = watch
    watch.watcher.start()
    return Findings()


def after(context: Context) -> Findings:
    """Add what the agent and the kernel layer saw, and describe it all."""
    watch = _watches.pop(context.patience, None) or _Watch(context)
    watch.watcher.stop()
    watch.add(_told(context))
    watch.describer.save()
    rows = tuple(watch.describer.rows[path] for path in sorted(watch.describer.rows))
    return Findings(facts=_versions(rows), gaps=_gaps(rows, watch), shared_objects=rows)


def _told(context: Context) -> set[bytes]:
    """Return what the agent and the kernel layer told of."""
    paths = set[str]()
    said_goodbye = set[int]()
    if context.events is not None:
        paths |= context.events.mapped
        said_goodbye = {s.pid for s in context.events.starts if s.process_key in context.events.ended_at}
    if context.kernel is not None:
        paths |= {executed.path for executed in context.kernel.executions}
        paths |= {
            opened.path
            for opened in context.kernel.opens
            # A process that told what it had mapped may have read other libraries as data.
            if opened.mode == "read" and opened.pid not in said_goodbye and _LIBRARY.search(opened.path)
        }
    return {decode_path(path) for path in paths if path.startswith("/")}


def _versions(rows: Iterable[SharedObject]) -> tuple[Fact, ...]:
    """Return the libraries that people ask for first, as `FILE (OWNER)`; two of one kind often mean trouble."""
    found: dict[str, list[str]] = {}
    for row in rows:
        file = row.path.rpartition("/")[2]
        for name in (name for name, pattern in _NAMED.items() if pattern.match(file)):
            found.setdefault(name, []).append(f"{file} ({row.owner})" if row.owner else file)
    return tuple(observed("environment", f"library.{name}", "; ".join(found[name])) for name in sorted(found))


def _gaps(rows: tuple[SharedObject, ...], watch: _Watch) -> tuple[Gap, ...]:
    gaps = [
        Gap(
            topic="environment",
            subject=encode_path(path),
            reason="it was mapped as code, and could not be read: it was replaced, removed or is not permitted",
        )
        for path in sorted(watch.deleted | watch.describer.unreadable)
    ]
    if unhashed := [row for row in rows if row.sha256 is None]:
        names = ", ".join(row.path.rpartition("/")[2] for row in unhashed[:_MAX_SUBJECT_NAMES])
        more = f" and {len(unhashed) - _MAX_SUBJECT_NAMES} more" if len(unhashed) > _MAX_SUBJECT_NAMES else ""
        reason = f"the time to wait was over before they were hashed: {names}{more}; build ids were read"
        gaps.append(Gap(topic="environment", subject="libraries", reason=reason))
    if watch.watcher.error is not None:
        reason = f"the look at running processes ended early: {watch.watcher.error}"
        gaps.append(Gap(topic="environment", subject="libraries", reason=reason))
    if not rows:
        reason = "no process could be looked at before it had ended: which libraries it used is not known"
        gaps.append(Gap(topic="environment", subject="libraries", reason=reason))
    return tuple(gaps)
