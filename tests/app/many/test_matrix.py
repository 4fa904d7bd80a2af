"""Adapters are compared in the background, found again, and a pair opens on the Geometry page."""

import base64
import json

import numpy as np
import pytest

from app.many.matrix_map import pair_table
from surgery.adapter_sets import compare_members, keep_matrix, matrix_file, matrix_values
from tests.app.many.conftest import after_jobs

NAMES = ("run/checkpoint-10", "run/checkpoint-20", "run/checkpoint-100")


@pytest.fixture(scope="module")
def matrix(adapters):
    return compare_members(adapters, NAMES)


@pytest.fixture
def compared(page, adapters, matrix):
    """The page whose matrix is found on disk."""

    def show():
        keep_matrix(matrix, matrix_file(adapters, NAMES))
        test = page()
        test.session_state["many-tab"] = "Matrix"
        return test.run()

    return show


def drawn(test):
    (found,) = test.get("bidi_component")
    return json.loads(found.proto.json)


def numbers(data, name):
    n = len(data["names"])
    return np.frombuffer(base64.b64decode(data[name]), "<f4").reshape(n, n)


def test_adapters_are_compared_in_the_background_and_kept(page, adapters, matrix):
    test = page()
    test.session_state["many-tab"] = "Matrix"
    test.run()
    assert not test.exception
    assert "other, torn" in " ".join(caption.value for caption in test.caption)
    next(button for button in test.button if button.label == "Compare 3 adapters").click().run()
    after_jobs(test)
    assert not test.exception
    assert set(drawn(test)["names"]) == set(NAMES)
    assert matrix_file(adapters, NAMES).is_file()


def test_the_map_shows_the_numbers_of_the_matrix_in_the_order_of_its_clusters(compared, matrix):
    test = compared()
    assert not test.exception
    data = drawn(test)
    order = [matrix.members.index(name) for name in data["names"]]
    found = matrix_values(matrix, "overlap", 4, "output")
    for name in ("values", "expected", "chance"):
        np.testing.assert_allclose(numbers(data, name), getattr(found, name)[np.ix_(order, order)], rtol=1e-6)
    assert len(data["branches"]) == 2


def test_every_choice_changes_what_is_drawn(compared, matrix):
    test = compared()
    for key, value in {
        "matrix-measure": "cosine",
        "matrix-family": "q_proj",
        "matrix-layer": 1,
        "matrix-order": "By name",
    }.items():
        test.selectbox(key=key).set_value(value)
    test.run()
    assert not test.exception
    data = drawn(test)
    assert data["title"] == "Cosine of ΔW: q_proj, layer 1"
    assert (data["names"], data["branches"], data["signed"]) == (list(NAMES), [], True)
    found = matrix_values(matrix, "cosine", 4, "output", family="q_proj", layer=1)
    np.testing.assert_allclose(numbers(data, "values"), found.values, rtol=1e-6)


def test_a_pair_tells_its_numbers_by_family_and_opens_on_the_geometry_page(compared, adapters, matrix):
    test = compared()
    test.session_state["matrix-pair"] = (NAMES[0], NAMES[2])
    test.run()
    assert list(test.dataframe[0].value["family"]) == list(matrix.families)
    test.button(key="matrix-open").click().run()
    assert not test.exception
    assert test.session_state["workspace"].adapter.digest == adapters[NAMES[0]].digest
    assert test.session_state["geometry-other"] == str(adapters[NAMES[2]].folder)
    assert test.session_state["geometry-choice"]["view"] == "adapters"


def test_a_pair_by_layer_has_the_numbers_of_each_layer(matrix):
    table = pair_table(matrix, (NAMES[0], NAMES[1]), 2, "Layer")
    assert list(table["layer"]) == ["0", "1"]
    for at in (0, 1):
        found = matrix_values(matrix, "overlap", 2, "input", layer=at)
        assert table["overlap input"][at] == found.values[0, 1]


def test_what_a_browser_tells_that_is_no_pair_is_no_pair(compared):
    test = compared()
    for told in ("x", ["run/checkpoint-10"], ["run/checkpoint-10", "nowhere"], [1, 2], {"a": 1}):
        test.session_state["matrix-pair"] = told
        test.run()
        assert not test.exception
        assert not test.dataframe
