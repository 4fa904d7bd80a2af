"""From rows on disks to encoded examples; plans of slices; train/test contamination."""

from surgery.data.contamination import TaskDocument, content_key, refuse_shared, shared_examples, task_document
from surgery.data.examples import IGNORED, TEMPLATES, Calibration, Encoding, Example, encode, prompt_ids
from surgery.data.hub_source import HubSource, NotFetchedError, is_hub, parse_hub
from surgery.data.plans import (
    CalibrationPlan,
    EvaluationPlan,
    Slice,
    calibration_rows,
    parse_plan,
    plan_record,
    planned_rows,
    refuse_changed_rows,
    rows_digest,
)
from surgery.data.rows import (
    Message,
    Row,
    RowFields,
    UnusableRow,
    choose,
    left_out_text,
    parse_record,
    parse_rows,
    read_rows,
    shared_keys,
)
from surgery.data.slices import Slices, read_slices
from surgery.data.source import SourceRows, read_source

__all__ = [
    "IGNORED",
    "TEMPLATES",
    "Calibration",
    "CalibrationPlan",
    "Encoding",
    "EvaluationPlan",
    "Example",
    "HubSource",
    "Message",
    "NotFetchedError",
    "Row",
    "RowFields",
    "Slice",
    "Slices",
    "SourceRows",
    "TaskDocument",
    "UnusableRow",
    "calibration_rows",
    "choose",
    "content_key",
    "encode",
    "is_hub",
    "left_out_text",
    "parse_hub",
    "parse_plan",
    "parse_record",
    "parse_rows",
    "plan_record",
    "planned_rows",
    "prompt_ids",
    "read_rows",
    "read_slices",
    "read_source",
    "refuse_changed_rows",
    "refuse_shared",
    "rows_digest",
    "shared_examples",
    "shared_keys",
    "task_document",
]
