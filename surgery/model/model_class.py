"""Which class of transformers a base model is loaded with: the only place where that is decided."""

import copy
from typing import TYPE_CHECKING, Any

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TASKS, TOKEN_CLS, Adapter
from surgery.errors import AdapterError, BaseModelError
from surgery.model.renamed import has_place

if TYPE_CHECKING:
    from torch import nn

WITHOUT_A_RUN = (
    "its geometry and spectra, edits by policies that read no sensitivities, and the export work without a run"
)
_CLASSES = {
    CAUSAL_LM: "AutoModelForCausalLM",
    SEQ_2_SEQ_LM: "AutoModelForSeq2SeqLM",
    SEQ_CLS: "AutoModelForSequenceClassification",
    TOKEN_CLS: "AutoModelForTokenClassification",
}


def model_class(config: Any, task: str, adapter: Adapter | None = None) -> Any:
    """The class of transformers that PEFT would load an adapter of this task on.

    config: of the base model.
    task: one of `TASKS`.
    adapter: decides where a kind has several classes, of which one reads text alone and the other pictures too, with
        the same layers under other names: the first is taken that has what it adapts.

    Raises `BaseModelError` for a model that transformers knows no such class of.
    """
    known = model_classes(config, task)
    if len(known) > 1 and adapter is not None:
        return next((each for each in known if has_place(empty_model(each, config), adapter)), known[0])
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
    found: dict[Any, Any] = {}
    for chosen in (getattr(transformers, name) for name in names):
        if type(config) in chosen._model_mapping:
            made = chosen._model_mapping[type(config)]
            found.setdefault(made[0] if isinstance(made, tuple) else made, chosen)
    return list(found.values())


def empty_model(chosen: Any, config: Any) -> "nn.Module":
    """A model on the meta device, which has modules and no weights; raises whatever a config provokes."""
    import torch

    with torch.device("meta"):
        # eager: the modules are the same, and no kernel has to be there; a dtype would be set for all threads meanwhile
        options = {"dtype": None, "attn_implementation": "eager"}
        build = chosen.from_config if hasattr(chosen, "from_config") else chosen._from_config
        model: nn.Module = build(copy.deepcopy(config), **options)
    return model.eval()


def pictures_note(model: Any) -> str | None:
    """What is to be told of a model that reads pictures beside text; None for others."""
    import transformers

    if type(model.config) not in transformers.AutoModelForImageTextToText._model_mapping:
        return None
    return f"{type(model).__name__} reads pictures too: it is given text alone, pictures are out of scope here"


def refuse_task(task: str) -> None:
    """Raise `AdapterError` for a task that no model is run for here: speech, pictures, embeddings and the like."""
    if task not in TASKS:
        raise AdapterError(
            f"the adapter is of the task {task[:60]!r}, and what runs here are causal and sequence-to-sequence language "
            "models and classifiers of texts and tokens",
            WITHOUT_A_RUN,
        )
