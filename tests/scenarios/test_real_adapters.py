"""Every adapter and every config found in public repositories: what it opens as, or why it is refused.

The expected values were read off the files by hand: counts and shapes from the headers of the
safetensors files and the pickles, ranks and alphas from the configs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from surgery import Adapter, decompose, open_adapter
from surgery.adapter import TASKS
from surgery.errors import AdapterError, ChoiceError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
ADAPTERS, CONFIGS = SHARED / "adapters", SHARED / "adapter_configs"


@dataclass(frozen=True)
class Opens:
    """What an adapter opens as; layers run without a gap from 0, `extra` counts tensors that are no factors."""

    modules: int
    rank: int
    scaling: float
    layers: int = 2
    families: tuple[str, ...] = ()
    dtype: str = "float32"
    extra: int = 0
    zero: int = 0


QV = ("q_proj", "v_proj")
# a refusal is told by words of its reason
ADAPTER_OUTCOMES: dict[str, Opens | tuple[str, ...]] = {
    "0112LY__logo-gemma-lora/adapter": Opens(36, 4, 1.0, 18, QV),
    "BK7195__deltacompression-poc/adapter": Opens(24, 1, 32.0, 24, ("query_key_value",), "float16"),
    "Eric-Ristol__ml-tutor-lora/models/lora_adapter": Opens(64, 8, 2.0, 32, QV),
    # a pickle written on a GPU
    "Kimiko-AI__LoRa-traingcode/lora-alpaca": Opens(6, 32, 2.0, 6, ("query_key_value",)),
    "Kuntya__Udacity/trainer_peft": ("classifier", "modules_to_save", "ambiguous"),
    "LMHan122__lightweight-fine-tuning-peft/gpt-lora": Opens(12, 8, 1.25, 12, ("c_attn",), extra=1),
    "Rajpreet2206__LLM-FineTune-Scratch": ("adapter_config.json",),
    "RishitToteja__llm-tuning": ("PROMPT_TUNING",),
    "akseljoonas__biotech-news-sentiment/lora_adapter": Opens(24, 16, 2.0, 24, ("o_proj",), zero=24),
    "catundchat__stable-diffusion-v1.5-lora": ("diffusers",),
    "guilhermmeabreu__lab_08": Opens(24, 16, 2.0, 12, QV, "bfloat16"),
    "hitoshikumagai__Apply-Lightweight-Fine-Tuning-to-a-Foundation-Model/gpt-lora": Opens(
        12, 1, 1.0, 12, ("c_attn",), extra=1
    ),
    "jasencarroll__lightweight-fine-tuning/gpt2-lora": Opens(12, 8, 4.0, 12, ("c_attn",)),
    "johntnanney__gradience/examples/adapters/tiny_lora": Opens(12, 8, 2.0, 6, ("c_attn", "c_proj")),
    "josephldobson__peft-benchmarking/src/models/google/flan-t5-base_IA3_1": ("IA3",),
    "josephldobson__peft-benchmarking/src/models/google/flan-t5-base_PROMPT_TUNING_1": ("PROMPT_TUNING",),
    "merkulovsvt__NLP/lora_model": Opens(32, 8, 4.0, 16, QV),
    "merkulovsvt__NLP/outputs/checkpoint-200": Opens(32, 8, 4.0, 16, QV),
    "niket-sharma__LLMs-from-groundup/lora_adapters": Opens(6, 8, 2.0, 6, ("c_attn",)),
    # Segformer: four stages of two blocks
    "polarbeargo__Apply-Lightweight-Fine-Tuning-LLMs/segformer-scene-parse-150-lora": Opens(
        16, 32, 1.0, 8, ("query", "value"), extra=16
    ),
    "wujindou__BLOOM-LORA": ("enable_lora",),
    "wyek1n__MLX-CLI/adapters": ("MLX",),
}

# with two layers of the config's target_modules; q_proj and v_proj where it names none
CONFIG_OUTCOMES: dict[str, Opens | str] = {
    "AbhisekMishra__genz-model__outputs__adapter": Opens(14, 16, 2.0),
    "Arkturiana9__model": Opens(8, 16, 1.0),
    "Bruce-XJChen__Open-SQL__model": Opens(14, 8, 4.0),
    "Divagation__wren__adapters": "MLX",
    "Glover69__SLM-FineTuning__checkpoints": Opens(14, 256, 2.0),
    "GowthamNats__MicrosoftPhi1_5_finetuned-": Opens(8, 16, 1.0),
    "HannahUsesTheGitHub__CAI__outputsUser__adapterUser": Opens(14, 16, 2.0),
    "Hareshjethani__BERT-GPT2-Multitask-Finetuning": Opens(4, 8, 4.0),
    "Hmbown__shannon-control-unit__3b-fixed": Opens(14, 8, 4.0),
    "Import-Saurabh__Gliner_Finetuning__gliner-news-geo": Opens(8, 8, 2.0),
    "KZ-Shi__LLaMA-E": Opens(8, 8, 2.0),
    "Krsmanovic-S__vigor-llm-trainer__outputs__adapter": Opens(14, 16, 2.0),
    "LMHan122__lightweight-fine-tuning-peft__gpt-lora": Opens(2, 8, 1.25),
    "LuisWangSS__DeepLearning_midterm": Opens(14, 16, 2.0),
    "Noorfatimadev__SmolLM2-Fine-Tuning-and-Evaluation__results_lora__smollm2_1_7b_lora_r16__adapter": Opens(
        14, 16, 2.0
    ),
    "RishitToteja__llm-tuning": "type 'PROMPT_TUNING'",
    "StarRing2022__ChatGPTX-Uni__lora-alpaca": Opens(4, 8, 2.0),
    "TFM-HITESH__MedAI__SmolLM135M__SmolLM-135M-Instruct-medical_meadow_medical_flashcards-100epochs": Opens(
        4, 16, 2.0
    ),
    "TheSotti__Lightweight-Fine-Tuning-to-FM__gpt-lora": Opens(4, 8, 4.0),
    "Vext-Labs-Inc__Vext-labs-7B-v1.1-": Opens(14, 32, 2.0),
    "XiaoW0417__Qwen-Lora-Finetune-Forest-QA__results__adapter": Opens(4, 8, 2.0),
    "abwilf__psv__model_runs__AV0-seed0__models__iter5": Opens(14, 16, 2.0),
    "abwilf__psv__model_runs__AV0-seed2__models__iter5": Opens(14, 16, 2.0),
    "abwilf__psv__model_runs__AV0-seed4__models__iter5": Opens(14, 16, 2.0),
    "anirudh-ak__peft-gpt2__model__lora_model": Opens(2, 8, 1.0),
    "ao-wei__gemma3-270m-svg-lora-partb__adapter_curriculum_stage1": Opens(8, 4, 4.0),
    "arasheslamii__business-workflow-extraction__results__adapter": Opens(14, 16, 2.0),
    "csequenc__lora-vs-dora-spider__DoRA": Opens(8, 8, 2.0),
    "davidjurgens__contextual-appropriateness__model": "type 'PREFIX_TUNING'",
    "diaoenmao__LLM-for-Recommender-Systems__Lora_example_t5_small__results2": Opens(4, 16, 2.0),
    "hanfuzhao__Module4-RecallClear__models__adapter": Opens(14, 16, 2.0),
    "huduby__mind_control__lora_model": Opens(4, 8, 2.0),
    "huggingface__peft__method_comparison__MetaMathQA__experiments__delora__llama-3.2-3B-rank32": "type 'DELORA'",
    "huggingface__peft__method_comparison__MetaMathQA__experiments__loha__llama-3.2-3B-rank32": "type 'LOHA'",
    "huggingface__peft__method_comparison__MetaMathQA__experiments__lora__llama-3.2-3B-rank10-target-mlp": Opens(
        6, 10, 2.0
    ),
    "huggingface__peft__method_comparison__MetaMathQA__experiments__lora__llama-3.2-3B-rank32-dora": Opens(
        4, 32, 2.0
    ),
    "huggingface__peft__method_comparison__MetaMathQA__experiments__lora__llama-3.2-3B-rank32-mica": Opens(
        4, 32, 2.0
    ),
    "huggingface__peft__method_comparison__MetaMathQA__experiments__lora__llama-3.2-3B-rank64-rslora": Opens(
        4, 64, 8.0
    ),
    "huggingface__peft__method_comparison__MetaMathQA__experiments__prefixtuning__llama-3.2-3B-lr_0.001": "type 'PREFIX_TUNING'",
    "huggingface__peft__method_comparison__MetaMathQA__experiments__vera__llama-3.2-3B-default": "type 'VERA'",
    "huggingface__peft__method_comparison__image-gen__experiments__delora__flux2-klein-default": "type 'DELORA'",
    "huggingface__peft__method_comparison__image-gen__experiments__loha__flux2-klein-default": "type 'LOHA'",
    "huggingface__peft__method_comparison__image-gen__experiments__lora__flux2-klein-default": Opens(22, 32, 1.0),
    "huggingface__peft__method_comparison__image-gen__experiments__lora__flux2-klein-rank64": Opens(22, 64, 1.0),
    "isabee426__resume_bot": "type 'PROMPT_TUNING'",
    "izaqyos__small_lang_model__adapters": "MLX",
    "japjotsaggu-wai__NE_Indictrans2": Opens(8, 32, 1.0),
    "jasencarroll__lightweight-fine-tuning__peft_model_output__checkpoint-200": Opens(6, 8, 4.0),
    "johntnanney__gradience__examples__adapters__tiny_lora": Opens(4, 8, 2.0),
    "johntnanney__gradience__outputs__adapter": "no peft_type",
    "josephldobson__peft-benchmarking__src__models__google__flan-t5-base_DORA_1": Opens(12, 16, 0.5),
    "josephldobson__peft-benchmarking__src__models__google__flan-t5-base_LORA_1": Opens(4, 16, 0.5),
    "josephldobson__peft-benchmarking__src__models__google__flan-t5-base_PROMPT_TUNING_1": "type 'PROMPT_TUNING'",
    "khajaphysist__fine-tuning-example__lora_weights": Opens(6, 8, 1.0),
    "kirilssw__Phishing-analyzer-LoRA": Opens(14, 8, 2.0),
    "mandeep511__infy-gpt-model": Opens(8, 64, 0.25),
    "merkulovsvt__NLP__lora_model": Opens(4, 8, 4.0),
    "niket-sharma__LLMs-from-groundup__lora_adapters": Opens(2, 8, 2.0),
    "phuongsky__lora-gpt2-pipeline__outputs": Opens(2, 8, 4.0),
    "polarbeargo__Apply-Lightweight-Fine-Tuning-LLMs__segformer-scene-parse-150-lora": Opens(4, 32, 1.0),
    "sidkris__Parameter-Efficient-Fine-Tuning-with-LoRA": Opens(12, 16, 2.0),
    "snehakumari1996__TinyLlama_LoRA_CLI_Copilot__lora_adapter": Opens(4, 16, 2.0),
    "stathopoan__Apply-Lightweight-Fine-Tuning-to-a-Foundation-LLM-Model__lora_model": Opens(2, 8, 2.0),
    "vishal-adithya__FineTune-TextHumanizer__adapters": "MLX",
    "wyek1n__MLX-CLI__adapters": "MLX",
}


# of configs that open; all others are of causal language models
TASK_OF_CONFIG = {
    "Hareshjethani__BERT-GPT2-Multitask-Finetuning": "SEQ_CLS",
    "Import-Saurabh__Gliner_Finetuning__gliner-news-geo": "GLiNER2",
    "LMHan122__lightweight-fine-tuning-peft__gpt-lora": "SEQ_CLS",
    "TheSotti__Lightweight-Fine-Tuning-to-FM__gpt-lora": "SEQ_CLS",
    "anirudh-ak__peft-gpt2__model__lora_model": "SEQ_CLS",
    "diaoenmao__LLM-for-Recommender-Systems__Lora_example_t5_small__results2": "SEQ_2_SEQ_LM",
    "huduby__mind_control__lora_model": "SEQ_CLS",
    "huggingface__peft__method_comparison__image-gen__experiments__lora__flux2-klein-default": "diffusion of pictures",
    "huggingface__peft__method_comparison__image-gen__experiments__lora__flux2-klein-rank64": "diffusion of pictures",
    "japjotsaggu-wai__NE_Indictrans2": "SEQ_2_SEQ_LM",
    "josephldobson__peft-benchmarking__src__models__google__flan-t5-base_DORA_1": "SEQ_2_SEQ_LM",
    "josephldobson__peft-benchmarking__src__models__google__flan-t5-base_LORA_1": "SEQ_2_SEQ_LM",
    "khajaphysist__fine-tuning-example__lora_weights": "SEQ_CLS",
    "polarbeargo__Apply-Lightweight-Fine-Tuning-LLMs__segformer-scene-parse-150-lora": "SegformerForSemanticSegmentation",
    "sidkris__Parameter-Efficient-Fine-Tuning-with-LoRA": "SEQ_CLS",
    "stathopoan__Apply-Lightweight-Fine-Tuning-to-a-Foundation-LLM-Model__lora_model": "SEQ_CLS",
}


def refusal(folder: Path) -> str:
    """The reason for which `folder` is refused, on one line and with a remedy."""
    with pytest.raises(AdapterError) as caught:
        open_adapter(folder)
    assert type(caught.value) is AdapterError
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.remedy
    return caught.value.problem


def assert_opened(adapter: Adapter, expected: Opens) -> None:
    modules = adapter.modules.values()
    assert len(modules) == expected.modules
    assert {factors.rank for factors in modules} == {expected.rank}
    assert {factors.scaling for factors in modules} == {expected.scaling}
    assert adapter.layers == tuple(range(expected.layers))
    assert all(factors.layer is not None for factors in modules)
    assert {factor.dtype.name for factors in modules for factor in (factors.A, factors.B)} == {expected.dtype}


@pytest.mark.parametrize("path", ADAPTER_OUTCOMES)
def test_an_adapter_found_in_the_wild_opens_as_expected_or_is_refused_for_its_reason(path):
    folder, expected = ADAPTERS / path, ADAPTER_OUTCOMES[path]
    if not folder.is_dir():
        pytest.skip(f"../shared/data/adapters/{path} is not on this machine")
    if not isinstance(expected, Opens):
        reason = refusal(folder)
        assert all(word in reason for word in expected), reason
        return
    adapter = open_adapter(folder)
    assert_opened(adapter, expected)
    assert sorted(adapter.families) == sorted(expected.families)
    assert len(adapter.extra) == expected.extra
    zero = [note for note in adapter.notes if note.startswith(f"{expected.zero} modules have an all-zero factor")]
    assert len(zero) == bool(expected.zero), adapter.notes
    assert any(note.startswith(f"{expected.extra} tensors are not") for note in adapter.notes) == bool(
        expected.extra
    )
    for spectrum in decompose(adapter).values():
        assert np.isfinite(spectrum.sigma).all()
        assert spectrum.sigma.any() != bool(expected.zero)


@pytest.mark.parametrize("name", CONFIG_OUTCOMES)
def test_a_config_found_in_the_wild_opens_as_expected_or_is_refused_for_its_reason(
    name, lora_tensors, write_adapter
):
    file, expected = CONFIGS / f"{name}.json", CONFIG_OUTCOMES[name]
    if not file.is_file():
        pytest.skip(f"../shared/data/adapter_configs/{name}.json is not on this machine")
    config: dict[str, Any] = json.loads(file.read_bytes())
    rank = config.get("r") or 4
    targets = config.get("target_modules") or ["q_proj", "v_proj"]
    paths = [f"model.layers.{layer}.block.{target}" for layer in range(2) for target in targets]
    tensors = lora_tensors(dict.fromkeys(paths, (6, rank, 5)))
    if config.get("use_dora"):
        tensors |= {f"base_model.model.{path}.lora_magnitude_vector": np.ones(6, "float32") for path in paths}
    folder = write_adapter(tensors, raw_config=file.read_bytes())
    if not isinstance(expected, Opens):
        assert expected in refusal(folder)
        return
    adapter = open_adapter(folder)
    assert_opened(adapter, expected)
    assert len(adapter.families) == expected.modules / expected.layers
    assert adapter.base_name == config["base_model_name_or_path"]
    assert adapter.task == TASK_OF_CONFIG.get(name, "CAUSAL_LM")
    assert any("no model is run for here" in note for note in adapter.notes) == (adapter.task not in TASKS)


@pytest.mark.skipif(not ADAPTERS.is_dir(), reason="../shared/data/adapters is not on this machine")
def test_the_folder_above_them_names_every_one_that_has_a_config():
    with pytest.raises(ChoiceError) as caught:
        open_adapter(ADAPTERS)
    found = {Path(choice).relative_to(ADAPTERS).as_posix() for choice in caught.value.choices}
    assert found == {path for path in ADAPTER_OUTCOMES if (ADAPTERS / path / "adapter_config.json").is_file()}


@pytest.mark.skipif(not ADAPTERS.is_dir(), reason="../shared/data/adapters is not on this machine")
@pytest.mark.parametrize("path", ADAPTER_OUTCOMES)
def test_its_weights_are_told_as_the_folder_around_them(path):
    """A weights file opens what its folder opens, and is refused as its folder is."""
    folder = ADAPTERS / path
    for file in (*folder.glob("*.safetensors"), *folder.glob("*.bin")):
        if isinstance(ADAPTER_OUTCOMES[path], Opens):
            assert open_adapter(file).digest == open_adapter(folder).digest
        else:
            assert refusal(file) == refusal(folder)


@pytest.mark.skipif(not ADAPTERS.is_dir(), reason="../shared/data/adapters is not on this machine")
def test_the_table_lists_every_adapter_there_is():
    files = [file for file in ADAPTERS.glob("*/**/*") if file.is_file()]
    assert {file.parent.relative_to(ADAPTERS).as_posix() for file in files} == set(ADAPTER_OUTCOMES)


@pytest.mark.skipif(not CONFIGS.is_dir(), reason="../shared/data/adapter_configs is not on this machine")
def test_the_table_lists_every_config_there_is():
    assert {file.stem for file in CONFIGS.iterdir()} == set(CONFIG_OUTCOMES)
