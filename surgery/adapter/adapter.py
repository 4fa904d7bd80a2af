"""Open a trained PEFT LoRA from its folder, without its base model.

Everything is read from `adapter_config.json` and the weights beside it. What cannot be edited
exactly is refused with the reason; tensors that are not LoRA factors are carried along untouched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaxtyping import Shaped
from numpy import ndarray

from surgery.adapter.lora_config import (
    CONFIG_FILE,
    ConfigFile,
    LoraRules,
    initialisation,
    read_config,
    refuse_unsupported,
)
from surgery.adapter.module_paths import families_of, in_layer_order, layers_of
from surgery.adapter.peft_names import SAVE_AGAIN, peft_names
from surgery.adapter.scope import scope_note
from surgery.adapter.site import Site
from surgery.adapter.tensor_names import FactorPair, depths_of, pair_factors, parameter_of, sites_of
from surgery.adapter.tokenizer_files import TokenizerFiles, read_tokenizer_files
from surgery.adapter.weights import all_finite, read_weights, weights_digest
from surgery.errors import AdapterError, SurgeryError
from surgery.files import demo_folder, digest, is_demo, user_path

_MOST_MODULES = 100_000
_DTYPES = ("float32", "float16", "bfloat16", "float64", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class Factors:
    """The two trained factors of one module; ΔW = scaling · B · A (paper Eq. 1).

    `B` and `A` are views into the file's tensors and keep their dtype; `site` says where the update
    acts. `layer` is None for a module outside the layer stack. `mirror` asks for edits through A,
    because B is frozen (MiCA).
    """

    name: str
    layer: int | None
    family: str
    scaling: float
    B: Shaped[ndarray, "out rank"]
    A: Shaped[ndarray, "rank in"]
    key_B: str
    key_A: str
    site: Site
    mirror: bool = False

    @property
    def rank(self) -> int:
        return int(self.A.shape[0])


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as its files hold it.

    `tensors` has every tensor of the file in its own dtype, under the name that PEFT gives it; `extra` names those
    that are not LoRA factors; `digest` is the SHA-256 of config and weights; `config_bytes` is the config as an
    export writes it; `notes` are things worth telling, and `changes`, which are among them, what an export says
    otherwise than the files; `tokenizer` is what training saved of one beside the weights, and is no part of the
    digest.
    """

    source: str
    config: Mapping[str, Any]
    config_bytes: bytes
    metadata: Mapping[str, str]
    tensors: Mapping[str, ndarray]
    modules: Mapping[str, Factors]
    extra: tuple[str, ...]
    digest: str
    notes: tuple[str, ...]
    changes: tuple[str, ...] = ()
    tokenizer: TokenizerFiles = field(default_factory=TokenizerFiles)

    @property
    def families(self) -> tuple[str, ...]:
        """Families in the order of their first module."""
        return tuple(dict.fromkeys(factors.family for factors in self.modules.values()))

    @property
    def layers(self) -> tuple[int, ...]:
        return tuple(sorted({f.layer for f in self.modules.values() if f.layer is not None}))

    @property
    def base_name(self) -> str | None:
        """The base model the config names; shown, never followed."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None


def open_adapter(source: str | Path) -> Adapter:
    """Open `source`, a folder or `demo:NAME`; of a file that holds several adapters, `FOLDER#NAME` is one.

    Raises `AdapterError` for a folder that is no PEFT LoRA, for a variant that cannot be edited
    exactly, for factors that do not pair up or disagree with the config, and for NaN or infinity.
    """
    text = str(source)
    try:
        return _open(text)
    except SurgeryError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError) as error:
        # whatever else a hostile or damaged file can provoke while it is read
        reason = f"{type(error).__name__}: {str(error)[:120]}"
        raise AdapterError(f"{text!r} cannot be read ({reason})", "use an intact copy of the adapter") from error


def refuse_changed(adapter: Adapter) -> None:
    """Raise `AdapterError` where the adapter's folder holds other bytes than when it was opened.

    Files that are gone contradict nothing: all that was read of them is in memory.
    """
    try:
        now = _digest_of(adapter.source)
    except OSError:
        return
    if now != adapter.digest:
        raise AdapterError(
            f"the files of {adapter.source!r} have changed since they were opened",
            "open it again, or restore the files; nothing was written",
        )


def adapter_folder(source: str) -> Path:
    """The folder of a source; raises `AdapterError` for one that may not be named."""
    return _place(source)[0]


def _place(source: str) -> tuple[Path, str]:
    """The folder of a source and the adapter chosen in it; a folder whose own name has a # is itself."""
    if is_demo(source):
        return demo_folder(source), ""
    folder = user_path(source, AdapterError)
    before, mark, name = source.rpartition("#")
    return (user_path(before, AdapterError), name) if mark and name and not folder.is_dir() else (folder, "")


def _digest_of(source: str) -> str:
    folder, chosen = _place(source)
    return _digest((folder / CONFIG_FILE).read_bytes(), weights_digest(folder), chosen)


def _digest(config: bytes, weights: str, chosen: str) -> str:
    return digest([config, weights, *([chosen] if chosen else [])])


def _open(text: str) -> Adapter:
    folder, chosen = _place(text)
    if not folder.is_dir():
        raise AdapterError(f"no folder at {text!r}", "name the folder that holds adapter_config.json")
    file = read_config(folder, text)
    config = file.settings
    refuse_unsupported(config)
    weights = read_weights(folder, text)
    named = peft_names(weights.tensors, text, chosen, plain_base=bool(config.get("base_model_name_or_path")))
    tensors = {name: weights.tensors[key] for name, key in named.in_file.items()}
    pairs, extra = pair_factors(tensors)
    _refuse_tied(pairs, tensors, config)
    modules = _modules(pairs, tensors, config)
    tokenizer = read_tokenizer_files(folder)
    changes = (*named.changes, *_changes(file, weights.files))
    return Adapter(
        source=text,
        config=config,
        config_bytes=file.plain,
        metadata=weights.metadata,
        tensors=tensors,
        modules=modules,
        extra=tuple(extra),
        digest=_digest(file.raw, weights.sha256, chosen),
        notes=(*changes, *_notes(config, modules, tensors, extra), *_tokenizer_notes(tokenizer)),
        changes=changes,
        tokenizer=tokenizer,
    )


def _changes(config: ConfigFile, files: int) -> Iterable[str]:
    if files > 1:
        yield f"the weights are in {files} shards, which PEFT does not load: they are exported as one file"
    if config.plain != config.raw:
        yield f"{CONFIG_FILE} is not in plain UTF-8, which PEFT needs: it is exported in it"


def _modules(
    pairs: list[FactorPair], tensors: Mapping[str, ndarray], config: Mapping[str, Any]
) -> dict[str, Factors]:
    """The factors of every module, in layer order."""
    rules, depths = LoraRules(config), depths_of(pairs)
    found: list[Factors] = []
    for pair in pairs:
        found.extend(_factors(pair, depths, tensors, config, rules))
        if len(found) > _MOST_MODULES:
            raise AdapterError(
                f"the file adapts more than {_MOST_MODULES:,} modules", "use the adapter of a real model"
            )
    return {factors.name: factors for factors in _with_families(found)}


def _factors(
    pair: FactorPair,
    depths: Mapping[str, list[int]],
    tensors: Mapping[str, ndarray],
    config: Mapping[str, Any],
    rules: LoraRules,
) -> Iterable[Factors]:
    """The module behind a pair of keys, or one for every expert; families and layers are told later."""
    B, A = tensors[pair.key_B], tensors[pair.key_A]
    path, ruled_by, raw = _target_of(pair, depths, rules)
    rank, scaling = rules.rank_and_scaling(ruled_by)
    for name, site in sites_of(pair, path, raw, A, B, rank):
        matrix_B, matrix_A = site.out_by_rank(B), site.rank_by_in(A)
        if matrix_A.shape[0] != rank or matrix_B.shape[1] != rank:
            raise AdapterError(
                f"module {name!r} has rank {matrix_A.shape[0]} (A) and {matrix_B.shape[1]} (B) "
                f"where the config says {rank}",
                "restore the adapter_config.json that belongs to these weights",
            )
        for side, factor in (("A", matrix_A), ("B", matrix_B)):
            if factor.dtype.name not in _DTYPES:
                raise AdapterError(
                    f"lora_{side} of module {name!r} is stored as {factor.dtype.name}", f"use {', '.join(_DTYPES)}"
                )
            # QR would pass NaN on without a word
            if not all_finite(factor):
                raise AdapterError(
                    f"lora_{side} of module {name!r} holds NaN or infinity", "use an intact checkpoint"
                )
        mirror = initialisation(config) == "mica"
        yield Factors(name, None, "", scaling, matrix_B, matrix_A, pair.key_B, pair.key_A, site, mirror)


def _target_of(pair: FactorPair, depths: Mapping[str, list[int]], rules: LoraRules) -> tuple[str, str, bool]:
    """The path of what a pair adapts, the path whose rank and alpha PEFT gives it, and whether it is a raw parameter."""
    targeted = rules.targets(pair.module)
    named, alone = ([], []) if targeted else rules.parameters(pair.module)
    if named or alone:
        path = f"{pair.module}.{parameter_of(pair, depths, named, alone)}"
        return path, path, True
    if pair.within in depths and rules.targets(pair.within) is not False and not pair.depth:
        return pair.module, pair.within, False
    if targeted is False or pair.depth:
        raise AdapterError(
            f"the file has factors for {pair.module!r}, which the config does not target: PEFT would ignore them",
            "restore the adapter_config.json that belongs to these weights",
        )
    return pair.module, pair.module, False


def _with_families(found: list[Factors]) -> list[Factors]:
    by_name = {factors.name: factors for factors in found}
    if len(by_name) < len(found):
        raise AdapterError("two pairs of factors belong to the same module", SAVE_AGAIN)
    families, layers = families_of(by_name), layers_of(by_name)
    return [replace(by_name[name], family=families[name], layer=layers[name]) for name in in_layer_order(by_name)]


def _refuse_tied(pairs: list[FactorPair], tensors: Mapping[str, ndarray], config: Mapping[str, Any]) -> None:
    """Input and output embeddings that train one pair of factors have no σ of their own."""
    tables = [pair for pair in pairs if pair.table]
    # by content, so that many tables and many layers are not compared one by one
    mirrored = {_content(tensors[table.key_B].T, tensors[table.key_A].T) for table in tables}
    shapes = {content[:2] for content in mirrored}
    shared = any(
        (tensors[pair.key_A].shape, tensors[pair.key_B].shape) in shapes
        and _content(tensors[pair.key_A], tensors[pair.key_B]) in mirrored
        for pair in pairs
        if not pair.table
    )
    if shared or (tables and config.get("ensure_weight_tying")):
        raise AdapterError(
            "the tied lm_head and input embedding share one pair of factors", "target only one of the two"
        )


def _content(A: ndarray, B: ndarray) -> tuple[tuple[int, ...], tuple[int, ...], str]:
    return A.shape, B.shape, digest([A.tobytes(), B.tobytes()])


def _notes(
    config: Mapping[str, Any],
    modules: Mapping[str, Factors],
    tensors: Mapping[str, ndarray],
    extra: list[str],
) -> Iterable[str]:
    if extra:
        yield f"{len(extra)} tensors are not LoRA factors (biases or saved modules); they are copied untouched"
    broken = [key for key in extra if not all_finite(tensors[key])]
    if broken:
        yield f"{len(broken)} of them hold NaN or infinity, such as {broken[0]!r}: what PEFT loads from it will not work"
    if config.get("use_rslora"):
        yield "rank-stabilised scaling (α/√r)"
    if len({factors.rank for factors in modules.values()}) > 1:
        yield "ranks differ between modules"
    zero = sum(_is_zero(factors.B) or _is_zero(factors.A) for factors in modules.values())
    if zero:
        yield f"{zero} modules have an all-zero factor and change nothing"
    if note := scope_note(modules):
        yield note
    if any(factors.mirror for factors in modules.values()):
        yield "MiCA freezes B, so edits are written into A"
    if any(name.endswith(".out_proj") and name.removesuffix(".out_proj") in modules for name in modules):
        yield "of nn.MultiheadAttention PEFT adds the update of out_proj twice; its σ here are of one"
    if config.get("layer_replication"):
        yield "layers of the base model are replicated; every copy has its own update"
    if config.get("alora_invocation_tokens"):
        yield "activated LoRA acts after its invocation tokens only: it can be edited, not calibrated"
    if initialisation(config).startswith("lora_ga"):
        yield "LoRA-GA initialisation changed the base weights in training; the file is read as plain LoRA"


def _is_zero(factor: Shaped[ndarray, "row column"]) -> bool:
    # most are told by their first row
    return not factor[:1].any() and not factor.any()


def _tokenizer_notes(tokenizer: TokenizerFiles) -> Iterable[str]:
    if tokenizer.unread:
        yield f"the folder's tokenizer cannot be read ({tokenizer.unread}), so rows need the base model's"
    elif tokenizer.has_vocabulary:
        yield "the folder has a tokenizer of its own, which reads the rows"
