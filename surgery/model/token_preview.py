"""Rows as the tokens that a measurement would read, before any weights are loaded."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from surgery.adapter import Adapter
from surgery.data import CLASSIFIERS, Calibration, CalibrationPlan, Slice, Token, encode, oddities, token_view
from surgery.errors import BaseModelError, first_line
from surgery.model.base import resolve_unread
from surgery.model.choice import BaseChoice
from surgery.model.heads import label_count, labels_of, saved_head
from surgery.model.model_class import model_class, refuse_task
from surgery.model.tokenizers import limits_of, tokenizer_alone, tokenizer_notes, tokenizer_of

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel


@dataclass(frozen=True)
class TokenPreview:
    """The first rows of a calibration as tokens; `notes` say what is odd, and how the tokenizer differs from the base's."""

    rows: tuple[tuple[Token, ...], ...]
    calibration: Calibration
    notes: tuple[str, ...]


def preview_tokens(
    adapter: Adapter, base: BaseChoice, plan: CalibrationPlan, slice_: Slice, *, first: int = 3, loaded: Any = None
) -> TokenPreview:
    """The rows of a plan as they would be measured.

    adapter: whose folder may hold a tokenizer.
    base: whose tokenizer is loaded, without the model.
    plan: how the rows are encoded.
    slice_: the plan's rows.
    first: how many are shown; what is odd is looked for in all.
    loaded: the base's tokenizer where it is loaded already.

    Raises as `tokenizer_of`, `refuse_task` and `data.encode` do.
    """
    refuse_task(adapter.task)
    own = loaded if loaded is not None else tokenizer_alone(base.location, revision=base.revision)
    vocabulary, positions = limits_of(base.location, revision=base.revision)
    resized = any(adapter.tensors[key].ndim == 2 for key in adapter.extra)
    tokenizer = tokenizer_of(adapter, plan.encoding, own, vocabulary=None if resized else vocabulary)
    calibration = encode(
        slice_.rows,
        tokenizer,
        plan.encoding,
        left_out=slice_.left_out,
        spare=slice_.spare,
        positions=positions,
        task=adapter.task,
        labels=_labels(adapter, base),
    )
    shown = tuple(token_view(example, tokenizer, calibration.encoding) for example in calibration.examples[:first])
    notes = (
        *tokenizer_notes(tokenizer, own),
        *oddities(calibration, slice_.first(calibration.tried), tokenizer),
        *_topped_up(calibration, slice_),
    )
    return TokenPreview(shown, calibration, notes)


def encoding_notes(live: "LiveModel", plan: CalibrationPlan, slice_: Slice) -> tuple[str, ...]:
    """What is odd about the rows of a plan, those left out apart; raises as `LiveModel.encode` does."""
    tokenizer = live.tokenizer_for(plan.encoding)
    calibration = live.encode(slice_.rows, plan.encoding, spare=slice_.spare)
    return (
        *tokenizer_notes(tokenizer, live.base.tokenizer),
        *oddities(replace(calibration, left_out={}), slice_.first(calibration.tried), tokenizer),
        *_topped_up(calibration, slice_),
    )


def _labels(adapter: Adapter, base: BaseChoice) -> tuple[str, ...]:
    """The labels of a classifier by number, told from the config of its base and the head that the adapter saved."""
    from transformers import AutoConfig

    if adapter.task not in CLASSIFIERS:
        return ()
    source, options = resolve_unread(base.location, base.revision)
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    except Exception as error:  # files of any origin
        raise BaseModelError(
            f"the labels of {base.location!r} cannot be read ({first_line(error)})",
            "name a folder with config.json or a reachable hub id",
        ) from error
    count = label_count(model_class(config, adapter.task), config, saved_head(adapter))
    config.num_labels = count or config.num_labels
    return labels_of(config)


def _topped_up(calibration: Calibration, slice_: Slice) -> tuple[str, ...]:
    """How many rows of the rest of the shuffle are measured in place of others."""
    lost = calibration.tried - len(calibration.examples)
    taken = min(lost, calibration.tried - len(slice_.rows), len(calibration.examples))
    if taken <= 0:
        return ()
    kept = len(calibration.examples) - len(slice_.rows)
    short = f", and {-kept:,} more could not be replaced" if kept < 0 else ""
    return (
        f"{lost:,} of {calibration.tried:,} rows tried were left out; those that follow took their place{short}",
    )
