"""A base model on the hub: its config, tokenizer and safetensors weights are fetched, and nothing that could be run."""

import json
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from surgery.errors import BaseModelError
from surgery.hub import Fetched, Repository, commit_in_cache, fetch_files, look_up
from surgery.model.choice import BaseChoice
from surgery.progress import SILENT, Control

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
# tokenizers of a hundred kinds have files of many names; weights and code end otherwise
_SMALL = (".json", ".jinja", ".txt", ".model", ".spm", ".codes", ".tiktoken", ".bpe", ".vocab")
_TEMPLATES = "additional_chat_templates"
_PART = re.compile(r"[\w.\-]+-\d+-of-\d+\.safetensors")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.\-]*/[A-Za-z0-9][\w.\-]*", re.ASCII)


@dataclass(frozen=True)
class BaseSize:
    """What the hub lists of a base model: the bytes of its weights, in how many files, and how many numbers they are.

    `parameters` is None where the hub has not counted them.
    """

    weights: int
    files: int
    parameters: int | None


def base_on_hub(location: str, revision: str | None = None) -> Repository | None:
    """The repository behind `owner/name`; None for any other location, and for a folder here of that name."""
    if _HUB_ID.fullmatch(location) is None or location.lower().endswith(".gguf"):
        return None
    if os.path.exists(location):
        return None
    return Repository(location, revision or "")


def pinned_base(choice: BaseChoice) -> BaseChoice:
    """A choice of a hub id with the commit that its revision stood for when it was fetched last.

    One that was never fetched stays as it is, and so does what is no hub id.
    """
    repository = base_on_hub(choice.location, choice.revision)
    commit = None if repository is None else commit_in_cache(repository)
    return choice if commit is None else replace(choice, revision=commit)


def latest_base(choice: BaseChoice) -> BaseChoice:
    """A choice of a hub id with the commit that the hub says its revision stands for; others stay.

    Where the hub does not answer it is the one in the cache. Raises `BaseModelError` for what is in neither.
    """
    repository = base_on_hub(choice.location, choice.revision)
    if repository is None or repository.is_pinned:
        return choice

    def nothing_yet(names: Sequence[str], _: object) -> list[str]:
        base_files(repository, names)
        return []

    return replace(choice, revision=fetch_files(repository, nothing_yet, refusal=BaseModelError).commit)


def base_size(location: str, revision: str | None = None) -> BaseSize | None:
    """How large a base on the hub is, by one request and no download; None for what is no hub id.

    Raises `BaseModelError` for what the hub does not show and what is no base model.
    """
    repository = base_on_hub(location, revision)
    if repository is None:
        return None
    listing = look_up(repository, BaseModelError)
    base_files(repository, sorted(listing.sizes))
    weights = [_WEIGHTS] if _WEIGHTS in listing.sizes else list(filter(_PART.fullmatch, listing.sizes))
    if not weights:
        weight_files(repository, sorted(listing.sizes), lambda _: b"")
    return BaseSize(sum(listing.sizes[name] or 0 for name in weights), len(weights), listing.parameters)


def fetched_base(
    repository: Repository, *, weights: bool = True, download: bool = True, control: Control = SILENT
) -> Path:
    """The folder in the hub client's cache with the files that transformers loads a base model from.

    weights: with them; without, config and tokenizer alone.
    download: ask the hub; without, what is not in the cache is refused.
    control: hears of the bytes, and may stop them.

    Raises `BaseModelError` for what cannot be fetched and what is no base model, and `Cancelled`.
    """
    found: Fetched = fetch_files(
        repository,
        lambda names, read: base_files(repository, names, read if weights else None),
        refusal=BaseModelError,
        download=download,
        control=control,
    )
    return found.folder


def base_files(
    repository: Repository, names: Sequence[str], read: Callable[[str], bytes] | None = None
) -> list[str]:
    """Which files of a repository are a base model's: with its weights where `read` gives the index of those in parts.

    Raises `BaseModelError` for a repository of something else.
    """
    if _CONFIG not in names:
        raise _no_base(repository, names)
    small = [name for name in names if name.endswith(_SMALL) and name.rpartition("/")[0] in ("", _TEMPLATES)]
    if read is None:
        return small
    return small + weight_files(repository, names, read)


def weight_files(repository: Repository, names: Sequence[str], read: Callable[[str], bytes]) -> list[str]:
    """The files of the weights, as transformers chooses among them. Raises as `base_files`."""
    if _WEIGHTS in names:
        return [_WEIGHTS]
    if _INDEX not in names:
        raise BaseModelError(
            f"{str(repository)!r} on the hub has no weights in safetensors",
            "save the model once with save_pretrained, and name that folder",
        )
    try:
        parts = set(json.loads(read(_INDEX))["weight_map"].values())
        missing = sorted(parts - set(names))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise BaseModelError(
            f"{_INDEX!r} of {str(repository)!r} cannot be read", "name another revision of it, or a whole copy"
        ) from error
    if missing:
        raise BaseModelError(
            f"{str(repository)!r} on the hub lacks {missing[0][:120]!r}, a part of its weights",
            "name another revision of it, or a whole copy",
        )
    return sorted(parts)


def _no_base(repository: Repository, names: Sequence[str]) -> BaseModelError:
    name = str(repository)
    if "adapter_config.json" in names:
        return BaseModelError(
            f"{name!r} on the hub is an adapter, not a base model", "name the model it was trained on"
        )
    gguf = [each for each in names if each.lower().endswith(".gguf")]
    if gguf:
        return BaseModelError(
            f"{name!r} on the hub has GGUF files and no {_CONFIG}",
            f"download one, such as {gguf[0]!r}, and name its path",
        )
    return BaseModelError(f"{name!r} on the hub has no {_CONFIG}", "name a transformers model")
