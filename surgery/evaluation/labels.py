"""Labelled rows put to variants of a classifier: the loss of the label, and whether it is the likeliest.

Nothing is generated: one pass over a text gives both. Of words with tags a row's accuracy is the share of its words
that have the right one, so every row counts the same whatever its length, as in the loss.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from surgery.adapter import TOKEN_CLS
from surgery.data import IGNORED, Example
from surgery.evaluation.evaluation import Scores
from surgery.evaluation.metric import LOSS, Metric
from surgery.model import Classified

LABEL_LOSS = Metric(LOSS.name, "label loss", higher_is_better=False, binary=False)
ACCURACY = Metric("accuracy", "accuracy", higher_is_better=True, binary=True)
WORD_ACCURACY = Metric(ACCURACY.name, "accuracy over words", higher_is_better=True, binary=False)


def label_metrics(examples: Sequence[Example]) -> tuple[Metric, Metric]:
    """The metrics of labelled rows: of one label accuracy is 0 or 1, of tags a share."""
    return LABEL_LOSS, WORD_ACCURACY if examples[0].task == TOKEN_CLS else ACCURACY


def label_scores(
    examples: Sequence[Example], found: Mapping[str, Sequence[Classified]], labels: Sequence[str]
) -> dict[str, Scores]:
    """Scores of every variant: loss and accuracy of each example, and the labels that it says.

    examples: encoded rows.
    found: what each variant says of them, in their order.
    labels: of the classifier, by number.
    """
    wanted = [tuple(label for label in example.answer_ids if label != IGNORED) for example in examples]
    return {name: _scores(said, wanted, labels) for name, said in found.items()}


def _scores(said: Sequence[Classified], wanted: Sequence[tuple[int, ...]], labels: Sequence[str]) -> Scores:
    right = [
        float(np.mean([mine == theirs for mine, theirs in zip(each.labels, own, strict=True)]))
        for each, own in zip(said, wanted, strict=True)
    ]
    values = {LABEL_LOSS.name: np.array([each.loss for each in said]), ACCURACY.name: np.array(right)}
    return Scores(values, tuple(" ".join(labels[number] for number in each.labels) for each in said))
