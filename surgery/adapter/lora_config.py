"""What an `adapter_config.json` says: which variants of LoRA are refused, and the rules for a module.

Ranks, alphas and targets follow PEFT's own matching, so that what opens here is what PEFT would load.
"""

import math
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from surgery.adapter.config_file import CONFIG_FILE
from surgery.adapter.conversions import refuse_changed_base, refuse_type
from surgery.errors import AdapterError
from surgery.files import compile_pattern, seconds_of

_PATTERN_SECONDS = 0.5
_LITERAL = re.compile(r"(?P<whole>\^?)(?P<path>(?:[\w.-]|\\\.)+)\$?")
LARGEST_ALPHA = 1e30
RESTORE = "restore the adapter_config.json that belongs to these weights"
_PLAIN = "train it again as a plain LoRA"
_UNSUPPORTED = {
    "use_qalora": ("QA-LoRA pools its inputs", _PLAIN),
    "arrow_config": ("Arrow routes between adapters", "open one of the routed adapters"),
    "megatron_config": ("Megatron layers split their factors", _PLAIN),
    "kasa_config": ("KaSA truncates the base weights and trains a diagonal of its own", _PLAIN),
    "use_bdlora": ("block-diagonal LoRA splits its factors into blocks", _PLAIN),
    "enable_lora": ("merged projections of PEFT before 0.3 pack several updates into one tensor", _PLAIN),
}
# what PEFT trains and saves whole for a task, whether the config names it or not
_HEADS = {
    **dict.fromkeys(("SEQ_CLS", "TOKEN_CLS"), ("classifier", "score")),
    "QUESTION_ANS": ("qa_outputs",),
}
# what has another forward pass or no norm of its rows; PEFT refuses each of them beside DoRA
_NOT_WITH_DORA = (
    "lora_bias",
    "target_parameters",
    "alora_invocation_tokens",
    "velora_config",
    "monteclora_config",
)


def refuse_unsupported(config: Mapping[str, Any]) -> None:
    """Raise `AdapterError` for every variant whose update is not s·B·A on unchanged base weights."""
    if "fine_tune_type" in config or "lora_parameters" in config:
        raise AdapterError(
            "this is an MLX adapter, not a PEFT one", "convert it with: surgery convert ADAPTER --out NEW_FOLDER"
        )
    kind = config.get("peft_type")
    if kind is None:
        raise AdapterError(
            f"{CONFIG_FILE} names no peft_type, so PEFT did not write it", "restore the file peft wrote"
        )
    refuse_type(kind, ("LORA", "ADALORA"))
    for switch, (reason, remedy) in _UNSUPPORTED.items():
        if config.get(switch):
            raise AdapterError(f"{switch} is set: {reason}", remedy)
    start = initialisation(config)
    if config.get("use_dora"):
        beside = [switch for switch in _NOT_WITH_DORA if config.get(switch)] + ["mica"] * (start == "mica")
        if beside:
            raise AdapterError(f"use_dora is set beside {beside[0]}, and PEFT loads no such adapter", RESTORE)
    refuse_changed_base(start)


def initialisation(config: Mapping[str, Any]) -> str:
    """The named initialisation in lower case; empty for PEFT's default."""
    start = config.get("init_lora_weights")
    return start.lower() if isinstance(start, str) else ""


def is_rank(value: Any) -> bool:
    """Whether a setting is a rank: a positive whole number."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_alpha(value: Any) -> bool:
    """Whether a setting is a number that updates can be scaled by."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST_ALPHA


class LoraRules:
    """Rank, scaling and targets by module path, as PEFT resolves them.

    All patterns of one config share half a second of the processor: they come from a file.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._seconds_left = _PATTERN_SECONDS
        self._compiled: dict[str, Any] = {}
        self._patterns: dict[str, _Patterns] = {}
        targets, excluded = config.get("target_modules"), config.get("exclude_modules") or []
        self._targets = _names(targets) if isinstance(targets, list) else frozenset()
        self._excluded_names = frozenset() if isinstance(excluded, str) else _names(excluded)
        layers = config.get("layers_to_transform")
        self._layers = frozenset([layers] if isinstance(layers, int) else layers or [])
        self._parameters: dict[str, set[str]] = defaultdict(set)
        parameters = config.get("target_parameters") or []
        if not isinstance(parameters, list) or not all(isinstance(target, str) for target in parameters):
            raise AdapterError("target_parameters is no list of names", RESTORE)
        for target in parameters:
            module, _, name = target.rpartition(".")
            self._parameters[module].add(name)

    def rank_and_scaling(self, name: str) -> tuple[int, float]:
        """Rank r and scaling α/r, or α/√r for rsLoRA; the first matching pattern wins."""
        rank = self._by_pattern("rank_pattern", name, self._config.get("r"))
        alpha = self._by_pattern("alpha_pattern", name, self._config.get("lora_alpha"))
        if not is_rank(rank):
            raise AdapterError(f"rank {rank!r} of module {name!r} is no positive whole number", RESTORE)
        if not is_alpha(alpha):
            raise AdapterError(f"lora_alpha {alpha!r} of module {name!r} is no number", RESTORE)
        return rank, float(alpha) / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def parameters(self, module: str) -> tuple[list[str], list[str]]:
        """The raw parameters that `target_parameters` names together with `module`, and those it names alone.

        A name that stands alone means the parameter in whatever module has one.
        """
        named = {name for end in _ends(module) for name in self._parameters.get(end, ())}
        return sorted(named), sorted(self._parameters.get("", set()) - named)

    def targets(self, module: str) -> bool | None:
        """Whether the config targets the module at this path; None where the config leaves it to PEFT."""
        targets = self._config.get("target_modules")
        if targets is None and not self._config.get("target_parameters"):
            return None
        if isinstance(targets, str) and targets.lower() == "all-linear":
            return None
        if self._excluded(module):
            return False
        if not targets:
            return False
        if isinstance(targets, str):
            return self._matches(targets, module, whole=True)
        if not isinstance(targets, list):
            raise AdapterError("target_modules is no list of names", RESTORE)
        return module in self._targets or (
            not self._targets.isdisjoint(_ends(module)) and self._layer_is_transformed(module)
        )

    def _excluded(self, module: str) -> bool:
        excluded = self._config.get("exclude_modules") or []
        if isinstance(excluded, str):
            return self._matches(excluded, module, whole=True)
        saved = [*(self._config.get("modules_to_save") or []), *_HEADS.get(str(self._config.get("task_type")), ())]
        if not saved and not self._excluded_names:
            return False
        return not self._excluded_names.isdisjoint(_ends(module)) or any(
            self._matches(rf"(^|.*\.){name}($|\..*)", module, whole=False) for name in saved
        )

    def _layer_is_transformed(self, module: str) -> bool:
        if not self._layers:
            return True
        patterns = self._config.get("layers_pattern") or []
        # the first number of the path counts; PEFT wants a component before an unnamed stack
        forms = [
            rf"(?:^|.*?\.){p}\.(?P<index>\d+)\." for p in ([patterns] if isinstance(patterns, str) else patterns)
        ]
        for form in forms or [r".*?\.[^.]*\.(?P<index>\d+)\."]:
            found = self._search(form, module)
            if found:
                return int(found["index"]) in self._layers
        return False

    def _by_pattern(self, setting: str, name: str, default: Any) -> Any:
        """PEFT's rule: the first pattern that matches the end of the name, whole components, wins."""
        patterns = self._config.get(setting) or {}
        if not isinstance(patterns, dict):
            raise AdapterError(f"{setting} is no list of names and values", RESTORE)
        if not patterns:
            return default
        if setting not in self._patterns:
            self._patterns[setting] = _Patterns(patterns)
        began = time.thread_time()
        try:
            seconds_of(self._seconds_left)
            first = self._patterns[setting].first_path(name)
        except TimeoutError as error:
            raise AdapterError(f"{setting} takes too long to look through ({error})", "simplify it") from error
        finally:
            self._seconds_left -= time.thread_time() - began
        for position, expression in self._patterns[setting].expressions:
            if position < first and self._matches(rf"(.*\.)?({expression})$", name, whole=False):
                first = position
                break
        return default if first is math.inf else self._patterns[setting].values[int(first)]

    def _matches(self, pattern: str, text: str, *, whole: bool) -> bool:
        return bool(self._search(rf"(?:{pattern})\Z" if whole else pattern, text))

    def _search(self, pattern: str, text: str) -> Any:
        # processor time, because a busy machine makes any clock run
        began = time.thread_time()
        try:
            if pattern not in self._compiled:
                self._compiled[pattern] = compile_pattern(pattern)
            return self._compiled[pattern].match(text, timeout=seconds_of(self._seconds_left))
        except (TimeoutError, ValueError) as error:
            raise AdapterError(
                f"pattern {pattern[:80]!r} in the config cannot be used ({error})", "simplify the pattern"
            ) from error
        finally:
            self._seconds_left -= time.thread_time() - began


class _Patterns:
    """The patterns of a setting. Most are plain paths, one for every module, and are looked up, not tried.

    A path may be anchored at its start, and then stands for the whole name, and have its dots escaped. With a bare
    dot it also matches names that have another letter there. Such a name is as long and has fewer dots; with as many
    dots it is the path itself.
    """

    def __init__(self, patterns: Mapping[str, Any]) -> None:
        self.values = list(patterns.values())
        self.expressions: list[tuple[int, str]] = []
        self._ends, self._wholes = _Paths(), _Paths()
        for position, pattern in enumerate(patterns):
            literal = _LITERAL.fullmatch(pattern)
            bare = literal["path"].replace(r"\.", "") if literal else ""
            if literal is None or ("." in bare and r"\." in pattern):
                self.expressions.append((position, pattern))
            else:
                paths = self._wholes if literal["whole"] else self._ends
                paths.add(literal["path"].replace(r"\.", "."), position, bare="." in bare)

    def first_path(self, name: str) -> float:
        """The position of the first plain path that matches the end of `name`, infinity for none."""
        return min(self._wholes.first(name), min(map(self._ends.first, _ends(name)), default=math.inf))


class _Paths:
    """Plain paths by their text and, where they have bare dots, by length and number of dots."""

    def __init__(self) -> None:
        self._exact: dict[str, int] = {}
        self._by_length: dict[int, dict[int, list[tuple[int, str]]]] = defaultdict(lambda: defaultdict(list))

    def add(self, path: str, position: int, *, bare: bool) -> None:
        self._exact.setdefault(path, position)
        if bare:
            self._by_length[len(path)][path.count(".")].append((position, path))

    def first(self, text: str) -> float:
        """The position of the first path that matches all of `text`, infinity for none."""
        found: list[float] = [self._exact.get(text, math.inf)]
        for dots, paths in self._by_length.get(len(text), {}).items():
            if dots > text.count("."):
                found += [at for at, path in paths if all(p in (c, ".") for p, c in zip(path, text, strict=True))]
        return min(found)


def _names(listed: Any) -> frozenset[str]:
    return frozenset(map(str, listed))


def _ends(path: str) -> Iterator[str]:
    """The path, and what is left of it without its first component, its first two, and so on."""
    while path:
        yield path
        path = path.partition(".")[2]
