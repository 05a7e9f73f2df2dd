"""scikit-learn: parameters of what is fitted; scores, metrics, cross-validations, searches, and curves of iterations.

What the user's code calls is told, not what the library calls by itself: a forest's trees, a search's candidates. Steps
count the calls of a name; those of a curve are iterations, of a cross-validation folds, of a search candidates.
"""

from __future__ import annotations

import sys

from .. import disguise
from ..callers import outside
from ..hyperparameters import after, caller, tell
from ..metrics import shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from repro.agent import Agent

_METRICS = ("_classification", "_ranking", "_regression", "cluster._supervised", "cluster._unsupervised")
_WITH_SCORE = (
    *("base", "cluster._kmeans", "covariance._elliptic_envelope", "covariance._empirical_covariance"),
    *("decomposition._factor_analysis", "decomposition._lda", "decomposition._pca", "dummy"),
    *("feature_selection._rfe", "linear_model._glm.glm", "linear_model._logistic", "linear_model._ransac"),
    *("mixture._base", "model_selection._search", "multioutput", "neighbors._classification", "neighbors._kde"),
    *("pipeline", "semi_supervised._self_training"),
)
_VALIDATION = "sklearn.model_selection._validation"
MODULES = (
    *(f"sklearn.metrics.{name}" for name in _METRICS),
    *(f"sklearn.{name}" for name in _WITH_SCORE),
    _VALIDATION,
)

_CURVES = ("loss_curve_", "validation_scores_", "train_score_", "validation_score_")
_NUMBERS = ("best_loss_", "best_score_", "best_validation_score_", "inertia_", "lower_bound_", "n_iter_")
MOST_POINTS = 10_000
"""Of one curve; a gap says when there are more."""
MOST_DEPTH = 8
"""How deep estimators are nested."""


def install(module: Any, agent: Agent) -> None:
    """Watch the part of it that was just imported, before another part takes a function from it."""
    name = module.__name__
    library = f"{sys.modules['sklearn'].__path__[0]}/"
    watch = _Watch(agent, library)
    if name.startswith("sklearn.metrics."):
        watch.metrics(module)
    elif name == _VALIDATION:
        watch.validation(module)
    else:
        watch.scores(module)
        if name == "sklearn.base":
            watch.fits(module)


class _Watch:
    """Wraps functions of the library, and tells what calls from outside it were given and gave back."""

    def __init__(self, agent: Agent, library: str) -> None:
        self._agent = agent
        self._library = library

    def metrics(self, module: Any) -> None:
        """Watch each public function of a module of metrics."""
        for name, function in list(vars(module).items()):
            is_own = getattr(function, "__module__", None) == module.__name__
            if is_own and name[0] != "_" and not isinstance(function, type) and callable(function):
                setattr(module, name, self._after(function, self._metric, f"sklearn.metrics.{name}"))

    def scores(self, module: Any) -> None:
        """Watch each method `score` that a module defines."""
        for kind in list(vars(module).values()):
            method = vars(kind).get("score") if isinstance(kind, type) else None
            if method is None or kind.__module__ != module.__name__:
                continue
            subject = f"{kind.__name__}.score"
            if hasattr(method, "fn"):  # `available_if`: whether it is there depends on the estimator
                method.fn = self._after(method.fn, self._score, subject)
            else:
                kind.score = self._after(method, self._score, subject)

    def validation(self, module: Any) -> None:
        """Watch cross-validation."""
        for name in ("cross_validate", "cross_val_score"):
            setattr(module, name, self._after(getattr(module, name), self._folds, name))

    def fits(self, module: Any) -> None:
        """Watch what the library's own estimators are fitted with: their methods pass through one decorator."""
        original = getattr(module, "_fit_context", None)
        if original is None:
            reason = "this version of scikit-learn has another way to fit (1.3 was the first with this one)"
            self._agent.gap("trace", "sklearn estimators", reason)
            return

        def fit_context(*args: Any, **kwargs: Any) -> Any:
            decorate = original(*args, **kwargs)

            def decorator(method: Any) -> Any:
                decorated = decorate(method)
                # A class of the user's may be pickled by value, and our wrapper cannot be.
                own = method.__module__.startswith("sklearn.")
                if own and "loky" in self._agent.process_key:
                    return self._in_worker(decorated)
                return self._after(decorated, self._fitted, method.__qualname__) if own else decorated

            return decorator

        module._fit_context = disguise(fit_context, original)

    def _in_worker(self, fit: Any) -> Any:
        """Return a method that says whether it drew from a generator of a worker: which task is whose is a race."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            before = self._agent.guard("randomness", "sklearn", _global_state)
            result = fit(*args, **kwargs)
            if before != self._agent.guard("randomness", "sklearn", _global_state):
                reason = (
                    "an estimator without random_state drew from NumPy's global generator in a worker of joblib: which "
                    "worker gets which task is a race, so a replay need not repeat it; give it a random_state"
                )
                self._agent.gap("randomness", "sklearn", reason)
            return result

        return disguise(wrapper, fit)

    def _after(self, function: Any, action: Any, subject: str) -> Any:
        """Return a function that tells of its calls from outside the library."""

        def told(result: Any, args: Any, kwargs: Any) -> None:
            frame = outside(sys._getframe(1), ())
            if frame is None or not frame.f_code.co_filename.startswith(self._library):
                action(subject, result, args)

        return after(self._agent, function, told, subject)

    def _metric(self, subject: str, result: Any, args: Any) -> None:
        name = subject.rpartition(".")[2]
        if isinstance(result, dict):
            shared(self._agent).tell_all("sklearn", result, prefix=f"{name}.")
        else:
            shared(self._agent).tell("sklearn", name, result)

    def _score(self, subject: str, result: Any, args: Any) -> None:
        shared(self._agent).tell("sklearn", f"{type(args[0]).__name__}.score", result)

    def _folds(self, subject: str, result: Any, args: Any) -> None:
        if not isinstance(result, dict):
            self._curve(subject, result)
        for name, values in dict.items(result) if isinstance(result, dict) else ():
            if name.startswith(("test_", "train_")):  # the others are times, indices and estimators
                self._curve(f"{subject}.{name}", values)

    def _fitted(self, subject: str, result: Any, args: Any) -> None:
        estimator = args[0]
        kind = type(estimator).__name__
        held = vars(estimator)
        if not subject.endswith(".partial_fit"):
            self._tell_fitted(kind, held)
        elif isinstance(held.get("loss_"), float):
            shared(self._agent).tell("sklearn", f"{kind}.loss_", held["loss_"])
        site, _ = caller(self._library)
        tell(self._agent, "sklearn", dict(parameters(estimator)), site, kind)

    def _tell_fitted(self, kind: str, held: dict[str, Any]) -> None:
        for name in _CURVES:
            if held.get(name) is not None:
                self._curve(f"{kind}.{name}", held[name])
        for name in _NUMBERS:
            if held.get(name) is not None:
                shared(self._agent).tell("sklearn", f"{kind}.{name}", held[name])
        results = held.get("cv_results_")
        for name, values in dict.items(results) if isinstance(results, dict) else ():
            if name.startswith(("mean_t", "std_t")):  # of tests and trainings: what else has a mean is a time
                self._curve(f"{kind}.{name}", values)
        if isinstance(held.get("best_params_"), dict):
            tell(self._agent, "sklearn", held["best_params_"], caller(self._library)[0], f"{kind}.best_params_")

    def _curve(self, name: str, values: Any) -> None:
        """Tell the numbers of a list or an array of one dimension, at steps from 0; anything else is no curve."""
        if getattr(values, "ndim", 1) != 1 or not hasattr(values, "__len__"):
            return
        if len(values) > MOST_POINTS:
            self._agent.gap("trace", f"metric {name}", f"only the first {MOST_POINTS} of its points are kept")
        for step, value in enumerate(values[:MOST_POINTS]):
            shared(self._agent).tell("sklearn", name, value, step)


def _global_state() -> bytes:
    """Return the state of NumPy's global generator, without drawing from it."""
    state = sys.modules["numpy.random"].mtrand._rand.get_state(legacy=False)["state"]
    return bytes(state["key"].tobytes()) + str(state["pos"]).encode()


def parameters(estimator: Any, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Return the parameters of an estimator, and of those in it, by name: of a pipeline `classifier.C`.

    They are the attributes that its constructor's parameters are named after, as scikit-learn demands; of a class that
    is not of the library, only the type is told.
    """
    held = getattr(estimator, "__dict__", {})
    for name in _parameter_names(type(estimator)):
        value = held.get(name)
        parts = value if name in ("steps", "transformers", "transformer_list", "estimators") else None
        yield f"{prefix}{name}", [part[0] for part in parts or () if isinstance(part, tuple)] if parts else value
        inner = [(part[0], part[1]) for part in parts or () if isinstance(part, tuple) and len(part) > 1]
        for key, member in inner if parts else [(name, value)]:
            if depth < MOST_DEPTH and _is_of_library(member):
                yield from parameters(member, f"{prefix}{key}.", depth + 1)


def _is_of_library(value: Any) -> bool:
    kind = type(value)
    return kind.__module__.startswith("sklearn.") and hasattr(kind, "get_params") and hasattr(kind, "fit")


def _parameter_names(kind: type) -> tuple[str, ...]:
    """Return the names of a constructor's parameters."""
    if not kind.__module__.startswith("sklearn."):
        return ()
    function: Any = kind.__init__  # type: ignore[misc]
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    return () if code is None else code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]
