"""Tell of files of tensors as they are written and read: what was in them, and what going on from them needs.

Each tensor is fingerprinted as it was handed over, or came out: the file is not read again, but for `safe_open`, which
hands tensors out piece by piece. What libraries call for themselves, as in `torch.distributed.checkpoint`, is part of
what the user called and not told. Nothing is told where the trace is off. `docs/adr/0011` says why, and has the names.
"""

from __future__ import annotations

import os
import sys
from io import BytesIO, IOBase
from stat import S_ISREG

from . import disguise, sha256_type
from .files import absolute
from .process import encode_path
from .safetensors_file import MOST_BYTES, tensors_in
from .trace.fingerprint import Fingerprints, digits
from .trace.leaves import TooMany, named_tensors
from .trace.resumption import Parallel, state_of
from .trace.splitmix import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Optional

    from repro.agent import Agent

    from .trace.steps import Tracer

MOST_TENSORS = 1 << 18
"""How many tensors of checkpoints a process tells; a gap says when there are more."""
MOST_CHECKPOINTS = 1024
MOST_STATES = 256
MOST_HASHED_BYTES = 1 << 28
"""A buffer in memory is hashed up to this size, so that the file that it goes to is known."""

_INSIDE = ("torch.distributed.", "torch._", "torch.package.", "torch.jit.")
"""Modules whose own calls are part of what somebody called of them."""


class Checkpoints:
    """The checkpoints of one process.

    Args:
        agent: Where to tell them.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._torch: Any = None
        self._tracer: Optional[Tracer] = None
        self._fingerprints: Optional[Fingerprints] = None
        self.guard = agent.guard
        self.parallel = Parallel(agent)
        self._off = os.environ.get("REPRO_TRACE_EVERY") == "0"
        self.restart()
        agent.on_fork(self.restart)

    def restart(self) -> None:
        """Begin anew: in a forked child."""
        self._count = self._tensors = self._states = 0
        self._read: set[tuple[Any, ...]] = set()
        self.parallel.restart()

    def attach(self, torch: Any, tracer: Tracer) -> None:
        """Take the library, and what knows its steps."""
        self._torch, self._tracer = torch, tracer
        self._fingerprints = Fingerprints(self._agent, torch)
        if not self._off:
            from .trace.generators import held

            tracer.batches.states = lambda: tuple(held(torch))

    # in the place of functions

    def follow(self, original: Any, action: str, library: str, value: Any, file: Any, subject: str) -> Any:
        """Return a function that does what the original does, and tells of the tensors and the file.

        Args:
            original: Of the library.
            action: `written` or `read`.
            library: Whose format it is.
            value: Place and keyword of the argument that holds the tensors; `None` where they are what is returned.
            file: Place and keyword of the argument that says where; `None` where bytes are returned, or given first.
            subject: Names it in gaps.
        """
        agent = self._agent

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__") or ""
            call = agent.guard("data", subject, self._begin, action, library, file, args, kwargs)
            try:
                result = original(*args, **kwargs)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            if call is not None and not self._off and not caller.startswith(_INSIDE) and not self._of_sample(action):
                held = result if value is None else _argument(args, kwargs, value)
                self._quietly(call.end, held, result)
            return result

        return disguise(wrapper, original)

    def _of_sample(self, action: str) -> bool:
        """Return whether a data set reads a sample: its files are data, and told as such."""
        if action != "read":
            return False
        worker = sys.modules.get("torch.utils.data._utils.worker")
        fetching = self._tracer is not None and self._tracer.batches.fetching
        return fetching or getattr(worker, "_worker_info", None) is not None

    def _begin(self, action: str, library: str, file: Any, args: Any, kwargs: Any) -> _Call:
        place = None if file is None else _argument(args, kwargs, file)
        self._agent.opened(place, write=action == "written", library=library)
        return _Call(self, action, library, place)

    def _quietly(self, action: Callable[..., None], *arguments: Any) -> None:
        if self._tracer is not None:
            self._tracer.timed("checkpoint", action, *arguments)
        else:
            self._agent.guard("trace", "checkpoint", action, *arguments)

    def opened_whole(self, path: Any, caller: str) -> None:
        """Tell of a file of safetensors that is about to be opened, to be read as one likes."""
        self._agent.opened(path, write=False, library="safetensors")
        if (
            not self._off and not caller.startswith("safetensors.") and not self._of_sample("read")
        ):  # `load_file` is told by itself
            self._quietly(self._read_whole, _Call(self, "read", "safetensors", path))

    def _read_whole(self, call: _Call) -> None:
        if call.is_known() or call.size is None:
            return
        if call.size > MOST_BYTES:
            self.gap(f"a file of more than {MOST_BYTES >> 30} GiB was opened piece by piece: what is in it is not told")
            return
        fingerprints = self._library()
        rows = [(name, shape, dtype, fingerprints.of_bytes(part)) for name, shape, dtype, part in tensors_in(call.path)]
        self.remember(call)
        self.tell(call, rows)

    # what is told

    def rows_of(self, value: Any) -> list[Any]:
        """Return name, shape, dtype and fingerprint of each tensor in a value; those that share memory are read once.

        Fingerprints that devices make are fetched, with one wait for each device.
        """
        fingerprints, torch = self._library(), self._torch
        numpy = sys.modules.get("numpy")
        known: dict[Any, Any] = {}
        rows: list[Any] = []
        for name, tensor in named_tensors(value, torch):
            if torch is None or not isinstance(tensor, torch.Tensor):
                data = numpy.ascontiguousarray(tensor).tobytes()  # type: ignore[union-attr]
                rows.append((name, list(tensor.shape), tensor.dtype.name, fingerprints.of_bytes(data)))
                continue
            same = _memory(torch, tensor)
            word = known.get(same) if same is not None else None
            if word is None:
                word = fingerprints.of_tensor(tensor)
                if same is not None:
                    known[same] = word
            rows.append((name, list(_local(tensor).shape), str(tensor.dtype).rpartition(".")[2], word))
        return _fetched(torch, rows)

    def tell(self, call: _Call, rows: list[Any], sha256: Optional[str] = None) -> None:
        """Tell of one checkpoint, as long as there are not too many."""
        if not rows:
            return
        if self._count >= MOST_CHECKPOINTS or self._tensors + len(rows) > MOST_TENSORS:
            self.gap(
                f"more than {MOST_CHECKPOINTS} checkpoints, or {MOST_TENSORS} tensors: the later ones are not told"
            )
            return
        self._count += 1
        self._tensors += len(rows)
        tracer = self._tracer
        fields: dict[str, Any] = {"size": call.size, "mtime_ns": call.mtime_ns}
        self._agent.emit(
            "checkpoint",
            action=call.action,
            path=encode_path(call.path),
            library=call.library,
            steps={} if tracer is None else dict(tracer.steps),
            names=[name for name, _, _, _ in rows],
            shapes=[shape for _, shape, _, _ in rows],
            dtypes=[dtype for _, _, dtype, _ in rows],
            words="".join([digits(word) for _, _, _, word in rows]),
            state=self._state(rows) if call.action == "written" else {},
            sha256=sha256,
            at=self._agent.seconds(),
            **{name: number for name, number in fields.items() if number is not None},
        )

    def _state(self, rows: list[Any]) -> dict[str, str]:
        """Return what going on from a checkpoint needs; nothing for one that holds no parameters of an anchor.

        It does where it has tensors of half of their shapes: copies, parts of models and other types are held too.
        """
        tracer = self._tracer
        shapes = {tuple(shape) for _, shape, _, _ in rows}
        if tracer is None or not any(2 * len(shapes & trained) >= len(trained) for trained in tracer.trained.values()):
            return {}
        if self._states >= MOST_STATES:
            self.gap(f"of more than {MOST_STATES} checkpoints the generators and loaders are not told")
            return {}
        self._states += 1
        return state_of(self._torch, tracer.batches, self.parallel, tracer.link())

    def remember(self, call: _Call) -> None:
        """Do not tell again of an unchanged file that is read again."""
        self._read.add(call.identity())

    def knows(self, call: _Call) -> bool:
        """Return whether a file was told as read, and has not changed since."""
        return call.identity() in self._read

    def _library(self) -> Fingerprints:
        if self._fingerprints is None:
            self._fingerprints = Fingerprints(self._agent, None)
        return self._fingerprints

    def gap(self, reason: str) -> None:
        """Tell of what is not told."""
        self._agent.gap("trace", "checkpoint", reason)


class _Call:
    """One call that writes or reads: where, and how the file stood.

    Args:
        checkpoints: Whom to tell.
        action: `written` or `read`.
        library: Whose format it is.
        place: A path, a file object, or bytes in memory.
    """

    __slots__ = ("_checkpoints", "_inode", "_place", "_start", "action", "library", "mtime_ns", "path", "size")

    def __init__(self, checkpoints: Checkpoints, action: str, library: str, place: Any) -> None:
        self._checkpoints = checkpoints
        self._place = place
        self.action = action
        self.library = library
        self.path = _path_of(place)
        self.size: Optional[int] = None
        self.mtime_ns: Optional[int] = None
        self._inode = 0
        self._start = place.tell() if isinstance(place, IOBase) and place.seekable() else 0
        if action == "read":
            self._look()

    def is_known(self) -> bool:
        """Return whether there is nothing new to be told of a file that is read."""
        return self.mtime_ns is not None and self._checkpoints.knows(self)

    def identity(self) -> tuple[Any, ...]:
        return (self.path, self.size, self.mtime_ns, self._inode)

    def end(self, value: Any, result: Any) -> None:
        """Tell of what was written, or has been read."""
        if self.action == "read" and self.is_known():
            return
        try:
            rows = self._checkpoints.rows_of(value)
        except TooMany:
            self._checkpoints.gap("there is too much in one to be looked through")
            return
        if self.action == "written":
            self._look()
        elif self.mtime_ns is not None:
            self._checkpoints.remember(self)
        self._checkpoints.tell(self, rows, self._digest(result) if rows and not self.path else None)

    def _look(self) -> None:
        """See how the file stands; of one that is still open for writing, how much was written."""
        place = self._place
        if not self.path:
            return
        if self.action == "written" and not isinstance(place, (str, bytes, os.PathLike)):
            self.size = place.tell() if self._start == 0 else None
            return
        try:
            status = os.stat(self.path)
        except (OSError, ValueError):
            return
        if S_ISREG(status.st_mode):
            self.size, self.mtime_ns, self._inode = status.st_size, status.st_mtime_ns, status.st_ino

    def _digest(self, result: Any) -> Optional[str]:
        """Return the digest of bytes in memory, by which the recorder finds the file that they go to."""
        if isinstance(self._place, BytesIO):
            with self._place.getbuffer() as whole, whole[self._start :] as part:
                return _sha256(part)
        return _sha256(result) if isinstance(result, bytes) else None


def _argument(args: Any, kwargs: Any, where: Any) -> Any:
    place, keyword = where
    return args[place] if len(args) > place else kwargs.get(keyword)


def _path_of(place: Any) -> str:
    """Return the absolute path of a file, by its name or by the object that writes to it; empty if it has none."""
    if isinstance(place, (str, bytes, os.PathLike)):
        return absolute(os.fsdecode(place))
    if not isinstance(place, IOBase):
        place = getattr(place, "__dict__", {}).get("file")  # a temporary file's
    name = getattr(place, "name", None) if isinstance(place, IOBase) else None
    if isinstance(name, int):
        name = os.readlink(f"/proc/self/fd/{name}")
    return absolute(os.fsdecode(name)) if isinstance(name, (str, bytes)) and name else ""


def _memory(torch: Any, tensor: Any) -> Any:
    """Return what is the same for tensors that are the same elements in memory; `None` where that cannot be told."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or tensor.layout is not torch.strided or tensor.is_meta:
        return None
    where = tensor.data_ptr()
    bits = (tensor.is_conj(), tensor.is_neg())
    return (where, tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride(), bits) if where else None


def _local(tensor: Any) -> Any:
    return tensor._local_tensor if type(tensor).__name__ == "DTensor" else tensor


def _fetched(torch: Any, rows: list[Any]) -> list[Any]:
    """Return the rows with the fingerprints that lie on devices fetched."""
    places: dict[Any, list[int]] = {}
    for place, (_, _, _, word) in enumerate(rows):
        if word is not None and not isinstance(word, int):
            places.setdefault(word.device, []).append(place)
    for found in places.values():
        values = torch.stack([rows[place][3] for place in found]).tolist()
        for place, value in zip(found, values):
            rows[place] = (*rows[place][:3], value & MASK)
    return rows


def _sha256(data: Any) -> Optional[str]:
    if len(data) > MOST_HASHED_BYTES:
        return None
    fast = getattr(sys.modules.get("_hashlib"), "openssl_sha256", None) or sha256_type()
    return "sha256:" + str(fast(data).hexdigest())
