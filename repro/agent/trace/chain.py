"""Tell fields of the trace in order, each bound to those before it by a hash (docs/adr/0010, "Chain").

What a device has computed is not waited for: it is copied to the host behind the training's own work, and told when the
next traced step begins, and at the end. The host's words wait behind the device's, so that all keep their order.
"""

from __future__ import annotations

from _thread import RLock

from .digest import sha256
from .fingerprint import digits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

    from .fingerprint import Word


class Chain:
    """The chain of one process.

    Args:
        agent: Writes the events.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.restart()

    def restart(self) -> None:
        """Begin anew as the process that this is now; what waits in another process is that one's to tell."""
        self._lock = RLock()
        self._waiting: list[tuple[str, int, str, float, list[Word], list[_Transfer]]] = []
        self._head = ""

    @property
    def head(self) -> str:
        """The last link; empty where nothing was told."""
        return self._head

    def tell(self, torch: Any, anchor: str, step: int, field: str, words: list[Word]) -> None:
        """Tell a field's words: now, or as soon as the device has them."""
        transfers = transfers_of(torch, words)
        with self._lock:
            if not transfers and not self._waiting:
                self._emit(anchor, step, field, self._agent.seconds(), words)
            else:
                self._waiting.append((anchor, step, field, self._agent.seconds(), words, transfers))

    def flush(self) -> None:
        """Tell all that waits."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for anchor, step, field, at, words, transfers in waiting:
                for transfer in transfers:
                    transfer.fetch_into(words)
                self._emit(anchor, step, field, at, words)

    def _emit(self, anchor: str, step: int, field: str, at: float, words: list[Word]) -> None:
        text = "".join([digits(word) for word in words])
        head = self._head or f"repro trace 1 {self._agent.process_key}"
        linked = "\n".join((head, anchor, str(step), field, text))
        self._head = str(sha256(linked.encode("utf-8", "surrogatepass")).hexdigest())
        self._agent.emit("trace", anchor=anchor, step=step, field=field, words=text, at=at, chain=self._head)


class _Transfer:
    """The words of one device on their way to the host.

    Args:
        torch: The module.
        places: Where among the field's words they belong.
        words: Tensors of int64 without dimensions, on one device.
    """

    def __init__(self, torch: Any, places: list[int], words: list[Any]) -> None:
        self._places = places
        self._event: Any = None
        self._values = torch.stack(words)
        if self._values.is_cuda:
            host = torch.empty(len(words), dtype=torch.int64, pin_memory=True)
            host.copy_(self._values, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(self._values.device))
            self._values = host

    def fetch_into(self, words: list[Word]) -> None:
        if self._event is not None:
            self._event.synchronize()
        for place, value in zip(self._places, self._values.tolist()):
            words[place] = value


def transfers_of(torch: Any, words: list[Word]) -> list[_Transfer]:
    """Send those words that lie on devices to the host; nothing is waited for."""
    places: dict[Any, list[int]] = {}
    for place, word in enumerate(words):
        if word is not None and not isinstance(word, int):
            places.setdefault(word.device, []).append(place)
    return [_Transfer(torch, found, [words[place] for place in found]) for found in places.values()]
