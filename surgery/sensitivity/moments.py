"""Moments of per-example sensitivities: all that policies and previews read, for all modules at once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from jaxtyping import Float64, Int
from numpy import ndarray

from surgery.sensitivity.input_moments import InputMoments
from surgery.sensitivity.scope_rows import ScopeRows, scope_rows

_SCOPES = 4  # that are kept, because a person goes between few


@dataclass(frozen=True)
class Moments:
    """Statistics of g over examples, the components of all measured modules end to end.

    `mean` is signed and `error` its standard error, NaN from a single example. `q` is E[(vₖᵀx)²] of what enters
    the module, NaN where that was not measured. `indices` holds the indices of each module's components. `tokens` is
    the mean number of answer tokens, NaN where unknown; `label_free` says that the answers are the model's own, so
    that the mean is zero but for the draw. `protected` are those of slices that an edit is not to hurt.
    """

    indices: Mapping[str, Int[ndarray, " rank"]]
    g: Float64[ndarray, "component example"]
    mean: Float64[ndarray, " component"]
    error: Float64[ndarray, " component"]
    magnitude: Float64[ndarray, " component"]
    second_moment: Float64[ndarray, " component"]
    q: Float64[ndarray, " component"]
    tokens: float = float("nan")
    label_free: bool = False
    protected: tuple["Moments", ...] = ()

    def of_scope(self, names: Sequence[str]) -> ScopeRows:
        """The per-example sensitivities of these modules together; the last few scopes are kept."""
        return self._scopes(tuple(names))

    @cached_property
    def _scopes(self) -> Callable[[tuple[str, ...]], ScopeRows]:
        indices, g, q, tokens, free, beside = (
            self.indices, self.g, self.q, self.tokens, self.label_free, self.protected,
        )  # fmt: skip

        def rows(names: tuple[str, ...]) -> ScopeRows:
            protected = tuple(moments.of_scope(names) for moments in beside)
            own = scope_rows(indices, g, q, names)
            return replace(own, tokens=tokens, label_free=free, protected=protected)

        return lru_cache(_SCOPES)(rows)


def moments_of(
    values: Mapping[str, Float64[ndarray, "example rank"]], inputs: InputMoments | None = None
) -> Moments:
    """Aggregate per-example sensitivities; not finite where a measurement was not."""
    indices, end = {}, 0
    for name, module in values.items():
        start, end = end, end + module.shape[1]
        indices[name] = np.arange(start, end)
    # a sum along rows of another memory layout would add in another order
    g = np.ascontiguousarray(np.concatenate([module.T for module in values.values()]))
    n = g.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        up, up_squared = _sums(np.maximum(g, 0.0))
        down, down_squared = _sums(np.maximum(-g, 0.0))
        mean = (up - down) / n
        _, squared = _sums(np.abs(g - mean[:, np.newaxis]))
        error = np.sqrt(squared / (n - 1) / n) if n > 1 else np.full(end, np.nan)
        return Moments(
            indices, g, mean, error, (up + down) / n, (up_squared + down_squared) / n, _q(values, inputs)
        )


def _q(
    values: Mapping[str, Float64[ndarray, "example rank"]], inputs: InputMoments | None
) -> Float64[ndarray, " component"]:
    seen = inputs.prompt if inputs is not None else {}
    return np.concatenate(
        [
            inputs.q(name) if inputs is not None and name in seen else np.full(module.shape[1], np.nan)
            for name, module in values.items()
        ]
    )


def _sums(
    sizes: Float64[ndarray, "component example"],
) -> tuple[Float64[ndarray, " component"], Float64[ndarray, " component"]]:
    """Σ and Σ of squares in ascending order, so that the order of the examples moves no bit.

    With both signs summed apart, turning the sign of g turns that of its mean and no bit more.
    """
    rising = np.sort(sizes, axis=1)
    # a sum of negative zeros is one
    return rising.sum(axis=1) + 0.0, (rising**2).sum(axis=1)
