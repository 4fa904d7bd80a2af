"""What a model with this adapter is trained to do, as its config says it: the task decides what a base is loaded as.

PEFT writes it in `task_type`, or, where training named none, the class of the base model in `auto_mapping`.
"""

from collections.abc import Mapping
from typing import Any

CAUSAL_LM, SEQ_2_SEQ_LM, SEQ_CLS, TOKEN_CLS = "CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS", "TOKEN_CLS"
# those that a model can be run for, with what such a model is called
TASKS: Mapping[str, str] = {
    CAUSAL_LM: "causal language model",
    SEQ_2_SEQ_LM: "sequence-to-sequence language model",
    SEQ_CLS: "classifier of texts",
    TOKEN_CLS: "classifier of tokens",
}
# the ends of class names that say it; of those that generate under a condition only these read and write text
_ENDS = {
    "ForCausalLM": CAUSAL_LM,
    "LMHeadModel": CAUSAL_LM,
    "ForSequenceClassification": SEQ_CLS,
    "ForTokenClassification": TOKEN_CLS,
}
_GENERATES = "ForConditionalGeneration"
TEXT_TO_TEXT = frozenset(
    f"{name}{_GENERATES}"
    for name in (
        "Bart", "BigBirdPegasus", "Blenderbot", "BlenderbotSmall", "FSMT", "LED", "LongT5", "M2M100", "MBart", "MT5",
        "Mvp", "NllbMoe", "PLBart", "Pegasus", "PegasusX", "ProphetNet", "SwitchTransformers", "T5", "T5Gemma",
        "T5Gemma2", "UMT5",
    )
) | {"EncoderDecoderModel", "MarianMTModel"}  # fmt: skip
# those that hear or speak and do nothing else; the others read text, with pictures beside it or without
_SPEAKS = (
    "Canary", "CohereAsr", "Csm", "Dia", "Gradium", "Higgs", "Moonshine", "Musicgen", "PocketTTS", "Pop2Piano",
    "Speech2Text", "VibeVoice", "Whisper",
)  # fmt: skip

# how diffusers names the projections of its attention, in configs that say nothing else
DIFFUSION = "diffusion of pictures"
_DIFFUSED = frozenset(["to_q", "to_k", "to_v", "to_out.0"])


def task_of(config: Mapping[str, Any]) -> str:
    """The task of an adapter by its config: one of `TASKS`, or what stands there for others.

    config: of `adapter_config.json`. Without a task it is told from the class that training named, which stands
    for itself where it is of no task known; without either it is causal language modelling, but for the targets that
    diffusers has.
    """
    named = config.get("task_type")
    if isinstance(named, str) and named:
        return named
    mapping = config.get("auto_mapping")
    model = mapping.get("base_model_class") if isinstance(mapping, Mapping) else None
    if not isinstance(model, str) or not model:
        targets = config.get("target_modules")
        names = [str(name) for name in targets] if isinstance(targets, list) else []
        diffused = any(name == end or name.endswith(f".{end}") for name in names for end in _DIFFUSED)
        return DIFFUSION if diffused else CAUSAL_LM
    if model in TEXT_TO_TEXT:
        return SEQ_2_SEQ_LM
    if model.endswith(_GENERATES) and not model.startswith(_SPEAKS):
        return CAUSAL_LM
    return next((task for end, task in _ENDS.items() if model.endswith(end)), model)
