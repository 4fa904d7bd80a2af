"""A cut adapter with factors that are truly smaller: what an edit zeroed is gone from the file.

A module that is cut gets new factors from its decomposition, B = U·√(σ′/s) and A = √(σ′/s)·Vᵀ over what is kept, each
rounded once to the dtype of the file; s is the scaling as PEFT computes it from the new config. All others keep
theirs, byte for byte where they are not edited.
"""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from surgery.adapter import Adapter, Factors, float64, kept_triplets
from surgery.edits import Edit
from surgery.export.edited_factors import refuse_out_of_range, relative_distance, round_to, written_modules
from surgery.export.layout import Layout, Smaller, kept_components, layout_of
from surgery.spectra import Spectra, Spectrum, one_thread


@dataclass(frozen=True)
class SmallerAdapter:
    """The adapter in its smaller form, how it lies in the file, and the largest relative error of a ΔW′."""

    adapter: Adapter
    layout: Layout
    rounding: float


def smaller_adapter(adapter: Adapter, spectra: Spectra, edit: Edit, form: Smaller) -> SmallerAdapter:
    """The edited adapter without what the edit zeroed.

    adapter: the original.
    spectra: of all its modules, by name.
    edit: σ′ of the modules edited.
    form: each module at its own rank, or all padded to one.

    Raises `ExportError` where it has no smaller form, and where a new factor does not fit into the file's dtype.
    """
    return from_truncations(adapter, spectra, edit, truncations(spectra, edit), form)


def truncations(spectra: Spectra, edit: Edit) -> dict[str, Spectrum]:
    """U, σ′ and V of what an edit keeps, for every module in its scope that it leaves a component less."""
    found = {}
    for name, module in edit.modules.items():
        kept, spectrum = kept_components(module), spectra[name]
        if len(kept) < spectrum.rank:
            found[name] = _part(spectrum, spectrum.U[:, kept], module.sigma_after[kept], spectrum.V[:, kept])
    return found


def _part(spectrum: Spectrum, U: ndarray, sigma: ndarray, V: ndarray) -> Spectrum:
    return Spectrum(spectrum.name, spectrum.layer, spectrum.family, U, sigma, V, spectrum.precision)


def from_truncations(
    adapter: Adapter, spectra: Spectra, edit: Edit, cut: Mapping[str, Spectrum], form: Smaller
) -> SmallerAdapter:
    """The adapter whose modules `cut` are the updates given there, and all others what the edit makes of them."""
    found = layout_of(adapter, {name: part.rank for name, part in cut.items()}, form)
    config, scalings = _config(adapter, found)
    whole = Edit({name: module for name, module in edit.modules.items() if name not in cut})
    changed: dict[str, ndarray] = {}
    rounding = 0.0
    for name, factors in written_modules(adapter, spectra, whole, changed):
        rounding = max(rounding, relative_distance(factors, spectra[name], whole.modules[name].sigma_after))
    tensors: dict[str, ndarray] = {}
    modules: dict[str, Factors] = {}
    sharing = _sharing(adapter)
    with one_thread():
        for name, factors in adapter.modules.items():
            if not found.ranks[name] and factors.diagonal is None:
                continue
            for key in _keys(factors):
                if key not in tensors:
                    before = changed.get(key, adapter.tensors[key])
                    tensors[key] = _resized(before, key, sharing[key], found.ranks[name])
            A, B = (tensors[key] for key in _keys(factors))
            new = replace(
                factors,
                scaling=scalings[name],
                A=factors.site.rank_by_in(A),
                B=factors.site.out_by_rank(B),
                diagonal=_diagonal(adapter, factors, tensors, changed, whole=name not in cut),
            )
            if name in cut:
                _put(new, *_balanced(cut[name], scalings[name]))
                rounding = max(rounding, relative_distance(new, cut[name], cut[name].sigma))
            elif scalings[name] != factors.scaling:
                _put(new, float64(new.B) * (factors.scaling / scalings[name]), float64(new.A))
            if found.ranks[name]:
                modules[name] = new
    gone = {key for factors in adapter.modules.values() for key in _keys(factors)}
    kept = {
        key: tensors.get(key, tensor)
        for key, tensor in adapter.tensors.items()
        if key in tensors or key not in gone
    }
    text = json.dumps(config, indent=2, ensure_ascii=False).encode()
    pruned = (*adapter.pruned, *(name for name in adapter.modules if found.ranks[name] == 0))
    written = replace(
        adapter,
        config=config,
        config_bytes=text,
        tensors=kept,
        modules=modules,
        pruned=pruned if adapter.kind == "AdaLoRA" else adapter.pruned,
    )
    return SmallerAdapter(written, found, rounding)


def _diagonal(
    adapter: Adapter,
    factors: Factors,
    tensors: dict[str, ndarray],
    changed: Mapping[str, ndarray],
    *,
    whole: bool,
) -> Shaped[ndarray, " rank"] | None:
    """AdaLoRA's E for the new factors, put among the tensors: as it was in a `whole` module, else ones; None without it."""
    if factors.diagonal is None:
        return None
    key = factors.key_A.replace(".lora_A", ".lora_E")
    before = changed.get(key, adapter.tensors[key])
    rank = len(tensors[factors.key_A])
    tensors[key] = before.copy() if whole else np.ones((rank, *before.shape[1:]), dtype=before.dtype)
    return tensors[key].reshape(rank)


def _keys(factors: Factors) -> tuple[str, str]:
    return factors.key_A, factors.key_B


def _sharing(adapter: Adapter) -> dict[str, list[Factors]]:
    """The modules behind each key: experts share a tensor."""
    found: dict[str, list[Factors]] = defaultdict(list)
    for factors in adapter.modules.values():
        for key in _keys(factors):
            found[key].append(factors)
    return found


def _resized(old: Shaped[ndarray, "..."], key: str, owners: list[Factors], rank: int) -> Shaped[ndarray, "..."]:
    """The tensor of a factor at another rank: what fits is copied, the rest is zero."""
    before, is_A = owners[0].rank, owners[0].key_A == key
    if rank == before:
        return old.copy()
    at = 0 if is_A else 1  # the side of the rank, along which experts are stacked
    made = np.zeros((*old.shape[:at], old.shape[at] // before * rank, *old.shape[at + 1 :]), dtype=old.dtype)
    for factors in owners:
        view = factors.site.rank_by_in if is_A else factors.site.out_by_rank
        source, target = view(old), view(made)
        fits = tuple(slice(min(sides)) for sides in zip(source.shape, target.shape, strict=True))
        target[fits] = source[fits]
    return made


def _put(factors: Factors, B: Float64[ndarray, "out k"], A: Float64[ndarray, "k in"]) -> None:
    """Write factors, each rounded once, into the tensors behind the module; what they do not fill is zero."""
    for side, values, stored in (("B", B, factors.B), ("A", A, factors.A)):
        with np.errstate(over="ignore"):
            rounded = round_to(values, stored.dtype)
        refuse_out_of_range(factors.name, side, values, rounded)
        stored[...] = 0
        stored[: values.shape[0], : values.shape[1]] = rounded


def _balanced(part: Spectrum, scaling: float) -> tuple[Float64[ndarray, "out k"], Float64[ndarray, "k in"]]:
    """B and A of one size, so that neither leaves the range of a half type before the other."""
    if part.rank == 0:
        return np.zeros((part.U.shape[0], 0)), np.zeros((0, part.V.shape[0]))
    root = np.sqrt(part.sigma / abs(scaling))
    return part.U * (root * math.copysign(1.0, scaling)), (part.V * root).T


def _config(adapter: Adapter, found: Layout) -> tuple[dict[str, Any], dict[str, float]]:
    """The config of the layout, and every module's scaling as PEFT computes it from there."""
    config = json.loads(adapter.config_bytes)
    if adapter.kind == "AdaLoRA":
        config["rank_pattern"] = kept_triplets(
            config, {f.site.module: found.ranks[n] for n, f in adapter.modules.items()}
        )
        return config, {name: factors.scaling for name, factors in adapter.modules.items()}
    stay = {name: factors for name, factors in adapter.modules.items() if found.ranks[name]}
    rank = found.largest
    usual = Counter(factors.scaling for factors in stay.values()).most_common(1)[0][0]
    alpha = _alpha(config, usual, rank)
    ranks, alphas, scalings = {}, {}, {}
    # a longer path first: of several patterns the first one that fits the end of a name wins
    for name in sorted(stay, key=lambda name: (-len(stay[name].ruled_by), name)):
        factors, own = stay[name], found.ranks[name]
        needed = alpha if found.padded else _alpha(config, factors.scaling, own)
        pattern = "^" + re.escape(factors.ruled_by)
        if own != rank:
            ranks[pattern] = own
        if needed != alpha:
            alphas[pattern] = needed
        scalings[name] = needed / _divisor(config, own)
    config |= {"r": rank, "lora_alpha": alpha, "rank_pattern": ranks, "alpha_pattern": alphas}
    gone = [factors.site.module for name, factors in adapter.modules.items() if not found.ranks[name]]
    if gone:
        config["exclude_modules"] = _excluded(config.get("exclude_modules"), gone)
    return config, scalings


def _excluded(before: Any, gone: list[str]) -> list[str] | str:
    if isinstance(before, str) and before:
        return "|".join([f"(?:{before})", *(rf"(?:.*\.)?{re.escape(path)}" for path in gone)])
    return [*(before or []), *gone]


def _divisor(config: Mapping[str, Any], rank: int) -> float:
    """What PEFT divides alpha by; rsLoRA takes the root of the rank."""
    return math.sqrt(rank) if config.get("use_rslora") else rank


def _alpha(config: Mapping[str, Any], scaling: float, rank: int) -> float | int:
    """The alpha that gives a scaling at a rank, a whole number where it is one."""
    alpha = scaling * _divisor(config, rank)
    near = round(alpha)
    return near if near / _divisor(config, rank) == scaling or near == alpha else alpha
