"""What counts as a deprecation warning of our own, and that one is noticed: every test fails on one."""

import logging
import warnings

import peft
import pytest
import torch
import transformers

from surgery.model import CACHE
from tests import deprecations
from tests.helpers.models import tiny_llama


def run_in(package: str, source: str, **names) -> list[str]:
    """What is noted while these lines run as if they stood in a file of `package`."""
    exec(compile(source, str(deprecations.ROOT / package / "made_up.py"), "exec"), names)
    noted, deprecations.found[:] = deprecations.found[:], []
    return noted


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", deprecations.DEPRECATIONS)
@pytest.mark.parametrize("package", ["app/pages", "surgery", "viz"])
def test_a_deprecation_that_our_code_causes_is_noted_with_its_place(package, kind):
    said = run_in(package, "\nwarnings.warn('is renamed', kind)", warnings=warnings, kind=kind)
    assert said == [f"{package}/made_up.py:2: is renamed"]


@pytest.mark.filterwarnings("ignore")
def test_other_warnings_and_those_that_tests_cause_are_not_noted():
    assert run_in("surgery", "warnings.warn('careful', UserWarning)", warnings=warnings) == []
    assert run_in("tests", "warnings.warn('is renamed', FutureWarning)", warnings=warnings) == []


def test_what_is_said_once_in_a_process_is_noted_every_time():
    log = logging.getLogger("transformers.somewhere")
    for _ in range(2):
        said = run_in("surgery", "log.warning_once('`that` is deprecated')", log=log)
        assert said == ["surgery/made_up.py:1: `that` is deprecated"]
    assert run_in("surgery", "log.warning_once('slow')", log=log) == []


@pytest.mark.skipif(CACHE != "cache", reason="this transformers knows the old name alone")
@pytest.mark.filterwarnings("ignore")
def test_the_old_name_of_the_cache_is_noted_where_a_model_is_called_with_it_or_its_output_asked():
    model = tiny_llama()
    ids = torch.ones(1, 2, dtype=torch.long)
    given = run_in("surgery", "model(input_ids=ids, past_key_values=None)", model=model, ids=ids)
    asked = run_in("surgery", "model(input_ids=ids).past_key_values", model=model, ids=ids)
    assert [len(given), len(asked)] == [1, 1]
    assert "past_key_values" in given[0]
    assert "past_key_values" in asked[0]
    assert run_in("surgery", "model(input_ids=ids, cache=None).cache", model=model, ids=ids) == []


@pytest.mark.filterwarnings("ignore")
def test_a_deprecation_between_two_libraries_is_not_ours():
    config = peft.LoraConfig(target_modules=["q_proj"])
    wrap = "peft.get_peft_model(model, config)"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert run_in("surgery", wrap, peft=peft, model=tiny_llama(), config=config) == []
    renamed = hasattr(transformers.PreTrainedModel, "is_activation_checkpointing")
    assert any("is_gradient_checkpointing" in str(each.message) for each in said) == renamed


@pytest.mark.filterwarnings("ignore")
def test_what_a_library_says_to_itself_while_it_is_imported_is_not_ours(tmp_path, monkeypatch):
    (tmp_path / "ageing.py").write_text("import warnings\nwarnings.warn('is renamed', FutureWarning)\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert run_in("surgery", "import ageing") == []
