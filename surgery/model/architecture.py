"""The architecture of a base model without its weights: its modules on the meta device, told by its config alone.

Only what is on this machine is read: a folder, a GGUF file or the hub's cache. Nothing is fetched.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.adapter import TASKS
from surgery.errors import BaseModelError, first_line
from surgery.hub import Repository, cached_files
from surgery.model.base import resolve_unread
from surgery.model.gguf import read_once
from surgery.model.hub_base import base_on_hub
from surgery.model.model_class import empty_model, model_classes

if TYPE_CHECKING:
    from torch import nn


def base_config(location: str, revision: str | None = None) -> Any:
    """The config of a base that is on this machine, as transformers reads it.

    location: a folder, a `.gguf` file, a hub id or `demo:smollm2`.
    revision: of a hub id.

    Raises `BaseModelError` where none is at hand or it needs code of its own.
    """
    repository = base_on_hub(location, revision)
    if repository is not None:
        return _read(location, str(_cached(repository)))
    source, options = resolve_unread(location)
    return _read(location, source, **options)


def named_config(name: str) -> Any:
    """The config of the base that an adapter's file names, from the hub's cache alone.

    The name comes from a file, so that it is never followed as a path. Raises `BaseModelError` as `base_config`.
    """
    repository = base_on_hub(name)
    if repository is None:
        raise BaseModelError(
            f"the adapter names {name[:200]!r} as its base, which is a path of another place",
            "name the base yourself",
        )
    return _read(name, str(_cached(repository)))


def _read(name: str, source: str, **options: Any) -> Any:
    from transformers import AutoConfig

    try:
        with read_once() if options else nullcontext():
            return AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True, **options)
    except Exception as error:  # the readers run over files of any origin and raise whatever those provoke
        raise BaseModelError(
            f"the config of {name!r} cannot be read ({first_line(error)})", "name a transformers model folder"
        ) from error


def _cached(repository: Repository) -> Path:
    """The folder of the hub client's cache that holds a model's config."""
    held = cached_files(repository)
    if held is None or not (held.folder / "config.json").is_file():
        raise BaseModelError(
            f"the config of {repository.name!r} is not in the hub's cache here",
            "name the base model, or load it once",
        )
    return held.folder


def empty_models(config: Any, task: str) -> Iterator["nn.Module"]:
    """Models of a config on the meta device, one for each class that an adapter of this task may be trained on.

    config: a base's; left as it is.
    task: as the adapter's config names it.

    The class of the task is the first, then the one that the config names. Classes that the config has none of are
    left out.
    """
    made: set[type] = set()
    for chosen in _classes(config, task):
        try:
            model = empty_model(chosen, config)
        except Exception:  # configs of other classes raise whatever is not in them
            continue
        if type(model) not in made:
            made.add(type(model))
            yield model


def _classes(config: Any, task: str) -> Iterator[Any]:
    import transformers

    if task in TASKS:
        yield from model_classes(config, task)
    for name in getattr(config, "architectures", None) or []:
        named = getattr(transformers, str(name), None)
        if isinstance(named, type) and issubclass(named, transformers.PreTrainedModel):
            yield named
    yield transformers.AutoModel
