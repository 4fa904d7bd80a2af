"""Which expert a module belongs to, told by its path."""

import pytest

from surgery.adapter import expert_of, experts_of, of_one_expert

NAMES = [
    "model.layers.0.self_attn.o_proj",
    "model.layers.0.mlp.experts.0.down_proj",
    "model.layers.0.mlp.experts.11.down_proj",
    "model.layers.1.block_sparse_moe.experts.2.w1",
    "model.layers.1.mlp.shared_experts.down_proj",
    "model.layers.1.mlp.experts.gate_up_proj",
]


@pytest.mark.parametrize(
    ("name", "expert"), [*list(zip(NAMES, [None, 0, 11, 2, None, None], strict=True)), ("experts.٣.x", None)]
)
def test_the_expert_is_the_number_that_follows_experts(name: str, expert: int | None) -> None:
    assert expert_of(name) == expert


def test_the_modules_of_one_expert_are_its_own_and_all_outside_of_the_experts_in_the_order_given() -> None:
    modules = {name: at for at, name in enumerate(NAMES)}
    assert experts_of(NAMES) == [0, 2, 11]
    assert list(of_one_expert(modules, 11)) == [NAMES[0], NAMES[2], NAMES[4], NAMES[5]]
    every = set().union(*(of_one_expert(modules, expert) for expert in experts_of(NAMES)))
    assert every == set(NAMES)
