"""Whether an adapter and its rows fit a base model: what cannot be run is refused, and layers are replicated."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import nn

from surgery.adapter import TASKS, Adapter, LoraRules
from surgery.data import Calibration
from surgery.errors import AdapterError, BaseModelError, DataError
from surgery.model.renamed import way_out
from surgery.model.wrapping import is_adaptable


def refuse_unknown_token(calibration: Calibration, tokenizer: Any, vocabulary: int | None) -> None:
    """Raise `DataError` for rows with an id that the model has no embedding for."""
    largest = max(max(each.tokens) for each in calibration.examples)
    if vocabulary is not None and largest >= vocabulary:
        token = str(tokenizer.convert_ids_to_tokens(largest))[:40]
        raise DataError(
            f"a row has the token {token!r}, number {largest:,}, and the model knows {vocabulary:,}",
            "leave that token out of the rows, or name the base model that has it",
        )


def refuse_unknown_ids(rows: Iterable[Sequence[int]], vocabulary: int | None, *, attached: bool) -> None:
    """Raise `DataError` for rows of ids that go beyond the embeddings of a model.

    vocabulary: how many it has; None where it does not say.
    attached: whether the adapter is in it; without, it is the base alone, which may know fewer tokens.
    """
    largest = max((max(ids) for ids in rows if ids), default=0)
    if vocabulary is None or largest < vocabulary:
        return
    model, way = "the model", "leave that token out of what is asked"
    if not attached:
        model, way = "the base model without the adapter", f"{way}, or leave the base out (--base-arm)"
    raise DataError(f"a request has the token number {largest:,}, and {model} knows {vocabulary:,}", way)


def refuse_unrunnable(adapter: Adapter, task: str) -> None:
    """Raise `AdapterError` for an adapter that acts in a way which the running model does not follow.

    task: what the base model was loaded for; `BaseModelError` where that is another than the adapter's.
    """
    if adapter.task in TASKS and adapter.task != task:
        raise BaseModelError(
            f"the base model was loaded as a {TASKS.get(task, task)}, and the adapter is of a {TASKS[adapter.task]}",
            "load it for this adapter: base_for(adapter, …)",
        )
    if adapter.config.get("alora_invocation_tokens"):
        raise AdapterError(
            "activated LoRA acts only after its invocation tokens, which the running model does not follow",
            "edit and export work; to calibrate, use a plain LoRA",
        )


def targets_without_factors(model: Any, adapter: Adapter) -> list[str]:
    """Modules of the base model that PEFT would adapt by this config and the file says nothing of."""
    rules = LoraRules(adapter.config)
    held = {factors.site.module for factors in adapter.modules.values()}.union(adapter.pruned)
    return sorted(
        name
        for name, layer in model.named_modules()
        if name and name not in held and is_adaptable(layer) and rules.targets(name)
    )


def refuse_tied_output(model: Any, adapter: Adapter) -> None:
    """Raise `BaseModelError` for an adapted output embedding that is tied: merging it would change both tables."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    table = model.get_input_embeddings() if output is not None else None
    if output is None or table is None or table.weight is not output.weight:
        return
    held = {factors.site.module for factors in adapter.modules.values()}
    for name, layer in model.named_modules():
        if layer is output and name in held:
            raise BaseModelError(
                f"{name!r} shares its weight with the input embedding (tied lm_head)",
                "edit and export work; to calibrate, adapt the layers instead",
            )


def replicate(model: Any, layer_map: Any) -> Callable[[], None]:
    """Replicate layers as PEFT does before it attaches such an adapter; returns the way back."""
    from peft.tuners.tuners_utils import replicate_layers

    stacks = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList)
    ]
    depth = getattr(model.config, "num_hidden_layers", None)
    try:
        replicate_layers(model, layer_map)
    except (ValueError, TypeError, IndexError) as error:
        raise BaseModelError(
            f"the layers of this base model cannot be replicated as {layer_map!r} ({error})",
            "name the base model this adapter was trained on",
        ) from error

    def restore() -> None:
        for parent, name, child in stacks:
            if getattr(parent, name) is not child:
                setattr(parent, name, child)
        if depth is not None:
            model.config.num_hidden_layers = depth

    return restore


def submodule(model: nn.Module, path: str) -> nn.Module:
    """The module at a path; raises `BaseModelError` where the base has none."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        problem, remedy = _lacking(model, path)
        raise BaseModelError(problem, remedy) from None


def _lacking(model: nn.Module, path: str) -> tuple[str, str]:
    """What is said of a module that the base has not, and the way out."""
    problem = f"the base model has no module {path!r}"
    together = [module for name, module in model.named_modules() if name.endswith(".experts")]
    if ".experts." in path and any(weight.dim() == 3 for each in together for weight in each.parameters(False)):
        return (
            f"{problem}: this version of transformers keeps experts in one module",
            "load it once with PeftModel.from_pretrained onto this base, save it with save_pretrained, and open that",
        )
    return problem, way_out(model, path)


def replace_module(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer in the place of the module at a path."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
