"""The class that a base is loaded with, and refusals whose way out is tried."""

import json

import pytest
import transformers

from surgery.adapter import TASKS, open_adapter
from surgery.errors import AdapterError, BaseModelError
from surgery.model import (
    BaseChoice,
    LiveModel,
    attach,
    estimate_memory,
    load_base,
    model_class,
    preview_tokens,
    refuse_task,
)
from surgery.spectra import decompose
from tests.helpers.models import save_adapter, save_model, tiny_llama
from tests.helpers.seq2seq import KINDS


@pytest.mark.parametrize("name", KINDS)
def test_a_base_is_loaded_as_what_peft_puts_the_adapter_on(name, tmp_path):
    base, folder = KINDS[name].save(tmp_path)
    adapter = open_adapter(folder)
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        assert type(live.model) is type(KINDS[name]())
        assert live.base.task == adapter.task == "SEQ_2_SEQ_LM"
        assert set(live.spectra) == set(adapter.modules)


def test_a_base_of_another_kind_is_refused_and_naming_the_task_helps(tmp_path):
    base, folder = KINDS["t5"].save(tmp_path, task_type="CAUSAL_LM")
    adapter = open_adapter(folder)
    with pytest.raises(BaseModelError, match=r"set task_type in .* to SEQ_2_SEQ_LM") as refusal:
        attach(adapter, decompose(adapter), BaseChoice(str(base)))
    assert refusal.value.problem.endswith("transformers has none of the kind 't5'")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "task_type": "SEQ_2_SEQ_LM"}))
    adapter = open_adapter(folder)
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        assert live.base.task == "SEQ_2_SEQ_LM"


@pytest.mark.parametrize("task", TASKS)
def test_a_kind_that_no_class_of_a_task_is_known_of_is_refused(task):
    with pytest.raises(BaseModelError, match="none of the kind 'vits'"):
        model_class(transformers.VitsConfig(), task)


@pytest.mark.parametrize("task", ["FEATURE_EXTRACTION", "QUESTION_ANS"])
def test_tasks_that_are_not_run_are_refused_before_anything_is_read(task, tmp_path):
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path, task_type=task))
    for refused in (lambda: refuse_task(task), lambda: load_base("nowhere", adapter=adapter)):
        with pytest.raises(
            AdapterError, match="edits by policies that read no sensitivities, and the export work"
        ):
            refused()


def test_rows_are_not_previewed_for_a_task_that_is_not_run(tmp_path):
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path, task_type="FEATURE_EXTRACTION"))
    with pytest.raises(AdapterError, match="'FEATURE_EXTRACTION'"):
        preview_tokens(adapter, BaseChoice("nowhere"), None, None)


def test_a_base_that_was_loaded_for_another_task_is_not_taken(tmp_path):
    base = load_base(str(save_model(tiny_llama(), tmp_path / "base")))
    adapter = open_adapter(save_adapter(tiny_llama(), tmp_path / "adapter", task_type="SEQ_2_SEQ_LM"))
    with pytest.raises(BaseModelError, match=r"load it for this adapter: base_for\(adapter, …\)"):
        LiveModel(base, adapter, decompose(adapter))


def test_a_gguf_file_is_no_base_of_another_task_and_the_original_is(tmp_path):
    base, folder = KINDS["t5"].save(tmp_path)
    adapter = open_adapter(folder)
    with pytest.raises(BaseModelError, match="name the folder or the hub id of the original model"):
        load_base(str(tmp_path / "model.gguf"), adapter=adapter)
    assert load_base(str(base), adapter=adapter).task == "SEQ_2_SEQ_LM"


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_memory_is_estimated_for_an_encoder_and_a_decoder(name, tmp_path):
    base, _ = KINDS[name].save(tmp_path)
    found = estimate_memory(str(base), tokens=10)
    assert found.working == 10 * 4 * (12 * 32 + 6 * 48) * 4
