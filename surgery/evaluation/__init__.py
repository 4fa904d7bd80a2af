"""Scores on held-out rows and paired statistics."""

from surgery.evaluation.evaluation import (
    AGAIN,
    BASELINE,
    EXACT,
    LOSS,
    Asked,
    Effect,
    Evaluation,
    Measure,
    Scores,
    is_random_control,
    paired_effect,
    random_name,
    row_scores,
)
from surgery.evaluation.rows import answer_limit, answered, evaluate
from surgery.evaluation.significance import holm, least_detectable, mcnemar, place_among
from surgery.evaluation.summary import (
    CorrectedTest,
    EvaluationSummary,
    VariantMetrics,
    parse_summary,
    summarise,
    summary_record,
)

__all__ = [
    "AGAIN",
    "BASELINE",
    "EXACT",
    "LOSS",
    "Asked",
    "CorrectedTest",
    "Effect",
    "Evaluation",
    "EvaluationSummary",
    "Measure",
    "Scores",
    "VariantMetrics",
    "answer_limit",
    "answered",
    "evaluate",
    "holm",
    "is_random_control",
    "least_detectable",
    "mcnemar",
    "paired_effect",
    "parse_summary",
    "place_among",
    "random_name",
    "row_scores",
    "summarise",
    "summary_record",
]
