"""The base model an adapter was trained on: a folder, a GGUF file or a hub id with a revision.

A GGUF file is de-quantised once into a safetensors folder in the cache; every later load is a
plain folder load. No remote code is ever run and no pickle is ever read.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgery.adapter import CAUSAL_LM, TASKS, Adapter
from surgery.data import CLASSIFIERS
from surgery.errors import BaseModelError
from surgery.files import DEMO_BASE, digest, user_path
from surgery.model.base_names import unquantised
from surgery.model.choice import BaseChoice
from surgery.model.device_map import parse_device_map
from surgery.model.gguf import conversion_of, converted_gguf, demo_gguf
from surgery.model.heads import NO_HEAD, Shapes, brought, head_options, labels_of, refuse_unlabelled, saved_head
from surgery.model.hub_base import base_on_hub, fetched_base
from surgery.model.loading import file_sample, quiet_loading
from surgery.model.loss import padding_id
from surgery.model.model_class import model_class, model_classes, refuse_task
from surgery.model.refusals import not_loaded
from surgery.model.renamed import has_place
from surgery.progress import SILENT, Control

if TYPE_CHECKING:
    from torch import nn

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class LoadedBase:
    """A base model in memory with its tokenizer.

    `fingerprint` identifies the weights: config, file names, sizes and sixteen mebibytes of every
    weight file. `ways` are how its rows were found to be read, by the digest of the adapter that was attached.
    `task` is what it was loaded for, one of `TASKS`. `others` says whether transformers has another class of it for
    that task, with the layers at other paths. `saved` is what the adapter that it was loaded for brings of a
    classifier's head, `head` the shapes of what of that the base lacks.
    """

    model: "nn.Module"
    tokenizer: Any
    location: str
    fingerprint: str
    ways: dict[tuple[str, str], Any] = field(default_factory=dict, compare=False, repr=False)
    task: str = CAUSAL_LM
    others: bool = False
    saved: Shapes = field(default_factory=dict)
    head: Shapes = field(default_factory=dict)

    def serves(self, adapter: Adapter) -> bool:
        """Whether it was loaded as an adapter needs it: for its task, for such a head, as the class with its modules."""
        if (self.task, self.saved) != (adapter.task, saved_head(adapter)):
            return False
        return not self.others or has_place(self.model, adapter)

    @property
    def padding(self) -> int | None:
        """The token that fills rows up to one length.

        Any will do where padding is masked. A classifier looks for the token that its config names, in place of a
        mask or to count positions; None where it names none.
        """
        if self.task not in CLASSIFIERS:
            return padding_id(self.tokenizer)
        config: Any = self.model.config
        named = config.get_text_config().pad_token_id
        return None if named is None else int(named)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of a classifier by number; empty for other models."""
        return labels_of(self.model.config) if self.task in CLASSIFIERS else ()


def load_base(
    base: BaseChoice | str,
    *,
    adapter: Adapter | None = None,
    task: str = CAUSAL_LM,
    control: Control = SILENT,
) -> LoadedBase:
    """A base model for calibration and evaluation, frozen and in eval mode.

    base: which one, and how it is held; a location alone is on the CPU in float32.
    adapter: what it is loaded for, which says the task, the class of transformers and the size of a classifier's head;
        a model of `task` where none is given.
    control: hears of the bytes of a hub id that is fetched, and may stop them.

    Raises `BaseModelError` when it cannot be found, is no model of the task or needs remote code, `AdapterError`
    for a task that no model is run for; and `Cancelled`.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    choice = BaseChoice(base) if isinstance(base, str) else base
    location, device = choice.location, choice.device
    task, head = (task, NO_HEAD) if adapter is None else (adapter.task, saved_head(adapter))
    refuse_task(task)
    _refuse_choice(choice, task)
    device_map = parse_device_map(device)
    source = _fetched(resolve_base(location), choice.revision, control=control)
    placed = device_map.options() if device_map is not None else {}
    try:
        with quiet_loading():
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, local_files_only=True)
            chosen = model_class(config, task, adapter)
            loaded: Any = chosen.from_pretrained(
                source,
                dtype=getattr(torch, choice.dtype),
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                local_files_only=True,
                **placed,
                **head_options(chosen, config, head),
            )
            tokenizer: Any = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
        model, loading = loaded
        model.requires_grad_(False).eval()
        if device != "cpu" and device_map is None:
            model.to(device)
    except BaseModelError:
        raise
    except Exception as error:  # the loaders run over files of any origin and raise whatever those provoke
        raise not_loaded(location, device, source, error) from error
    if task in CLASSIFIERS:
        refuse_unlabelled(model.config, location)
    # transformers fills every gap with random numbers and a warning
    lacking = brought(loading, head, location)
    others = len(model_classes(config, task)) > 1
    return LoadedBase(
        model, tokenizer, location, _fingerprint(source), task=task, others=others, saved=head, head=lacking
    )


def _refuse_choice(choice: BaseChoice, task: str) -> None:
    """Raise `BaseModelError` for what is wrong with a choice before anything of it is read."""
    import torch

    location, device, dtype = choice.location, choice.device, choice.dtype
    if dtype not in DTYPES:
        raise BaseModelError(f"dtype {dtype!r} is not known", f"use one of {', '.join(DTYPES)}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise BaseModelError(f"device {device!r} was asked for but no CUDA device is here", "use device cpu")
    if task != CAUSAL_LM and location.lower().endswith(".gguf"):
        raise BaseModelError(
            f"{location!r} is a GGUF file, which is read as a causal language model, and the adapter is of a {TASKS[task]}",
            "name the folder or the hub id of the original model",
        )


def resolve_base(location: str) -> str:
    """The folder or hub id behind `location`, converting a GGUF file on first use. Fetches nothing."""
    if location == DEMO_BASE:
        return str(converted_gguf(demo_gguf()))
    if base_on_hub(location) is not None:
        return location
    path = user_path(location, BaseModelError)
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise BaseModelError(f"no GGUF file at {location!r}", "check the path")
        return str(converted_gguf(path))
    if path.is_dir():
        if (path / "adapter_config.json").exists():
            # transformers would silently follow base_model_name_or_path from here
            raise BaseModelError(
                f"{location!r} is an adapter folder, not a base model", "name the model it was trained on"
            )
        if not (path / "config.json").is_file():
            raise BaseModelError(f"{location!r} has no config.json", "name a transformers model folder")
        return str(path)
    raise BaseModelError(
        f"no base model at {location!r}", "name a folder, a .gguf file or a hub id, owner/name[@revision]"
    )


def resolve_unread(location: str, revision: str | None = None) -> tuple[str, dict[str, Any]]:
    """Where transformers finds a base's config and tokenizer, with its options for that; converts no weights."""
    path = demo_gguf() if location == DEMO_BASE else user_path(location, BaseModelError)
    if path.suffix.lower() == ".gguf" and path.is_file():
        target, there = conversion_of(path)
        return (str(target), {}) if there else (str(path.parent), {"gguf_file": path.name})
    return _fetched(resolve_base(location), revision, weights=False), {}


def _fetched(source: str, revision: str | None, *, weights: bool = True, control: Control = SILENT) -> str:
    """The folder of a source; a hub id's is the client's cache."""
    repository = base_on_hub(source, revision)
    if repository is None:
        return source
    try:
        return str(fetched_base(repository, weights=weights, control=control))
    except BaseModelError as error:
        named = unquantised(source)
        if named is None:
            raise
        raise BaseModelError(
            error.problem, f"{error.remedy}, such as the unquantised original {named!r}"
        ) from error


def base_fingerprint(location: str, *, revision: str | None = None) -> str:
    """The fingerprint that a base from `location` has once it is loaded; see `load_base`.

    Of a hub id that is not in the cache, its name and revision alone.
    """
    folder = folder_at_hand(location, revision)
    return digest([location, revision or "main"]) if folder is None else _fingerprint(str(folder))


def folder_at_hand(location: str, revision: str | None) -> Path | None:
    """The folder of a base without a look at the network; None for a hub id that is not whole in the cache."""
    source = resolve_base(location)
    repository = base_on_hub(source, revision)
    if repository is None:
        return Path(source)
    try:
        return fetched_base(repository, download=False)
    except BaseModelError:
        return None


def _fingerprint(source: str) -> str:
    folder = Path(source)
    parts: list[bytes | str] = [(folder / "config.json").read_bytes()]
    for file in sorted(folder.glob("*.safetensors")):
        parts += file_sample(file)
    return digest(parts)
