"""What the Spectra page shows, and the address that says it."""

from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.spectra.choice import Choice, choice_from, first_choice, opened, query_of
from tests.app.conftest import D0, O0, Q0
from tests.app.spectra.conftest import NAMES, SMALL, address, component, page, send


@given(
    st.dictionaries(
        st.sampled_from([*asdict(Choice("")), "x"]),
        st.one_of(
            st.text(max_size=9), st.integers(), st.floats(), st.none(), st.booleans(), st.lists(st.text(max_size=3)),
            st.sampled_from([*NAMES, "one", "energy", "log", "-sigma", "o_proj", "3", "²", "٣"]),
        ),
    )
)  # fmt: skip
def test_any_record_makes_a_choice_that_can_be_shown_and_linked(record: dict[str, Any]) -> None:
    choice = choice_from(record, SMALL.spectra)
    assert choice.module in SMALL.spectra
    assert 0 <= choice.component < SMALL.spectra[choice.module].rank
    assert choice_from(query_of(choice, SMALL.spectra), SMALL.spectra) == choice
    assert choice_from(asdict(choice), SMALL.spectra) == choice


@pytest.mark.parametrize("record", [None, 5, "all", [], True, [("view", "one")]], ids=str)
def test_what_is_no_record_is_the_first_choice(record: Any) -> None:
    assert choice_from(record, SMALL.spectra) == first_choice(SMALL.spectra) == Choice(O0)


def test_an_adapter_without_modules_has_a_choice_too() -> None:
    assert choice_from({"module": "m", "component": 1}, {}) == Choice("")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (Q0, (Q0, 0, "one")),
        ((D0, 1), (D0, 1, "one")),
        ((D0, 9), (D0, 0, "one")),
        ((D0, "x"), (D0, 0, "one")),
        ("nothing", (O0, 0, "all")),
        (("nothing", 1), (O0, 0, "all")),
        ((), (O0, 0, "all")),
        (7, (O0, 0, "all")),
    ],
    ids=str,
)
def test_another_page_can_open_a_module_or_a_component(request_: Any, expected: tuple[str, int, str]) -> None:
    choice = opened(request_, Choice(O0), SMALL.spectra)
    assert (choice.module, choice.component, choice.view) == expected


def test_a_link_reopens_its_view_and_leaves_the_words_of_others_alone() -> None:
    wanted = {"view": "one", "module": Q0, "component": "2", "scale": "log", "w": "0123456789ab", "x": "y"}
    test = page(**wanted)
    assert component(test)["choice"] == asdict(Choice(Q0, 2, view="one", scale="log"))
    assert address(test) == wanted


def test_a_choice_is_written_to_the_address_and_kept() -> None:
    test = page(w="0123456789ab")
    imposed = component(test)["imposed"]
    choice = {**asdict(Choice(D0, 1, view="lists", list="helpful", sort="-sigma"))}
    send(test, choice)
    assert address(test) == {
        "w": "0123456789ab", "view": "lists", "module": D0, "component": "1", "list": "helpful", "sort": "-sigma",
    }  # fmt: skip
    assert component(test)["choice"] == choice
    assert component(test)["imposed"] == imposed  # the browser made it, so it is not told to follow


@pytest.mark.parametrize(
    "query",
    [
        {"view": "<script>"}, {"module": "../../etc/passwd"}, {"component": "-1"}, {"component": "9" * 400},
        {"component": "²"}, {"family": "' OR 1"}, {"sort": "__class__"}, {"list": "KINDS"}, {"view": "ALL"},
    ],
    ids=str,
)  # fmt: skip
def test_an_address_that_makes_no_sense_opens_the_first_view(query: dict[str, str]) -> None:
    test = page(**query)
    assert component(test)["choice"] == asdict(Choice(O0))
    assert not test.query_params


@pytest.mark.parametrize("choice", [[], 5, "x", {"view": 3}, {"module": ["a"]}, {"component": {}}], ids=str)
def test_a_hostile_choice_changes_nothing(choice: Any) -> None:
    assert component(send(page(), choice))["choice"] == asdict(Choice(O0))
