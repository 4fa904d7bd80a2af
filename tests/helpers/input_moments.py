"""Second moments of inputs that no model gave, for tests of what is computed from them."""

from dataclasses import replace

import numpy as np

from surgery.sensitivity import InputMoments, Sensitivity


def with_moments(measured: Sensitivity, seed: int = 0) -> Sensitivity:
    """The measurement with random positive definite M of every module, over 3 prompt and 2 answer tokens."""
    rng = np.random.default_rng(seed)

    def sums(tokens: int) -> dict[str, np.ndarray]:
        found = {}
        for name, g in measured.values.items():
            rank = g.shape[1]
            inputs = rng.normal(size=(rank + tokens, rank)) * rng.uniform(0.3, 3.0, rank)
            found[name] = inputs.T @ inputs
        return found

    return replace(measured, inputs=InputMoments(sums(3), sums(2), {"prompt": 3, "answer": 2}))
