"""What an `adapter_config.json` says: which variants of LoRA are refused, and the rules for a module.

Ranks, alphas and targets follow PEFT's own matching, so that what opens here is what PEFT would load.
"""

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import regex

from surgery.errors import AdapterError

CONFIG_FILE = "adapter_config.json"
_PATTERN_SECONDS = 1.0
_LARGEST_ALPHA = 1e30
_RESTORE = "restore the adapter_config.json that belongs to these weights"
_PLAIN = "train or convert it to a plain LoRA"
# initialisations that replaced the base weights before training, so that B·A alone is not the update
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "kasa")
_UNSUPPORTED = {
    "use_dora": ("DoRA couples directions through a norm that is recomputed", "train or merge without DoRA"),
    "use_qalora": ("QA-LoRA pools its inputs", _PLAIN),
    "arrow_config": ("Arrow routes between adapters", "open one of the routed adapters"),
    "megatron_config": ("Megatron layers split their factors", "gather it into a plain LoRA"),
    "kasa_config": ("KaSA truncates the base weights and trains a diagonal of its own", _PLAIN),
    "use_bdlora": ("block-diagonal LoRA splits its factors into blocks", _PLAIN),
    "enable_lora": ("merged projections of PEFT before 0.3 pack several updates into one tensor", _PLAIN),
}
_OTHER_TYPES = {
    "ADALORA": "AdaLoRA keeps its own singular values; convert it to a plain LoRA",
    "XLORA": "X-LoRA mixes adapters token by token; open one of its adapters",
}


def read_config(folder: Path, source: str) -> tuple[dict[str, Any], bytes]:
    """The parsed config and its bytes; raises `AdapterError` when it is missing or no PEFT config."""
    file = folder / CONFIG_FILE
    if not file.is_file():
        if (folder / "pytorch_lora_weights.safetensors").is_file():
            raise AdapterError(f"{source!r} is a diffusers LoRA, not a PEFT adapter", "convert it with diffusers")
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


def refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Raise `AdapterError` for every variant whose update is not s·B·A on unchanged base weights."""
    if "fine_tune_type" in config or "lora_parameters" in config:
        raise AdapterError("this is an MLX adapter, not a PEFT one", "convert it to PEFT's layout")
    kind = config.get("peft_type")
    if kind != "LORA":
        remedy = _OTHER_TYPES.get(kind, "open a LoRA adapter") if isinstance(kind, str) else "open a LoRA adapter"
        raise AdapterError(f"the adapter is of type {kind!r}, not LORA", remedy)
    for switch, (reason, remedy) in _UNSUPPORTED.items():
        if config.get(switch):
            raise AdapterError(f"{switch} is set: {reason}", remedy)
    start = initialisation(config)
    if start.startswith(_CHANGED_BASE):
        raise AdapterError(
            f"init_lora_weights is {start!r}: training started from changed base weights",
            "convert it to a plain LoRA with peft's path_initial_model_for_weight_conversion",
        )


def initialisation(config: Mapping[str, Any]) -> str:
    """The named initialisation in lower case; empty for PEFT's default."""
    start = config.get("init_lora_weights")
    return start.lower() if isinstance(start, str) else ""


class LoraRules:
    """Rank, scaling and targets by module path, as PEFT resolves them.

    All patterns of one config share one second of matching: they come from a file.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._seconds_left = _PATTERN_SECONDS

    def rank_and_scaling(self, name: str) -> tuple[int, float]:
        """Rank r and scaling α/r, or α/√r for rsLoRA; the first matching pattern wins."""
        rank = self._by_pattern("rank_pattern", name, self._config.get("r"))
        alpha = self._by_pattern("alpha_pattern", name, self._config.get("lora_alpha"))
        if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
            raise AdapterError(f"rank {rank!r} of module {name!r} is no positive whole number", _RESTORE)
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not abs(alpha) < _LARGEST_ALPHA:
            raise AdapterError(f"lora_alpha {alpha!r} of module {name!r} is no number", _RESTORE)
        return rank, float(alpha) / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def parameters(self, module: str) -> list[str]:
        """The raw parameters of `module` that `target_parameters` names."""
        targets = self._config.get("target_parameters") or []
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise AdapterError("target_parameters is no list of names", _RESTORE)
        found = (target.rpartition(".")[2] for target in targets)
        return sorted({name for name in found if _ends_with(f"{module}.{name}", targets)})

    def targets(self, module: str) -> bool | None:
        """Whether the config targets the module at this path; None where the config leaves it to PEFT."""
        targets = self._config.get("target_modules")
        if targets is None and not self._config.get("target_parameters"):
            return None
        if isinstance(targets, str) and targets.lower() == "all-linear":
            return None
        if self._excluded(module):
            return False
        if not targets:
            return False
        if isinstance(targets, str):
            return self._matches(targets, module, whole=True)
        if not isinstance(targets, list):
            raise AdapterError("target_modules is no list of names", _RESTORE)
        return module in targets or (_ends_with(module, targets) and self._layer_is_transformed(module))

    def _excluded(self, module: str) -> bool:
        excluded = self._config.get("exclude_modules") or []
        if isinstance(excluded, str):
            return self._matches(excluded, module, whole=True)
        saved = self._config.get("modules_to_save") or []
        return _ends_with(module, excluded) or any(
            self._matches(rf"(^|.*\.){name}($|\..*)", module, whole=False) for name in saved
        )

    def _layer_is_transformed(self, module: str) -> bool:
        layers = self._config.get("layers_to_transform")
        if layers is None or layers == []:
            return True
        patterns = self._config.get("layers_pattern") or []
        # the first number of the path counts; PEFT wants a component before an unnamed stack
        forms = [
            rf"(?:^|.*?\.){p}\.(?P<index>\d+)\." for p in ([patterns] if isinstance(patterns, str) else patterns)
        ]
        for form in forms or [r".*?\.[^.]*\.(?P<index>\d+)\."]:
            found = self._search(form, module)
            if found:
                return int(found["index"]) in ([layers] if isinstance(layers, int) else layers)
        return False

    def _by_pattern(self, setting: str, name: str, default: Any) -> Any:
        """PEFT's rule: the first pattern that matches the end of the name, whole components, wins."""
        patterns = self._config.get(setting) or {}
        if not isinstance(patterns, dict):
            raise AdapterError(f"{setting} is no list of names and values", _RESTORE)
        for pattern, value in patterns.items():
            if self._matches(rf"(.*\.)?({pattern})$", name, whole=False):
                return value
        return default

    def _matches(self, pattern: str, text: str, *, whole: bool) -> bool:
        return bool(self._search(rf"(?:{pattern})\Z" if whole else pattern, text))

    def _search(self, pattern: str, text: str) -> Any:
        began = time.monotonic()
        try:
            return regex.match(pattern, text, timeout=max(self._seconds_left, 1e-3))
        except (regex.error, TimeoutError, TypeError) as error:
            raise AdapterError(
                f"pattern {pattern[:80]!r} in the config cannot be used ({error})", "simplify the pattern"
            ) from error
        finally:
            self._seconds_left -= time.monotonic() - began


def _ends_with(path: str, targets: Any) -> bool:
    return any(path == target or path.endswith(f".{target}") for target in targets)
