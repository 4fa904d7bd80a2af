"""Which folder a person means who names an adapter: the folder itself, a file in it, a folder above, a typing error."""

import re
from pathlib import Path

from surgery.adapter.below import adapters_below, choice_below
from surgery.adapter.config_file import CONFIG_FILE
from surgery.adapter.headers import stands_for
from surgery.adapter.other_formats import MLX_FILE, mlx_refusal, refuse_file, refuse_folder
from surgery.adapter.weights import PICKLED_FILE, WEIGHTS_FILE
from surgery.errors import AdapterError
from surgery.files import is_demo, user_path

_SHARD = re.compile(r"adapter_model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?")


def adapter_source(source: str | Path) -> str:
    """What is to be opened where `source` is named: of a file that belongs to an adapter, the folder around it.

    Raises `AdapterError` for a path that cannot be named, and for weights beside others that PEFT loads instead.
    """
    text = str(source)
    if is_demo(text):
        return text
    path = user_path(text, AdapterError)
    if not _is_part(path.name) or not path.is_file():
        return text
    folder = str(Path(text).parent)
    if path.name == PICKLED_FILE and (path.parent / WEIGHTS_FILE).is_file():
        raise AdapterError(
            f"{text!r} lies beside {WEIGHTS_FILE}, which PEFT loads instead",
            f"name the folder {folder!r}, or put the one that you mean and {CONFIG_FILE} into a folder of their own",
        )
    return folder


def check_folder(source: str, folder: Path) -> None:
    """Raise `AdapterError` where there is no adapter of PEFT's in a folder, calling what lies there by its name.

    source: what was named, as `adapter_source` gave it.
    folder: where that is.

    Raises `ChoiceError` where adapters lie below.
    """
    if folder.is_file():
        raise refuse_file(source, folder)
    if not folder.is_dir():
        raise _missing(source, folder)
    parts = sorted(file for file in folder.glob("adapter_*") if _is_part(file.name))
    for file in parts:
        if stands_for(file):
            raise refuse_file(f"{source.rstrip('/')}/{file.name}", file)
    config, weights = (folder / CONFIG_FILE).is_file(), any(file.name != CONFIG_FILE for file in parts)
    if config and weights:
        return
    if config and (folder / MLX_FILE).is_file():
        raise mlx_refusal(source)
    if not weights and (below := adapters_below(folder)):
        raise choice_below(source, f"{source!r} holds no adapter itself, but {len(below)} below it", below)
    raise _no_weights(source, folder) if config else refuse_folder(source, folder)


def _is_part(name: str) -> bool:
    return name == CONFIG_FILE or _SHARD.fullmatch(name) is not None


def _no_weights(source: str, folder: Path) -> AdapterError:
    """The refusal of a config without the weights that belong to it."""
    found = refuse_folder(source, folder)
    if CONFIG_FILE not in found.problem:
        return found
    return AdapterError(
        f"{source!r} has no {WEIGHTS_FILE}", f"put the weights that were saved with its {CONFIG_FILE} there"
    )


def _missing(source: str, path: Path) -> AdapterError:
    if path.parent.is_dir() and path.parent.name and (below := adapters_below(path.parent)):
        parent = str(Path(source).parent)
        return choice_below(parent, f"there is nothing at {source!r}; below {parent!r} lie {len(below)}", below)
    return AdapterError(f"no folder at {source!r}", f"name the folder that holds {CONFIG_FILE}")
