"""The config of an adapter: scaling as peft has it, and what is refused by name."""

import math
import time

import numpy as np
import peft
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from peft.utils.other import get_pattern_key

from surgery.adapter import LoraRules, open_adapter
from tests.surgery.adapter.conftest import O0, opened_or_refused, refusal

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("config", "rank", "scaling"),
    [
        ({"r": 4, "lora_alpha": 8}, 4, 2.0),
        ({"r": 4, "lora_alpha": 0.5}, 4, 0.125),
        ({"r": 4, "lora_alpha": 8, "use_rslora": True}, 4, 4.0),
        ({"r": 8, "lora_alpha": 8, "rank_pattern": {"o_proj": 2}}, 2, 4.0),
        ({"r": 8, "lora_alpha": 8, "rank_pattern": {"o_proj": 2}, "use_rslora": True}, 2, 8 / math.sqrt(2)),
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"o_proj": 32}}, 4, 8.0),
        ({"r": 4, "lora_alpha": 8, "rank_pattern": {"o_proj": 2}, "alpha_pattern": {"q_proj": 3}}, 2, 4.0),
        # the first that matches wins, in the order of the file
        ({"r": 4, "alpha_pattern": {"self_attn.o_proj": 16, "o_proj": 32}}, 4, 4.0),
        ({"r": 4, "alpha_pattern": {"o_proj": 32, "self_attn.o_proj": 16}}, 4, 8.0),
        ({"r": 4, "alpha_pattern": {r"layers\.\d+\.self_attn\.o_proj": 12}}, 4, 3.0),
        ({"r": 4, "alpha_pattern": {f"{O0}": 20, ".*": 4}}, 4, 5.0),
        # whole components at the end of the path only
        ({"r": 4, "lora_alpha": 8, "alpha_pattern": {"proj": 32, "self_attn": 32, "o_pro": 32}}, 4, 2.0),
        ({"r": 4, "lora_alpha": 8, "rank_pattern": None, "alpha_pattern": None}, 4, 2.0),
    ],
)
def test_scaling_follows_rank_alpha_and_the_first_matching_pattern(
    config, rank, scaling, lora_tensors, write_adapter
):
    tensors = lora_tensors({O0: (6, rank, 5)})
    factors = open_adapter(write_adapter(tensors, **config)).modules[O0]
    assert factors.rank == rank
    assert factors.scaling == pytest.approx(scaling, rel=1e-15)


@pytest.fixture(scope="module")
def peft_made(tmp_path_factory):
    """An adapter that peft itself made with every kind of pattern, and the updates it loads from it."""
    torch = pytest.importorskip("torch")

    class Block(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q_proj = torch.nn.Linear(10, 12)
            self.o_proj = torch.nn.Linear(12, 10)
            self.down_proj = torch.nn.Linear(20, 10)

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList([Block(), Block()])

    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        target_modules=["q_proj", "o_proj", "down_proj"],
        rank_pattern={r"layers\.1\..*": 2, "0.o_proj": 3},
        alpha_pattern={"0.o_proj": 5, "o_proj": 7, r"1\.\w+": 9},
    )
    torch.manual_seed(0)
    model = peft.get_peft_model(Model(), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    folder = tmp_path_factory.mktemp("peft")
    model.save_pretrained(str(folder))
    # what counts is what a reader of the files gets: saving sorts the patterns
    loaded = peft.PeftModel.from_pretrained(Model(), str(folder))
    updates = {}
    for name, layer in loaded.named_modules():
        if isinstance(layer, peft.tuners.lora.LoraLayer):
            delta = layer.get_delta_weight("default").detach().double().numpy()
            updates[name.removeprefix("base_model.model.")] = (layer.scaling["default"], delta)
    return folder, updates


def test_scaling_and_updates_are_those_that_peft_computes(peft_made):
    folder, updates = peft_made
    adapter = open_adapter(folder)
    assert set(adapter.modules) == set(updates)
    assert len({factors.scaling for factors in adapter.modules.values()}) == 3
    for name, (scaling, delta) in updates.items():
        factors = adapter.modules[name]
        assert factors.scaling == pytest.approx(scaling, rel=1e-15)
        found = factors.scaling * factors.B.astype(np.float64) @ factors.A.astype(np.float64)
        assert np.abs(found - delta).max() <= 1e-6 * np.abs(delta).max()


def test_settings_named_in_refusals_are_settings_that_peft_has():
    fields = peft.LoraConfig().to_dict()
    before_peft_0_3 = {"enable_lora"}
    for switch, _ in REFUSED_SETTINGS:
        assert switch in fields or switch in before_peft_0_3
    tensors_only = {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"}
    assert tensors_only <= set(fields)


REFUSED_SETTINGS = [
    ("use_qalora", True),
    ("arrow_config", {"top_k": 2}),
    ("megatron_config", {"hidden_size": 8}),
    ("kasa_config", {"beta": 1e-4}),
    ("use_bdlora", {"nblocks": 2}),
    ("enable_lora", [True, False, True]),
]


@pytest.mark.parametrize(("switch", "value"), REFUSED_SETTINGS)
def test_a_variant_that_cannot_be_edited_exactly_is_refused_by_name(switch, value, one, write_adapter):
    assert switch in refusal(write_adapter(one, **{switch: value}))


@pytest.mark.parametrize(
    "start", ["pissa", "pissa_niter_16", "olora", "corda", "lora_ga", "loftq", "PiSSA", "kasa"]
)
def test_initialisations_that_changed_the_base_are_refused(start, one, write_adapter):
    message = refusal(write_adapter(one, init_lora_weights=start))
    assert start.lower() in message
    assert ("surgery convert" in message) == (start != "kasa")


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "XLORA", "PROMPT_TUNING", 3, ["LORA"], "lora"])
def test_another_type_of_adapter_is_refused_by_its_type(kind, one, write_adapter):
    message = refusal(write_adapter(one, peft_type=kind))
    assert repr(kind) in message
    assert "LORA" in message


def test_a_config_without_a_type_is_not_one_that_peft_wrote(one, write_adapter):
    folder = write_adapter(one, peft_type=None)
    assert "names no peft_type, so PEFT did not write it" in refusal(folder)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"r": 8}, "rank"),
        ({"rank_pattern": {"o_proj": 2}}, "rank"),
        ({"r": 0, "rank_pattern": {}}, "rank"),
        ({"r": True}, "rank"),
        ({"r": "4"}, "rank"),
        ({"r": 4.0}, "rank"),
        ({"r": None}, "rank"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"lora_alpha": True}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": float("inf")}, "lora_alpha"),
        ({"lora_alpha": 10**400}, "lora_alpha"),
        ({"alpha_pattern": {"o_proj": "x"}}, "lora_alpha"),
        ({"rank_pattern": {"(": 4}}, "pattern"),
        ({"rank_pattern": ["o_proj"]}, "rank_pattern"),
        ({"alpha_pattern": "o_proj"}, "alpha_pattern"),
    ],
)
def test_a_config_that_does_not_fit_the_weights_is_refused(config, word, one, write_adapter):
    assert word in refusal(write_adapter(one, **config))


@pytest.mark.parametrize(
    ("setting", "pattern"),
    [("rank_pattern", "(a|aa)+"), ("alpha_pattern", "(a|a)*"), ("rank_pattern", "(a+)+")],
)
def test_a_pattern_that_backtracks_forever_returns_promptly(setting, pattern, lora_tensors, write_adapter):
    # 26 letters keep the standard library busy for seconds, 60 for longer than a life; processor time
    # is counted, because a busy machine makes any clock run
    tensors = lora_tensors({f"model.layers.{i}.{'a' * 60}-": (6, 4, 5) for i in range(3)})
    folder = write_adapter(tensors, **{setting: {pattern: 4}})
    began = time.process_time()
    opened_or_refused(folder)
    assert time.process_time() - began < 8


SETTINGS = ["r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "peft_type"]
SETTINGS += ["use_dora", "base_model_name_or_path", "layer_replication", "target_modules", "bias"]


@given(setting=st.sampled_from(SETTINGS), value=JSON)
@example(setting="rank_pattern", value=["o_proj"])
@example(setting="alpha_pattern", value={"[": 1})
def test_any_value_in_the_config_is_read_or_refused(setting, value, lora_tensors, write_adapter):
    opened_or_refused(write_adapter(lora_tensors({O0: (6, 4, 5)}), **{setting: value}))


_COMPONENTS = st.sampled_from(["a", "b", "ab", "0", "layers"])
_NAMES = st.lists(_COMPONENTS, min_size=1, max_size=4).map(".".join)
_FORMS = st.sampled_from(["{}", "^{}", "{}$", "^{}$", ".*{}", "x{}"])
_PATTERNS = st.builds(
    lambda form, name, escaped: form.format(name.replace(".", r"\.") if escaped else name),
    _FORMS,
    _NAMES | st.sampled_from(["a.0", "layers.", ".b", "a...0", r"a\.b.0"]),
    st.booleans(),
)


@given(patterns=st.lists(_PATTERNS, min_size=1, max_size=6, unique=True), name=_NAMES | st.just("axb"))
@example(patterns=["^b", "a.b"], name="a.b")
def test_the_pattern_that_rules_a_module_is_the_one_that_peft_takes(patterns, name):
    ranks = {pattern: rank for rank, pattern in enumerate(patterns, start=2)}
    expected = ranks.get(get_pattern_key(ranks, name), 1)
    assert LoraRules({"r": 1, "lora_alpha": 1, "rank_pattern": ranks}).rank_and_scaling(name)[0] == expected


def test_a_rank_and_an_alpha_of_its_own_for_every_module_cost_no_time(lora_tensors, write_adapter):
    names = [f"model.layers.{layer}.{end}" for layer in range(64) for end in "abcdefg"]
    patterns = {f"^{name}": 4 for name in names[:299]}
    folder = write_adapter(
        lora_tensors(dict.fromkeys(names, (6, 4, 5))), rank_pattern=patterns, alpha_pattern=patterns
    )
    began = time.process_time()
    adapter = open_adapter(folder)
    assert time.process_time() - began < 0.5
    assert [factors.scaling for factors in adapter.modules.values()] == [1.0] * 299 + [2.0] * (448 - 299)
