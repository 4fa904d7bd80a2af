"""Edits with raised, lowered and zeroed components, and what a model answers to fixed tokens."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

from surgery.edits import Edit, ModuleEdit
from surgery.spectra import Spectra
from tests.helpers.models import VOCABULARY


def in_float64(folder: Path) -> Path:
    """The adapter with its tensors in float64, so that nothing is rounded to float32 on export."""
    file = folder / "adapter_model.safetensors"
    save_file({key: value.astype(np.float64) for key, value in load_file(file).items()}, file)
    return folder


def random_sigma(spectra: Spectra, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: s.sigma * rng.choice([0.0, 0.5, 1.7], size=s.rank) for name, s in spectra.items()}


def as_edit(spectra: Spectra, after: Mapping[str, np.ndarray]) -> Edit:
    return Edit({n: ModuleEdit(s / spectra[n].sigma, spectra[n].sigma, s) for n, s in after.items()})


def logits(model: Any, rows: int = 3) -> np.ndarray:
    ids = torch.randint(VOCABULARY, (rows, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: np.ndarray = model(input_ids=ids).logits.double().numpy()
    return found
