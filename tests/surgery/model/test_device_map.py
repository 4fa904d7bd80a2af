"""A tiny base laid over host memory and disk: what is measured is what the whole base in memory gives."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.edits import make_edit
from surgery.errors import BaseModelError
from surgery.experiments import Proof, prove
from surgery.model import (
    BaseChoice,
    DeviceMap,
    LiveModel,
    attach,
    execution_device,
    is_offloaded,
    load_base,
    parse_device_map,
    recomputing,
)
from surgery.policies import RandomIndex
from surgery.sensitivity import calibrate, calibration_slice, measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import relative, save_adapter, save_model, tiny_gpt2, tiny_llama
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses, logits_apart, sensitivities_apart


@pytest.fixture
def split(place, tmp_path):
    """The workplace's base with so little memory that some layers are on disk and others are not."""
    return replace(place, base=replace(place.base, device=f"auto:cpu=90KB,disk={tmp_path / 'offload'}"))


def parts(model) -> set[str]:
    return set(model.hf_device_map.values())


@pytest.mark.parametrize(
    ("device", "found"),
    [
        ("cpu", None),
        ("cuda:1", None),
        ("auto", DeviceMap()),
        ("auto:cpu=1GiB,disk=/tmp/x", DeviceMap((("cpu", "1GiB"),), "/tmp/x")),
        ("auto: 0=2.5GB, 1=10GiB", DeviceMap(((0, "2.5GB"), (1, "10GiB")))),
    ],
)
def test_a_device_is_one_device_or_a_map(device, found):
    assert parse_device_map(device) == found


@pytest.mark.parametrize(
    "device", ["auto:", "auto:cpu", "auto:cpu=1", "auto:gpu=1GiB", "auto:disk=", "auto:-1=1GiB"]
)
def test_a_map_without_a_meaning_is_refused(device):
    assert "has no meaning" in refusal(BaseModelError, parse_device_map, device)


def test_a_card_that_is_not_here_is_refused():
    assert "no card 99" in refusal(BaseModelError, DeviceMap(((99, "1GiB"),)).options)


def test_the_base_is_laid_over_memory_and_disk(split):
    with split.attach() as live:
        assert parts(live.model) == {"cpu", "disk"}
        assert is_offloaded(live.model)
        assert live.device == torch.device("cpu")
        assert execution_device(live.model.lm_head) == torch.device("cpu")


def test_sensitivities_of_a_split_base_are_those_of_the_whole_one(place, split):
    names = None
    found = []
    for where in (place, split):
        for checkpointing in (False, True):
            with where.attach() as live:
                names = list(live.spectra)
                slice_ = calibration_slice(live, place.calibration)
                found.append(measure_sensitivity(live, slice_, names, batch_size=4, checkpointing=checkpointing))
    whole, *others = found
    for other in others:
        assert_losses(other.losses, whole.losses, tiny_llama())
        for name in names:
            assert relative(other.values[name], whole.values[name]) < sensitivities_apart(tiny_llama())
    assert all(np.abs(g).max() > 0 for g in whole.values.values())


def test_proofs_on_a_split_base_are_those_on_the_whole_one(place, split, tmp_path, monkeypatch):
    found = []
    for number, where in enumerate((place, split)):
        # one history each: the split base would be answered from the other's run
        monkeypatch.setattr("surgery.files.places.RUNS", str(tmp_path / f"history {number}"))
        with where.attach() as live:
            edits = {"x": make_edit(live.spectra, RandomIndex(), scope="all")}
            found.append(prove(live, Proof(place.evaluation, edits, [place.calibration])).evaluation)
    for name, scores in found[0].scores.items():
        assert_losses(found[1].scores[name].loss, scores.loss, tiny_llama())
        assert found[1].scores[name].answers == scores.answers


def test_a_split_base_is_as_before_when_its_adapter_is_taken_off(split):
    ids = torch.tensor([[6, 7, 8, 9]])
    with split.attach() as live:
        base = live.base
        calibrate(live, split.calibration)
        within = base.model(input_ids=ids).logits
    plain = load_base(split.base.location)
    expected = plain.model(input_ids=ids).logits
    assert relative(base.model(input_ids=ids).logits, expected) < logits_apart(plain.model)
    assert (within - base.model(input_ids=ids).logits).abs().max() > 0.01


def test_calibrating_a_split_base_holds_the_weights_of_one_layer_at_a_time(split, monkeypatch):
    from surgery.sensitivity import calibration as measure

    asked = []
    original = measure.measure_sensitivity

    def watched(*arguments, checkpointing, **options):
        asked.append(checkpointing)
        return original(*arguments, checkpointing=checkpointing, **options)

    monkeypatch.setattr("surgery.sensitivity.calibration.measure_sensitivity", watched)
    with split.attach() as live:
        calibrate(live, split.calibration)
    assert asked == [True]


def test_layers_under_hooks_keep_their_own_forward_after_checkpointing(split):
    with split.attach() as live:
        layer = live.model.model.layers[0]
        before = layer.__dict__["forward"]
        with recomputing(live.model):
            assert layer.__dict__["forward"] is not before
        assert layer.__dict__["forward"] is before


def test_a_gpt2_with_tied_embeddings_can_be_split_too(tmp_path):
    base = save_model(tiny_gpt2(), tmp_path / "base")
    folder = save_adapter(tiny_gpt2(), tmp_path / "adapter", targets=("c_attn", "c_proj"))
    adapter = open_adapter(str(folder))
    spectra = decompose(adapter)
    ids, logits = torch.tensor([[6, 7, 8, 9]]), []
    for device in ("cpu", f"auto:cpu=40KB,disk={tmp_path / 'offload'}"):
        with LiveModel(load_base(BaseChoice(str(base), device=device)), adapter, spectra) as live, torch.no_grad():
            logits.append(live.model(input_ids=ids).logits)
    assert "disk" in parts(live.model)
    assert relative(*logits) < logits_apart(tiny_gpt2())


def test_tensors_that_an_adapter_trained_whole_cannot_be_offloaded(split, tmp_path):
    folder = save_adapter(tiny_llama(), tmp_path / "adapter", targets=["q_proj"], modules_to_save=["lm_head"])
    adapter = open_adapter(str(folder))
    message = refusal(BaseModelError, attach, adapter, decompose(adapter), split.base)
    assert "lm_head" in message
