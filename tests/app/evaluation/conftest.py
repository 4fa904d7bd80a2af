"""Proofs without a model."""

import numpy as np

from surgery.evaluation import AGAIN, BASELINE, Evaluation
from surgery.experiments import EDIT
from tests.helpers.proofs import evaluation_of as made
from tests.helpers.proofs import gained_or_lost, simple


def proof(gained: int = 8, controls: int = 3) -> Evaluation:
    rng = np.random.default_rng(0)
    loss, before = rng.normal(1, 0.1, 40), np.tile([0.0, 1.0], 20)
    scores = {BASELINE: simple(loss, before, "b"), EDIT: simple(loss - 0.1, gained_or_lost(before, gained))}
    scores |= {f"random {n}": simple(loss + 0.01 * (n + 1), before, "b") for n in range(controls)}
    return made(scores | {AGAIN: simple(loss + 1e-9, before, "b")})
