"""What the film component is sent, decoded, against the film itself."""

import base64
import json
from functools import cache
from typing import Any

import numpy as np
import pytest

from app.many.film_numbers import film_data, measures_of, offered_ks
from surgery.adapter_sets import Film, film_means, make_film
from surgery.spectra import SIDES, Spectrum

FAMILIES, LAYERS, STEPS = ("o_proj", "down_proj"), (0, 1, 2), (10, 20, 40)


def spectrum(rng: np.random.Generator, family: str, layer: int | None, rank: int) -> Spectrum:
    name = f"model.layers.{layer}.{family}"
    U, V = (np.linalg.qr(rng.normal(size=(d, rank)))[0] for d in (24, 40 if family == "down_proj" else 24))
    return Spectrum(name, layer, family, U, np.sort(rng.uniform(0.1, 3, rank))[::-1].copy(), V)


@cache
def film() -> Film:
    """Two families in three layers and a head in none; one module is missing at first, and one has a smaller rank."""
    rng, modules = np.random.default_rng(5), []
    for layer in (*LAYERS, None):
        for family in FAMILIES if layer is not None else ("lm_head",):
            rank = 3 if layer == 2 else 4
            found: list[Spectrum | None] = [spectrum(rng, family, layer, rank) for _ in STEPS]
            if (family, layer) == ("o_proj", 1):
                found[0] = None
            modules.append((f"model.layers.{layer}.{family}", found))
    return make_film(STEPS, modules)


@cache
def data() -> dict[str, Any]:
    return json.loads(json.dumps(film_data(film(), "kinship"), allow_nan=False))


def floats(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def test_every_variant_of_every_measure_is_that_of_the_film():
    sent = data()
    cells = [(family, layer) for family in (*FAMILIES, "lm_head") for layer in (*LAYERS, None)]
    assert sent["families"] == [*FAMILIES, "lm_head"]
    assert sent["layers"] == ["0", "1", "2", "–"]
    assert sent["steps"] == list(STEPS)
    assert sent["ks"] == [1, 2, 3, 4]
    for measure in measures_of(film()):
        variants = sent["values"][measure.name]
        choices = [(side, k) for side in SIDES for k in sent["ks"]] if measure.directed else [("output", 1)]
        assert len(variants) == len(choices)
        for (side, k), variant in zip(choices, variants, strict=True):
            means = film_means(film(), measure.name, "cell", side=side, k=k)
            found = floats(variant["cells"]).reshape(len(STEPS), len(cells))
            for column, cell in enumerate(cells):
                expected = means.values[:, means.groups.index(cell)] if cell in means.groups else [np.nan] * 3
                assert found[:, column] == pytest.approx(expected, rel=1e-6, nan_ok=True)
            by_family = film_means(film(), measure.name, "family", side=side, k=k)
            assert floats(variant["families"]).reshape(3, 3) == pytest.approx(
                by_family.values, rel=1e-6, nan_ok=True
            )


def test_a_family_is_read_against_the_strictest_chance_level_of_its_steps():
    variant = data()["values"]["last"][1]
    means = film_means(film(), "last", "family", k=2)
    assert means.chance[0, 0] > means.chance[1, 0]  # o_proj of one layer is missing at first
    assert floats(variant["familyChance"])[0] == pytest.approx(means.chance[0, 0], rel=1e-6)
    assert floats(variant["familyRandom"])[0] == pytest.approx(2 / 24, rel=1e-6)
    angle = data()["values"]["angle"][0]
    means = film_means(film(), "angle", "family", k=1)
    assert floats(angle["familyChance"])[0] == pytest.approx(means.chance[0, 0], rel=1e-6)
    assert means.chance[0, 0] < means.chance[1, 0]
    assert np.isnan(floats(data()["values"]["norm"][0]["cellChance"])).all()


def test_a_module_has_its_components_at_every_step():
    sent = data()
    sigma, angles = floats(sent["sigma"]), [floats(side) for side in sent["angles"]]
    match = np.frombuffer(base64.b64decode(sent["match"]), dtype="<u2")
    assert [module["label"] for module in sent["modules"]][:2] == ["layer 0 · o_proj", "layer 1 · o_proj"]
    assert sorted(module["name"] for module in sent["modules"]) == sorted(film().modules)
    for module in sent["modules"]:
        of, part = film().modules[module["name"]], slice(module["start"], module["start"] + 3 * module["rank"])
        assert sent["counts"][module["cell"]] == 1
        assert sigma[part].reshape(3, -1) == pytest.approx(of.sigma, rel=1e-6, nan_ok=True)
        for side in (0, 1):
            assert angles[side][part].reshape(3, -1) == pytest.approx(of.angles[side], rel=1e-6, nan_ok=True)
        assert np.array_equal(np.where(match[part] == 65535, -1, match[part].astype(int)).reshape(3, -1), of.match)
        assert 0 < module["chance"][0] < module["random"][0] < 90


def test_all_small_k_are_on_offer_and_powers_of_two_beyond():
    assert offered_ks(1) == [1]
    assert offered_ks(8) == list(range(1, 9))
    assert offered_ks(24) == [*range(1, 9), 16, 24]
    assert offered_ks(64) == [*range(1, 9), 16, 32, 64]


def test_a_training_that_has_not_moved_yet_can_be_sent():
    zero = Spectrum("m", 0, "o_proj", np.eye(6)[:, :2], np.zeros(2), np.eye(6)[:, :2])
    sent = json.loads(json.dumps(film_data(make_film((1, 2), [("m", [zero, zero])]), "x"), allow_nan=False))
    assert sent["modules"][0]["chance"] is None
    assert np.isnan(floats(sent["values"]["last"][0]["cells"])).all()
    assert floats(sent["sigma"]).tolist() == [0.0] * 4
