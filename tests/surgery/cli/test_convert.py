"""`surgery convert`."""

import json

import numpy as np
import peft
import pytest
from safetensors.numpy import save_file

from surgery.adapter import open_adapter
from tests.helpers.models import save_model, tiny_llama
from tests.surgery.cli.conftest import strict


@pytest.fixture
def mlx(tmp_path):
    rng = np.random.default_rng(0)
    folder, name = tmp_path / "mlx", "model.layers.0.self_attn.q_proj"
    folder.mkdir()
    parts = {"lora_a": rng.standard_normal((32, 2)), "lora_b": rng.standard_normal((2, 32))}
    save_file({f"{name}.{k}": v.astype(np.float32) for k, v in parts.items()}, folder / "adapters.safetensors")
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 2, "scale": 5.0}, "model": "some/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_an_mlx_folder_becomes_an_adapter_by_the_words_of_its_refusal(mlx, tmp_path, capsys, fails):
    from surgery.cli import main

    refused = fails("inspect", str(mlx))
    assert "surgery convert" in refused
    assert main(["convert", str(mlx), "--out", str(tmp_path / "out"), "--json"]) == 0
    record = strict(capsys.readouterr().out)
    assert (record["kind"], record["modules"], record["ranks"], record["error"]) == ("MLX", 1, [2], 0)
    assert record["logits"] is None
    assert open_adapter(record["out"]).base_name == "some/base"


def test_the_error_of_updates_and_of_logits_is_told(tmp_path, capsys):
    from surgery.cli import main

    base = save_model(tiny_llama(), tmp_path / "base")
    model = peft.get_peft_model(tiny_llama(), peft.LoHaConfig(r=2, init_weights=False, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "loha")
    words = ["convert", str(tmp_path / "loha"), "--base", str(base), "--rank", "1", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "LOHA: 3 modules of rank 1; error of all updates together" in out
    assert "on 8 rows of random tokens" in out
    assert "converting modules: 3/3" in err


def test_rows_can_be_named_for_the_comparison(mlx, tmp_path, capsys):
    from surgery.cli import main

    base = save_model(tiny_llama(), tmp_path / "base")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "one and one", "answer": "two"}\n' * 3)
    words = [
        "convert",
        str(mlx),
        "--base",
        str(base),
        "--data",
        str(rows),
        "--out",
        str(tmp_path / "out"),
        "--json",
    ]
    assert main(words) == 0
    record = strict(capsys.readouterr().out)
    assert record["logit_rows"] == 3
    assert 0 < record["logits"] < 1e-4


def test_a_missing_base_is_one_line(tmp_path, fails):
    model = peft.get_peft_model(tiny_llama(), peft.LoHaConfig(r=2, target_modules=["q_proj"]))
    model.save_pretrained(tmp_path / "loha")
    assert "give --base" in fails("convert", str(tmp_path / "loha"), "--out", str(tmp_path / "out"))
