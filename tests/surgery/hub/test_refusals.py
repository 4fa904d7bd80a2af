"""Every answer of the hub, and every silence, is one line with a way out. The whole ways are in scenarios/test_hub.py."""

import errno

import pytest
from huggingface_hub import constants

from surgery.errors import DataError, SurgeryError
from surgery.hub import Repository, hub_refusal, look_up
from tests.helpers.hub_server import TOKEN
from tests.helpers.refusals import refusal

NAME = Repository("owner/name")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "with an error"),
        (403, "may not read 'owner/name'"),
        (404, "no model 'owner/name' on the hub"),
        (429, "try again later"),
        (500, "try again later"),
        (503, "try again later"),
    ],
)
def test_an_answer_without_more_words_is_told_by_its_status(hub, status, words):
    hub.add("owner/name", {"a": b""})
    hub.fails = status
    assert words in refusal(SurgeryError, look_up, NAME, SurgeryError)
    hub.fails = None
    assert look_up(NAME, SurgeryError).sizes == {"a": 0}


def test_a_repository_that_is_not_there_is_called_by_its_kind(hub, monkeypatch):
    model = refusal(SurgeryError, look_up, NAME, SurgeryError)
    data = refusal(DataError, look_up, Repository("owner/name", kind="dataset"), DataError)
    assert "no folder 'owner/name' here and no model 'owner/name' on the hub" in model
    assert "there is no dataset 'owner/name' on the hub" in data
    assert "log in (hf auth login) or set HF_TOKEN" in model
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert "needs a token that may read it" in refusal(SurgeryError, look_up, NAME, SurgeryError)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_variable_that_forbids_fetching_is_named(hub, monkeypatch, variable):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv(variable, "1")
    assert f"{variable} forbids" in refusal(SurgeryError, look_up, NAME, SurgeryError)


def test_an_address_that_is_no_hub_is_named(hub, monkeypatch):
    monkeypatch.setattr(constants, "ENDPOINT", "file:///etc")
    assert "check HF_ENDPOINT" in refusal(SurgeryError, look_up, NAME, SurgeryError)


def test_the_innermost_error_is_told():
    try:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as inner:
            raise RuntimeError("a file could not be fetched") from inner
    except RuntimeError as outer:
        told = hub_refusal(outer, NAME, SurgeryError)
    assert "No space left on device" in told.problem
    assert "HF_HOME" in told.remedy


def test_a_refusal_of_ours_stays_what_it_is():
    ours = DataError("a problem", "a remedy")
    assert hub_refusal(ours, NAME, SurgeryError) is ours


def test_whatever_else_is_raised_is_told_with_its_first_line():
    told = hub_refusal(RuntimeError("first\nsecond"), NAME, SurgeryError)
    assert "(first)" in told.problem
    assert told.remedy
