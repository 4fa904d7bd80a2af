"""What an edit does to all modules, as a small picture."""

import numpy as np
from jaxtyping import Float64, UInt8
from numpy import ndarray

from viz.style import GAIN_OCTAVES, GAIN_SCALE


def gain_thumbnail(gains: Float64[ndarray, "module rank"]) -> UInt8[ndarray, "height width 3"]:
    """The same map as a small picture in the same colours; cells without a component are grey."""
    stops = np.array([position for position, _ in GAIN_SCALE])
    inks = np.array([[int(ink[i : i + 2], 16) for i in (1, 3, 5)] for _, ink in GAIN_SCALE])
    with np.errstate(divide="ignore"):
        at = (np.clip(np.log2(gains) / GAIN_OCTAVES, -1, 1) + 1) / 2
    picture: ndarray = np.stack([np.interp(at, stops, inks[:, channel]) for channel in range(3)], axis=-1)
    picture[np.isnan(gains)] = 128
    rows, columns = max(1, 120 // max(len(gains), 1)), max(1, 240 // max(gains.shape[1], 1))
    small: ndarray = np.rint(picture).astype(np.uint8)
    return small.repeat(rows, axis=0).repeat(columns, axis=1)
