"""What a file or folder is that PEFT did not write, by its right name, and the line that leads from it to an adapter.

Told from headers alone. Trainings, converters and the hub leave many things beside an adapter; a person who names
one of them is told which it is and what to name instead.
"""

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from surgery.adapter.config_file import CONFIG_FILE
from surgery.adapter.headers import GGUF, PAGE, POINTER, SAFETENSORS, ZIP, Header, read_header
from surgery.adapter.weights import PICKLED_FILE, WEIGHTS_FILE
from surgery.errors import AdapterError
from surgery.files import read_limited

MLX_FILE = "adapters.safetensors"
# the first that fits any name of a file
_SIGNS = (
    ("kohya", re.compile(r"(lora|lycoris)_(unet|te\d?|transformer|prior)_")),
    ("PEFT", re.compile(r"base_model\..*\.lora_(embedding_)?[AB]\b")),
    (
        "diffusers",
        re.compile(
            r"(unet|text_encoder(_\d)?|transformer\.(single_)?transformer_blocks)\..*lora"
            r"|.*(\.processor\..*lora|_lora\.(up|down)\.weight|\.lora\.(up|down)\.weight|\.lora_linear_layer\."
            r"|\.to_(q|k|v|out)(\.0)?\.lora_[AB]\b)"
        ),
    ),
    ("MLX", re.compile(r".*\.lora_[ab]$")),
    ("torchtune", re.compile(r".*\.lora_[ab]\.weight$")),
    ("PEFT", re.compile(r".*\.lora_(embedding_)?[AB]\b")),
)
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".zip")
_NO_WEIGHTS = re.compile(r"optimizer|scheduler|rng_state|training_args|scaler")
_MODEL_FILE = re.compile(r"(pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)$|consolidated")
_FIRST = ("adapter", "pytorch_lora_weights", "model", "pytorch_model")
_MOST_FILES, _MOST_LOOKED = 2_000, 8
_MODEL_CONFIG, _MOST_CONFIG = "config.json", 4 << 20
_SAVED = "save them as adapter_model.safetensors and adapter_config.json"
_OTHER_PEFT = "name the folder that peft's save_pretrained wrote"


def format_of(names: Iterable[str]) -> str:
    """Whose names of LoRA factors these are; empty where there are none."""
    names = list(names)
    return next((label for label, sign in _SIGNS if any(sign.match(name) for name in names)), "")


@dataclass(frozen=True)
class Seen:
    """A file that is no adapter of PEFT's.

    `source` is what a person calls it and `name` its own name; `config` says whether an adapter_config.json lies
    beside it, `model` the class of a whole model that does.
    """

    source: str
    name: str
    header: Header
    config: bool = False
    model: str = ""


def refuse_file(source: str, file: Path) -> AdapterError:
    """The refusal of a file that a person named, `source` being their words for it."""
    return refuse_seen(_seen(source, file))


def refuse_folder(source: str, folder: Path) -> AdapterError:
    """The refusal of a folder in which there is no adapter of PEFT's, by what lies in it."""
    whole = (folder / _MODEL_CONFIG).is_file()
    for file in _weights_in(folder):
        seen = _seen(f"{source.rstrip('/')}/{file.name}", file)
        if tells(seen.header):
            return refuse_seen(seen)
        whole = whole or _is_model(seen)
    if whole:
        return _whole_model(source, _class_in(folder))
    return AdapterError(f"{source!r} has no {CONFIG_FILE}, so it is no PEFT adapter", _OTHER_PEFT)


def tells(header: Header) -> bool:
    """Whether a header says more than that there are weights, or nothing that is known."""
    return bool(format_of(header.tensors)) or header.kind in (GGUF, POINTER, PAGE, ZIP)


def may_hold_weights(name: str) -> bool:
    """Whether files of this name hold weights or an archive of them."""
    return name.endswith(_SUFFIXES) and not _NO_WEIGHTS.search(name)


def _seen(source: str, file: Path) -> Seen:
    beside = (file.parent / CONFIG_FILE).is_file()
    return Seen(source, file.name, read_header(file), beside, _class_in(file.parent))


def _weights_in(folder: Path) -> list[Path]:
    """Files that may hold weights, those first that adapters and models are called."""
    found = []
    for number, file in enumerate(folder.iterdir()):
        if number >= _MOST_FILES:
            break
        if may_hold_weights(file.name) and file.is_file():
            found.append(file)

    def rank(file: Path) -> tuple[int, str]:
        return next((at for at, start in enumerate(_FIRST) if file.name.startswith(start)), len(_FIRST)), file.name

    return sorted(found, key=rank)[:_MOST_LOOKED]


def refuse_seen(seen: Seen) -> AdapterError:
    """The refusal of a file by what its header says."""
    source, kind = seen.source, seen.header.kind
    if kind == POINTER:
        return AdapterError(
            f"{source!r} is a Git LFS pointer, not the file itself",
            "fetch the file that it stands for: git lfs pull",
        )
    if kind == PAGE:
        return AdapterError(f"{source!r} is a web page, not weights", "download the file that the page is about")
    if kind == ZIP:
        return AdapterError(
            f"{source!r} is a zip archive",
            f"unpack it (python -m zipfile -e {shlex.quote(source)} FOLDER) and name the folder in it, or upload it "
            "in the app",
        )
    if kind == GGUF:
        return _gguf(source, seen.header)
    match format_of(seen.header.tensors):
        case "kohya" | "diffusers" as label:
            return _image_lora(source, label)
        case "torchtune":
            return AdapterError(
                f"{source!r} is an adapter in torchtune's own format",
                f"name the folder where torchtune's HF checkpointer wrote {CONFIG_FILE}, such as epoch_0",
            )
        case "MLX":
            return mlx_refusal(str(Path(source).parent))
        case "PEFT":
            return _misplaced(seen)
    if _is_model(seen):
        return _whole_model(source, seen.model)
    return AdapterError(
        f"{source!r} {'holds no LoRA factors' if seen.header.tensors else 'is no file of a PEFT adapter'}",
        f"name the folder that holds {CONFIG_FILE}",
    )


def mlx_refusal(folder: str) -> AdapterError:
    """The refusal of a folder with an adapter of MLX, which can be converted."""
    return AdapterError(
        f"{folder!r} is an MLX adapter, not a PEFT one",
        f"convert it with: surgery convert {shlex.quote(folder)} --out NEW_FOLDER",
    )


def _gguf(source: str, header: Header) -> AdapterError:
    if header.about.get("general.type") == "adapter":
        return AdapterError(
            f"{source!r} is a GGUF LoRA of llama.cpp",
            "name the PEFT folder that convert_lora_to_gguf.py made it from",
        )
    kind = header.about.get("general.architecture", "")[:40]
    return AdapterError(
        f"{source!r} is a GGUF model{f' of architecture {kind}' if kind else ''}, not an adapter",
        f"name the adapter's folder, and the model as its base: --base {shlex.quote(source)}",
    )


def _image_lora(source: str, label: str) -> AdapterError:
    return AdapterError(
        f"{source!r} is a {label} LoRA of an image model, not a PEFT adapter",
        "load it with diffusers' load_lora_weights; put base_model.model. before the keys of peft's "
        f"get_peft_model_state_dict of its unet or transformer, and with peft_config {_SAVED}",
    )


def _misplaced(seen: Seen) -> AdapterError:
    """Factors of PEFT under a name that PEFT does not read, or without their config."""
    proper = WEIGHTS_FILE if seen.header.kind == SAFETENSORS else PICKLED_FILE
    if seen.config:
        return AdapterError(
            f"{seen.source!r} holds LoRA factors under a name that PEFT does not read", f"rename it to {proper}"
        )
    named = "" if seen.name == proper else f", and rename {seen.name} to {proper}"
    return AdapterError(
        f"{seen.source!r} holds LoRA factors, and no {CONFIG_FILE} beside it says their alpha",
        f"put the {CONFIG_FILE} of the training there, or write one with the alpha that it had: "
        f"peft.LoraConfig({_config_words(seen.header)}).save_pretrained(FOLDER){named}",
    )


def _config_words(header: Header) -> str:
    """What the names and shapes say of a config."""
    factors = {n: s for n, s in header.tensors.items() if re.search(r"\.lora_A(\.\w+)?\.weight$", n)}
    ranks = Counter(shape[0] for shape in factors.values() if shape)
    targets = sorted({name.partition(".lora_A")[0].rpartition(".")[2] for name in factors})
    rank = f"r={ranks.most_common(1)[0][0]}" if len(ranks) == 1 else "r=RANK"
    return f"{rank}, lora_alpha=ALPHA, target_modules={targets[:20]}"


def _class_in(folder: Path) -> str:
    """The class that a model's config names; empty where there is none."""
    try:
        told = json.loads(read_limited(folder / _MODEL_CONFIG, _MOST_CONFIG))
        names = told.get("architectures") if isinstance(told, dict) else None
        return str(names[0])[:60] if isinstance(names, list) and names else ""
    except (OSError, ValueError, RecursionError):
        return ""


def _is_model(seen: Seen) -> bool:
    """Whether a file with tensors is a part of a model: called as one, or beside a model's config."""
    return bool(seen.header.tensors) and (bool(seen.model) or _MODEL_FILE.match(seen.name) is not None)


def _whole_model(source: str, model: str) -> AdapterError:
    return AdapterError(
        f"{source!r} is a whole model{f' ({model})' if model else ''}, merged or never adapted: it has no LoRA factors",
        "name the folder of the adapter that was merged into it; where that is gone, mergekit-extract-lora takes one "
        "out of this model and its base",
    )
