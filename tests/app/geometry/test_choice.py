"""What the map shows, and the address that says it."""

import csv
import io
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from app.geometry.choice import VIEWS, Choice, choice_from
from app.geometry.files import table_of
from surgery.spectra import Spectrum
from tests.app.geometry.conftest import FAMILIES, RANK, SPECTRA, basis, shown

odd = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.lists(st.integers())
names = [*Choice().record(), "w", "other"]


@given(st.dictionaries(st.sampled_from(names), odd, max_size=6), st.booleans())
@example({"cell": "0,1"}, False)
@example({"cell": "0,-1,2", "k": "9" * 4000, "view": "adapters"}, False)
@example({"cell": ["a", 1, 2], "ratio": [], "marks": {}}, True)
def test_any_address_gives_a_choice_that_can_be_drawn_and_written_again(
    given: dict[str, Any], other: bool
) -> None:
    choice = choice_from(given, FAMILIES, RANK, has_other=other)
    assert choice.view in VIEWS
    assert other or choice.view != "adapters"
    assert {choice.first, choice.second} <= set(FAMILIES)
    assert 1 <= choice.k <= RANK
    assert choice_from(choice.address(), FAMILIES, RANK, has_other=other) == choice
    assert choice_from(choice.record(), FAMILIES, RANK, has_other=other) == choice


def test_an_adapter_without_the_usual_families_starts_with_its_own() -> None:
    choice = choice_from({}, ["query", "value"], 2, has_other=False)
    assert (choice.first, choice.second, choice.k) == ("query", "value", 2)


def test_a_k_beyond_the_ranks_that_are_shown_falls_to_what_they_have() -> None:
    small = {
        name: replace(module, U=module.U[:, :2], sigma=module.sigma[:2], V=module.V[:, :2])
        if module.family == "up_proj"
        else module
        for name, module in SPECTRA.items()
    }
    choice = choice_from({"first": "up_proj", "k": "5", "cell": "0,0,1"}, FAMILIES, RANK, has_other=False)
    view, data = shown(choice, small)
    assert (data["choice"]["k"], data["table"]["ks"], len(data["detail"]["angles"])) == (2, [1, 2], 2)
    assert {row["k"] for row in csv.DictReader(io.StringIO(table_of(view)))} == {"2"}


def test_a_k_that_a_large_rank_does_not_offer_is_told_as_the_one_that_is_drawn() -> None:
    rng = np.random.default_rng(3)
    wide = {}
    for layer in range(2):
        name = f"model.layers.{layer}.o_proj"
        sigma = np.arange(64.0, 0, -1)
        wide[name] = Spectrum(name, layer, "o_proj", basis(rng, 96, 64), sigma, basis(rng, 96, 64))
    view, data = shown(Choice(k=17, cell=(0, 0, 1)), wide)
    k = data["choice"]["k"]
    assert k in data["table"]["ks"]
    assert abs(k - 17) == min(abs(offered - 17) for offered in data["table"]["ks"])
    assert len(data["detail"]["angles"]) == k
    assert {row["k"] for row in csv.DictReader(io.StringIO(table_of(view)))} == {str(k)}
