"""What the film component holds of a training: every measure at every step, side and k, sent once."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

import viz
from surgery.adapter import experts_of, of_one_expert
from surgery.adapter_sets import Film, FilmMeans, ModuleFilm, film_means
from surgery.files import digest
from surgery.spectra import DEFAULT_K, SIDES, random_match_angles

_EVERY_K = 8  # up to here all are on offer, powers of two beyond
_MOST = 1_000  # modules that can be chosen; of more experts, one of each layer
_NONE = 65535  # of a match
_LEVEL = 0.01
_SPACES = {"output": "Output, the columns of U", "input": "Input, the columns of V"}


@dataclass(frozen=True)
class Measure:
    """What the map can show: its scale from `low` to `high`, and whether small values are the ones beyond chance.

    `directed` ones have a side and a k, which is the number of a `component` where that is set.
    """

    name: str
    label: str
    unit: str = ""
    low: float = 0.0
    high: float = 1.0
    small: bool = False
    directed: bool = True
    component: bool = False
    note: str = ""


def film_data(film: Film, name: str) -> dict[str, Any]:
    """The film as the component reads it; `name` is that of its files. JSON without a NaN."""
    families = list(dict.fromkeys(module.family for module in film.modules.values()))
    layers = sorted({module.layer for module in film.modules.values()}, key=_last_if_none)
    cells = [(family, layer) for family in families for layer in layers]
    ks = offered_ks(film.largest_k)
    counts = film_means(film, "norm", "cell")
    most = dict(zip(counts.groups, counts.counts.max(axis=0).tolist(), strict=True))
    data = {
        "name": name,
        "steps": list(film.steps),
        "families": families,
        "layers": ["–" if layer is None else str(layer) for layer in layers],
        "counts": [most.get(cell, 0) for cell in cells],
        "ks": ks,
        "k": min(DEFAULT_K, max(1, film.largest_k // 2)),
        "sides": [[side, _SPACES[side]] for side in SIDES],
        "measures": [asdict(measure) for measure in measures_of(film)],
        "values": {
            measure.name: [
                _variant(film, measure.name, cells, side, k)
                for side in (SIDES if measure.directed else SIDES[:1])
                for k in (ks if measure.directed else [1])
            ]
            for measure in measures_of(film)
        },
        **_modules(film, cells),
        "palette": viz.PALETTE,
    }
    return {**data, "key": digest([repr(data)])[:16]}


def offered_ks(largest: int) -> list[int]:
    """The values of k on offer: all small ones, powers of two beyond, and the largest."""
    powers = {2**power for power in range(largest.bit_length()) if 2**power > _EVERY_K}
    return sorted({*range(1, min(largest, _EVERY_K) + 1), *powers, largest})


def measures_of(film: Film) -> tuple[Measure, ...]:
    norm = max(float(np.nanmax(module.norm)) for module in film.modules.values())
    rank = max(float(np.nanmax(module.effective_rank)) for module in film.modules.values())
    return (
        Measure("last", "Overlap with the last checkpoint", note="At the last checkpoint it is 1."),
        Measure("before", "Overlap with the checkpoint before", note="The first checkpoint has none before it."),
        Measure(
            "angle",
            "Turn of one component",
            unit="°",
            high=90.0,
            small=True,
            component=True,
            note="The angle to the component of the last checkpoint that is most like it, 0° at the end.",
        ),
        Measure("norm", "Size of the update, ‖ΔW‖", high=norm, directed=False, note="The Frobenius norm."),
        Measure("effective_rank", "Effective rank", high=rank, directed=False, note="exp of the entropy of σ/Σσ."),
    )


def _variant(
    film: Film, measure: str, cells: Sequence[tuple[str, int | None]], side: str, k: int
) -> dict[str, str]:
    """Cells, family by family, and families at each step, with the strictest chance level of all steps."""
    by_cell = film_means(film, measure, "cell", side=side, k=k)
    by_family = film_means(film, measure, "family", side=side, k=k)
    families = [(family, None) for family in dict.fromkeys(family for family, _ in cells)]
    found: dict[str, str] = {}
    for name, means, groups in (("cell", by_cell, cells), ("family", by_family, families)):
        values, random, chance, inside = _arranged(means, groups, measure)
        found |= {
            "cells" if name == "cell" else "families": _floats(values),
            f"{name}Random": _floats(random),
            f"{name}Chance": _floats(chance),
        }
    return {**found, "familyInside": _floats(inside)}  # families come last


def _arranged(
    means: FilmMeans, groups: Iterable[tuple[str, int | None]], measure: str
) -> list[Float64[ndarray, "*step group"]]:
    """Values, and one random reference, chance level and `inside` for all steps; NaN where there is no such group."""
    column = {group: at for at, group in enumerate(means.groups)}
    places = [column.get(group) for group in groups]
    nothing = np.full(len(means.values), np.nan)
    values = np.stack([nothing if at is None else means.values[:, at] for at in places], axis=1)
    # of experts, a checkpoint may lack some, and a mean of fewer modules scatters more
    strictest = np.fmin if measure == "angle" else np.fmax
    references = ((np.fmax, means.random), (strictest, means.chance), (np.fmax, means.inside))
    return [
        values,
        *(
            np.array([np.nan if at is None else float(of.reduce(each[:, at])) for at in places])
            for of, each in references
        ),
    ]


def _modules(film: Film, cells: Sequence[tuple[str, int | None]]) -> dict[str, Any]:
    """The modules that can be chosen, and what is drawn of each: its components at every step."""
    modules: Mapping[str, ModuleFilm] = film.modules
    if len(modules) > _MOST and (experts := experts_of(modules)):
        modules = of_one_expert(modules, experts[0])
    place = {cell: at for at, cell in enumerate(cells)}
    listed, start = [], 0
    ordered = sorted(modules.values(), key=lambda module: place[module.family, module.layer])
    for module in ordered:
        listed.append({**_about(module), "cell": place[module.family, module.layer], "start": start})
        start += module.sigma.size
    match = np.concatenate([np.where(module.match < 0, _NONE, module.match).ravel() for module in ordered])
    return {
        "modules": listed,
        "sigma": _floats(np.concatenate([module.sigma.ravel() for module in ordered])),
        "angles": [_floats(np.concatenate([m.angles[at].ravel() for m in ordered])) for at in range(len(SIDES))],
        "match": _base64(match.astype("<u2")),
        "degenerate": _base64(np.concatenate([m.degenerate.ravel() for m in ordered]).astype(np.uint8)),
    }


def _about(module: ModuleFilm) -> dict[str, Any]:
    drawn = random_match_angles(module.shape, module.matchable) if module.matchable else None
    return {
        "name": module.name,
        "label": module.name if module.layer is None else f"layer {module.layer} · {module.family}",
        "rank": module.rank,
        "random": drawn and [float(np.median(each)) for each in drawn],
        "chance": drawn and [float(np.quantile(each, _LEVEL)) for each in drawn],
    }


def _last_if_none(layer: int | None) -> float:
    return np.inf if layer is None else layer


def _floats(values: Float64[ndarray, " *shape"]) -> str:
    # float32 is finer than a screen; what lies beyond its range is drawn at its end
    with np.errstate(over="ignore"):
        return _base64(np.ascontiguousarray(values, dtype="<f4"))


def _base64(values: ndarray) -> str:
    return base64.b64encode(values.tobytes()).decode()
