"""The film as CSV, in full precision: the map at every step, or one module's components."""

import csv
import io
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from surgery.adapter_sets import FILM_MEASURES, Film, film_means
from surgery.spectra import DEFAULT_K, SIDES

MAP, MODULE = "csv", "module"


def saved_film(film: Film, name: str, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
    """The file that the component asks for, with its question's id and the key of what it holds.

    None where it asks for nothing that there is.
    """
    choice = wanted.get("choice")
    choice = choice if isinstance(choice, dict) else {}
    measure, side, k = choice.get("measure"), choice.get("side"), choice.get("k")
    asked = {"asked": wanted.get("id"), "have": choice.get("have"), "type": "text/csv"}
    if wanted.get("format") == MODULE and choice.get("module") in film.modules:
        return {**asked, "name": f"{name}-module.csv", "text": module_table(film, str(choice["module"]))}
    if wanted.get("format") != MAP or measure not in FILM_MEASURES or side not in SIDES:
        return None
    k = k if type(k) is int and k >= 1 else DEFAULT_K
    return {**asked, "name": f"{name}-{measure}.csv", "text": map_table(film, str(measure), str(side), k)}


def map_table(film: Film, measure: str, side: str, k: int) -> str:
    """A row for each family, layer and step: the mean over its modules, beside what random subspaces give."""
    found = film_means(film, measure, "cell", side=side, k=k)
    head = ("family", "layer", "step", "measure", "side", "k", "value", "modules", "random", "chance level")
    return _table(
        head,
        (
            (
                *(family, layer, step, measure, side, k),
                *(each[at, n] for each in (found.values, found.counts, found.random, found.chance)),
            )
            for n, (family, layer) in enumerate(found.groups)
            for at, step in enumerate(film.steps)
        ),
    )


def module_table(film: Film, name: str) -> str:
    """A row for each step and component of a module: σ, and its match at the last step, counted from 1."""
    module = film.modules[name]
    head = (
        "module",
        "step",
        "component",
        "sigma",
        "match",
        "likeness",
        "output angle",
        "input angle",
        "degenerate",
    )
    return _table(
        head,
        (
            (
                name,
                step,
                k + 1,
                module.sigma[at, k],
                module.match[at, k] + 1 if module.match[at, k] >= 0 else None,
                module.likeness[at, k],
                *module.angles[:, at, k],
                bool(module.degenerate[at, k]),
            )
            for at, step in enumerate(film.steps)
            for k in range(module.rank)
        ),
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(head)
    for row in rows:
        table.writerow("" if isinstance(cell, float) and np.isnan(cell) else cell for cell in row)
    return out.getvalue()
