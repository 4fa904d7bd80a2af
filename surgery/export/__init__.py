"""Write the edited adapter back, verify it, describe it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from surgery.export.edited_factors import round_to, write_back
from surgery.export.folder import Verification, export, export_recipe, export_truncations
from surgery.export.layout import (
    VLLM_RANKS,
    Layout,
    Saving,
    Smaller,
    edited_layout,
    kept_components,
    layout_of,
    savings,
    servers,
)
from surgery.export.peft_loading import PeftLoading, peft_loading
from surgery.export.read_back import EditReadBack, differing_modules, edit_between
from surgery.export.record import RECORD_FILE, ExportRecord, dump_record, read_record, record_of, turned_documents
from surgery.export.smaller import SmallerAdapter, from_truncations, smaller_adapter, truncations
from surgery.export.staging import RECIPE_FILE, new_folder

if TYPE_CHECKING:
    from surgery.export.peft_check import peft_agreement

__all__ = [
    "RECIPE_FILE",
    "RECORD_FILE",
    "VLLM_RANKS",
    "EditReadBack",
    "ExportRecord",
    "Layout",
    "PeftLoading",
    "Saving",
    "Smaller",
    "SmallerAdapter",
    "Verification",
    "differing_modules",
    "dump_record",
    "edit_between",
    "edited_layout",
    "export",
    "export_recipe",
    "export_truncations",
    "from_truncations",
    "kept_components",
    "layout_of",
    "new_folder",
    "peft_agreement",
    "peft_loading",
    "read_record",
    "record_of",
    "round_to",
    "savings",
    "servers",
    "smaller_adapter",
    "truncations",
    "turned_documents",
    "write_back",
]

# what imports torch is imported when it is first asked for: an adapter opens without it
_LATER = {"peft_agreement": "peft_check"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
