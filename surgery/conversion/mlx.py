"""An adapter of mlx-lm as a PEFT LoRA: both factors transposed, alpha = scale · rank.

mlx-lm computes y + scale·(x·a)·b with a (in, rank) and b (rank, out), and of DoRA m/‖W + scale·(a·b)ᵀ‖ times that,
with one norm for each output; PEFT computes the same of A = aᵀ, B = bᵀ.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped
from numpy import ndarray

from surgery.adapter import CONFIG_FILE, LARGEST_ALPHA, PREFIX, read_tensors
from surgery.conversion.errors_of_updates import error_of_product
from surgery.conversion.lora_folder import Lora, plain_config
from surgery.conversion.plan import UpdateError
from surgery.errors import AdapterError

WEIGHTS = "adapters.safetensors"
_PART = re.compile(r"(?P<module>.+)\.(?P<part>lora_a|lora_b|m)")
_RESTORE = f"restore the {CONFIG_FILE} that mlx_lm.lora wrote beside these weights"
_TRAIN = "train with fine_tune_type lora and keys that name linear layers only"
_UNSEEN = (
    "the base model is named as MLX was given it and was not looked at; a base that the conversion is given is "
    "checked, and named instead"
)
Parts = Mapping[str, Shaped[ndarray, "..."]]


@dataclass(frozen=True)
class MlxAdapter:
    """The parts of each module by their names in the file, and what its config says of all of them.

    `named` is the base model that MLX was given.
    """

    modules: Mapping[str, Parts]
    rank: int
    scale: float
    dropout: float
    named: str | None

    def shape(self, module: str) -> tuple[int, int]:
        """(out, in) of a module."""
        parts = self.modules[module]
        return int(parts["lora_b"].shape[1]), int(parts["lora_a"].shape[0])

    @property
    def is_dora(self) -> bool:
        return any("m" in parts for parts in self.modules.values())


def is_mlx(config: Mapping[str, Any]) -> bool:
    """Whether mlx-lm wrote this config."""
    return "fine_tune_type" in config or "lora_parameters" in config


def read_mlx(folder: Path, config: Mapping[str, Any], scale: float | None) -> MlxAdapter:
    """The LoRA or DoRA in a folder of mlx-lm.

    folder: with `adapters.safetensors`.
    config: what its `adapter_config.json` says.
    scale: what multiplies the product of the factors, where the config leaves it open.

    Raises `AdapterError` for a whole fine-tune, for experts and embeddings, and for files that do not fit together.
    """
    kind = config.get("fine_tune_type", "dora" if config.get("use_dora") else "lora")
    if kind not in ("lora", "dora"):
        raise AdapterError(
            f"fine_tune_type is {str(kind)[:20]!r}: MLX saved whole weights, which have no factors",
            "use mlx_lm.fuse on it and take the result as a base model, or train with fine_tune_type lora",
        )
    rank, named = _rank(config), config.get("model")
    dropout = _number(_parameters(config), "dropout") or 0.0
    modules = _modules(_read(folder), kind == "dora")
    for module, parts in modules.items():
        if parts["lora_a"].shape[1] != rank or parts["lora_b"].shape[0] != rank:
            raise AdapterError(
                f"module {module!r} has rank {parts['lora_a'].shape[1]} (a) and {parts['lora_b'].shape[0]} (b) "
                f"where the config says {rank}",
                _RESTORE,
            )
        if not all(np.isfinite(part.astype(np.float32)).all() for part in parts.values()):
            raise AdapterError(f"module {module!r} holds NaN or infinity", "use an intact checkpoint")
    return MlxAdapter(modules, rank, _scale(config, scale), dropout, named if isinstance(named, str) else None)


def lora_of_mlx(mlx: MlxAdapter, base: str | None) -> Lora:
    """The same adapter as PEFT saves it; `base` is named in its config, or what MLX was given where it is None."""
    tensors: dict[str, Shaped[ndarray, "..."]] = {}
    modules: dict[str, UpdateError] = {}
    alpha = mlx.scale * mlx.rank
    for module, parts in mlx.modules.items():
        B, A = (np.ascontiguousarray(parts[part].T) for part in ("lora_b", "lora_a"))
        tensors |= {f"{PREFIX}{module}.lora_A.weight": A, f"{PREFIX}{module}.lora_B.weight": B}
        if "m" in parts:
            tensors[f"{PREFIX}{module}.lora_magnitude_vector"] = parts["m"]
        modules[module] = error_of_product(
            (mlx.scale, parts["lora_b"].T, parts["lora_a"].T), (alpha / mlx.rank, B, A)
        )
    config = plain_config(base or mlx.named, mlx.rank, alpha, list(modules))
    config |= {"use_dora": mlx.is_dora, "lora_dropout": mlx.dropout}
    return Lora(config, tensors, modules, () if base else (_UNSEEN,))


def weight_with_mlx(weight: Float64[ndarray, "out in"], parts: Parts, scale: float) -> Float64[ndarray, "out in"]:
    """The weight that a layer of MLX has in effect: W + scale·(a·b)ᵀ, and of DoRA its rows scaled to the norms m."""
    a, b = (parts[part].astype(np.float64) for part in ("lora_a", "lora_b"))
    whole = weight + scale * (a @ b).T
    if "m" not in parts:
        return whole
    norms = np.linalg.norm(whole, axis=1)
    return (parts["m"].astype(np.float64) / norms)[:, None] * whole


def _read(folder: Path) -> Mapping[str, Shaped[ndarray, "..."]]:
    file = folder / WEIGHTS
    if not file.is_file():
        old = (folder / "adapters.npz").is_file()
        raise AdapterError(
            f"the MLX folder has no {WEIGHTS}",
            f"save the arrays of adapters.npz as {WEIGHTS} (numpy.load, then safetensors.numpy.save_file)"
            if old
            else "name the folder that mlx_lm.lora wrote, with its adapters in it",
        )
    return read_tensors(file)


def _modules(tensors: Parts, dora: bool) -> dict[str, dict[str, ndarray]]:
    """The parts of each module by their names in the file; raises `AdapterError` where they are no two matrices."""
    found: dict[str, dict[str, ndarray]] = defaultdict(dict)
    for key, tensor in tensors.items():
        match = _PART.fullmatch(key)
        if match is None:
            raise AdapterError(f"tensor {key!r} is no part of an MLX adapter", _RESTORE)
        found[match["module"]][match["part"]] = tensor
    wanted = {"lora_a", "lora_b"} | ({"m"} if dora else set())
    for module, parts in found.items():
        if set(parts) != wanted:
            raise AdapterError(f"module {module!r} has the parts {', '.join(sorted(parts))}", _RESTORE)
        if parts["lora_a"].ndim != 2 or parts["lora_b"].ndim != 2:
            raise AdapterError(
                f"module {module!r} holds the factors of several experts, which MLX and transformers lay out apart",
                _TRAIN,
            )
        if module.rpartition(".")[2].startswith(("embed", "wte")):
            raise AdapterError(
                f"module {module!r} is an embedding, whose update MLX also applies to a tied output", _TRAIN
            )
    if not found:
        raise AdapterError(f"{WEIGHTS} holds no factors", _RESTORE)
    return dict(found)


def _parameters(config: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = config.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise AdapterError(f"{CONFIG_FILE} has no lora_parameters", _RESTORE)
    return parameters


def _rank(config: Mapping[str, Any]) -> int:
    rank = _parameters(config).get("rank")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise AdapterError(f"rank {rank!r} of the MLX adapter is no positive whole number", _RESTORE)
    return rank


def _scale(config: Mapping[str, Any], given: float | None) -> float:
    """What multiplies a·b: the config's scale alone, which mlx-lm times alpha/rank until June 2024."""
    if given is not None:
        return given
    parameters, rank = _parameters(config), _rank(config)
    scale, alpha = (_number(parameters, name) for name in ("scale", "alpha"))
    if scale is None:
        raise AdapterError("lora_parameters has no scale", "give the scale of the training (--scale)")
    # configs name fine_tune_type since September 2024, when alpha had long been without effect
    if "fine_tune_type" in config or alpha is None or alpha == rank:
        return scale
    raise AdapterError(
        f"the config gives scale {scale:g}, alpha {alpha:g} and rank {rank} and not the version of mlx-lm: before "
        "June 2024 it multiplied by alpha/rank, later it did not",
        f"give --scale {scale * alpha / rank:g} for an adapter trained before, --scale {scale:g} for a later one",
    )


def _number(parameters: Mapping[str, Any], name: str) -> float | None:
    value = parameters.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise AdapterError(f"{name} {str(value)[:40]!r} of the MLX adapter is no number", _RESTORE)
    if not math.isfinite(value) or abs(value) >= LARGEST_ALPHA:
        raise AdapterError(f"{name} {value!r} of the MLX adapter is out of range", _RESTORE)
    return float(value)
