"""Small adapters in the layout that peft writes, and reproducible property tests."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers bfloat16 with numpy
import numpy as np
import pytest
from hypothesis import settings
from safetensors.numpy import save_file

from tests import deprecations
from tests.helpers import shapes as shape_checks

# the same examples on every machine, and no store of examples in the checkout
settings.register_profile("project", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("project")

deprecations.watch()
shape_checks.watch()


@pytest.fixture(autouse=True)
def no_deprecation() -> Iterator[None]:
    """No test passes in which our code uses what a library is going to take away."""
    yield
    said, deprecations.found[:] = deprecations.found[:], []
    assert not said, "\n".join(said)


@pytest.fixture(autouse=True)
def shapes_checked_anew() -> None:
    """In every test the first calls of each function are held to the shapes of its annotations."""
    shape_checks.calls.clear()


@pytest.fixture(autouse=True)
def history(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history of runs for each test: none finds the answers of another, or of the person at this machine."""
    folder = tmp_path_factory.mktemp("history")
    monkeypatch.setattr("surgery.files.places.RUNS", str(folder / "runs"))
    (folder / "runs").mkdir()
    return folder / "runs"


PREFIX = "base_model.model."
# what peft 0.21 writes for a plain LoRA
PEFT_CONFIG: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "some/base",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_alpha": 8,
    "lora_bias": False,
    "lora_dropout": 0.05,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_type": "LORA",
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "r": 4,
    "rank_pattern": {},
    "revision": None,
    "target_modules": ["q_proj", "o_proj", "down_proj"],
    "target_parameters": None,
    "task_type": "CAUSAL_LM",
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}

Tensors = dict[str, np.ndarray]
_TARGET = re.compile(r"([^.]+)\.lora_")


@pytest.fixture(scope="session")
def lora_tensors() -> Callable[..., Tensors]:
    """Random factors by PEFT key, from {module: (out, rank, in)}."""

    def make(
        shapes: Mapping[str, tuple[int, int, int]], dtype: Any = "float32", *, seed: int = 0, scale: float = 0.1
    ) -> Tensors:
        rng = np.random.default_rng(seed)
        tensors = {}
        for name, (out, rank, into) in shapes.items():
            for side, shape in (("A", (rank, into)), ("B", (out, rank))):
                factor = (scale * rng.standard_normal(shape)).astype(dtype)
                tensors[f"{PREFIX}{name}.lora_{side}.weight"] = factor
        return tensors

    return make


@pytest.fixture(scope="session")
def write_adapter(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A new adapter folder from tensors and config settings; `raw_config` and `raw_weights` win.

    The config targets the modules that the tensors name, unless it says otherwise.
    """

    def write(
        tensors: Mapping[str, np.ndarray] | None = None,
        *,
        raw_config: bytes | None = None,
        raw_weights: bytes | None = None,
        **config: Any,
    ) -> Path:
        folder = tmp_path_factory.mktemp("adapter")
        targets = {match[1] for key in tensors or {} if (match := _TARGET.search(key))}
        config = {"target_modules": sorted(targets), **config}
        plain = json.dumps({**PEFT_CONFIG, **config}, indent=2).encode()
        (folder / "adapter_config.json").write_bytes(plain if raw_config is None else raw_config)
        weights = folder / "adapter_model.safetensors"
        if raw_weights is not None:
            weights.write_bytes(raw_weights)
        elif tensors is not None:
            save_file(dict(tensors), weights, metadata={"format": "pt"})
        return folder

    return write


@pytest.fixture(scope="session")
def small_adapter(lora_tensors: Callable[..., Tensors], write_adapter: Callable[..., Path]) -> Path:
    """Two layers of q_proj, o_proj and down_proj at rank 4 in float32, scaling 2. Not to be changed."""
    shapes = {}
    for layer in range(2):
        shapes[f"model.layers.{layer}.self_attn.q_proj"] = (12, 4, 10)
        shapes[f"model.layers.{layer}.self_attn.o_proj"] = (10, 4, 12)
        shapes[f"model.layers.{layer}.mlp.down_proj"] = (10, 4, 20)
    return write_adapter(lora_tensors(shapes))
