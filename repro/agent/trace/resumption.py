"""What a training that goes on from a checkpoint needs besides the tensors in it (docs/adr/0011, "State").

Generators as they stand now and as they stood when the open epoch began, how far each loader's epoch is, how
DistributedDataParallel has put gradients into buckets, and the link of the trace's chain. To go on in the middle of
an epoch: put the epoch's generators back, begin the loaders, skip what they have handed out, put those of now back.
"""

from __future__ import annotations

from binascii import b2a_base64

from ..log import to_json
from .cursor import first_open
from .generators import held

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from repro.agent import Agent

    from .batches import Batches

_BUCKETS = ("bucket_sizes", "rebuilt_bucket_sizes", "rebuilt_per_bucket_param_indices")


class Parallel:
    """The DistributedDataParallel modules of this process, known from their making on.

    Args:
        agent: Told of what cannot be seen.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._modules: list[Any] = []

    def restart(self) -> None:
        """Begin anew: in a forked child."""
        self._modules = []

    def watch(self, module: Any) -> None:
        """Take our place in `torch.nn.parallel.distributed`."""
        kind = module.DistributedDataParallel
        kind.__init__ = self._agent.wrap(kind.__init__, self._meet, "trace", "DistributedDataParallel")

    def _meet(self, args: Any, kwargs: Any) -> None:
        from weakref import ref

        self._modules.append(ref(args[0]))

    def buckets(self) -> dict[str, str]:
        """Return the layout of each module's buckets, by its name in the state."""
        found: dict[str, str] = {}
        for number, known in enumerate(self._modules):
            module = known()
            logged = None if module is None else module._get_ddp_logging_data()
            if logged:
                found[f"ddp.{number}"] = to_json({name: logged[name] for name in _BUCKETS if name in logged})
        return found


def state_of(torch: Any, batches: Batches, parallel: Parallel, link: str) -> dict[str, str]:
    """Return the state as it is now: name to value.

    Args:
        torch: The module.
        batches: What the loaders have handed out.
        parallel: The modules whose gradients are put into buckets.
        link: The last link of the trace's chain; empty where nothing was traced.
    """
    found = {name: _base64(state) for name, state in held(torch)}
    cursors = batches.cursors()
    open_epoch = first_open(cursors)
    if open_epoch is not None:
        found.update({f"{name}.epoch": _base64(state) for name, state in open_epoch.states})
    for cursor in cursors:  # of one loader the epoch that began last
        found[f"loader.{cursor.number}"] = to_json(
            {"asked": cursor.asked, "ended": cursor.ended, "epoch": cursor.epoch, "handed_out": cursor.handed_out}
        )
    found.update(parallel.buckets())
    if link:
        found["chain"] = link
    return found


def _base64(data: bytes) -> str:
    return b2a_base64(data, newline=False).decode()
