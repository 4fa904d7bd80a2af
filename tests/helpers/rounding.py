"""How far two evaluations of the same sum may lie apart, and that a choice between numbers is no matter of rounding.

A processor with wider registers, another number of threads and a batch of another shape add the same terms in
another order. Each order is right, and each is off from the exact sum by its own rounding:

    |computed - exact| <= gamma(n) · Σ|terms|,   relative to the sum: gamma(n) · condition, condition = Σ|terms| / |sum|

for n terms and the unit roundoff u, half the distance from 1 to the next number. In the worst case gamma(n) is
n u / (1 - n u) (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed. 2002, section 3.1). Roundings that
are independent and have no preferred sign add up as a random walk: with λ standard deviations gamma(n) is λ √n u,
which fails with a probability of at most 2 exp(-λ² / 2) (Higham and Mary, A new approach to probabilistic rounding
error analysis, SIAM J. Sci. Comput. 41, 2019, theorem 2.4). `DEVIATIONS` = 6 makes that 3e-8, small enough for the
some 10⁵ numbers that the tests compare. Of few terms the worst case is the smaller bound, and then it is taken.

A network is treated as the sums of all its weight matrices one after the other. That counts some that stand side by
side; what it leaves out are the tokens an attention sums over, and roundings of single operations, of which there are
fewer than terms. Measured on the tests' models, two evaluations lie within a twentieth of the bound for logits and a
fourth of it for losses and sensitivities. `tests/benchmarks/cpu_settings.py` runs the tests on other kernels.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
DEVIATIONS = 6.0


def apart(terms: float, condition: float = 1.0, dtype: torch.dtype = torch.float32) -> float:
    """How far two evaluations of a sum of so many terms may differ, relative to the sum's size.

    `condition` is Σ|terms| / |sum|. In the worst case the errors of both add up; as random walks they are independent
    of each other, and together √2 times as long as one.
    """
    return condition * UNIT[dtype] * min(2 * terms, 2**0.5 * DEVIATIONS * terms**0.5)


def terms_of(model: Any) -> int:
    """The terms of a model's sums one after the other: the longer side of each of its weight matrices."""
    return sum(max(weight.shape[-2:]) for weight in model.parameters() if weight.dim() > 1)


def logits_apart(model: Any) -> float:
    """How far two evaluations of the same logits may differ: ‖difference‖ relative to ‖logits‖."""
    return apart(terms_of(model), dtype=_dtype(model))


def losses_apart(model: Any, losses: Any) -> np.ndarray:
    """How far two evaluations of losses or log likelihoods may differ, in nats.

    The loss of a token is -log p. A relative error of p is an absolute one of its logarithm, so a small loss is no
    more exact than one of a nat; where p is small the loss grows with its logit, and its error with both.
    """
    return apart(terms_of(model), dtype=_dtype(model)) * np.maximum(np.abs(losses), 1.0)


def assert_losses(found: Any, expected: Any, model: Any) -> None:
    """Assert that losses or log likelihoods in nats are as near as two evaluations by `model` may be."""
    found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert found.shape == expected.shape
    over = np.abs(found - expected) / losses_apart(model, expected)
    assert (over <= 1).all(), f"{over.max():.3g} times as far apart as rounding reaches"


def sensitivities_apart(model: Any, condition: float = 1.0) -> float:
    """How far two measurements of sensitivities may differ: ‖difference‖ relative to ‖g‖ over the components.

    They come from as many sums forwards as backwards. In those of one example a module's terms may cancel more than
    in all examples together: of random signs, Σ|terms| / |sum| over its tokens is about √tokens.
    """
    return apart(2 * terms_of(model), condition, _dtype(model))


def choice_apart(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """How far the difference of two logits may move between two evaluations: one value per row of (…, vocabulary)."""
    return 2 * apart(terms_of(model), dtype=_dtype(model)) * logits.abs().amax(-1)


def assert_clear_choice(model: Any, logits: torch.Tensor) -> None:
    """Assert that in every row of (…, vocabulary) the largest logit leads the next by more than rounding can turn.

    Rows that are equal throughout pass: in them the first is chosen on any processor. In half precision ties are
    frequent, and no test may expect equal tokens.
    """
    if logits.dtype not in UNIT or not isinstance(model, torch.nn.Module):
        return
    first, second = logits.detach().topk(2, dim=-1).values.unbind(-1)
    flat = logits.amax(-1) == logits.amin(-1)
    clear = flat | (first - second > choice_apart(model, logits))
    assert clear.all(), f"rounding could turn a choice: {(first - second).min()} between the two largest logits"


def assert_clear_tokens(model: Any, logits: torch.Tensor, tokens: torch.Tensor) -> None:
    """Assert that rounding cannot turn whether each of `tokens` is the largest logit of its row of (token, vocabulary)."""
    own = logits.gather(-1, tokens[:, None]).squeeze(-1)
    others = logits.scatter(-1, tokens[:, None], -torch.inf).amax(-1)
    assert ((own - others).abs() > choice_apart(model, logits)).all(), "rounding could turn whether a token leads"


def watched(chosen: property) -> property:
    """A property like `surgery.prompts.Prompts.chosen` that first asserts that every choice is clear."""
    choose: Callable[[Any], list[int]] | None = chosen.fget
    assert choose is not None

    def asserted(prompts: Any) -> list[int]:
        assert_clear_choice(prompts._model, prompts.following)
        return choose(prompts)

    return property(asserted)


def _dtype(model: Any) -> torch.dtype:
    """The dtype in which a model computes."""
    return next(model.parameters()).dtype
