"""What a conversion is asked for with, what it refuses, and that nothing is left of one that failed."""

import contextlib
import json
import shutil

import peft
import pytest
from safetensors.torch import load_file, save_file

from surgery.adapter import open_adapter
from surgery.conversion import ConversionPlan, convert, convertible
from surgery.errors import AdapterError, ExportError, SurgeryError
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
        ({"initial": "one", "residual_base": BaseChoice("other")}, "ways of their own"),
        ({"base": BaseChoice("one"), "residual_base": BaseChoice("other")}, "ways of their own"),
        ({"initial": "one"}, "no use for --initial"),
        ({"rank": 3}, "no use for --rank"),
        ({"energy": 0.5}, "no use for --energy"),
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


ODD = (None, True, -1, 0, 1.5, float("inf"), "8", [], ["x"], {}, {"": None})


def test_a_config_of_any_values_is_converted_or_refused(write_mlx, tmp_path):
    folder = write_mlx()
    plain = json.loads((folder / "adapter_config.json").read_text())
    changed = [{**plain, key: value} for key in plain for value in ODD]
    parameters = plain["lora_parameters"]
    changed += [{**plain, "lora_parameters": {**parameters, key: value}} for key in parameters for value in ODD]
    for number, config in enumerate(changed):
        (folder / "adapter_config.json").write_text(json.dumps(config))
        with contextlib.suppress(SurgeryError):
            convert(ConversionPlan(str(folder)), tmp_path / f"{number}")


def test_an_initialisation_with_any_values_beside_it_is_converted_or_refused(small_adapter, tmp_path):
    trained, initial = tmp_path / "trained", tmp_path / "initial"
    for folder, factor in ((trained, 2.0), (initial, 1.0)):
        shutil.copytree(small_adapter, folder)
        file = folder / "adapter_model.safetensors"
        save_file({key: tensor * factor for key, tensor in load_file(file).items()}, file)
    plain = json.loads((trained / "adapter_config.json").read_text()) | {"init_lora_weights": "corda"}
    keys = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "target_modules", "use_rslora", "modules_to_save")
    for number, (key, value) in enumerate(
        (key, value) for key in keys for value in (None, True, 1.5, "8", ["x"], {"": 2})
    ):
        (trained / "adapter_config.json").write_text(json.dumps({**plain, key: value}))
        with contextlib.suppress(SurgeryError):
            convert(ConversionPlan(str(trained), initial=str(initial)), tmp_path / f"{number}")


def test_a_name_on_the_hub_is_converted_as_its_folder_is(hub, base_folder, tmp_path):
    adapted(peft.LoHaConfig(r=2, target_modules=["q_proj"])).save_pretrained(tmp_path / "loha")
    hub.add(
        "owner/loha", {file.name: file.read_bytes() for file in (tmp_path / "loha").iterdir() if file.is_file()}
    )
    assert "surgery convert" in refusal(AdapterError, open_adapter, "owner/loha")
    plans = (
        ConversionPlan(source, BaseChoice(str(base_folder))) for source in ("owner/loha", str(tmp_path / "loha"))
    )
    fetched, here = (open_adapter(convert(plan, tmp_path / f"out{n}").folder) for n, plan in enumerate(plans))
    assert {key: tensor.tobytes() for key, tensor in fetched.tensors.items()} == {
        key: tensor.tobytes() for key, tensor in here.tensors.items()
    }
