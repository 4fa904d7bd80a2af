"""Scores on held-out rows and paired statistics."""

from surgery.evaluation.evaluation import (
    AGAIN,
    BASELINE,
    EXACT,
    LOSS,
    Effect,
    Evaluation,
    Metric,
    Sample,
    Scores,
    is_random_control,
    paired_effect,
    random_name,
    row_scores,
)
from surgery.evaluation.labels import ACCURACY, LABEL_LOSS, WORD_ACCURACY, label_metrics, label_scores
from surgery.evaluation.rows import LOSS_ALONE, Marking, answer_limit, answered, evaluate, stop_texts
from surgery.evaluation.significance import holm, least_detectable, mcnemar, permutation_rank
from surgery.evaluation.stops import Stops, cut
from surgery.evaluation.summary import (
    CorrectedTest,
    EvaluationSummary,
    VariantMetrics,
    parse_summary,
    summarise,
    summary_record,
)

__all__ = [
    "ACCURACY",
    "AGAIN",
    "BASELINE",
    "EXACT",
    "LABEL_LOSS",
    "LOSS",
    "LOSS_ALONE",
    "WORD_ACCURACY",
    "CorrectedTest",
    "Effect",
    "Evaluation",
    "EvaluationSummary",
    "Marking",
    "Metric",
    "Sample",
    "Scores",
    "Stops",
    "VariantMetrics",
    "answer_limit",
    "answered",
    "cut",
    "evaluate",
    "holm",
    "is_random_control",
    "label_metrics",
    "label_scores",
    "least_detectable",
    "mcnemar",
    "paired_effect",
    "parse_summary",
    "permutation_rank",
    "random_name",
    "row_scores",
    "stop_texts",
    "summarise",
    "summary_record",
]
