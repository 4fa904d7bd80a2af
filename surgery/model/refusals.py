"""Why a base model could not be loaded, and what to do then."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from surgery.errors import BaseModelError, first_line
from surgery.model.base_names import unquantised

_WITHOUT_A_RUN = (
    "its geometry and spectra, edits by policies that read no sensitivities, and the export need no base"
)


def not_loaded(location: str, device: str, source: str, error: Exception) -> BaseModelError:
    """The refusal of a base that the loaders of transformers raised an error on.

    location, device: as they were asked for.
    source: the folder that transformers read.
    error: what it raised.
    """
    config = _settings(source)
    quantised = config.get("quantization_config")
    method = str(quantised.get("quant_method")) if isinstance(quantised, Mapping) else ""
    if "bitsandbytes" in method and find_spec("bitsandbytes") is None:
        return _without_bitsandbytes(location, config)
    if "auto_map" in config and not _is_known(config):
        return BaseModelError(
            f"the base model {location!r} needs code of its own, which is never run here",
            "name a copy of it that transformers has a class for, which often ends in -hf and has no auto_map in its "
            f"config.json; {_WITHOUT_A_RUN}",
        )
    named = unquantised(location)
    return BaseModelError(
        f"the base model {location!r} could not be loaded on {device!r} ({first_line(error)})",
        "name a folder with config.json and safetensors weights, a .gguf file or a reachable hub id"
        + (f", such as the unquantised original {named!r}" if named else ""),
    )


def _without_bitsandbytes(location: str, config: Mapping[str, Any]) -> BaseModelError:
    named = unquantised(location) or unquantised(str(config.get("_name_or_path", "")))
    return BaseModelError(
        f"the base model {location!r} is quantised by bitsandbytes, which is not installed here",
        f"name the unquantised original{f', {named!r}' if named else ''}, or install bitsandbytes",
    )


def _settings(source: str) -> Mapping[str, Any]:
    """The config as it is written; empty where there is none to read."""
    from transformers import PretrainedConfig

    try:
        found: Mapping[str, Any] = PretrainedConfig.get_config_dict(source, local_files_only=True)[0]
    except Exception:  # it was not this that the loaders had read
        return {}
    return found


def _is_known(config: Mapping[str, Any]) -> bool:
    from transformers import CONFIG_MAPPING

    return config.get("model_type") in CONFIG_MAPPING
