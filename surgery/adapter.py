"""Open a trained PEFT LoRA from its folder, without its base model.

Everything is read from `adapter_config.json` and `adapter_model.safetensors`. What cannot be
edited exactly is refused with the reason; tensors that are not LoRA factors are carried along
untouched.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes  # noqa: F401 - registers bfloat16 with numpy, which safetensors asks for by name
import numpy as np
import regex
from jaxtyping import Shaped
from numpy import ndarray
from safetensors import SafetensorError, safe_open

from surgery.demo import demo_folder, is_demo
from surgery.errors import AdapterError, SurgeryError
from surgery.home import digest, user_path
from surgery.naming import families_of, in_layer_order, layer_of

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"^(?P<name>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
_PATTERN_SECONDS = 1.0
_LARGEST_ALPHA = 1e30
_DTYPES = ("float32", "float16", "bfloat16", "float64")
# initialisations that replaced the base weights before training, so that B·A alone is not the update
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq")
_UNSUPPORTED = {
    "use_dora": ("DoRA couples directions through a norm that is recomputed", "train or merge without DoRA"),
    "use_qalora": ("QA-LoRA pools its inputs", "use a plain LoRA"),
    "arrow_config": ("Arrow routes between adapters", "open one of the routed adapters"),
    "megatron_config": ("Megatron layers split their factors", "gather it into a plain LoRA"),
    "target_parameters": ("LoRA on raw parameters (mixture-of-experts) is not supported yet", "use module LoRA"),
    "layer_replication": ("replicated layers are not supported yet", "use an adapter of an unreplicated model"),
    "alora_invocation_tokens": ("activated LoRA needs its invocation offsets", "use a plain LoRA"),
    "kasa_config": ("KaSA truncates the base weights", "use a plain LoRA"),
    "velora_config": ("VeLoRA is not supported yet", "use a plain LoRA"),
    "monteclora_config": ("MonteCLoRA is not supported yet", "use a plain LoRA"),
    "use_bdlora": ("block-diagonal LoRA is not supported yet", "use a plain LoRA"),
}


@dataclass(frozen=True)
class Factors:
    """The two trained factors of one module; ΔW = scaling · B · A (paper Eq. 1).

    `B` and `A` keep the dtype of the file. `layer` is None for a module outside the layer stack.
    """

    name: str
    layer: int | None
    family: str
    scaling: float
    B: Shaped[ndarray, "out rank"]
    A: Shaped[ndarray, "rank in"]
    key_B: str
    key_A: str

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as its files hold it.

    `tensors` has every tensor of the file in its own dtype; `extra` names those that are not LoRA
    factors; `digest` is the SHA-256 of config and weights; `notes` are things worth telling.
    """

    source: str
    config: Mapping[str, Any]
    config_bytes: bytes
    metadata: Mapping[str, str]
    tensors: Mapping[str, ndarray]
    modules: Mapping[str, Factors]
    extra: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]

    @property
    def families(self) -> tuple[str, ...]:
        """Families in the order of their first module."""
        return tuple(dict.fromkeys(factors.family for factors in self.modules.values()))

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({f.layer for f in self.modules.values() if f.layer is not None}))

    @property
    def base_name(self) -> str | None:
        """The base model the config names; shown, never followed."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None


def open_adapter(source: str | Path) -> Adapter:
    """Open `source`, a folder or `demo:NAME`.

    Raises `AdapterError` for a folder that is no PEFT LoRA, for a variant that cannot be edited
    exactly, for factors that do not pair up or disagree with the config, and for NaN or infinity.
    """
    text = str(source)
    try:
        return _open(text)
    except SurgeryError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        # whatever else a hostile or damaged file can provoke while it is read
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        raise AdapterError(f"{text!r} cannot be read ({reason})", "use an intact copy of the adapter") from error


def _open(text: str) -> Adapter:
    folder = demo_folder(text) if is_demo(text) else user_path(text, AdapterError)
    if not folder.is_dir():
        raise AdapterError(f"no folder at {text!r}", "name the folder that holds adapter_config.json")
    config, config_bytes = _read_config(folder, text)
    _refuse_unsupported(config)
    tensors, metadata, weights_digest = _read_weights(folder, text)
    pairs, extra = _pair_factors(tensors)
    names = list(pairs)
    families = families_of(names)
    modules = {
        name: _factors(name, families[name], pairs[name], tensors, config) for name in in_layer_order(names)
    }
    return Adapter(
        source=text,
        config=config,
        config_bytes=config_bytes,
        metadata=metadata,
        tensors=tensors,
        modules=modules,
        extra=tuple(extra),
        digest=digest([config_bytes, weights_digest]),
        notes=tuple(_notes(config, modules, extra)),
    )


def _read_config(folder: Path, source: str) -> tuple[dict[str, Any], bytes]:
    file = folder / CONFIG_FILE
    if not file.is_file():
        raise AdapterError(
            f"{source!r} has no {CONFIG_FILE}, so it is no PEFT adapter",
            "name the folder that peft's save_pretrained wrote",
        )
    data = file.read_bytes()
    try:
        config = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{CONFIG_FILE} is not JSON", "restore the file peft wrote") from error
    if not isinstance(config, dict):
        raise AdapterError(f"{CONFIG_FILE} is not an object", "restore the file peft wrote")
    return config, data


def _refuse_unsupported(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise AdapterError(f"the adapter is of type {kind!r}, not LORA", "open a LoRA adapter")
    for switch, (reason, remedy) in _UNSUPPORTED.items():
        if config.get(switch):
            raise AdapterError(f"{switch} is set: {reason}", remedy)
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
        raise AdapterError(
            f"init_lora_weights is {start!r}: training started from changed base weights",
            "convert it to a plain LoRA with peft's path_initial_model_for_weight_conversion",
        )


def _read_weights(folder: Path, source: str) -> tuple[dict[str, ndarray], dict[str, str], str]:
    file = folder / WEIGHTS_FILE
    if not file.is_file():
        pickled = (folder / "adapter_model.bin").is_file()
        raise AdapterError(
            f"{source!r} has {'only a pickled adapter_model.bin' if pickled else f'no {WEIGHTS_FILE}'}",
            "save the adapter again with safe_serialization=True",
        )
    try:
        with safe_open(str(file), framework="np") as handle:
            metadata = dict(handle.metadata() or {})
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118
    except (SafetensorError, TypeError, ValueError, AttributeError, OverflowError, MemoryError) as error:
        raise AdapterError(f"{WEIGHTS_FILE} cannot be read ({str(error)[:120]})", "download it again") from error
    return tensors, metadata, digest([file.read_bytes()])


def _pair_factors(tensors: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """LoRA keys by module name and side, and the keys that are no LoRA factors."""
    pairs: dict[str, dict[str, str]] = defaultdict(dict)
    extra = []
    for key in tensors:
        match = _FACTOR.match(key)
        if match:
            known = pairs[match["name"].removeprefix(_PREFIX)]
            if match["side"] in known:
                raise AdapterError(
                    f"tensors {known[match['side']]!r} and {key!r} are the same factor", "save the adapter again"
                )
            known[match["side"]] = key
        elif ".lora_" in key and not key.endswith("lora_B.bias"):
            raise AdapterError(
                f"tensor {key!r} is a LoRA part that is not supported yet", "use LoRA on linear layers only"
            )
        else:
            extra.append(key)
    if not pairs:
        raise AdapterError(f"{WEIGHTS_FILE} holds no LoRA factors", "open a LoRA adapter saved by peft")
    for name, sides in pairs.items():
        if len(sides) == 1:
            have = next(iter(sides))
            raise AdapterError(f"module {name!r} has lora_{have} without its other half", "save the adapter again")
    return dict(pairs), extra


def _factors(
    name: str, family: str, keys: Mapping[str, str], tensors: Mapping[str, ndarray], config: Mapping[str, Any]
) -> Factors:
    B, A = tensors[keys["B"]], tensors[keys["A"]]
    if A.ndim != 2 or B.ndim != 2:
        raise AdapterError(
            f"module {name!r} has factors of {A.ndim} dimensions; only linear layers are supported yet",
            "use LoRA on linear layers",
        )
    rank, alpha = _rank_and_alpha(name, config)
    if A.shape[0] != rank or B.shape[1] != rank:
        raise AdapterError(
            f"module {name!r} has rank {A.shape[0]} (A) and {B.shape[1]} (B) where the config says {rank}",
            "restore the adapter_config.json that belongs to these weights",
        )
    for side, factor in (("A", A), ("B", B)):
        if factor.dtype.name not in _DTYPES:
            raise AdapterError(
                f"lora_{side} of module {name!r} is stored as {factor.dtype.name}", f"use {', '.join(_DTYPES)}"
            )
        # QR would pass NaN on without a word
        if factor.size == 0 or not np.isfinite(factor.astype(np.float32)).all():
            raise AdapterError(
                f"lora_{side} of module {name!r} is empty or holds NaN or infinity", "use an intact checkpoint"
            )
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    return Factors(name, layer_of(name), family, scaling, B, A, keys["B"], keys["A"])


def _rank_and_alpha(name: str, config: Mapping[str, Any]) -> tuple[int, float]:
    rank = _by_pattern("rank_pattern", config, name, config.get("r"))
    alpha = _by_pattern("alpha_pattern", config, name, config.get("lora_alpha"))
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise AdapterError(f"rank {rank!r} of module {name!r} is no positive whole number", "restore the config")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not abs(alpha) < _LARGEST_ALPHA:
        raise AdapterError(f"lora_alpha {alpha!r} of module {name!r} is no number", "restore the config")
    return rank, float(alpha)


def _by_pattern(setting: str, config: Mapping[str, Any], name: str, default: Any) -> Any:
    """PEFT's rule: the first pattern that matches the end of the name, whole components, wins."""
    patterns = config.get(setting) or {}
    if not isinstance(patterns, dict):
        raise AdapterError(f"{setting} is no list of names and values", "restore the config")
    for pattern, value in patterns.items():
        try:
            if regex.match(rf"(.*\.)?({pattern})$", name, timeout=_PATTERN_SECONDS):
                return value
        except (regex.error, TimeoutError) as error:
            raise AdapterError(
                f"pattern {pattern!r} in the config cannot be used ({error})", "simplify the pattern"
            ) from error
    return default


def _notes(config: Mapping[str, Any], modules: Mapping[str, Factors], extra: list[str]) -> Iterable[str]:
    if extra:
        yield f"{len(extra)} tensors are not LoRA factors (biases or saved modules); they are copied untouched"
    if config.get("use_rslora"):
        yield "rank-stabilised scaling (α/√r)"
    if len({factors.rank for factors in modules.values()}) > 1:
        yield "ranks differ between modules"
    zero = sum(not factors.B.any() or not factors.A.any() for factors in modules.values())
    if zero:
        yield f"{zero} modules have an all-zero factor and change nothing"
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith("lora_ga"):
        yield "LoRA-GA initialisation changed the base weights in training; the file is read as plain LoRA"
