"""The head of a classifier: how many labels it says, and what of it a base lacks because the adapter brings it.

A base model is published without a head, and transformers would fill one in at random. Training saves the trained one
beside the factors, so that its shape says how many labels there are; the config of the base says what they are called.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from surgery.adapter import LORA_BIAS, TRAINING_ONLY, Adapter, module_path
from surgery.data import CLASSIFIERS
from surgery.errors import BaseModelError
from surgery.model.model_class import WITHOUT_A_RUN

if TYPE_CHECKING:
    from surgery.model.base import LoadedBase

Shapes = Mapping[str, tuple[int, ...]]
NO_HEAD: Shapes = MappingProxyType({})
# no size of a layer, so that what has it is a size of the labels
_MANY = 7919
_KINDS = {"regression": "a number", "multi_label_classification": "several labels of one text"}


def stands_for(key: str) -> str:
    """The path of the base model's own tensor that a saved one takes the place of; `key` is its name in the file."""
    path = module_path(key).replace(".modules_to_save.default.", ".").replace(".token_adapter.", ".")
    return path.replace(".base_layer.", ".").replace(".modules_to_save.", ".")


def saved_head(adapter: Adapter) -> Shapes:
    """The shapes of the tensors that a classifier's adapter saved whole, by their path in the base; else empty."""
    if adapter.task not in CLASSIFIERS:
        return {}
    kept = [key for key in adapter.extra if not (TRAINING_ONLY.search(key) or LORA_BIAS.match(key))]
    return {stands_for(key): tuple(adapter.tensors[key].shape) for key in kept}


def head_options(chosen: Any, config: Any, saved: Shapes) -> dict[str, Any]:
    """What `from_pretrained` is to be told of the head; nothing where the base has one of its own.

    chosen: the class of transformers for the task.
    config: of the base model.
    saved: what the adapter brings; see `saved_head`.

    Raises `BaseModelError` for saved tensors of heads of several sizes.
    """
    found = label_count(chosen, config, saved)
    if found is None:
        return {}
    # a base that was trained on other labels has a head of another size, which the adapter's takes the place of
    return {"num_labels": found, "ignore_mismatched_sizes": True}


def label_count(chosen: Any, config: Any, saved: Shapes) -> int | None:
    """How many labels a saved head says; None where none of it is saved. Raises `BaseModelError` as `head_options`."""
    import torch

    if not saved:
        return None
    other = copy.deepcopy(config)
    other.num_labels = _MANY
    with torch.device("meta"):
        model = chosen.from_config(other)
    last = [name for name, tensor in model.named_parameters() if tensor.dim() and tensor.shape[0] == _MANY]
    counts = {saved[name][0] for name in last if name in saved}
    if len(counts) > 1:
        raise BaseModelError(
            f"the adapter's head has tensors of {' and '.join(map(str, sorted(counts)))} labels",
            "use an intact copy of the adapter",
        )
    return next(iter(counts), None)


def brought(loading: Mapping[str, Any], saved: Shapes, location: str) -> Shapes:
    """What of the weights was filled in at random, all of which the adapter brings.

    loading: what `from_pretrained` says of it.
    saved: see `saved_head`.
    location: of the base, for the message.

    Raises `BaseModelError` for weights that neither has.
    """
    mismatched = [name if isinstance(name, str) else name[0] for name in loading["mismatched_keys"]]
    lacking = sorted({*loading["missing_keys"], *mismatched})
    nowhere = [name for name in lacking if name not in saved]
    if nowhere and saved:
        modules = sorted({name.rpartition(".")[0] for name in nowhere})
        raise BaseModelError(
            f"neither the base model {location!r} nor the adapter has {nowhere[0]!r}, which PEFT fills in at random at "
            "every load",
            "name the model that training began with as it was saved then, or train with "
            f"{', '.join(map(repr, modules[:4]))} among modules_to_save",
        )
    if nowhere:
        raise BaseModelError(
            f"the base model {location!r} lacks {len(nowhere)} weights such as {nowhere[0]!r}",
            "use a whole checkpoint",
        )
    return {name: saved[name] for name in lacking}


def labels_of(config: Any) -> tuple[str, ...]:
    """The labels that a config names, by number."""
    return tuple(str(config.id2label[number]) for number in range(config.num_labels))


def refuse_unlabelled(config: Any, location: str) -> None:
    """Raise `BaseModelError` for a head that says no label: one number, or several labels at once."""
    kind = getattr(config, "problem_type", None) or ("regression" if config.num_labels == 1 else "")
    if kind in _KINDS:
        raise BaseModelError(
            f"the head on {location!r} says {_KINDS[kind]}, and what is measured here is one label of several",
            WITHOUT_A_RUN,
        )


def refuse_other_head(base: "LoadedBase", adapter: Adapter) -> None:
    """Raise `BaseModelError` where a base was loaded without a head, for an adapter that brings another one."""
    saved = saved_head(adapter)
    if any(saved.get(name) != shape for name, shape in base.head.items()):
        raise BaseModelError(
            "the base model was loaded for the head of another adapter",
            "load it for this one: base_for(adapter, …)",
        )
