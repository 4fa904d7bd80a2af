"""The groups of modules against the models themselves: what writes into the residual stream of every family.

The truth is read from the autograd graph of a forward pass, in which no module has a name.
"""

from pathlib import Path

import pytest
import torch

from surgery.adapter import in_scope, modules_in, open_adapter, role_of, scope_note
from surgery.errors import SurgeryError
from tests.helpers.residual_stream import linear_layers, residual_writers
from tests.helpers.tiny_families import INPUTS, tiny_model

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
# one of each structure that transformers has and the families that most adapters are of
FAMILIES = (
    *("afmoe", "aimv2_vision_model", "albert", "apertus", "aria_text", "bailing_hybrid", "bart", "beit", "bert"),
    *(
        "bert-generation",
        "big_bird",
        "bigbird_pegasus",
        "biogpt",
        "bitnet",
        "bloom",
        "codegen",
        "cohere",
        "cohere2_moe",
    ),
    *(
        "convbert",
        "cpmant",
        "ctrl",
        "data2vec-vision",
        "deberta",
        "deberta-v2",
        "deepseek_v2",
        "deit",
        "dinov3_vit",
    ),
    *(
        "distilbert",
        "doge",
        "dots1",
        "dpt",
        "electra",
        "falcon",
        "falcon_mamba",
        "flaubert",
        "fnet",
        "fsmt",
        "gemma",
    ),
    *("gemma2", "glm", "glpn", "gpt2", "gpt_bigcode", "gpt_neox", "gptj", "granite", "higgs_audio_v2"),
    *("hunyuan_v1_moe", "hy_v4", "inkling_text", "internvl_vision", "jina_embeddings_v3"),
    *("laguna", "lara_mini", "led", "lfm2", "llama", "longt5", "mamba", "markuplm", "minicpm3", "minimax"),
    *(
        "minimax_m3_vl_text",
        "mistral",
        "mixtral",
        "modernbert",
        "modernbert-decoder",
        "moshi",
        "mpnet",
        "mpt",
        "mt5",
    ),
    *(
        "muse_spark_text",
        "nanochat",
        "nllb-moe",
        "olmo2",
        "olmo_hybrid",
        "opt",
        "persimmon",
        "phi",
        "phi3",
        "pixtral",
    ),
    *(
        "pvt_v2",
        "qwen2",
        "qwen2_moe",
        "qwen3",
        "qwen3_5_moe_text",
        "qwen3_5_text",
        "qwen3_next",
        "rembert",
        "roberta",
    ),
    *(
        "rwkv",
        "sam3_lite_text_text_model",
        "sam_hq_vision_model",
        "sapiens2",
        "sew",
        "sew-d",
        "smollm3",
        "stablelm",
    ),
    *(
        "starcoder2",
        "switch_transformers",
        "t5",
        "tipsv2_text_model",
        "vit",
        "vitdet",
        "xlm-roberta",
    ),
    *("xlnet",),
)
# of MobileBERT's attention the output goes into a narrower stream of the block's own
ASIDE = {"mobilebert": {"attention.output.dense"}}


def measured(family: str) -> tuple[set[str], set[str]]:
    """Writers of a tiny model of the family and all its linear layers that ran."""
    model = tiny_model(family)
    for inputs in INPUTS:
        try:
            return residual_writers(model, **inputs)
        except Exception as error:
            refused = error
    raise refused


@pytest.mark.parametrize("family", [*FAMILIES, *ASIDE])
def test_the_residual_writers_of_a_family_are_those_that_write_into_its_stream(family: str) -> None:
    writers, ran = measured(family)
    assert ran
    aside = ASIDE.get(family, set())
    named = {name for name in modules_in(ran, "residual") if not any(name.endswith(end) for end in aside)}
    assert named == writers, sorted(named ^ writers)


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "distilbert", "mpt", "phi3", "t5", "vit", "bloom"])
def test_inputs_of_attention_and_the_first_half_of_the_mlp_read_what_the_writers_write(family: str) -> None:
    model = tiny_model(family)
    layers = linear_layers(model)
    for name, layer in layers.items():
        into = layer.in_features if isinstance(layer, torch.nn.Linear) else layer.nx
        if role_of(name) in ("attention-inputs", "gate-up"):
            assert into == 32, name
    assert {role_of(name) for name in layers} >= {"residual", "attention-inputs", "gate-up"}


def adapters() -> list[Path]:
    return sorted(file.parent for file in (REAL / "adapters").rglob("adapter_config.json"))


@pytest.mark.skipif(not REAL.is_dir(), reason="the adapters found in public repositories are not here")
def test_every_real_adapter_that_opens_has_a_default_scope_or_says_that_it_takes_all() -> None:
    opened, without = [], []
    for folder in adapters():
        try:
            adapter = open_adapter(folder)
        except SurgeryError:
            continue
        opened.append(folder)
        chosen = in_scope(adapter.modules, "residual")
        note = scope_note(adapter.modules)
        assert bool(note) == (note in adapter.notes)
        if note:
            without.append(folder)
            assert chosen == list(adapter.modules)
        # whatever an adapter targets in a model's blocks is known by its role
        heads = ("classifier", "score", "pre_classifier", "decode_head")
        unknown = {name for name in adapter.modules if role_of(name) is None and not name.startswith(heads)}
        assert not unknown, unknown
    assert len(opened) > 5
    assert without, "some adapt the inputs of attention alone"
