"""The names that PEFT gives the tensors of an adapter on the plain base model, whatever a file calls them.

A model that was compiled, sharded or wrapped when it was saved leaves names of its own in the file, and so do
several adapters on one model. PEFT loads none of these onto the base that the config names.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from surgery.errors import AdapterError, ChoiceError

PREFIX = "base_model.model."
SAVE_AGAIN = "save the adapter again with peft"
DEFAULT = "default"
# what compilers and wrappers for sharding, checkpointing and gradients per example call the module they hold; no
# model has a module of its own by such a name
_WRAPPER = re.compile(
    r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module|_fpw_module|_forward_module|_module)\."
)
# a wrapper between PEFT's two components is the one place where `module` cannot be the model's own
_INSIDE = re.compile(r"(?<![^.])base_model\.(?:module\.)?model\.")
# data-parallel wrappers; a model may have a module of this name deeper inside
_PARALLEL = "module."
_OWNED = re.compile(
    r"^(?P<before>.+\.(?:lora_(?:embedding_)?[AB]|lora_E|lora_magnitude_vector|trainable_tokens_delta))"
    r"(?:\.(?P<name>[^.]+?))??(?P<after>(?:\.(?:weight|bias))?)$"
)
_SAVED = ".modules_to_save."


@dataclass(frozen=True)
class PeftNames:
    """`in_file` tells what the file calls the tensor of each name; `changes` says in what the two differ."""

    in_file: Mapping[str, str]
    changes: tuple[str, ...]


def peft_names(names: Iterable[str], source: str, chosen: str, *, plain_base: bool) -> PeftNames:
    """PEFT's name for each tensor of a file.

    names: as they stand in the file.
    source: what was asked for, for messages.
    chosen: the adapter to take where the file holds several; may be empty.
    plain_base: whether the config names a base, which then is no wrapper itself.

    Raises `ChoiceError` for several adapters of which none is chosen, and `AdapterError` for a choice that the file
    does not have and for two names that become one.
    """
    taken_off: dict[str, None] = {}
    paths = {name: _unwrapped(name, taken_off) for name in names}
    while plain_base and _all_parallel(paths.values()):
        taken_off[_PARALLEL] = None
        paths = {name: path.removeprefix(_PARALLEL) for name, path in paths.items()}
    owned = {name: _without_owner(path) for name, path in paths.items()}
    owners = {owner or DEFAULT for _, owner in owned.values() if owner is not None}
    kept = _chosen(owners, source, chosen)
    # in a file that has PEFT's prefix, what goes without it is no part of the model
    prefixed = any(owner is not None and PREFIX in name for name, (_, owner) in owned.items())
    plain = {path for path, owner in owned.values() if owner is None}
    found: dict[str, str] = {}
    for name, (path, owner) in owned.items():
        if owner is None:
            path, owner = _without_saved(path, owners, plain)
        if owner is not None and (owner or DEFAULT) != kept:
            continue
        peft_name = name if owner is None and prefixed and "base_model." not in name else PREFIX + path
        if (twin := found.get(peft_name)) is not None:
            raise AdapterError(f"tensors {twin!r} and {name!r} are the same one", SAVE_AGAIN)
        found[peft_name] = name
    if all(name in found for name in owned if "base_model." not in name):
        taken_off.pop("", None)
    named = kept if any(owner == kept for _, owner in owned.values()) else ""
    return PeftNames(found, tuple(_changes(taken_off, named, kept, len(paths) - len(found))))


def _all_parallel(paths: Iterable[str]) -> bool:
    factors = [path for path in paths if ".lora_" in path]
    return bool(factors) and all(path.startswith(_PARALLEL) for path in factors)


def _unwrapped(name: str, taken_off: dict[str, None]) -> str:
    """The path in the plain base model; what stood around it besides PEFT's prefix goes into `taken_off`."""
    if name.startswith(PREFIX) and "._" not in name and name.find("base_model.", len(PREFIX)) < 0:
        return name[len(PREFIX) :]
    for wrapper in _WRAPPER.findall(name):
        taken_off[wrapper] = None
    path = _WRAPPER.sub("", name)
    front = 0
    for match in _INSIDE.finditer(path):
        front = match.end()
    if not front and path.startswith("base_model."):
        front = len("base_model.")
    before, path = path[:front], path[front:]
    if not before:
        taken_off[""] = None
    elif before != PREFIX:
        taken_off[before.removesuffix(PREFIX)] = None
    return path


def _without_owner(path: str) -> tuple[str, str | None]:
    """The path without the name of its adapter, and that name: empty where it has none, None for no adapter's tensor."""
    match = _OWNED.match(path)
    return (match["before"] + match["after"], match["name"] or "") if match else (path, None)


def _without_saved(path: str, owners: Collection[str], plain: Collection[str]) -> tuple[str, str | None]:
    """A trained module's tensor under the name of the one that it replaces, as PEFT saves it, and its adapter's name.

    Of a table that was resized PEFT also saves the trained tensor under its own name, beside the one it replaces; it
    keeps that name where both are among the `plain` ones of the file.
    """
    before, saved, after = path.partition(_SAVED)
    if not saved:
        return path, None
    first, dot, rest = after.partition(".")
    own, owner = (f"{before}.{rest}", first) if dot and first in owners else (f"{before}.{after}", None)
    return (path, owner) if own in plain else (own, owner)


def _chosen(owners: Collection[str], source: str, chosen: str) -> str:
    listed = ", ".join(map(repr, sorted(owners)))
    if chosen and chosen not in owners:
        raise AdapterError(f"the file holds no adapter {chosen!r}, only {listed or 'none'}", "choose another name")
    if len(owners) > 1 and not chosen:
        choices = [f"{source}#{owner}" for owner in sorted(owners)]
        raise ChoiceError(
            f"the file holds {len(owners)} adapters: {listed}",
            f"choose one of them by its name after a #, such as {choices[0]}",
            choices,
        )
    return chosen or next(iter(owners), DEFAULT)


def _changes(taken_off: Iterable[str], named: str, kept: str, left_out: int) -> Iterable[str]:
    around = [repr(part) if part else f"no {PREFIX!r}" for part in taken_off]
    if around:
        yield (
            "the file's tensors have names that PEFT does not load onto the plain base model "
            f"(with {', '.join(around)}): they are read and exported under PEFT's own"
        )
    if named:
        yield f"the file's tensors carry the name of their adapter, {named!r}: they are exported without it"
    if left_out:
        yield f"the file holds other adapters beside {kept!r}: their {left_out} tensors are not exported"
