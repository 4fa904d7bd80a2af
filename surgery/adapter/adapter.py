"""Open a trained PEFT LoRA from its folder, without its base model.

Everything is read from `adapter_config.json` and the weights beside it. What cannot be edited
exactly is refused with the reason; tensors that are not LoRA factors are carried along untouched.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy import ndarray

from surgery.adapter.adalora import AdaLoraRules, is_adalora, refuse_other_factors, refuse_unloadable
from surgery.adapter.config_file import CONFIG_FILE, ConfigFile, read_config
from surgery.adapter.factors import Factors, check_factor, diagonal_of, magnitude_of
from surgery.adapter.location import Place, files_digest, located, place_of
from surgery.adapter.lora_config import (
    RESTORE,
    LoraRules,
    initialisation,
    refuse_unsupported,
)
from surgery.adapter.module_paths import families_of, in_layer_order, layers_of
from surgery.adapter.notes import kind_notes, notes_of, tokenizer_notes
from surgery.adapter.peft_names import SAVE_AGAIN, peft_names
from surgery.adapter.safetensors_file import Tensors
from surgery.adapter.task import task_of
from surgery.adapter.tensor_names import FactorPair, depths_of, pair_factors, parameter_of, sites_of
from surgery.adapter.tokenizer_files import TokenizerFiles, read_tokenizer_files
from surgery.adapter.weights import read_weights
from surgery.errors import AdapterError, SurgeryError
from surgery.files import digest
from surgery.progress import SILENT, Control

_MOST_MODULES = 100_000


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as its files hold it.

    `tensors` has every tensor of the file in its own dtype, under the name that PEFT gives it; `extra` names those
    that are not LoRA factors; `digest` is the SHA-256 of config and weights; `config_bytes` is the config as an
    export writes it; `notes` are things worth telling, and `changes`, which are among them, what an export says
    otherwise than the files; `tokenizer` is what training saved of one beside the weights, and is no part of the
    digest. `pruned` are modules of which AdaLoRA left nothing.
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
    pruned: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """LoRA, DoRA or AdaLoRA."""
        if is_adalora(self.config):
            return "AdaLoRA"
        return "DoRA" if self.config.get("use_dora") else "LoRA"

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

    @property
    def task(self) -> str:
        """What a model with this adapter does, by its config; see `task_of`."""
        return task_of(self.config)


def open_adapter(
    source: str | Path, *, download: bool = True, control: Control = SILENT, held: Tensors | None = None
) -> Adapter:
    """Open `source`: a folder, the weights or the config in it, `demo:NAME`, or `owner/name[@revision][/folder]` on the hub.

    Of a file that holds several adapters, `SOURCE#NAME` is one.

    download: fetch from the hub what its client has not in its cache. The adapter's `source` then names the commit.
    control: hears of the bytes that are fetched, and may stop them.
    held: tensors in memory. Those that the file has byte for byte alike under the same names are not kept twice.

    Raises `ChoiceError` for a folder with adapters below it, and `AdapterError` for what is no PEFT LoRA, for a
    variant that cannot be edited exactly, for factors that do not pair up or disagree with the config, for NaN or
    infinity, and for what the hub does not give; and `Cancelled`.
    """
    text = str(source)
    try:
        return _open(located(text, download=download, control=control), held)
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
    place = place_of(adapter.source)
    if place is None:
        return
    try:
        now = place.digest
    except OSError:
        return
    if now != adapter.digest:
        raise AdapterError(
            f"the files of {adapter.source!r} have changed since they were opened",
            "open it again, or restore the files; nothing was written",
        )


def _open(place: Place, held: Tensors | None) -> Adapter:
    folder, text, chosen = place.folder, place.source, place.chosen
    file = read_config(folder, text)
    config = file.settings
    refuse_unsupported(config)
    if is_adalora(config):
        refuse_unloadable(config)
    weights = read_weights(folder, text, held)
    named = peft_names(weights.tensors, text, chosen, plain_base=bool(config.get("base_model_name_or_path")))
    tensors = {name: weights.tensors[key] for name, key in named.in_file.items()}
    pairs, extra = pair_factors(tensors)
    refuse_other_factors(config, pairs)
    _refuse_tied(pairs, tensors, config)
    modules, pruned = _modules(pairs, tensors, config)
    tokenizer = read_tokenizer_files(folder)
    changes = (*named.changes, *_changes(file, weights.files))
    notes = (*changes, *notes_of(config, modules, tensors, extra), *kind_notes(modules, pruned))
    return Adapter(
        source=text,
        config=config,
        config_bytes=file.plain,
        metadata=weights.metadata,
        tensors=tensors,
        modules=modules,
        extra=tuple(extra),
        digest=files_digest(file.raw, weights.sha256, chosen),
        notes=(*notes, *tokenizer_notes(tokenizer)),
        changes=changes,
        tokenizer=tokenizer,
        pruned=pruned,
    )


def _changes(config: ConfigFile, files: int) -> Iterable[str]:
    if files > 1:
        yield f"the weights are in {files} shards, which PEFT does not load: they are exported as one file"
    if config.plain != config.raw:
        yield f"{CONFIG_FILE} is not in plain UTF-8, which PEFT needs: it is exported in it"


def _modules(
    pairs: list[FactorPair], tensors: Mapping[str, ndarray], config: Mapping[str, Any]
) -> tuple[dict[str, Factors], tuple[str, ...]]:
    """The factors of every module, in layer order, and the modules of which AdaLoRA left nothing."""
    rules = AdaLoraRules(config, [pair.module for pair in pairs]) if is_adalora(config) else LoraRules(config)
    depths = depths_of(pairs)
    found: list[Factors] = []
    for pair in pairs:
        found.extend(_factors(pair, depths, tensors, config, rules))
        if len(found) > _MOST_MODULES:
            raise AdapterError(
                f"the file adapts more than {_MOST_MODULES:,} modules", "use the adapter of a real model"
            )
    if not found:
        raise AdapterError(
            "AdaLoRA pruned every module to rank 0: the adapter changes nothing", "open another one"
        )
    pruned = tuple(sorted({pair.module for pair in pairs}.difference(each.site.module for each in found)))
    return {factors.name: factors for factors in _with_families(found)}, pruned


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
                RESTORE,
            )
        if not rank:
            return
        for side, factor in (("A", matrix_A), ("B", matrix_B)):
            check_factor(factor, f"lora_{side}", name)
        mirror = initialisation(config) == "mica"
        yield Factors(
            name,
            None,
            "",
            scaling,
            matrix_B,
            matrix_A,
            pair.key_B,
            pair.key_A,
            site,
            mirror,
            diagonal_of(pair, tensors, rank),
            magnitude_of(pair, tensors, site, matrix_B.shape[0], bool(config.get("use_dora"))),
            ruled_by,
        )


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
            RESTORE,
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
