"""Which class of transformers a base model is loaded with: the only place where that is decided."""

from typing import Any

from surgery.adapter import CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TASKS, TOKEN_CLS
from surgery.errors import AdapterError, BaseModelError

_CLASSES = {
    CAUSAL_LM: "AutoModelForCausalLM",
    SEQ_2_SEQ_LM: "AutoModelForSeq2SeqLM",
    SEQ_CLS: "AutoModelForSequenceClassification",
    TOKEN_CLS: "AutoModelForTokenClassification",
}


def model_class(config: Any, task: str) -> Any:
    """The class of transformers that PEFT would load an adapter of this task on.

    config: of the base model.
    task: one of `TASKS`.

    Raises `BaseModelError` for a model that transformers knows no such class of.
    """
    import transformers

    chosen = getattr(transformers, _CLASSES[task])
    if type(config) in chosen._model_mapping:
        return chosen
    others = [name for name in _CLASSES if type(config) in getattr(transformers, _CLASSES[name])._model_mapping]
    remedy = (
        f"name the base model it was trained on, or set task_type in adapter_config.json to {' or '.join(others)}"
        if others
        else "name the base model it was trained on"
    )
    raise BaseModelError(
        f"the adapter is of a {TASKS[task]}, and transformers has none of the kind {config.model_type!r}", remedy
    )


def refuse_task(task: str) -> None:
    """Raise `AdapterError` for a task that no model is run for here: speech, pictures, embeddings and the like."""
    if task not in TASKS:
        raise AdapterError(
            f"the adapter is of the task {task[:60]!r}, and what runs here are causal and sequence-to-sequence language "
            "models and classifiers of texts and tokens",
            "its geometry and spectra, edits by policies that read no sensitivities, and the export work without a run",
        )
