"""PyTorch: loss at every backward, learning rates, seeds, generators, the settings that bear on the bits, its files.

Streams: `torch.initial_seed` (the default CPU generator seeds itself when torch is imported), `torch.seed`.
Trace: fingerprints of what each traced step held, by `trace.steps`.
Metrics: `loss` counts backward passes of single-element tensors; `learning_rate.G` counts steps of the first
optimizer that steps, `optimizer.K.learning_rate.G` those of the K-th. A rate is told when it changes. `trace.norms` has
what is told at traced steps besides. Values are exact: the float64 of a float16, bfloat16 or float32 is that number.

One thing is done, not only watched, when torch is imported: each function of MKL's vector math library is called
once, on a few numbers. Its first call races with itself when several threads make it (pytorch/pytorch#188792); later
ones are the same bit for bit with and without this.
"""

from __future__ import annotations

import os

from .. import clock, determinism, disguise, tensor_files, torch_generators
from ..interrupts import pass_on
from ..trace.ending import Ending
from ..trace.gradients import Gradients
from ..trace.operations import Operations
from ..trace.settings import SETTINGS, tell_optimizer, tell_settings
from ..trace.steps import Anchor, Backward, Tracer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Optional

    from repro.agent import Agent

MODULES = (
    *("torch", "torch.optim.optimizer", "torch.utils.data.dataloader"),
    *("torch._dynamo.trace_rules", "torch.utils.tensorboard.writer", "torch.distributed.distributed_c10d"),
    *tensor_files.MODULES,
)

FETCH_EVERY = 64
"""How many losses wait on a GPU before they are fetched together, so that no step waits for its own."""

_VECTOR_MATH = (
    *("acos", "asin", "atan", "cos", "cosh", "erf", "erfc", "erfinv", "exp", "expm1"),
    *("log", "log10", "log1p", "log2", "sin", "sinh", "sqrt", "tan", "tanh"),
)
_READ_AT_FIRST_USE = (b"ATEN_CPU_CAPABILITY", b"MKL_CBWR", b"MKL_ENABLE_INSTRUCTIONS")

_trainings: list[Training] = []


def install(module: Any, agent: Agent) -> None:
    """Watch torch; its optimizers and its compiler are modules of their own, imported before and after it."""
    if not _trainings:
        _trainings.append(Training(agent))
    training = _trainings[0]
    if module.__name__ == "torch.optim.optimizer":
        training.watch_optimizers(module)
    elif module.__name__ == "torch":
        training.watch_torch(module)
    elif module.__name__ == "torch.utils.data.dataloader":
        training.watch_loaders(module)
    elif module.__name__ in tensor_files.MODULES:
        tensor_files.watch(module, agent)
    elif module.__name__ == "torch.utils.tensorboard.writer":
        from .. import summary_writer

        summary_writer.watch(module, agent, "tensorboard")
    elif module.__name__ == "torch.distributed.distributed_c10d":
        from .. import process_groups

        process_groups.watch(module, agent)
    elif hasattr(module, "add"):
        module.add(__name__.partition(".")[0])  # the compiler must not trace into us


class Training:
    """What is seen of training in one process.

    Args:
        agent: Where to tell it.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._torch: Any = None
        self._library = ""
        self._optimizers: Any = {}
        self._dtypes: dict[Any, str] = {}
        self._plain: tuple[type, ...] = ()
        self._tracer = Tracer(agent, self._tell_number)
        self._backward = Backward(self._tracer)
        self._gradients = Gradients(agent, self._tracer, self._tell_loss, self._backward_ended)
        self._ending = Ending(agent, self._tracer.batches)
        self._operations = Operations(agent)
        self._bounded = self._ending.wanted or self._operations.wanted
        self._reset()
        agent.on_fork(self._reset)
        agent.on_moment(self._at_moment)

    def _reset(self) -> None:
        self._backwards = 0
        self._training = False
        self._optimizers_seen = 0
        self._optimizers = type(self._optimizers)()
        self._on_device: list[tuple[str, int, float, str, Any]] = []
        self._tracer.restart()
        self._backward.restart()
        self._gradients.restart()

    # at import

    def watch_torch(self, torch: Any) -> None:
        """Read what torch starts from, and take our places in it."""
        self._torch = torch
        self._library = torch.__file__.rpartition("/")[0] + "/"
        self._plain = (torch.Tensor, torch.nn.Parameter)
        agent = self._agent
        agent.guard("trace", "fingerprints", self._tracer.attach, torch)
        agent.guard("randomness", "torch.initial_seed", self._keep_initial_seed)
        agent.guard("trace", "operations", self._operations.attach, torch, self._library)
        agent.guard("trace", "torch.autograd.backward", self._watch_backward)
        agent.guard("randomness", "torch.manual_seed", self._watch_seeds)
        agent.guard("randomness", "torch.Generator", torch_generators.watch, torch, agent)
        agent.guard("data", "torch.save", tensor_files.watch_torch, agent, torch, self._tracer)
        agent.guard("trace", "torch settings", self._restore_settings)
        agent.guard("trace", "MKL", self._warm_up)
        agent.guard("trace", "determinism", determinism.install, agent, torch, self._library, SETTINGS)
        agent.guard("trace", "torch settings", tell_settings, agent, torch, "import")
        agent.generator("torch.cpu", lambda: bytes(torch.get_rng_state().numpy().tobytes()))

    def watch_optimizers(self, module: Any) -> None:
        """Be called before and after each step of any optimizer."""
        from weakref import WeakKeyDictionary

        self._optimizers = WeakKeyDictionary()
        register = getattr(module, "register_optimizer_step_pre_hook", None)
        if register is None:
            self._agent.gap("trace", "learning_rate", "this torch has no hook for all optimizers")
        else:
            register(self._before_step)
            module.register_optimizer_step_post_hook(self._after_step)

    def watch_loaders(self, module: Any) -> None:
        """See what data loaders hand out."""
        self._tracer.batches.watch(module)

    def _keep_initial_seed(self) -> None:
        generator = self._torch.default_generator
        self._agent.entropy(
            "torch.initial_seed",
            str(self._torch.initial_seed()),
            self._library,
            lambda recorded: generator.manual_seed(int(recorded)),
        )

    def _watch_backward(self) -> None:
        autograd = self._torch.autograd
        before, after = self._before_backward, self._after_backward
        autograd.backward = self._agent.wrap(autograd.backward, before, "trace", "loss", after)
        autograd.grad = self._gradients.watch(autograd.grad)

    def _watch_seeds(self) -> None:
        torch, agent, library = self._torch, self._agent, self._library

        def before(args: Any, kwargs: Any) -> Any:
            if args:
                return (agent.seed("torch.manual_seed", args[0], library), *args[1:]), kwargs
            return args, dict(kwargs, seed=agent.seed("torch.manual_seed", kwargs["seed"], library))

        def reseed(recorded: str) -> None:
            manual_seed(int(recorded))

        def seed() -> int:
            drawn = str(draw())
            return int(
                agent.guard("randomness", "torch.seed", agent.entropy, "torch.seed", drawn, library, reseed) or drawn
            )

        manual_seed, draw = torch.manual_seed, torch.seed
        _replace(manual_seed, agent.wrap(manual_seed, before, "randomness", "torch.manual_seed"), torch, torch.random)
        _replace(draw, disguise(seed, draw), torch, torch.random)

    def _warm_up(self) -> None:
        torch = self._torch
        if not torch.backends.mkl.is_available():
            return
        with torch.no_grad():
            for dtype in (torch.float32, torch.float64):
                few = torch.full((16,), 0.5, dtype=dtype, device="cpu")
                for name in _VECTOR_MATH:
                    getattr(few, name)()
        self._agent.watch("os.putenv", self._on_putenv)

    def _on_putenv(self, name: Any, value: Any) -> None:
        if name in _READ_AT_FIRST_USE and not self._training:
            reason = (
                "set after torch was imported: under the recorder it may be without effect, since MKL was warmed up"
            )
            self._agent.gap("trace", os.fsdecode(name), reason)

    # settings

    def _restore_settings(self) -> None:
        for name in ("num_threads", "num_interop_threads"):
            recorded = self._agent.settings.get(f"torch.{name}")
            if recorded is not None and int(recorded) != getattr(self._torch, f"get_{name}")():
                getattr(self._torch, f"set_{name}")(int(recorded))

    # at every step

    def _begin_training(self) -> None:
        self._training = True
        self._agent.guard("trace", "torch settings", tell_settings, self._agent, self._torch, "first-step")
        self._agent.guard("trace", "schedule", self._tracer.begin)
        self._agent.reach("first-step")

    def _before_backward(self, args: Any, kwargs: Any) -> None:
        self._gradients.stop()
        loss = args[0] if args else kwargs.get("tensors")
        if isinstance(loss, (tuple, list)) and len(loss) == 1:
            loss = loss[0]
        step = self._tell_loss(loss)
        if step is not None and not self._optimizers_seen:
            self._backward.before(loss, step)

    def _tell_loss(self, loss: Any) -> Optional[int]:
        """Tell a loss, if it is a single number, and return which of them it is, from 0; else `None`."""
        if not self._training:
            self._begin_training()
        if type(loss) not in self._plain:
            if isinstance(loss, self._plain):
                self._agent.gap("trace", "loss", f"a loss of type {type(loss).__name__} is not read")
            return None
        if loss.numel() != 1:
            return None
        step = self._backwards
        self._backwards = step + 1
        dtype = self._dtypes.get(loss.dtype)
        if dtype is None:
            dtype = self._dtypes[loss.dtype] = str(loss.dtype).rpartition(".")[2]
        if loss.is_cpu:
            self._agent.metric("loss", step, float(loss.item()), dtype, clock.monotonic())
        else:
            self._queue("loss", step, dtype, loss)
        return step

    def _after_backward(self) -> None:
        self._backward.after()
        self._backward_ended(0 if self._optimizers_seen else self._backward.steps)

    def _backward_ended(self, steps: int) -> None:
        if steps:
            self._operations.after_step("backward", steps)
            self._ending.after_step(steps)

    def _tell_number(self, name: str, step: int, value: Any) -> None:
        """Tell a tensor without dimensions as a metric: now, or once the device has it."""
        dtype = str(value.dtype).rpartition(".")[2]
        if value.is_cpu:
            self._agent.metric(name, step, float(value.item()), dtype, clock.monotonic())
        else:
            self._queue(name, step, dtype, value)

    def _queue(self, name: str, step: int, dtype: str, value: Any) -> None:
        cuda = self._torch.cuda
        if value.is_cuda and cuda.is_current_stream_capturing():
            self._agent.gap("trace", name, "what is computed inside a CUDA graph is not read")
            return
        self._on_device.append((name, step, clock.monotonic(), dtype, value.detach().clone()))
        if len(self._on_device) >= FETCH_EVERY:
            self._fetch()

    def _fetch(self) -> None:
        """Fetch the numbers that wait on devices, with one wait per device and type."""
        waiting, self._on_device = self._on_device, []
        groups: dict[tuple[Any, str], list[tuple[str, int, float, str, Any]]] = {}
        for entry in waiting:
            groups.setdefault((entry[4].device, entry[3]), []).append(entry)
        for group in groups.values():
            values = self._torch.stack([value.reshape(()) for _, _, _, _, value in group]).tolist()
            for (name, step, at, dtype, _), value in zip(group, values):
                self._agent.metric(name, step, float(value), dtype, at)

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        try:
            if not self._training:
                self._begin_training()
            known = self._optimizers.get(optimizer)
            if known is None:
                known = self._meet(optimizer)
            step = known.steps
            self._tell_rates(optimizer, known)
            if self._tracer.step_begins(known.anchor, step):
                self._tracer.timed(known.anchor.name, self._tracer.before, known.anchor, step, optimizer)
        except Exception as error:
            self._agent.gap("trace", "learning_rate", f"{type(error).__name__}: {error}")
            pass_on(error)

    def _meet(self, optimizer: Any) -> _Optimizer:
        if not self._optimizers_seen:
            self._backward.stop()
            self._gradients.stop()
        known = self._optimizers[optimizer] = _Optimizer(self._optimizers_seen)
        self._optimizers_seen += 1
        tell_optimizer(self._agent, optimizer, known.index)
        return known

    def _after_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        try:
            known = self._optimizers.get(optimizer) if self._tracer.open else None
            if known is not None and known.anchor.open_step is not None:
                self._tracer.timed(known.anchor.name, self._tracer.after, known.anchor, optimizer)
            if self._bounded:
                self._end_step(optimizer)
        except Exception as error:
            self._agent.gap("trace", "optimizer", f"{type(error).__name__}: {error}")
            pass_on(error)

    def _end_step(self, optimizer: Any) -> None:
        """Tell those that a replay of a few steps wakes that the first optimizer has stepped."""
        known = self._optimizers.get(optimizer)
        if known is not None and known.index == 0:
            self._operations.after_step(known.anchor.name, known.steps)
            self._ending.after_step(known.steps)

    def _tell_rates(self, optimizer: Any, known: _Optimizer) -> None:
        step = known.steps
        known.steps = step + 1
        for number, group in enumerate(optimizer.param_groups):
            rate = group.get("lr")
            if self._torch is not None and isinstance(rate, self._torch.Tensor):
                if not rate.is_cpu:
                    self._agent.gap("trace", known.name(number), "a learning rate kept on a device is not read")
                    continue
                rate = rate.item()
            if rate is None or known.rates.get(number) == rate:
                continue
            known.rates[number] = rate
            self._agent.metric(known.name(number), step, float(rate), "float64", clock.monotonic())

    def _at_moment(self, moment: str) -> None:
        if self._torch is None:
            return
        if moment == "end":
            self._agent.guard("trace", "loss", self._fetch)
            self._agent.guard("trace", "fingerprints", self._tracer.end)
            tell_settings(self._agent, self._torch, "end")
            if self._backwards and not self._optimizers_seen:
                reason = "no step of a torch optimizer was seen: it is compiled whole, or written by hand"
                self._agent.gap("trace", "learning_rate", reason)
            if self._gradients.asked and not self._backwards and not self._optimizers_seen:
                reason = "gradients were taken by torch.autograd.grad alone, and no optimizer stepped: no step is seen"
                self._agent.gap("trace", "fingerprints", reason)


class _Optimizer:
    """What is known of one optimizer: how often it stepped, the rates last told, and its place in the trace."""

    __slots__ = ("anchor", "index", "rates", "steps")

    def __init__(self, index: int) -> None:
        self.index = index
        self.steps = 0
        self.rates: dict[int, float] = {}
        self.anchor = Anchor(f"optimizer.{index}")

    def name(self, group: int) -> str:
        return f"learning_rate.{group}" if self.index == 0 else f"optimizer.{self.index}.learning_rate.{group}"


def _replace(original: Any, wrapper: Any, *homes: Any) -> None:
    for home in homes:
        for name, value in list(vars(home).items()):
            if value is original:
                setattr(home, name, wrapper)
