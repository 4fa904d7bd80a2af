"""Maps of made-up adapters."""

import base64
import json
from typing import Any

import numpy as np

from app.geometry import View, page_data, view_of
from app.geometry.choice import Choice
from surgery.spectra import Spectrum

LAYERS, RANK = 4, 5
WIDTHS = {"o_proj": (24, 24), "down_proj": (24, 40), "up_proj": (40, 24)}
FAMILIES = list(WIDTHS)


def basis(rng: np.random.Generator, d: int, rank: int = RANK) -> np.ndarray:
    return np.linalg.qr(rng.normal(size=(d, rank)))[0]


def modules(seed: int) -> dict[str, Spectrum]:
    rng = np.random.default_rng(seed)
    shared = basis(rng, 24)
    found = {}
    for layer in range(LAYERS):
        for family, (out, inner) in WIDTHS.items():
            U = basis(rng, out)
            if family == "o_proj":  # one direction that all layers share
                U = np.linalg.qr(np.column_stack([shared[:, 0] + 0.1 * rng.normal(size=24), U[:, 1:]]))[0]
            sigma = np.sort(rng.uniform(0.1, 3, RANK))[::-1].copy()
            name = f"model.layers.{layer}.{family}"
            found[name] = Spectrum(name, layer, family, U, sigma, basis(rng, inner))
    return found


SPECTRA = modules(1)
OTHER = modules(2)


def shown(choice: Choice, spectra: dict[str, Spectrum] = SPECTRA, **more: Any) -> tuple[View, dict[str, Any]]:
    """A view and what the browser gets of it, through strict JSON."""
    other = OTHER if choice.view == "adapters" else None
    digests = (f"d{id(spectra)}", *(("o",) if other else ()))
    view = view_of(choice, spectra, digests, other)
    data = page_data(view, choice, families=FAMILIES, has_other=other is not None, **more)
    return view, json.loads(json.dumps(data, allow_nan=False))


def numbers(text: str, *shape: int) -> np.ndarray:
    codes = np.frombuffer(base64.b64decode(text), dtype="<u2").reshape(shape)
    return np.where(codes == 65535, np.nan, codes / 65534)


def measured(left: Spectrum, right: Spectrum, side: str, measure: str, k: int) -> float:
    """The measure of one pair from singular values of a small matrix."""
    a, b = (getattr(module, "U" if side == "output" else "V") for module in (left, right))
    if a.shape[0] != b.shape[0] or not (left.sigma.any() and right.sigma.any()):
        return np.nan
    if measure == "principal":
        return float(abs(a[:, 0] @ b[:, 0]))
    return float((np.linalg.svd(a[:, :k].T @ b[:, :k], compute_uv=False) ** 2).mean())
