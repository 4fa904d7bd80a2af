"""What a conversion is asked for with, what it refuses, and that nothing is left of one that failed."""

import json

import peft
import pytest

from surgery.adapter import open_adapter
from surgery.conversion import ConversionPlan, convert, convertible
from surgery.errors import AdapterError, ExportError
from surgery.model import BaseChoice
from tests.helpers.models import moved
from tests.helpers.refusals import refusal
from tests.surgery.conversion.conftest import adapted


def test_a_folder_says_what_it_needs(write_mlx, small_adapter, tmp_path):
    mlx = convertible(str(write_mlx()))
    assert (mlx.kind, mlx.ways, mlx.base_name) == ("MLX", (), "owner/name")
    adapted(peft.LoHaConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "loha")
    assert convertible(str(tmp_path / "loha")).ways == ("base",)
    config = json.loads((small_adapter / "adapter_config.json").read_text())
    for start, ways in (("olora", 3), ("pissa_niter_16", 2), ("loftq", 1)):
        (tmp_path / start).mkdir()
        changed = json.dumps({**config, "init_lora_weights": start})
        (tmp_path / start / "adapter_config.json").write_text(changed)
        found = convertible(str(tmp_path / start))
        assert (found.kind, len(found.ways)) == (start, ways)
    assert convertible(str(small_adapter)) is None
    assert convertible("demo:kinship") is None


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"rank": 0}, "below 1"),
        ({"energy": 0.0}, "energy"),
        ({"energy": 1.5}, "energy"),
        ({"energy": float("nan")}, "energy"),
        ({"scale": 0.0}, "scale"),
        ({"scale": float("inf")}, "scale"),
        ({"initial": "one", "residual_base": "other"}, "two ways"),
    ],
)
def test_what_is_out_of_range_is_refused(wrong, words, write_mlx, tmp_path):
    assert words in refusal(AdapterError, convert, ConversionPlan(str(write_mlx()), **wrong), tmp_path / "out")


def test_a_folder_that_is_there_is_not_written_over(write_mlx, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    refusal(ExportError, convert, ConversionPlan(str(write_mlx())), tmp_path / "out")
    assert (tmp_path / "out" / "mine").read_text() == "mine"


def test_the_tokenizer_comes_along(write_mlx, tmp_path):
    folder = write_mlx()
    (folder / "tokenizer_config.json").write_text('{"a": 1}')
    done = convert(ConversionPlan(str(folder)), tmp_path / "deep" / "out")
    assert (done.folder / "tokenizer_config.json").read_text() == '{"a": 1}'


def test_a_refused_type_is_converted_by_the_words_of_its_refusal(base_folder, tmp_path):
    moved(adapted(peft.LoHaConfig(r=2, target_modules=["q_proj"]))).save_pretrained(tmp_path / "loha")
    message = refusal(AdapterError, open_adapter, tmp_path / "loha")
    assert "surgery convert ADAPTER --out NEW_FOLDER --base MODEL, the one that it was trained on" in message
    done = convert(ConversionPlan(str(tmp_path / "loha"), BaseChoice(str(base_folder))), tmp_path / "out")
    assert set(open_adapter(done.folder).modules) == set(done.modules)


def test_damage_and_trained_biases_are_refused(base_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder, base = tmp_path / "lokr", BaseChoice(str(base_folder))
    moved(adapted(peft.VeraConfig(r=2, target_modules=["q_proj"], bias="none"))).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "bias": "all"}))
    assert "biases" in refusal(AdapterError, convert, ConversionPlan(str(folder), base), tmp_path / "out")
    (folder / "adapter_config.json").write_text(json.dumps(config))
    file = folder / "adapter_model.safetensors"
    save_file({key: tensor / 0 for key, tensor in load_file(file).items()}, file)
    assert "NaN" in refusal(AdapterError, convert, ConversionPlan(str(folder), base), tmp_path / "out")
    file.write_bytes(file.read_bytes()[:100])
    refusal(AdapterError, convert, ConversionPlan(str(folder), base), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_pattern_that_takes_too_long_is_refused_before_peft_tries_it(base_folder, tmp_path):
    folder = tmp_path / "loha"
    adapted(peft.LoHaConfig(r=2, target_modules=["q_proj"])).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    slow = {**config, "target_modules": r"(\w|\w\w|\.)+[!?]"}
    (folder / "adapter_config.json").write_text(json.dumps(slow))
    plan = ConversionPlan(str(folder), BaseChoice(str(base_folder)))
    assert "pattern" in refusal(AdapterError, convert, plan, tmp_path / "out")
