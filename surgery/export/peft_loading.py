"""How many of an adapter's modules PEFT applies, found by PEFT's own loading onto the base's empty architecture.

No weights are read: the base stands on the meta device, and the adapter's tensors are their shapes alone.
"""

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surgery.adapter import Adapter, module_path
from surgery.edits import Edit
from surgery.errors import BaseModelError, ExportError, first_line
from surgery.model import BaseChoice, base_config, empty_models, named_config, way_out

if TYPE_CHECKING:
    from torch import nn

# of the adapter inside PEFT: no key of a file has it
_NAME = "checked-by-surgery"


@dataclass(frozen=True)
class PeftLoading:
    """How many of an adapter's `modules` PEFT applies to `base`, which is named with its class.

    `applied` is None where it could not be told, and `unchecked` says why then. `ignored` names modules that PEFT
    would leave out, `problem` is what it says itself where it refuses the file, and `remedy` the way out.
    """

    modules: int
    applied: int | None
    base: str = ""
    unchecked: str = ""
    ignored: tuple[str, ...] = ()
    problem: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        if self.applied is None:
            return f"how many of the {self.modules:,} modules PEFT applies was not checked: {self.unchecked}"
        return f"PEFT applies {self.applied:,} of {self.modules:,} modules to {self.base}"


def peft_loading(adapter: Adapter, base: BaseChoice | None = None) -> PeftLoading:
    """What PEFT would apply of an adapter, and of every edit of it: they have the same config, names and shapes.

    adapter: as it is written.
    base: the base model; None for the one that the adapter's config names, as far as the hub's cache here has it.

    Raises nothing: why it could not be told is in the result.
    """
    name = base.location if base is not None else adapter.base_name
    if name is None:
        return _unchecked(adapter, "the adapter names no base model", "name the base model")
    try:
        config = named_config(name) if base is None else base_config(name, base.revision)
    except BaseModelError as error:
        return _unchecked(adapter, error.problem, error.remedy)
    return _on_the_best(adapter, name, config)


def refuse_ignored(loading: PeftLoading, edit: Edit) -> None:
    """Raise `ExportError` where PEFT would not apply every edited module."""
    lost = sorted(set(loading.ignored).intersection(edit.modules))
    if loading.applied is None or not lost:
        return
    reason = loading.problem or f"it has no place for {lost[0]!r}"
    raise ExportError(
        f"PEFT would apply {len(edit.modules) - len(lost):,} of {len(edit.modules):,} edited modules to "
        f"{loading.base}: {reason}",
        loading.remedy,
    )


def _unchecked(adapter: Adapter, problem: str, remedy: str) -> PeftLoading:
    return PeftLoading(len(adapter.modules), None, unchecked=f"{problem}; {remedy}")


def _on_the_best(adapter: Adapter, name: str, config: Any) -> PeftLoading:
    """What is loaded onto the class of model that has a place for most modules; the first of equal ones."""
    found: list[PeftLoading] = []
    trouble = "transformers has no class for it"
    for model in empty_models(config, adapter.task):
        base = f"{name} ({type(model).__name__})"
        problem, intact = "", True
        try:
            ignored = tuple(_ignored(model, adapter))
        # what PEFT says of targets and sizes that it does not find, and of a saved module that the file lacks
        except (ValueError, KeyError, RuntimeError) as error:
            ignored, problem, intact = tuple(adapter.modules), _said(error), not isinstance(error, KeyError)
        except Exception as error:  # a class that is no model of this task raises whatever it stumbles over
            trouble = first_line(error, kind=True)
            continue
        applied = len(adapter.modules) - len(ignored)
        remedy = _way_out(model, adapter, ignored[0], intact) if ignored else ""
        found.append(PeftLoading(len(adapter.modules), applied, base, "", ignored, problem, remedy))
        if not ignored:
            break
    if not found:
        return _unchecked(adapter, f"PEFT does not load onto an empty {name!r} ({trouble})", "load it with PEFT")
    return max(found, key=lambda loading: loading.applied or 0)


def _way_out(model: "nn.Module", adapter: Adapter, ignored: str, intact: bool) -> str:
    if intact:
        return way_out(model, adapter.modules[ignored].site.module)
    return "use an intact copy of the adapter: PEFT loads none without the modules that training saved whole"


def _said(error: Exception) -> str:
    """The line of an error that names what is wrong; torch writes a heading above it."""
    heading, _, rest = str(error).strip().partition("\n")
    if heading.endswith(":") and rest:
        error = ValueError(rest)
    return f"it lacks {first_line(error)}" if isinstance(error, KeyError) else first_line(error)


def _ignored(model: "nn.Module", adapter: Adapter) -> Iterable[str]:
    """Modules of an adapter that PEFT does not put into a model on the meta device, which it changes."""
    import torch
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel, set_peft_model_state_dict

    shapes = {key: torch.empty(tensor.shape, device="meta") for key, tensor in adapter.tensors.items()}
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what happens when the adapter is merged or trained on
        config = _peft_config(adapter)
        kind: Any = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(config.task_type, PeftModel)
        _fit_rows(model, adapter)
        wrapped = kind(model, config, _NAME, autocast_adapter_dtype=False)
    result: Any = set_peft_model_state_dict(wrapped, shapes, adapter_name=_NAME)
    unexpected = {key.replace(f".{_NAME}", "") for key in result.unexpected_keys}
    own = {key.replace(f".{_NAME}", "") for key in wrapped.state_dict() if f".{_NAME}" in key}
    lacking = any(f".{_NAME}" in key and "lora_" in key for key in result.missing_keys)
    # of keys that PEFT renames and merges it tells only what is left over
    renamed = not lacking and unexpected <= set(adapter.tensors)
    for name, factors in adapter.modules.items():
        keys = {factors.key_A, factors.key_B}
        if keys & unexpected or not (keys <= own or renamed):
            yield name


def _peft_config(adapter: Adapter) -> Any:
    """The config as PEFT reads it from a file, which takes plain UTF-8 alone; for inference, and with nothing drawn."""
    from peft import PeftConfig

    made: Any = PeftConfig
    settings = json.loads(adapter.config_bytes.decode())
    settings.pop("runtime_config", None)
    config = made.from_peft_type(**settings)
    config.init_lora_weights = False  # weights that are not there cannot be decomposed, and the file's replace it
    config.inference_mode = True
    return config


def _fit_rows(model: "nn.Module", adapter: Adapter) -> None:
    """Give tables and heads the rows of those that an adapter saved whole, as its training did before it began."""
    import torch

    modules = dict(model.named_modules())
    for key in adapter.extra:
        path, _, leaf = module_path(key).replace(".base_layer.", ".").rpartition(".")
        owner, saved = modules.get(path), adapter.tensors[key].shape
        held: Any = getattr(owner, leaf, None)
        if not isinstance(held, torch.Tensor) or held.shape[1:] != saved[1:] or held.shape == saved:
            continue
        for size in ("num_embeddings", "out_features"):
            if hasattr(owner, size):
                setattr(owner, size, saved[0])
        setattr(owner, leaf, torch.nn.Parameter(held.new_empty(saved), requires_grad=False))
