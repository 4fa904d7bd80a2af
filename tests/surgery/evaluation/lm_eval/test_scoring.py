"""Scores of a task, held against those of `lm_eval.simple_evaluate`."""

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from surgery.adapter import open_adapter
from surgery.data import TaskPlan
from surgery.errors import Cancelled
from surgery.evaluation.lm_eval import load_task, run_task
from surgery.files import DEMO_BASE, home
from surgery.model import LiveModel, LoadedBase, load_base
from surgery.progress import Control
from surgery.spectra import decompose
from tests.helpers.lm_eval_reference import FILES, assert_same, judge, plan, shortened, theirs
from tests.surgery.evaluation.lm_eval.conftest import (
    OneByOne,
    engine_of,
    needs_data,
    tiny_base,
)

METRICS = {
    "commonsense_qa": "acc,none",
    "gsm8k": "exact_match,strict-match",
    "humaneval": "pass@1,create_test",
    "ifeval": "prompt_level_strict_acc,none",
}


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_scores_each_variant_as_simple_evaluate_does(name, bases, tmp_path):
    task = plan(name)
    loaded, options = shortened(task, 60)
    scores = run_task(loaded, engine_of(bases), bases["unedited"], judge=judge)
    assert scores.metric == METRICS[name]
    assert scores.higher_is_better
    for variant, base in bases.items():
        assert_same(scores, variant, theirs(task, base, tmp_path, **options), base.model)
    assert scores.responses["unedited"] != scores.responses["edited"]
    assert scores.numbers("edited").shape == (2,)
    assert scores.notes == ()


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_the_engine_scores_variants_of_an_adapter_as_simple_evaluate_scores_them_one_by_one(name, tmp_path):
    engine = pytest.importorskip("surgery.model.engine")
    base = tiny_base()
    adapter = open_adapter(adapter_for(base, tmp_path / "adapter"))
    spectra = decompose(adapter)
    sigma = {module: 3.0 * spectrum.sigma for module, spectrum in spectra.items()}
    task = plan(name)
    loaded, options = shortened(task, 25)
    with LiveModel(base, adapter, spectra) as live:
        variants = {"unedited": None, "threefold": sigma}
        scores = run_task(loaded, engine.VariantEngine(live, variants), live.base, judge=judge)
        for variant, values in variants.items():
            live.set_sigma(values)
            assert_same(scores, variant, theirs(task, base, tmp_path, **options), base.model)
    assert scores.responses["unedited"] != scores.responses["threefold"]


def adapter_for(base: LoadedBase, folder: Path) -> Path:
    config = LoraConfig(r=2, lora_alpha=16, target_modules=["o_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(2)
    get_peft_model(copy.deepcopy(base.model), config).save_pretrained(folder)
    return folder


@pytest.mark.demo
@needs_data
@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_on_the_demo_base_is_that_of_simple_evaluate(name, demo_base, tmp_path):
    # the five examples of gsm8k make a thousand tokens
    task = plan(name, limit=1 if name == "gsm8k" else 3)
    loaded, options = shortened(task, 10)
    scores = run_task(loaded, OneByOne({"unedited": demo_base.model}), demo_base, judge=judge)
    assert_same(scores, "unedited", theirs(task, demo_base, tmp_path, **options), demo_base.model)


@pytest.fixture(scope="module")
def demo_base() -> LoadedBase:
    if not list((home() / "bases").glob("*/model.safetensors")):
        pytest.skip("the demo base is not in the cache of SURGERY_HOME")
    return load_base(DEMO_BASE)


def test_cancelling_ends_loading_and_scoring(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "A b C"}')
    task = TaskPlan("lambada_openai", data_files={"test": str(file)})
    with pytest.raises(Cancelled):
        load_task(task, control=Control(cancelled=lambda: True))
    base = tiny_base()
    with pytest.raises(Cancelled):
        run_task(load_task(task), OneByOne({"a": base.model}), base, control=Control(cancelled=lambda: True))


def test_settings_of_the_base_that_only_lm_eval_follows_are_told(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "#### 2"}')
    base = tiny_base()
    base.model.generation_config.repetition_penalty = 1.1
    loaded = load_task(TaskPlan("gsm8k", fewshot=0, data_files={"test": str(file)}))
    (note,) = run_task(loaded, OneByOne({"a": base.model}), base).notes
    assert "repetition_penalty 1.1" in note
