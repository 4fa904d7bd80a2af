"""Proofs without a model."""

import numpy as np

from surgery.evaluation import AGAIN, BASE, BASELINE, Evaluation
from surgery.experiments import EDIT
from tests.helpers.proofs import evaluation_of as made
from tests.helpers.proofs import gained_or_lost, simple


def proof(gained: int = 8, controls: int = 3) -> Evaluation:
    rng = np.random.default_rng(0)
    loss, before = rng.normal(1, 0.1, 40), np.tile([0.0, 1.0], 20)
    scores = {BASELINE: simple(loss, before, "b"), EDIT: simple(loss - 0.1, gained_or_lost(before, gained))}
    scores |= {f"random {n}": simple(loss + 0.01 * (n + 1), before, "b") for n in range(controls)}
    return made(scores | {AGAIN: simple(loss + 1e-9, before, "b")})


def with_base(right: int = 6) -> Evaluation:
    """A proof with the base, which has the first so many of 16 right; two of them are broken, three others taught."""
    places = np.arange(16)
    base, adapter = places < right, np.isin(places, (0, 1, 2, 3, 6, 7, 8))
    edited = np.isin(places, (0, 1, 2, 4, 6, 7, 9))
    answers = {
        BASE: (base, "base says"),
        BASELINE: (adapter, "b"),
        EDIT: (edited, "a"),
        "random 0": (adapter, "c"),
    }
    scores = {name: simple(np.ones(16), exact.astype(float), said) for name, (exact, said) in answers.items()}
    return made({BASELINE: scores.pop(BASELINE), **scores})
