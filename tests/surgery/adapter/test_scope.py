"""Scopes: groups of modules by name, and regular expressions that cannot hang."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.adapter import SCOPES, in_scope, modules_in, open_adapter, scope_for, scope_note
from surgery.errors import PolicyError
from tests.helpers.policies import spectrum


@pytest.fixture
def llama():
    """Two layers with a few modules each, four components a module."""
    names = [
        f"model.layers.{layer}.{name}"
        for layer in range(2)
        for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")
    ]
    return {name: spectrum(name, [4.0, 3.0, 2.0, 1.0]) for name in names}


def test_scopes_choose_modules_by_their_last_name_or_by_expression(llama):
    last = {
        "residual": {"o_proj", "down_proj"},
        "attention-inputs": {"q_proj", "k_proj"},
        "all": {"q_proj", "k_proj", "o_proj", "up_proj", "down_proj"},
        "self_attn": {"q_proj", "k_proj", "o_proj"},
        r"\.(up|down)_proj$": {"up_proj", "down_proj"},
    }
    for scope, chosen in last.items():
        assert in_scope(llama, scope) == [name for name in llama if name.rpartition(".")[2] in chosen]
    assert in_scope(llama, r"layers\.1\.") == [name for name in llama if ".1." in name]


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("transformer.h.0.attn.c_proj", "residual"),
        ("transformer.h.0.mlp.c_proj", "residual"),
        ("transformer.h.0.attn.c_attn", "attention-inputs"),
        ("gpt_neox.layers.0.attention.dense", "residual"),
        ("gpt_neox.layers.0.attention.query_key_value", "attention-inputs"),
        ("model.decoder.layers.0.self_attn.out_proj", "residual"),
        ("model.decoder.layers.0.fc2", "residual"),
        ("encoder.block.0.layer.0.SelfAttention.o", "residual"),
        ("encoder.block.0.layer.0.SelfAttention.q", "attention-inputs"),
    ],
)
def test_the_named_scopes_know_the_names_of_other_architectures(name, scope):
    assert in_scope({name: ""}, scope) == [name]
    other = "attention-inputs" if scope == "residual" else "residual"
    assert modules_in({name: ""}, other) == []


def test_an_adapter_without_a_residual_writer_gets_all_modules_and_says_so(lora_tensors, write_adapter):
    names = [f"model.layers.{layer}.self_attn.{kind}" for layer in range(2) for kind in ("q_proj", "v_proj")]
    assert in_scope(names, "residual") == names
    assert scope_note(names) == (
        "no module is known to write into the residual stream: the scope residual takes all 4 modules"
    )
    adapter = open_adapter(write_adapter(lora_tensors(dict.fromkeys(names, (6, 4, 5)))))
    assert scope_note(names) in adapter.notes
    with_writer = [*names, "model.layers.0.self_attn.o_proj"]
    assert (in_scope(with_writer, "residual"), scope_note(with_writer)) == (with_writer[-1:], "")
    # the other groups have no such way out
    with pytest.raises(PolicyError):
        in_scope(names, "gate-up")
    assert scope_for(names, names) == "attention-inputs"


@pytest.mark.parametrize("scope", ["nothing_like_it", "(", "x" * 1000])
def test_a_scope_that_matches_nothing_or_is_no_expression_is_refused(scope):
    with pytest.raises(PolicyError):
        in_scope({"a.o_proj": ""}, scope)


def test_a_scope_that_backtracks_forever_is_refused_promptly():
    began = time.process_time()
    with pytest.raises(PolicyError, match="expression"):
        in_scope({"a" * 60 + "!": "", "b" + "a" * 60 + "!": ""}, "(a|aa)+$")
    assert time.process_time() - began < 8


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.mlp.gate_proj",
        "model.layers.0.mlp.up_proj",
        "model.layers.0.mlp.gate_up_proj",
        "model.decoder.layers.0.fc1",
        "transformer.h.0.mlp.c_fc",
        "gpt_neox.layers.0.mlp.dense_h_to_4h",
        "encoder.block.0.layer.1.DenseReluDense.wi_0",
    ],
)
def test_the_first_half_of_the_mlp_is_a_scope_of_its_own(name):
    assert in_scope([name, "other.o_proj", "other.q_proj"], "gate-up") == [name]
    for scope in ("residual", "attention-inputs"):
        assert name not in in_scope([name, "other.o_proj", "other.q_proj"], scope)


# ---- a scope for a choice ----

_parts = st.sampled_from(
    ["q_proj", "o_proj", "up_proj", "a.b", "a+b", "(", "x|y", "^o$", "[0]", "o proj", "ö", "\\d"]
)
_names = st.lists(
    st.tuples(st.integers(0, 12), _parts).map("layers.{0[0]}.{0[1]}".format), min_size=1, unique=True
)


@given(_names, st.data())
def test_a_scope_for_a_choice_selects_exactly_that_choice(names, data):
    chosen = data.draw(st.sets(st.sampled_from(names), min_size=1))
    scope = scope_for(names, chosen)
    assert in_scope(names, scope) == [name for name in names if name in chosen]


@given(_names, st.data())
def test_a_scope_for_a_choice_does_not_depend_on_its_order(names, data):
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1))
    assert scope_for(names, chosen) == scope_for(iter(names), reversed(chosen))


def test_a_named_scope_is_preferred(llama):
    for scope in SCOPES:
        assert scope_for(llama, in_scope(llama, scope)) == scope
    assert scope_for(["a.o_proj"], ["a.o_proj"]) == "residual"


def test_a_choice_of_every_module_of_a_large_adapter_is_still_matched():
    names = [f"model.layers.{layer}.mlp.{kind}_proj" for layer in range(126) for kind in ("up", "down", "gate")]
    chosen = names[::2]
    assert in_scope(names, scope_for(names, chosen)) == chosen


@pytest.mark.parametrize("chosen", [[], ["not.there"]])
def test_a_scope_for_nothing_matches_nothing(llama, chosen):
    with pytest.raises(PolicyError):
        in_scope(llama, scope_for(llama, chosen))


LARGE = [
    *(
        f"model.layers.{layer}.{path}"
        for layer in range(12)
        for path in (
            "self_attn.o_proj",
            "self_attn.q_proj",
            *(f"mlp.experts.{expert}.{kind}" for expert in range(40) for kind in ("up_proj", "down_proj")),
        )
    ),
    "lm_head",
]


@pytest.mark.parametrize(
    "chosen",
    [
        [name for name in LARGE if name.endswith("up_proj")],
        [name for name in LARGE if ".layers.1." in name or name.endswith("o_proj")],
        [name for name in LARGE if name.endswith("down_proj") and int(name.split(".")[2]) > 8] + ["lm_head"],
    ],
    ids=["a kind", "a layer and a kind", "a kind of some layers and a head"],
)
def test_whole_kinds_of_whole_layers_are_told_by_layer_and_kind_however_many_experts_they_have(chosen) -> None:
    scope = scope_for(LARGE, chosen)
    assert set(modules_in(LARGE, scope)) == set(chosen)
    assert len(scope) < 300


def test_single_experts_are_named_one_by_one() -> None:
    chosen = [LARGE[3], LARGE[90]]
    assert set(modules_in(LARGE, scope_for(LARGE, chosen))) == set(chosen)
