"""The task of an adapter against what PEFT writes and what transformers knows of classes."""

from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers.models.auto import modeling_auto as known

from surgery.adapter import TASKS, open_adapter, task_of
from surgery.adapter import task as tasks
from tests.helpers.models import tiny_llama
from tests.helpers.seq2seq import KINDS

SPOKEN = {
    *known.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES.values(),
    *known.MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES.values(),
}
READ = set(known.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.values())


def of_class(name: str) -> str:
    return task_of({"task_type": None, "auto_mapping": {"base_model_class": name, "parent_library": "x"}})


@pytest.mark.parametrize("task", [*TASKS, "FEATURE_EXTRACTION", "QUESTION_ANS"])
def test_a_task_that_the_config_names_stands(task):
    assert task_of({"task_type": task, "auto_mapping": {"base_model_class": "T5ForConditionalGeneration"}}) == task


@pytest.mark.parametrize("config", [{}, {"task_type": None}, {"task_type": 3}, {"auto_mapping": "x"}])
def test_a_config_that_says_nothing_is_of_a_causal_language_model(config):
    assert task_of(config) == "CAUSAL_LM"


@pytest.mark.parametrize("model", [tiny_llama, *KINDS.values()], ids=["llama", *KINDS])
def test_the_class_that_peft_writes_where_training_named_no_task_tells_it(model, tmp_path):
    targets = ["q_proj", "q"]
    get_peft_model(model(), LoraConfig(r=2, target_modules=targets)).save_pretrained(tmp_path)
    opened = open_adapter(Path(tmp_path))
    assert opened.config["task_type"] is None
    assert opened.task == ("CAUSAL_LM" if model is tiny_llama else "SEQ_2_SEQ_LM")


def test_every_class_that_transformers_has_for_a_task_is_told_by_its_name():
    two_sequences = set(known.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.values())
    others = {
        name
        for name in two_sequences - tasks.TEXT_TO_TEXT
        if "Flamingo" not in name and "ForTextToText" not in name
    }
    assert two_sequences > tasks.TEXT_TO_TEXT
    assert others < READ
    assert {of_class(name) for name in tasks.TEXT_TO_TEXT} == {"SEQ_2_SEQ_LM"}
    for names, task in (
        (known.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, "SEQ_CLS"),
        (known.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES, "TOKEN_CLS"),
        (known.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "CAUSAL_LM"),
    ):
        ends = ("ForSequenceClassification", "ForTokenClassification", "ForCausalLM", "LMHeadModel")
        named = {name for value in names.values() for name in ([value] if isinstance(value, str) else value)}
        usual = {name for name in named if name.endswith(ends)}
        assert len(usual) > 0.8 * len(named)
        assert {of_class(name) for name in usual} == {task}


def test_speech_and_pictures_are_no_task_that_runs():
    for name in (SPOKEN - READ) | {"SegformerForSemanticSegmentation", "ViTForImageClassification", "GLiNER2"}:
        assert of_class(name) == name
        assert of_class(name) not in TASKS


def test_targets_that_only_diffusers_has_are_of_no_language_model():
    assert task_of({"task_type": None, "target_modules": ["attn.to_q", "attn.to_out.0"]}) == tasks.DIFFUSION
    assert task_of({"task_type": "CAUSAL_LM", "target_modules": ["to_q"]}) == "CAUSAL_LM"
    assert task_of({"target_modules": ["q_proj", "into_q"]}) == "CAUSAL_LM"
    assert tasks.DIFFUSION not in TASKS


def test_models_that_look_at_pictures_are_read_as_language_models():
    pictures = set(known.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()) - tasks.TEXT_TO_TEXT
    assert {of_class(name) for name in pictures if name.endswith("ForConditionalGeneration")} == {"CAUSAL_LM"}
