"""What variants say without right answers: KL from the unedited adapter and from the base, and cross-entropy, by token.

KL(unedited ‖ variant) is what an edit changes; KL(base ‖ variant) is how far a variant is from the model before
training, of the unedited adapter what training changed. A mean is over examples, each a mean over its own tokens.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from surgery.evaluation.evaluation import BASE, BASELINE, Scores
from surgery.evaluation.metric import LOSS, Metric
from surgery.model import Divergence

CROSS_ENTROPY = Metric(LOSS.name, "cross-entropy", higher_is_better=False, binary=False)
KL_UNEDITED = Metric("kl", "KL from the unedited adapter", higher_is_better=False, binary=False)
KL_BASE = Metric("kl_base", "KL from the base", higher_is_better=False, binary=False)
DIVERGENCES = {BASELINE: KL_UNEDITED, BASE: KL_BASE}
UNTOLD = (
    "KL is told of variants that share the batches of what it is measured from: of an adapter that is attached by "
    "itself there is the cross-entropy alone."
)


def known_references(names: Sequence[str]) -> tuple[str, ...]:
    """Those of the variants that KL is measured from."""
    return tuple(name for name in DIVERGENCES if name in names)


def divergence_scores(
    found: Mapping[str, Sequence[Divergence]], references: Sequence[str], answers: Sequence[str]
) -> dict[str, Scores]:
    """Scores of every variant on every example; NaN where a variant was not measured from a reference.

    found: by variant, in the order of the examples.
    references: what `Divergence.kl` is measured from.
    answers: the texts that were scored; nothing is generated.
    """
    return {name: _scores(each, references, answers) for name, each in found.items()}


def _scores(found: Sequence[Divergence], references: Sequence[str], answers: Sequence[str]) -> Scores:
    values = {LOSS.name: np.array([each.cross_entropy for each in found], dtype=np.float64)}
    for name, metric in DIVERGENCES.items():
        place = references.index(name) if name in references else None
        values[metric.name] = np.array(
            [np.nan if place is None else each.kl[place] for each in found], dtype=np.float64
        )
    return Scores(values, tuple(answers))
