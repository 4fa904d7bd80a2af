"""Accuracy of labels and of tags against counts by hand, and what a classifier's answers are called."""

import numpy as np
import pytest

from surgery.data import IGNORED, Example
from surgery.evaluation import (
    ACCURACY,
    BASELINE,
    LABEL_LOSS,
    LOSS,
    WORD_ACCURACY,
    Evaluation,
    Sample,
    label_metrics,
    label_scores,
    summarise,
)
from surgery.model import Classified

NAMES = ("negative", "neutral", "positive")


def text(label):
    return Example(f"text {label}", (2, 5, 3), (label,), NAMES[label], task="SEQ_CLS")


def words(*tags):
    return Example("words", (2, *range(5, 5 + len(tags)), 3), (IGNORED, *tags, IGNORED), "", task="TOKEN_CLS")


def test_a_text_is_right_where_its_label_is_the_likeliest():
    found = {BASELINE: [Classified(0.25, (2,)), Classified(1.5, (0,))]}
    scores = label_scores([text(2), text(1)], found, NAMES)[BASELINE]
    assert scores.loss.tolist() == [0.25, 1.5]
    assert scores.values["accuracy"].tolist() == [1.0, 0.0]
    assert scores.answers == ("positive", "negative")


def test_the_accuracy_of_words_is_the_share_of_those_with_a_tag():
    examples = [words(0, IGNORED, 1, 2), words(1)]
    found = {BASELINE: [Classified(0.5, (0, 2, 2)), Classified(0.1, (1,))]}
    scores = label_scores(examples, found, NAMES)[BASELINE]
    np.testing.assert_allclose(scores.values["accuracy"], [2 / 3, 1.0])
    assert scores.answers == ("negative positive positive", "neutral")


def test_one_label_is_a_share_of_examples_with_an_exact_test_and_tags_are_not():
    assert label_metrics([text(0)]) == (LABEL_LOSS, ACCURACY)
    assert label_metrics([words(0)]) == (LABEL_LOSS, WORD_ACCURACY)
    rows, before = [text(1)] * 30, [Classified(1.0, (0,))] * 30
    after = [Classified(0.5, (1,))] * 12 + before[12:]
    scores = label_scores(rows, {BASELINE: before, "edit": after}, NAMES)
    samples = tuple(Sample(f"{n}", "", "") for n in range(30))
    summary = summarise(Evaluation(scores, samples, label_metrics(rows)))
    test = summary.variants["edit"].tests["accuracy"]
    assert (test.gained, test.lost) == (12, 0)
    assert test.p == pytest.approx(2 / 2**12)


def test_the_loss_of_a_label_is_told_in_nats_per_label():
    assert (LOSS.unit, LABEL_LOSS.unit) == ("nats per answer token", "nats per label")
    assert (ACCURACY.unit, WORD_ACCURACY.unit) == ("points", "accuracy over words")
