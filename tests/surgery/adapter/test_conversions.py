"""What opens after a conversion only is refused by words that name it; tests of the conversions follow them."""

import pytest

from surgery.adapter import CONVERTIBLE, FROM_BASE, FROM_INITIAL, FROM_RESIDUAL, ways_from
from tests.surgery.adapter.conftest import O0, refusal

OPTIONS = {FROM_BASE: " --base ", FROM_INITIAL: "--initial ", FROM_RESIDUAL: "--residual-base "}


@pytest.fixture
def one(lora_tensors):
    return lora_tensors({O0: (6, 4, 5)})


@pytest.mark.parametrize("kind", CONVERTIBLE)
def test_a_type_that_peft_can_convert_names_the_command_with_the_base(kind, one, write_adapter):
    assert "surgery convert ADAPTER --out NEW_FOLDER --base MODEL" in refusal(write_adapter(one, peft_type=kind))


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_4", "olora", "corda", "lora_ga", "loftq"])
def test_an_initialisation_that_changed_the_base_names_its_own_ways_and_no_other(start, one, write_adapter):
    message = refusal(write_adapter(one, init_lora_weights=start))
    assert {way for way, words in OPTIONS.items() if words in message} == set(ways_from(start))


@pytest.mark.parametrize("start", [True, "gaussian", "orthogonal", "eva", "kasa", "pissanthrope"])
def test_other_initialisations_have_no_ways(start):
    assert ways_from(str(start)) == ()
