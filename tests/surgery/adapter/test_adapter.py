"""Opening an adapter: what is read, which scaling each module has, and what is refused."""

import json
import math
import shutil
import struct
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from surgery.adapter import Adapter, layer_of, open_adapter
from surgery.errors import AdapterError
from surgery.spectra import decompose

O0 = "model.layers.0.self_attn.o_proj"
KEY_A, KEY_B = f"base_model.model.{O0}.lora_A.weight", f"base_model.model.{O0}.lora_B.weight"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**6) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def message_of(error: AdapterError) -> str:
    """The one line that an error says, with both of its halves."""
    assert len(str(error).splitlines()) == 1
    assert error.problem
    assert error.remedy
    return str(error)


def refusal(source: Any) -> str:
    """The message with which `source` is refused."""
    with pytest.raises(AdapterError) as caught:
        open_adapter(source)
    return message_of(caught.value)


def opened_or_refused(source: Any) -> Adapter | None:
    """The adapter, or None where it was refused; no other exception may come out."""
    try:
        return open_adapter(source)
    except AdapterError as error:
        message_of(error)
        return None


def weights(header: Any, data: bytes = b"") -> bytes:
    """A safetensors file by hand: length of the header, header, data."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(head)) + head + data


@pytest.fixture
def one(lora_tensors):
    """The two factors of a single module of shape 6×5 and rank 4."""
    return lora_tensors({O0: (6, 4, 5)})


# ---- what is read ----


def test_modules_layers_families_and_base_are_read_from_the_folder(small_adapter):
    adapter = open_adapter(small_adapter)
    assert list(adapter.modules) == [
        "model.layers.0.mlp.down_proj",
        "model.layers.0.self_attn.o_proj",
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
        "model.layers.1.self_attn.o_proj",
        "model.layers.1.self_attn.q_proj",
    ]
    assert adapter.layers == (0, 1)
    assert adapter.families == ("down_proj", "o_proj", "q_proj")
    assert adapter.base_name == "some/base"
    assert adapter.metadata == {"format": "pt"}
    assert adapter.extra == ()
    assert adapter.notes == ()
    assert adapter.config_bytes == (small_adapter / "adapter_config.json").read_bytes()


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_factors_keep_the_bits_and_the_dtype_of_the_file(dtype, lora_tensors, write_adapter):
    tensors = lora_tensors({O0: (6, 4, 5)}, dtype)
    factors = open_adapter(write_adapter(tensors)).modules[O0]
    assert (factors.key_A, factors.key_B) == (KEY_A, KEY_B)
    assert factors.rank == 4
    for found, written in ((factors.A, tensors[KEY_A]), (factors.B, tensors[KEY_B])):
        assert found.dtype == np.dtype(dtype)
        assert found.tobytes() == written.tobytes()


def test_layers_come_in_number_order_and_modules_outside_the_stack_last(lora_tensors, write_adapter):
    names = ["lm_head", "model.layers.10.o_proj", "model.layers.2.o_proj"]
    adapter = open_adapter(write_adapter(lora_tensors(dict.fromkeys(names, (6, 4, 5)))))
    assert list(adapter.modules) == ["model.layers.2.o_proj", "model.layers.10.o_proj", "lm_head"]
    assert [factors.layer for factors in adapter.modules.values()] == [2, 10, None]
    assert adapter.layers == (2, 10)


@pytest.mark.parametrize(
    ("names", "families"),
    [
        (["transformer.h.0.attn.c_attn", "transformer.h.0.attn.c_proj"], ["c_attn", "c_proj"]),
        (
            ["transformer.h.0.attn.c_proj", "transformer.h.0.mlp.c_proj", "transformer.h.1.mlp.c_proj"],
            ["attn.c_proj", "mlp.c_proj", "mlp.c_proj"],
        ),
        (
            [
                "encoder.block.0.layer.0.SelfAttention.q",
                "decoder.block.0.layer.0.SelfAttention.q",
                "decoder.block.0.layer.1.EncDecAttention.q",
            ],
            ["encoder.SelfAttention.q", "decoder.SelfAttention.q", "EncDecAttention.q"],
        ),
        (["o_proj", "model.layers.0.o_proj"], ["o_proj", "layers.o_proj"]),
        (["seq.0", "seq.2", "head"], ["seq", "seq", "head"]),
    ],
)
def test_families_are_the_shortest_names_that_tell_kinds_apart(names, families, lora_tensors, write_adapter):
    adapter = open_adapter(write_adapter(lora_tensors(dict.fromkeys(names, (6, 4, 5)))))
    assert [adapter.modules[name].family for name in names] == families


def test_the_layers_of_a_bare_sequential_model_have_a_family(lora_tensors, write_adapter):
    adapter = open_adapter(write_adapter(lora_tensors({"0": (6, 4, 5), "2": (6, 4, 6)})))
    assert adapter.layers == (0, 2)
    assert all(adapter.families)


@pytest.mark.parametrize(
    ("name", "layer"),
    [("model.layers.7.mlp.down_proj", 7), ("lm_head", None), ("a.03.b.4", 3), ("a.1b.c", None)],
)
def test_the_layer_is_the_first_whole_number_in_the_path(name, layer):
    assert layer_of(name) == layer


def test_keys_with_the_adapter_name_in_them_are_read_too(one, write_adapter):
    named = {key.replace(".weight", ".default.weight"): tensor for key, tensor in one.items()}
    assert list(open_adapter(write_adapter(named)).modules) == [O0]


def test_tensors_that_are_no_factors_are_kept_and_named(one, write_adapter):
    extra = {
        "base_model.model.lm_head.weight": np.ones((3, 2), np.float16),
        f"base_model.model.{O0}.lora_B.bias": np.ones(6, np.float32),
        "base_model.model.score.modules_to_save.bias": np.arange(3),
    }
    adapter = open_adapter(write_adapter({**one, **extra}))
    assert sorted(adapter.extra) == sorted(extra)
    assert all(adapter.tensors[key].tobytes() == tensor.tobytes() for key, tensor in extra.items())
    assert any(note.startswith("3 tensors") for note in adapter.notes)


def test_the_digest_belongs_to_the_content_and_not_to_the_place(small_adapter, tmp_path):
    digest = open_adapter(small_adapter).digest
    copy = tmp_path / "copy"
    shutil.copytree(small_adapter, copy)
    assert open_adapter(copy).digest == digest
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        changed = tmp_path / name
        shutil.copytree(small_adapter, changed)
        file = changed / name
        # a space after the JSON, and the lowest mantissa bit of one weight: the same adapter to the eye
        data = file.read_bytes()
        file.write_bytes(data + b" " if name.endswith("json") else data[:-4] + bytes([data[-4] ^ 1]) + data[-3:])
        assert open_adapter(changed).digest != digest


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({"use_rslora": True}, "rank-stabilised"),
        ({"rank_pattern": {"q_proj": 2}}, "ranks differ"),
        ({"init_lora_weights": "lora_ga"}, "LoRA-GA"),
    ],
)
def test_unusual_adapters_carry_a_note(config, note, lora_tensors, write_adapter):
    rank = 2 if "rank_pattern" in config else 4
    tensors = lora_tensors({O0: (6, 4, 5), "model.layers.0.self_attn.q_proj": (6, rank, 5)})
    assert any(note in text for text in open_adapter(write_adapter(tensors, **config)).notes)


def test_an_all_zero_factor_is_opened_with_a_note(one, write_adapter):
    one[KEY_B][:] = 0
    adapter = open_adapter(write_adapter(one))
    assert any("all-zero" in note for note in adapter.notes)
    assert not decompose(adapter)[O0].sigma.any()


def test_a_fresh_adapter_opens_whatever_its_plain_initialisation(one, write_adapter):
    for start in (True, False, "gaussian", "orthogonal", "eva"):
        assert open_adapter(write_adapter(one, init_lora_weights=start)).notes == ()


# ---- scaling ----


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
    peft = pytest.importorskip("peft")

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
    peft = pytest.importorskip("peft")
    fields = peft.LoraConfig().to_dict()
    before_peft_0_3 = {"enable_lora"}
    for switch, _ in REFUSED_SETTINGS:
        assert switch in fields or switch in before_peft_0_3
    tensors_only = {"peft_type", "r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora"}
    assert tensors_only <= set(fields)


# ---- what is refused ----

REFUSED_SETTINGS = [
    ("use_dora", True),
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


@pytest.mark.parametrize("start", ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "PiSSA", "kasa"])
def test_initialisations_that_changed_the_base_are_refused(start, one, write_adapter):
    message = refusal(write_adapter(one, init_lora_weights=start))
    assert start.lower() in message
    assert "path_initial_model_for_weight_conversion" in message


@pytest.mark.parametrize("kind", ["IA3", "LOHA", "ADALORA", "XLORA", "PROMPT_TUNING", None, 3, ["LORA"], "lora"])
def test_another_type_of_adapter_is_refused_by_its_type(kind, one, write_adapter):
    message = refusal(write_adapter(one, peft_type=kind))
    assert repr(kind) in message
    assert "LORA" in message


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
    "raw",
    [b"", b"not json", b"[]", b"null", b'"LORA"', b"\xff\xfe{}", b'{"r": ' + b"9" * 5000 + b"}", b"[" * 100_000],
    ids=["empty", "text", "list", "null", "string", "utf16", "endless-number", "endless-nesting"],
)
def test_a_config_that_is_no_json_object_is_refused(raw, one, write_adapter):
    assert "adapter_config.json" in refusal(write_adapter(one, raw_config=raw))


def test_a_module_without_its_other_half_is_refused(one, write_adapter):
    for key, side in ((KEY_A, "lora_B"), (KEY_B, "lora_A")):
        half = {name: tensor for name, tensor in one.items() if name != key}
        message = refusal(write_adapter(half))
        assert O0 in message
        assert side in message


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", [KEY_A, KEY_B])
def test_factors_that_hold_nan_or_infinity_are_refused(key, value, dtype, lora_tensors, write_adapter):
    tensors = lora_tensors({O0: (6, 4, 5)}, dtype)
    tensors[key][1, 2] = value
    message = refusal(write_adapter(tensors))
    assert O0 in message
    assert "NaN or infinity" in message


@pytest.mark.parametrize("dtype", ["int8", "int64", "bool", "complex64"])
def test_factors_that_are_no_floating_point_numbers_are_refused(dtype, lora_tensors, write_adapter):
    assert O0 in refusal(write_adapter(lora_tensors({O0: (6, 4, 5)}, dtype, scale=3)))


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("conv.lora_A.weight", (4, 3, 3, 3)),
        ("attn.lora_A.weight", (2, 4, 5)),
        ("norm.lora_A.weight", (4,)),
        ("embed.lora_embedding_A", (4, 9)),
        ("layer.lora_magnitude_vector", (6,)),
        ("layer.lora_magnitude_vector.default.weight", (6,)),
        ("layer.lora_A.other.weight", (4, 5)),
    ],
)
def test_lora_parts_that_are_no_linear_factors_are_refused(key, shape, one, write_adapter):
    tensors = {**one, key: np.ones(shape, np.float32)}
    if key.endswith("lora_A.weight"):
        tensors[key.replace("_A", "_B")] = np.ones((*shape[:-2], 6, 4), np.float32)
    refusal(write_adapter(tensors))


def test_empty_factors_are_refused(one, write_adapter):
    one[KEY_B] = np.zeros((0, 4), np.float32)
    assert O0 in refusal(write_adapter(one))


@pytest.mark.parametrize(
    "twin", [KEY_A.removeprefix("base_model.model."), KEY_A.replace(".weight", ".default.weight")]
)
def test_two_tensors_for_the_same_factor_are_refused(twin, one, write_adapter):
    one[twin] = 2 * one[KEY_A]
    if not twin.startswith("base_model"):
        one[KEY_B.removeprefix("base_model.model.")] = one[KEY_B]
    assert O0 in refusal(write_adapter(one))


def test_a_folder_that_is_missing_or_a_file_is_refused(tmp_path, one, write_adapter):
    assert "no folder" in refusal(tmp_path / "nowhere")
    file = write_adapter(one) / "adapter_model.safetensors"
    assert "no folder" in refusal(file)


@pytest.mark.parametrize("source", ["x" * 5000, "x\0y", "~no-such-user-here/adapter", "", "\n"])
def test_a_path_that_cannot_exist_is_refused(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(source)


def test_a_demo_that_does_not_exist_is_refused():
    for name in ("demo:", "demo:nothing", "demo:../surgery", "demo:."):
        assert "demo" in refusal(name)


def test_missing_files_are_named(tmp_path, one, write_adapter):
    assert "adapter_config.json" in refusal(tmp_path)
    assert "adapter_model.safetensors" in refusal(write_adapter())
    pickled = write_adapter()
    (pickled / "adapter_model.bin").write_bytes(b"\x80\x02cos\nsystem\n.")
    message = refusal(pickled)
    assert "adapter_model.bin" in message
    assert "as safetensors" in message


@pytest.mark.parametrize("reader", ["pathlib.Path.open", "surgery.adapter.weights.safe_open"])
def test_files_that_may_not_be_read_are_refused(reader, one, write_adapter, monkeypatch):
    folder = write_adapter(one)

    def denied(*_args: Any, **_options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(reader, denied)
    refusal(folder)


def _header(**changes: Any) -> dict[str, Any]:
    return {KEY_A: {"dtype": "F32", "shape": [4, 5], "data_offsets": [0, 80], **changes}}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 7,
        b"<!DOCTYPE html><html>404</html>" * 20,
        struct.pack("<Q", 2**62) + b"{}",
        weights(b"{not json}"),
        weights(b"[]"),
        weights(b"\xff" * 16),
        weights({}),
        weights(_header()),
        weights(_header(), b"\0" * 79),
        weights(_header(), b"\0" * 100),
        weights(_header(shape=[4, 2**60]), b"\0" * 80),
        weights(_header(shape=[0, 2**60], data_offsets=[0, 0])),
        weights(_header(shape=[-4, 5]), b"\0" * 80),
        weights(_header(dtype="Q9"), b"\0" * 80),
        weights(_header(data_offsets=[80, 0]), b"\0" * 80),
        weights(_header(data_offsets=[8, 88]), b"\0" * 88),
    ],
    ids=lambda raw: f"{len(raw)}-bytes",
)
def test_a_corrupt_weights_file_is_refused(raw, write_adapter):
    refusal(write_adapter(raw_weights=raw))


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3"])
def test_a_dtype_that_numpy_lacks_is_refused(dtype, write_adapter):
    header = {"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, {"F4": 4, "F6_E2M3": 6}.get(dtype, 8)]}}
    size = header["x"]["data_offsets"][1]
    assert "adapter_model.safetensors" in refusal(write_adapter(raw_weights=weights(header, b"\0" * size)))


@pytest.mark.parametrize("layer", ["²", "১", "1" * 5000], ids=["superscript", "bengali", "endless"])
def test_odd_digits_in_a_module_path_never_stop_the_reading(layer, lora_tensors, write_adapter):
    adapter = opened_or_refused(write_adapter(lora_tensors({f"model.layers.{layer}.o_proj": (6, 4, 5)})))
    assert adapter is None or len(adapter.families) == 1


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


# ---- never another exception ----

SETTINGS = ["r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "init_lora_weights", "peft_type"]
SETTINGS += ["use_dora", "base_model_name_or_path", "layer_replication", "target_modules", "bias"]


@given(setting=st.sampled_from(SETTINGS), value=JSON)
@example(setting="rank_pattern", value=["o_proj"])
@example(setting="alpha_pattern", value={"[": 1})
def test_any_value_in_the_config_is_read_or_refused(setting, value, lora_tensors, write_adapter):
    opened_or_refused(write_adapter(lora_tensors({O0: (6, 4, 5)}), **{setting: value}))


@given(data=st.data())
def test_any_damage_to_the_weights_file_is_read_or_refused(data, lora_tensors, write_adapter):
    folder = write_adapter(lora_tensors({O0: (6, 4, 5)}))
    file = folder / "adapter_model.safetensors"
    raw = bytearray(file.read_bytes())
    # most of the interest lies in the header
    end = struct.unpack("<Q", raw[:8])[0] + 8
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, end + 20))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(raw[: data.draw(st.sampled_from([len(raw), len(raw) - 3, end + 5]))]))
    opened_or_refused(folder)
