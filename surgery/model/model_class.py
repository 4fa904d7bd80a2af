"""Which class of transformers a base model is loaded with: the only place where that is decided."""

import copy
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TASKS, TOKEN_CLS, Adapter
from surgery.errors import AdapterError, BaseModelError

if TYPE_CHECKING:
    from torch import nn

_CLASSES = {
    CAUSAL_LM: "AutoModelForCausalLM",
    SEQ_2_SEQ_LM: "AutoModelForSeq2SeqLM",
    SEQ_CLS: "AutoModelForSequenceClassification",
    TOKEN_CLS: "AutoModelForTokenClassification",
}


def model_class(config: Any, task: str, modules: Collection[str] = ()) -> Any:
    """The class of transformers that PEFT would load an adapter of this task on.

    config: of the base model.
    task: one of `TASKS`.
    modules: paths of what the adapter adapts, which decide where a kind has several classes; of a model of text and
        pictures one reads text alone, and the other one has its layers under another name.

    Raises `BaseModelError` for a model that transformers knows no such class of.
    """
    known = model_classes(config, task)
    if len(known) > 1 and modules:
        return next((each for each in known if has_modules(empty_model(each, config), modules)), known[0])
    if known:
        return known[0]
    others = [name for name in _CLASSES if model_classes(config, name)]
    remedy = (
        f"name the base model it was trained on, or set task_type in adapter_config.json to {' or '.join(others)}"
        if others
        else "name the base model it was trained on"
    )
    raise BaseModelError(
        f"the adapter is of a {TASKS[task]}, and transformers has none of the kind {config.model_type!r}", remedy
    )


def model_classes(config: Any, task: str) -> list[Any]:
    """The classes that transformers has of a config for a task, the one that reads text alone first.

    A model of text and pictures is a causal language model where it is given text.
    """
    import transformers

    names = [_CLASSES[task], *(["AutoModelForImageTextToText"] if task == CAUSAL_LM else [])]
    found = {}
    for chosen in (getattr(transformers, name) for name in names):
        if type(config) in chosen._model_mapping:
            made = chosen._model_mapping[type(config)]
            found.setdefault(made[0] if isinstance(made, tuple) else made, chosen)
    return list(found.values())


def empty_model(chosen: Any, config: Any) -> "nn.Module":
    """A model on the meta device, which has modules and no weights; raises whatever a config provokes."""
    import torch

    with torch.device("meta"):
        # eager: the modules are the same, and no kernel has to be there
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        build = chosen.from_config if hasattr(chosen, "from_config") else chosen._from_config
        model: nn.Module = build(copy.deepcopy(config), **options)
    return model.eval()


def adapted(adapter: Adapter) -> frozenset[str]:
    """Paths of the modules of a base model that an adapter acts on."""
    return frozenset(factors.site.module for factors in adapter.modules.values())


def has_modules(model: "nn.Module", modules: Collection[str]) -> bool:
    """Whether a model has a module at each of these paths."""
    return set(modules) <= {name for name, _ in model.named_modules()}


def refuse_task(task: str) -> None:
    """Raise `AdapterError` for a task that no model is run for here: speech, pictures, embeddings and the like."""
    if task not in TASKS:
        raise AdapterError(
            f"the adapter is of the task {task[:60]!r}, and what runs here are causal and sequence-to-sequence language "
            "models and classifiers of texts and tokens",
            "its geometry and spectra, edits by policies that read no sensitivities, and the export work without a run",
        )
