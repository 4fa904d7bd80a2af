"""Load an exported folder with PEFT itself and compare its logits with the live preview."""

import copy
from pathlib import Path
from typing import Any

from surgery.adapter import Adapter
from surgery.data import IGNORED, CalibrationPlan, read_source
from surgery.edits import Edit
from surgery.model import LiveModel, LoadedBase, collate, scored_logits
from surgery.spectra import Spectra

_ROWS = 8


def peft_agreement(
    base: LoadedBase, adapter: Adapter, spectra: Spectra, edit: Edit, folder: Path, plan: CalibrationPlan
) -> tuple[float, int]:
    """Largest |Δlogit| over the largest |logit| between PEFT's forward pass and the edit's, and the rows compared.

    base: the base model, loaded.
    adapter: the original.
    spectra: of all its modules, by name.
    edit: σ′ of the modules edited.
    folder: the exported adapter, which PEFT loads.
    plan: a slice, whose first rows are compared.
    """
    import torch
    from peft import PeftModel

    rows = read_source(plan.data, plan.fields).rows[:_ROWS]

    def logits(model: Any) -> torch.Tensor:
        with torch.inference_mode():
            found, labels = scored_logits(model, batch)
        return found[labels != IGNORED].float()

    with LiveModel(base, adapter, spectra) as live:
        examples = live.encode(rows, plan.encoding).examples
        batch = collate(examples, base.padding, layout=live.layout)
        live.set_sigma(edit.sigma_after)
        previewed = logits(live.model)
        length = live.vocabulary
    wrapped = PeftModel.from_pretrained(_of_length(base.model, length), str(folder)).eval()
    try:
        reloaded = logits(wrapped)
    finally:
        wrapped.unload()
    error = float((reloaded - previewed).abs().max() / previewed.abs().max())
    return error, len(examples)


def _of_length(model: Any, rows: int | None) -> Any:
    """The base model, or a copy whose embeddings PEFT can load tables of `rows` tokens into."""
    if rows is None or rows == model.get_input_embeddings().weight.shape[0]:
        return model
    resized = copy.deepcopy(model)
    resized.resize_token_embeddings(rows, mean_resizing=False)
    return resized
