"""A base model on the hub: its config, tokenizer and safetensors weights are fetched, and nothing that could be run."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from surgery.errors import BaseModelError
from surgery.hub import Fetched, Repository, fetch_files
from surgery.progress import SILENT, Control

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
# tokenizers of a hundred kinds have files of many names; weights and code end otherwise
_SMALL = (".json", ".jinja", ".txt", ".model", ".spm", ".codes", ".tiktoken", ".bpe", ".vocab")
_TEMPLATES = "additional_chat_templates"


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
