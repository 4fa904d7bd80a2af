"""What the fuzzer and the replay of its findings have in common: the parsers, each fed with bytes."""

import json
import resource
import struct
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from safetensors.numpy import save

from surgery.adapter import open_adapter, unpack_adapter
from surgery.data import CalibrationPlan, EvaluationPlan, RowFields, read_source
from surgery.errors import SurgeryError
from surgery.model import BaseChoice
from surgery.recipes import Recipe, dump_recipe, parse_recipe

SECONDS, GROWTH = 1.0, 512 << 20
_MODULE = "base_model.model.model.layers.0.self_attn.o_proj"


def adapter(data: bytes, folder: Path) -> None:
    """A folder: two bytes for the length of the config, the config, the weights; a zip stands for a pickle."""
    length = int.from_bytes(data[:2], "little")
    config, weights = data[2 : 2 + length], data[2 + length :]
    pickled = weights.startswith(b"PK")
    (folder / "adapter_config.json").write_bytes(config)
    (folder / "adapter_model.safetensors").unlink(missing_ok=True)
    (folder / f"adapter_model.{'bin' if pickled else 'safetensors'}").write_bytes(weights)
    open_adapter(folder)


def recipe(data: bytes, folder: Path) -> None:
    """The text of a recipe."""
    parse_recipe(data.decode(errors="replace"))


def rows(data: bytes, folder: Path) -> None:
    """Rows of a data set: parquet where the bytes begin so, JSON lines otherwise."""
    file = folder / ("rows.parquet" if data.startswith(b"PAR1") else "rows.jsonl")
    file.write_bytes(data)
    read_source(str(file), RowFields("{question} {n}", "answer"))


def archive(data: bytes, folder: Path) -> None:
    """An uploaded zip."""
    unpack_adapter(data, folder / "unpacked")


PARSERS: dict[str, Callable[[bytes, Path], None]] = {
    "adapter": adapter,
    "recipe": recipe,
    "rows": rows,
    "archive": archive,
}


def finding(parser: str, data: bytes, folder: Path) -> str | None:
    """What is wrong with how a parser took these bytes: a foreign exception, more than a second, half a GiB."""
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    try:
        PARSERS[parser](data, folder)
    except SurgeryError:
        pass
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    if time.process_time() - began > SECONDS:
        return f"{time.process_time() - began:.1f} s"
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    return f"{growth >> 20} MiB" if growth > GROWTH else None


def seeds(parser: str) -> Iterator[bytes]:
    """Inputs that the parser takes, to begin with."""
    if parser == "adapter":
        yield from _adapters()
    elif parser == "recipe":
        plan = CalibrationPlan("rows.jsonl", prompt_field="{a} {b}")
        yield dump_recipe(
            Recipe(
                "a/b", "0" * 8, BaseChoice("o/n", "main"), plan, evaluation=EvaluationPlan("t.jsonl"), tuning=plan
            )
        ).encode()
        top = b"recipe: 1\nadapter: {source: a, digest: ''}\nbase: {location: b}\ncalibration: {data: c}\n"
        yield top + b"edit: {policy: rank, knobs: {keep: 2}, scope: 'a|b', manual: {m: {0: .5, 3: 1}}}\n"
    elif parser == "rows":
        records = [{"question": "q", "n": 1, "answer": "a"}, {"question": "é\n", "n": 2.5, "answer": " "}]
        yield "\n".join(map(json.dumps, records)).encode()
        table, file = pa.table({"question": ["q"] * 3, "n": [1, 2, 3], "answer": ["a", "b", None]}), BytesIO()
        parquet.write_table(table, file)
        yield file.getvalue()
    else:
        import zipfile

        for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            file = BytesIO()
            with zipfile.ZipFile(file, "w", kind) as packed:
                packed.writestr("mine/adapter_config.json", b"{}")
                packed.writestr("mine/adapter_model.safetensors", b"weights" * 20)
            yield file.getvalue()


def _adapters() -> Iterator[bytes]:
    factors = {
        f"{_MODULE}.lora_A.weight": np.ones((2, 3), np.float32),
        f"{_MODULE}.lora_B.weight": np.ones((4, 2), np.float32),
    }
    plain = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["o_proj"]}
    patterns = {
        "rank_pattern": {"o.proj": 2},
        "alpha_pattern": {"^model": 8},
        "exclude_modules": "q|v",
        "use_rslora": True,
    }
    layers = {"layers_to_transform": [0], "layers_pattern": ["layers"], "modules_to_save": ["lm_head"]}
    experts = {"target_modules": [], "target_parameters": ["o_proj.weight"], "r": 1}
    for changes in ({}, patterns, layers, experts, {"target_modules": ".*o_proj", "init_lora_weights": "mica"}):
        config = json.dumps({**plain, **changes}).encode()
        yield struct.pack("<H", len(config)) + config + save(factors)
    import torch

    file = BytesIO()
    torch.save({name: torch.from_numpy(factor) for name, factor in factors.items()}, file)
    config = json.dumps(plain).encode()
    yield struct.pack("<H", len(config)) + config + file.getvalue()
