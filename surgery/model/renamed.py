"""Adapters saved before transformers renamed modules: where PEFT puts them in the model of today.

transformers keeps tables of the old names for its checkpoints. PEFT applies them to an adapter's names where it loads
one, of most kinds; here its own conversion is asked, so that what runs is what PEFT runs.
"""

import re
from dataclasses import replace
from typing import Any

from surgery.adapter import Adapter, Factors, module_path

_NAME = "renamed-by-surgery"


def has_place(model: Any, adapter: Adapter) -> bool:
    """Whether a model has every module that an adapter adapts, under today's name or an earlier one."""
    return _adapted(placed(model, adapter)) <= {name for name, _ in model.named_modules()}


def _adapted(adapter: Adapter) -> frozenset[str]:
    return frozenset(factors.site.module for factors in adapter.modules.values())


def placed(model: Any, adapter: Adapter) -> Adapter:
    """The adapter with its modules at the paths where PEFT puts them; itself where the model has all that it names.

    Only the sites change: modules keep the names that they have in the file.
    """
    held = {name for name, _ in model.named_modules()}
    if _adapted(adapter) <= held:
        return adapter
    names = _converted(model, adapter)
    found = {name: _at(factors, names, held) for name, factors in adapter.modules.items()}
    return replace(adapter, modules=found)


def _at(factors: Factors, names: dict[str, str], held: set[str]) -> Factors:
    old, new = module_path(factors.key_A), module_path(names.get(factors.key_A, ""))
    leaf = old.removeprefix(factors.site.module)
    module = new.removesuffix(leaf)
    if factors.site.module in held or module not in held or not new.endswith(leaf):
        return factors
    return replace(factors, site=replace(factors.site, module=module))


def _converted(model: Any, adapter: Adapter) -> dict[str, str]:
    """The key that PEFT's conversion gives each key of a factor that it renames and does not merge with others."""
    import torch
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_adapter_state_dict_for_transformers

    keys = {key for factors in adapter.modules.values() for key in (factors.key_A, factors.key_B)}
    shapes = {key: torch.empty(adapter.tensors[key].shape, device="meta") for key in keys}
    # what is only renamed comes out as the same object
    given = {id(tensor): key for key, tensor in shapes.items()}
    try:
        found = convert_peft_adapter_state_dict_for_transformers(model, LoraConfig(), shapes, _NAME)
    except (ValueError, KeyError, RuntimeError, IndexError):  # experts that cannot be merged into today's
        return {}
    return {given[id(tensor)]: key for key, tensor in found.items() if id(tensor) in given}


def way_out(model: Any, path: str) -> str:
    """What to do about a module that an adapter names and a base model has not."""
    again = "with PeftModel.from_pretrained(base, folder, key_mapping={!r}), save it with save_pretrained, and open that"
    if mapping := _earlier(model, path):
        return f"this is an earlier name, which PEFT has to be told of: load the original once {again.format(mapping)}"
    remedy = "name the base model this adapter was trained on"
    if mapping := _text_part(model, path):
        remedy += f"; where that is the text part of this one, load the original once {again.format(mapping)}"
    return remedy


def _earlier(model: Any, path: str) -> dict[str, str]:
    """Renamings of transformers' tables that lead from an old path to a module of the model; empty where none do.

    They are what `PeftModel.from_pretrained(…, key_mapping=…)` takes, for kinds that PEFT renames nothing of itself.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming

    used: dict[str, str] = {}
    renamed = path
    for rule in get_model_conversion_mapping(model):
        if isinstance(rule, WeightRenaming) and rule.scope_prefix is None and len(rule.source_patterns) == 1:
            before, (renamed, _) = renamed, rule.rename_source_key(renamed)
            if renamed != before:
                used[rule.source_patterns[0]] = rule.target_patterns[0]
    return used if any(name == renamed for name, _ in model.named_modules()) else {}


def _text_part(model: Any, path: str) -> dict[str, str]:
    """The renaming that leads from a path of a text model to the same layer of one that reads pictures too.

    Empty where the model has no such layer. Whether the weights are the same ones is for the user to know.
    """
    before, mark, after = path.partition("layers.")
    ends = f".{mark}{after}"
    found = [name.removesuffix(ends) for name, _ in model.named_modules() if mark and name.endswith(ends)]
    parts = [stack for stack in found if stack.endswith(("language_model", "text_model"))]
    return {f"^{re.escape(before)}(?=layers)": f"{parts[0]}."} if len(parts) == 1 else {}
