"""Scopes: groups of modules by name, and regular expressions that cannot hang."""

import time

import pytest

from surgery.errors import PolicyError
from surgery.scope import in_scope
from tests.policies import spectrum


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
    with pytest.raises(PolicyError):
        in_scope({name: ""}, other)


@pytest.mark.parametrize("scope", ["nothing_like_it", "(", "x" * 1000])
def test_a_scope_that_matches_nothing_or_is_no_expression_is_refused(scope):
    with pytest.raises(PolicyError):
        in_scope({"a.o_proj": ""}, scope)


def test_a_scope_that_backtracks_forever_is_refused_promptly():
    began = time.process_time()
    with pytest.raises(PolicyError, match="expression"):
        in_scope({"a" * 60 + "!": "", "b" + "a" * 60 + "!": ""}, "(a|aa)+$")
    assert time.process_time() - began < 8
