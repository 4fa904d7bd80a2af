"""A PEFT LoRA in memory, and its folder: written beside its place, read back, then put there whole."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from numpy import ndarray
from safetensors.numpy import save_file

from surgery.adapter import CONFIG_FILE, TOKENIZER_FILES, WEIGHTS_FILE, open_adapter
from surgery.conversion.plan import LogitError, UpdateError
from surgery.edits import Edit
from surgery.errors import AdapterError, ExportError
from surgery.export import export
from surgery.files import uploads_folder, write_problem

Judge = Callable[[Path], "LogitError | None"]


@dataclass(frozen=True)
class Lora:
    """Config and tensors as PEFT saves them, the error of each module's ΔW, and things worth telling."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Shaped[ndarray, "..."]]
    modules: Mapping[str, UpdateError]
    notes: tuple[str, ...] = ()


def plain_config(base: str | None, rank: int, alpha: float, targets: list[str], **more: Any) -> dict[str, Any]:
    """The config of a LoRA on exactly these modules, by their whole paths."""
    return {
        "alpha_pattern": {},
        "base_model_name_or_path": base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": int(alpha) if float(alpha).is_integer() else alpha,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {},
        "target_modules": targets,
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
        **more,
    }


def write_lora(lora: Lora, source: Path, out: Path | str, judge: Judge) -> tuple[Path, LogitError | None]:
    """The folder `out` with the LoRA, opened and compared byte for byte, and what `judge` says of it.

    lora: what is written, beside the tokenizer's files of the source.
    source: the folder that it was made of.
    out: the new folder.
    judge: called with a folder of the same content before `out` is there; what it raises is passed on.

    Raises `ExportError` where it cannot be written, or does not open as an adapter here; nothing is left behind.
    """
    uploads_folder().mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix=".converting-", dir=uploads_folder()) as name:
            folder = Path(name)
            save_file(dict(lora.tensors), folder / WEIGHTS_FILE, metadata={"format": "pt"})
            (folder / CONFIG_FILE).write_text(json.dumps(lora.config, indent=2, sort_keys=True), encoding="utf-8")
            for file in TOKENIZER_FILES:
                if (source / file).is_file():
                    shutil.copyfile(source / file, folder / file)  # what is too large is not read from there
            adapter = open_adapter(folder)
            logits = judge(folder)
            return export(adapter, {}, Edit({}), out).folder, logits
    except AdapterError as error:
        raise ExportError(f"the converted adapter does not open: {error.problem}", error.remedy) from error
    except OSError as error:
        needed = sum(tensor.nbytes for tensor in lora.tensors.values())
        raise ExportError(
            f"{str(out)!r} cannot be written ({write_problem(error, needed)})", "make room"
        ) from error
