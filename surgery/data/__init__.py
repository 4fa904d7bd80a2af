"""From rows on disks to encoded examples; plans of slices; train/test contamination."""

from surgery.data.answer_filters import AnswerFilters
from surgery.data.contamination import (
    Examples,
    TaskDocument,
    content_key,
    refuse_seen_keys,
    refuse_shared,
    seen_keys,
    shared_examples,
    task_document,
)
from surgery.data.conversations import TURNS
from surgery.data.encoding import (
    APART,
    DATE,
    TEMPLATES,
    TOGETHER,
    TOKENIZERS,
    Encoding,
    encoding_record,
    parse_encoding,
)
from surgery.data.example import CLASSIFIERS, IGNORED, Example
from surgery.data.examples import Calibration, encode, prompt_ids, specimen
from surgery.data.files_source import SUFFIXES
from surgery.data.formats import AUTO, CONVERSATIONAL, FIELDS, FORMATS, RowFields
from surgery.data.hub_source import HubSource, NotFetchedError, fetch_source, is_hub, parse_hub
from surgery.data.label_encoding import Head, LabelEncoder, label_numbers
from surgery.data.near_duplicates import NearDuplicate, NearDuplicatesError, near_duplicates, near_duplicates_text
from surgery.data.plans import (
    ALLOW,
    REFUSE,
    CalibrationPlan,
    EvaluationPlan,
    Slice,
    calibration_rows,
    parse_plan,
    parse_stored_plan,
    plan_record,
    planned_rows,
    refuse_changed_rows,
    rows_digest,
)
from surgery.data.rendering import markers, parse_date, prints_date, template_arguments
from surgery.data.rows import Message, Row, UnusableRow, choose, left_out_text, parse_record, shared_keys
from surgery.data.slices import LEAVE_OUT, Slices, read_slices
from surgery.data.source import SourceRows, read_rows, read_source, source_files
from surgery.data.token_view import Token, oddities, token_view

__all__ = [
    "ALLOW",
    "APART",
    "AUTO",
    "CLASSIFIERS",
    "CONVERSATIONAL",
    "DATE",
    "FIELDS",
    "FORMATS",
    "IGNORED",
    "LEAVE_OUT",
    "REFUSE",
    "SUFFIXES",
    "TEMPLATES",
    "TOGETHER",
    "TOKENIZERS",
    "TURNS",
    "AnswerFilters",
    "Calibration",
    "CalibrationPlan",
    "Encoding",
    "EvaluationPlan",
    "Example",
    "Examples",
    "Head",
    "HubSource",
    "LabelEncoder",
    "Message",
    "NearDuplicate",
    "NearDuplicatesError",
    "NotFetchedError",
    "Row",
    "RowFields",
    "Slice",
    "Slices",
    "SourceRows",
    "TaskDocument",
    "Token",
    "UnusableRow",
    "calibration_rows",
    "choose",
    "content_key",
    "encode",
    "encoding_record",
    "fetch_source",
    "is_hub",
    "label_numbers",
    "left_out_text",
    "markers",
    "near_duplicates",
    "near_duplicates_text",
    "oddities",
    "parse_date",
    "parse_encoding",
    "parse_hub",
    "parse_plan",
    "parse_record",
    "parse_stored_plan",
    "plan_record",
    "planned_rows",
    "prints_date",
    "prompt_ids",
    "read_rows",
    "read_slices",
    "read_source",
    "refuse_changed_rows",
    "refuse_seen_keys",
    "refuse_shared",
    "rows_digest",
    "seen_keys",
    "shared_examples",
    "shared_keys",
    "source_files",
    "specimen",
    "task_document",
    "template_arguments",
    "token_view",
]
