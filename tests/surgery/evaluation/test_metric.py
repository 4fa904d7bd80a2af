"""Metrics: units and decimals by what they are, and a record that earlier versions read."""

import pytest

from surgery.evaluation import ACCURACY, CROSS_ENTROPY, EXACT, KL_BASE, KL_UNEDITED, LABEL_LOSS, LOSS, Metric


@pytest.mark.parametrize(
    ("metric", "unit", "digits"),
    [
        (LOSS, "nats per answer token", 4),
        (LABEL_LOSS, "nats per label", 4),
        (CROSS_ENTROPY, "nats per token", 4),
        (KL_UNEDITED, "nats per token", 6),
        (KL_BASE, "nats per token", 6),
        (EXACT, "points", 4),
        (ACCURACY, "points", 4),
        (Metric("bleu", "BLEU", True, False), "BLEU", 4),
    ],
)
def test_a_metric_tells_its_unit_and_its_decimals(metric, unit, digits):
    assert (metric.unit, metric.digits) == (unit, digits)


def test_the_record_leaves_out_what_earlier_versions_did_not_know():
    assert Metric(**LOSS.record()) == LOSS
    assert "macro" not in LOSS.record()
    macro = Metric("acc", "accuracy", True, True, macro=True)
    assert Metric(**macro.record()) == macro
