"""Open a trained PEFT LoRA from its folder, without its base model.

Everything is read from `adapter_config.json` and the weights beside it. What cannot be edited
exactly is refused with the reason; tensors that are not LoRA factors are carried along untouched.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from numpy import ndarray

from surgery.adapter.adalora import AdaLoraRules, is_adalora, refuse_other_factors, refuse_unloadable
from surgery.adapter.factors import Factors, check_factor, diagonal_of, magnitude_of
from surgery.adapter.lora_config import CONFIG_FILE, LoraRules, initialisation, read_config, refuse_unsupported
from surgery.adapter.module_paths import families_of, in_layer_order, layers_of
from surgery.adapter.scope import scope_note
from surgery.adapter.tensor_names import SAVE_AGAIN, FactorPair, depths_of, pair_factors, parameter_of, sites_of
from surgery.adapter.tokenizer_files import TokenizerFiles, read_tokenizer_files
from surgery.adapter.weights import read_weights, weights_digest
from surgery.errors import AdapterError, SurgeryError
from surgery.files import demo_folder, digest, is_demo, user_path

_MOST_MODULES = 100_000


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as its files hold it.

    `tensors` has every tensor of the file in its own dtype; `extra` names those that are not LoRA
    factors; `digest` is the SHA-256 of config and weights; `notes` are things worth telling; `tokenizer`
    is what training saved of one beside the weights, and is no part of the digest. `pruned` are modules
    of which AdaLoRA left nothing.
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


def open_adapter(source: str | Path) -> Adapter:
    """Open `source`, a folder or `demo:NAME`.

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
    folder = _folder(adapter.source)
    try:
        now = digest([(folder / CONFIG_FILE).read_bytes(), weights_digest(folder)])
    except OSError:
        return
    if now != adapter.digest:
        raise AdapterError(
            f"the files of {adapter.source!r} have changed since they were opened",
            "open it again, or restore the files; nothing was written",
        )


def _folder(source: str) -> Path:
    return demo_folder(source) if is_demo(source) else user_path(source, AdapterError)


def _open(text: str) -> Adapter:
    folder = _folder(text)
    if not folder.is_dir():
        raise AdapterError(f"no folder at {text!r}", "name the folder that holds adapter_config.json")
    config, config_bytes = read_config(folder, text)
    refuse_unsupported(config)
    if is_adalora(config):
        refuse_unloadable(config)
    weights = read_weights(folder, text)
    pairs, extra = pair_factors(weights.tensors)
    refuse_other_factors(config, pairs)
    _refuse_tied(pairs, weights.tensors, config)
    rules = AdaLoraRules(config, [pair.module for pair in pairs]) if is_adalora(config) else LoraRules(config)
    depths = depths_of(pairs)
    found: list[Factors] = []
    for pair in pairs:
        found.extend(_factors(pair, depths, weights.tensors, config, rules))
        if len(found) > _MOST_MODULES:
            raise AdapterError(
                f"the file adapts more than {_MOST_MODULES:,} modules", "use the adapter of a real model"
            )
    modules = {factors.name: factors for factors in _with_families(found)}
    pruned = tuple(sorted({pair.module for pair in pairs}.difference(each.site.module for each in found)))
    if not modules:
        raise AdapterError(
            "AdaLoRA pruned every module to rank 0: the adapter changes nothing", "open another one"
        )
    tokenizer = read_tokenizer_files(folder)
    return Adapter(
        source=text,
        config=config,
        config_bytes=config_bytes,
        metadata=weights.metadata,
        tensors=weights.tensors,
        modules=modules,
        extra=tuple(extra),
        digest=digest([config_bytes, weights.sha256]),
        notes=(*_notes(config, modules, extra), *_kind_notes(modules, pruned), *_tokenizer_notes(tokenizer)),
        tokenizer=tokenizer,
        pruned=pruned,
    )


def _factors(
    pair: FactorPair,
    depths: Mapping[str, list[int]],
    tensors: Mapping[str, ndarray],
    config: Mapping[str, Any],
    rules: LoraRules,
) -> Iterable[Factors]:
    """The module behind a pair of keys, or one for every expert; families and layers are told later."""
    B, A = tensors[pair.key_B], tensors[pair.key_A]
    targeted = rules.targets(pair.module)
    parameters = [] if targeted else rules.parameters(pair.module)
    if parameters:
        path = f"{pair.module}.{parameter_of(pair, depths, parameters)}"
    elif targeted is False or pair.depth:
        raise AdapterError(
            f"the file has factors for {pair.module!r}, which the config does not target: PEFT would ignore them",
            "restore the adapter_config.json that belongs to these weights",
        )
    else:
        path = pair.module
    rank, scaling = rules.rank_and_scaling(path)
    for name, site in sites_of(pair, path, bool(parameters), A, B, rank):
        matrix_B, matrix_A = site.out_by_rank(B), site.rank_by_in(A)
        if matrix_A.shape[0] != rank or matrix_B.shape[1] != rank:
            raise AdapterError(
                f"module {name!r} has rank {matrix_A.shape[0]} (A) and {matrix_B.shape[1]} (B) "
                f"where the config says {rank}",
                "restore the adapter_config.json that belongs to these weights",
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
        )


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


def _notes(config: Mapping[str, Any], modules: Mapping[str, Factors], extra: list[str]) -> Iterable[str]:
    if extra:
        yield f"{len(extra)} tensors are not LoRA factors (biases or saved modules); they are copied untouched"
    if config.get("use_rslora") and not is_adalora(config):
        yield "rank-stabilised scaling (α/√r)"
    if len({factors.rank for factors in modules.values()}) > 1:
        yield "ranks differ between modules"
    zero = sum(not factors.B.any() or not factors.right.any() for factors in modules.values())
    if zero:
        yield f"{zero} modules have an all-zero factor and change nothing"
    if note := scope_note(modules):
        yield note
    if any(factors.mirror for factors in modules.values()):
        yield "MiCA freezes B, so edits are written into A"
    if config.get("layer_replication"):
        yield "layers of the base model are replicated; every copy has its own update"
    if config.get("alora_invocation_tokens"):
        yield "activated LoRA acts after its invocation tokens only: it can be edited, not calibrated"
    if initialisation(config).startswith("lora_ga"):
        yield "LoRA-GA initialisation changed the base weights in training; the file is read as plain LoRA"


def _kind_notes(modules: Mapping[str, Factors], pruned: Sequence[str]) -> Iterable[str]:
    if any(factors.magnitude is not None for factors in modules.values()):
        yield (
            "DoRA: σ and directions are of the update before normalisation; PEFT scales every output of W + ΔW to "
            "its trained magnitude, which an edit leaves as it is"
        )
    if any(factors.diagonal is not None for factors in modules.values()):
        yield "AdaLoRA: σ and directions are of the whole update s·B·diag(E)·A, and edits are written into B"
    if pruned:
        which = "1 module" if len(pruned) == 1 else f"{len(pruned)} modules"
        yield f"AdaLoRA pruned {which} to rank 0, which change nothing"


def _tokenizer_notes(tokenizer: TokenizerFiles) -> Iterable[str]:
    if tokenizer.unread:
        yield f"the folder's tokenizer cannot be read ({tokenizer.unread}), so rows need the base model's"
    elif tokenizer.has_vocabulary:
        yield "the folder has a tokenizer of its own, which reads the rows"
