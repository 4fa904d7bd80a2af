"""What the browser is told of one component of a look: rows with the shares of their tokens, readings, writings."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

import viz
from app.spectra.numbers import ERRORS
from surgery.data import Token
from surgery.microscope import DIRECTIONS, Look, Reading, Writing
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectrum

BEFORE, AFTER = 12, 3  # tokens around a reading
_OFF = 0.01  # of the largest g of the rows: beyond it the sums are said to differ from what is stored


def payload_of(look: Look, component: int, sensitivity: Sensitivity, spectrum: Spectrum) -> dict[str, Any]:
    """Everything that is drawn of a component; texts come from files and are only ever set as text."""
    writings = look.writings(component)
    return {
        "module": look.module,
        "component": component,
        "determined": not bool(spectrum.degenerate[component] or spectrum.null[component]),
        "told": _told(sensitivity, look.module, component),
        "rows": [_row(look, at, component) for at in range(len(look.rows))],
        "off": _off(look, component),
        "reads": [_reading(look, reading) for reading in look.readings(component)],
        "writes": writings and [_writing(each) for each in writings],
        "noLens": look.no_lens,
        "directions": DIRECTIONS,
        "colours": {standing.name: standing.colour for standing in viz.STANDINGS},
        "errors": ERRORS,
    }


def _told(sensitivity: Sensitivity, module: str, component: int) -> dict[str, Any]:
    """The mean of g over all examples, and whether its sign is sure: what single rows are to be held against."""
    statistics = sensitivity.statistics(module)
    mean, error = float(statistics.mean[component]), float(statistics.mean_error[component])
    return {"mean": _number(mean), "error": _number(error), "examples": sensitivity.examples}


def _row(look: Look, at: int, component: int) -> dict[str, Any]:
    start = sum(look.seen.lengths[:at])
    projected = look.seen.projected[start : start + look.seen.lengths[at], component]
    shares = look.shares(at)[:, component]
    return {
        "number": look.rows[at] + 1,
        "g": _number(float(look.g[at, component])),
        "tokens": [
            {**_token(token), "share": _number(float(share)), "reads": _number(float(value))}
            for token, share, value in zip(look.tokens[at], shares, projected, strict=True)
        ],
    }


def _token(token: Token) -> Mapping[str, Any]:
    return {"text": token.text, "name": token.name, "scored": token.scored}


def _off(look: Look, component: int) -> float | None:
    """How far sums of shares lie from the stored g at most, relative to the largest; None where that is rounding."""
    apart = np.abs(look.sums()[:, component] - look.g[:, component]).max()
    size = float(apart / np.abs(look.g[:, component]).max())
    return size if size > _OFF else None


def _reading(look: Look, reading: Reading) -> dict[str, Any]:
    tokens, at = look.tokens[reading.row], reading.token
    before, after = tokens[max(0, at - BEFORE) : at], tokens[at + 1 : at + 1 + AFTER]
    return {
        "row": look.rows[reading.row] + 1,
        "value": reading.value,
        "share": reading.share,
        "beyond": reading.beyond_random,
        "before": [_shown(token) for token in before],
        "token": _shown(tokens[at]),
        "after": [_shown(token) for token in after],
    }


def _shown(token: Token) -> str:
    return token.text or token.name


def _writing(writing: Writing) -> dict[str, Any]:
    return {
        "tokens": [{"text": text, "logit": logit, "apart": apart} for text, logit, apart in writing.tokens],
        "share": writing.share,
        "beyond": writing.beyond_random,
    }


def _number(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return value if math.isfinite(value) else None
