"""The base model with the adapter running, σ free for every row of a batch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from surgery.model.architecture import base_config, empty_models, named_config
from surgery.model.attachment import attach, base_for
from surgery.model.base import (
    DTYPES,
    LoadedBase,
    base_fingerprint,
    load_base,
    resolve_base,
)
from surgery.model.base_names import other_base_note, unquantised
from surgery.model.batches import Batch, batch_order, collate, run_batches
from surgery.model.choice import BaseChoice
from surgery.model.classified import Classified
from surgery.model.dense_weight import base_weight
from surgery.model.device_map import DeviceMap, execution_device, is_offloaded, parse_device_map
from surgery.model.divergence import Divergence
from surgery.model.drawn_labels import drawn_labels, drawn_losses
from surgery.model.engine import VariantEngine
from surgery.model.gguf import demo_gguf, read_once
from surgery.model.greedy_search import Answered, Stop
from surgery.model.heads import saved_head
from surgery.model.hub_base import BaseSize, base_on_hub, base_size, latest_base, pinned_base
from surgery.model.loss import answer_losses, padding_id, scored_logits
from surgery.model.memory import footprint, free_bytes, is_out_of_memory, recomputing, release
from surgery.model.memory_estimate import estimate_memory
from surgery.model.model_class import model_class, refuse_task
from surgery.model.plain_base import apart_note, changes_beside_sigma, refuse_without_base, silenced
from surgery.model.queue import Scored, answer_tokens, common_prefix, pair_tokens, text_tokens
from surgery.model.renamed import way_out
from surgery.model.streaming import difference, stream_answers
from surgery.model.token_preview import TokenPreview, encoding_notes, preview_tokens
from surgery.model.tokenizers import tokenizer_alone, tokenizer_notes, tokenizer_of
from surgery.model.variant_rows import Variant
from surgery.model.ways import Layout, Way

if TYPE_CHECKING:
    from surgery.model.decoding import CACHE, Prompts, end_ids
    from surgery.model.input_products import Seen, seeing
    from surgery.model.live_model import LiveModel
    from surgery.model.token_places import PlaceFinder, placing

__all__ = [
    "CACHE",
    "DTYPES",
    "Answered",
    "BaseChoice",
    "BaseSize",
    "Batch",
    "Classified",
    "DeviceMap",
    "Divergence",
    "Layout",
    "LiveModel",
    "LoadedBase",
    "PlaceFinder",
    "Prompts",
    "Scored",
    "Seen",
    "Stop",
    "TokenPreview",
    "Variant",
    "VariantEngine",
    "Way",
    "answer_losses",
    "answer_tokens",
    "apart_note",
    "attach",
    "base_config",
    "base_fingerprint",
    "base_for",
    "base_on_hub",
    "base_size",
    "base_weight",
    "batch_order",
    "changes_beside_sigma",
    "collate",
    "common_prefix",
    "demo_gguf",
    "difference",
    "drawn_labels",
    "drawn_losses",
    "empty_models",
    "encoding_notes",
    "end_ids",
    "estimate_memory",
    "execution_device",
    "footprint",
    "free_bytes",
    "is_offloaded",
    "is_out_of_memory",
    "latest_base",
    "load_base",
    "model_class",
    "named_config",
    "other_base_note",
    "padding_id",
    "pair_tokens",
    "parse_device_map",
    "pinned_base",
    "placing",
    "preview_tokens",
    "read_once",
    "recomputing",
    "refuse_task",
    "refuse_without_base",
    "release",
    "resolve_base",
    "run_batches",
    "saved_head",
    "scored_logits",
    "seeing",
    "silenced",
    "stream_answers",
    "text_tokens",
    "tokenizer_alone",
    "tokenizer_notes",
    "tokenizer_of",
    "unquantised",
    "way_out",
]

# what imports torch is imported when it is first asked for: an adapter opens without it
_LATER = {
    "CACHE": "decoding",
    "LiveModel": "live_model",
    "PlaceFinder": "token_places",
    "Prompts": "decoding",
    "Seen": "input_products",
    "end_ids": "decoding",
    "placing": "token_places",
    "seeing": "input_products",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
