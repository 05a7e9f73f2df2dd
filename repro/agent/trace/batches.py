"""What data loaders hand out: the order of samples, as a running digest, and the content of batches.

`order` is the BLAKE2b of 64 bits of, for each batch asked for so far: the loader's number (loaders count from
0 in the order of their first use), its epoch, and the sampler's indices. With workers, it runs ahead by what is
prefetched. Loaders over an iterable-style data set have no indices: their loaders and epochs are counted in. `batch`
has the words of each batch handed out since the anchor's step before; more than 64 are combined to one a batch.
"""

from __future__ import annotations

import struct
from collections import deque

from .. import disguise
from ..interrupts import pass_on
from .contents import canonical_text
from .cursor import Cursor
from .digest import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Optional

    from repro.agent import Agent

    from .contents import Contents
    from .fingerprint import Word

MOST_BATCHES = 256
"""How many batches may be fingerprinted between two steps."""
MOST_WORDS = 64

_ITERABLE = 1
"""`_DatasetKind.Iterable`."""


class Batches:
    """What the loaders of one process have handed out.

    Args:
        agent: Told of what cannot be seen.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._loaders: Any = {}
        self._epochs: Any = {}
        self.contents: Optional[Contents] = None
        """Reads batches; `None` until torch is there, and where there are to be no fingerprints."""
        self.quietly: Callable[..., None] = agent.guard
        """Calls what reads tensors, with a subject for its gap: `Tracer.timed`."""
        self.states: Callable[[], tuple[tuple[str, bytes], ...]] = tuple
        """Reads what generators stand at, when an epoch begins."""
        self.restart()

    def restart(self) -> None:
        """Begin anew: in a forked child."""
        self._loaders, self._epochs = type(self._loaders)(), type(self._epochs)()
        self._digest = blake2b(digest_size=8)
        self._count = self._loaders_seen = self._begun = self._cursor_of = 0
        self._cursor: Optional[Cursor] = None
        self.handed_out = 0
        """How many batches were handed out so far."""
        self.fetching = False
        """Whether a batch is being made, in this process or for it."""
        self.wanted = True
        """Whether a coming step is to be traced."""
        self._last_step = 0
        self._recent: deque[tuple[int, list[Word]]] = deque(maxlen=2 * MOST_BATCHES)

    def watch(self, module: Any) -> None:
        """Take our places in `torch.utils.data.dataloader`."""
        from weakref import WeakKeyDictionary

        self._loaders, self._epochs = WeakKeyDictionary(), WeakKeyDictionary()
        base = module._BaseDataLoaderIter
        for name, follow in (
            ("__init__", self._follow_start),
            ("_reset", self._follow_reset),
            ("_next_index", self._follow_index),
            ("__next__", self._follow_next),
        ):
            original = getattr(base, name)
            setattr(base, name, disguise(follow(original), original))

    def cursors(self) -> list[Cursor]:
        """Return the epochs whose iterators are still there, in the order in which they began."""
        return sorted(self._epochs.values(), key=lambda cursor: cursor.begun)

    def step_begins(self) -> None:
        """Be told that some anchor's step begins."""
        self._last_step = self.handed_out

    def iterators(self) -> list[Any]:
        """Return the loaders' iterators that there are."""
        return list(self._epochs)

    def order(self) -> Optional[int]:
        """Return the digest of the order so far; `None` where no loader was used."""
        return int.from_bytes(self._digest.digest(), "big") if self._count else None

    def words(self, since: int) -> list[Word]:
        """Return the words of the batches handed out from that number on, as far as they were read."""
        found = [words for number, words in self._recent if number >= since]
        if sum(map(len, found)) > MOST_WORDS and self.contents is not None:
            found = [[self.contents.combine(words)] for words in found]
        return [word for words in found for word in words]

    def _feed(self, head: str, indices: bytes = b"") -> None:
        if self.contents is None:
            return
        self._count += 1
        self._digest.update(b"%b %d\n%b" % (head.encode(), len(indices), indices))

    # in place of the methods of _BaseDataLoaderIter

    def _follow_start(self, original: Any) -> Any:
        def __init__(iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
            self._agent.guard("trace", "order", self._start, iterator, loader)
            try:
                original(iterator, loader, *args, **kwargs)
            except BaseException as error:
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise

        return __init__

    def _start(self, iterator: Any, loader: Any) -> None:
        known = self._loaders.get(loader)
        if known is None:
            known = self._loaders[loader] = [self._loaders_seen, 0]
            self._loaders_seen += 1
        else:
            known[1] += 1
        states = self._agent.guard("trace", "generators", self.states) or ()
        cursor = Cursor(known[0], known[1], self._begun, states)
        self._begun += 1
        # a new iterator may lie where an old one lay, but never without having come by here
        self._cursor_of, self._cursor = id(iterator), cursor
        self._epochs[iterator] = cursor
        self._feed("epoch " + cursor.head)

    def _cursor_at(self, iterator: Any) -> Optional[Cursor]:
        found: Optional[Cursor] = self._cursor if self._cursor_of == id(iterator) else self._epochs.get(iterator)
        return found

    def _follow_reset(self, original: Any) -> Any:
        def _reset(iterator: Any, loader: Any, first_iter: bool = False) -> None:
            if not first_iter:
                self._agent.guard("trace", "order", self._start, iterator, loader)
            original(iterator, loader, first_iter)

        return _reset

    def _follow_index(self, original: Any) -> Any:
        def _next_index(iterator: Any) -> Any:
            index = original(iterator)
            try:
                cursor = self._cursor_at(iterator)
                if cursor is not None:
                    cursor.asked += 1
                if iterator._dataset_kind != _ITERABLE:
                    self._feed("?" if cursor is None else cursor.head, self._packed(index))
            except Exception as error:
                self._agent.gap("trace", "order", f"{type(error).__name__}: {error}")
                pass_on(error)
            return index

        return _next_index

    def _packed(self, index: Any) -> bytes:
        try:
            return struct.pack(f"<{len(index)}q", *index)
        except (TypeError, struct.error):
            text = canonical_text(index)
        if "type " in text:
            self._agent.gap("trace", "order", "indices that are neither numbers nor texts are told by their type alone")
        return text.encode("utf-8", "surrogatepass")

    def _follow_next(self, original: Any) -> Any:
        def __next__(iterator: Any) -> Any:
            self.fetching = True
            try:
                batch = original(iterator)
            except BaseException as error:
                self.fetching = False
                if isinstance(error, StopIteration):
                    self._end(iterator)
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            self.fetching = False
            self.handed_out += 1
            cursor = self._cursor_at(iterator)
            if cursor is not None:
                cursor.handed_out += 1
            if self.wanted and self.contents is not None:
                self.quietly("batch", self._read, batch)
            return batch

        return __next__

    def _end(self, iterator: Any) -> None:
        cursor = self._cursor_at(iterator)
        if cursor is not None:
            cursor.ended = True

    def _read(self, batch: Any) -> None:
        number = self.handed_out - 1
        if number - self._last_step >= MOST_BATCHES:
            self._agent.gap("trace", "batch", f"of more than {MOST_BATCHES} batches between two steps, the later ones")
        elif self.contents is not None:
            self._recent.append((number, self.contents.words(batch)))
