"""Which task of lm-eval on which slice, and how its prompts are made: plain values that a recipe can keep."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from surgery.errors import DataError, first_line

# the four the paper reports, by lm-eval's names
BENCHMARKS = ("commonsense_qa", "gsm8k", "humaneval", "ifeval")
# what a plan's values may be; None is allowed for all but the first two
_KINDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "offset": (int,),
    "chat_template": (bool,),
    "limit": (int,),
    "seed": (int,),
    "fewshot": (int,),
    "include_path": (str,),
    "system": (str,),
    "think_end": (str, int),
}
_NEVER_NONE = ("name", "offset", "chat_template")
# arguments of the rendering itself, which lm-eval sets
_RENDERING = ("conversation", "tokenize", "add_generation_prompt", "continue_final_message")


@dataclass(frozen=True)
class TaskPlan:
    """Which task on which slice, in plain values that a recipe can keep.

    The slice is `limit` documents (None: all) from `offset` on, of the task's own order or of a shuffle
    seeded by `seed`; they are asked in the task's order either way, as lm-eval does. A group's slice is that of
    each of its tasks, or what a smaller one has. `fewshot` replaces the task's own number of examples shown.
    `data_files` names a local file for each split, as `split` or, in a group, as `task:split`. `include_path` is
    a folder of definitions beside lm-eval's own.

    `chat_template` puts prompts into the tokenizer's template, examples as turns of their own, with
    `template_args` as the template's arguments. `system` is lm-eval's system instruction. Of an answer counts
    what follows the last `think_end`, a text or the id of a token. Raises `DataError` for values out of range.
    """

    name: str
    limit: int | None = None
    offset: int = 0
    seed: int | None = None
    fewshot: int | None = None
    data_files: Mapping[str, str] | None = None
    chat_template: bool = False
    include_path: str | None = None
    system: str | None = None
    template_args: Mapping[str, Any] | None = None
    think_end: str | int | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise DataError("a task without a name was asked for", f"name one, such as {BENCHMARKS[0]}")
        for name, least in (("limit", 1), ("offset", 0), ("fewshot", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise DataError(f"the {name} of a task cannot be {value}", f"use {least} or more")
        self._check_template()

    def _check_template(self) -> None:
        args = self.template_args or {}
        if args and not self.chat_template:
            raise DataError(
                f"the template argument {next(iter(args))!r} is for prompts in the chat template, and these are plain",
                "turn the chat template on, or leave the arguments out",
            )
        if taken := sorted(set(args) & set(_RENDERING)):
            raise DataError(f"the template argument {taken[0]!r} is set by lm-eval itself", "leave it out")
        if args.get("enable_thinking") and self.think_end in (None, ""):
            raise DataError(
                "the template's thinking is on, and nothing says where a thought ends",
                "name its end, which is </think> for most models, or set enable_thinking to false",
            )

    def values(self) -> dict[str, Any]:
        """The plan as a recipe writes it: what is not at its default."""
        given = asdict(self)
        return {f.name: given[f.name] for f in fields(self) if f.name == "name" or given[f.name] != f.default}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TaskPlan":
        """The plan that `values()` wrote; raises `DataError` for anything else."""
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise DataError(
                f"a task has no setting {unknown[0]!r}", f"use {', '.join(f.name for f in fields(cls))}"
            )
        for name, value in values.items():
            if name in _KINDS and not (value is None and name not in _NEVER_NONE):
                _check_kind(name, value, _KINDS[name])
        _check_mappings(values)
        if "name" not in values:
            raise DataError("a task without a name was asked for", f"name one, such as {BENCHMARKS[0]}")
        return cls(**values)


def parse_template_args(text: str | None, where: str) -> dict[str, Any] | None:
    """The arguments that a JSON text holds, None where there is none; raises `DataError`, naming `where` it stands."""
    if not (text or "").strip():
        return None
    remedy = 'write an object, as {"enable_thinking": false}'
    try:
        found = json.loads(text or "")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} {text!r} is not JSON ({first_line(error)})", remedy) from error
    if not isinstance(found, dict):
        raise DataError(f"{where} {text!r} is no object of arguments by name", remedy)
    return found or None


def _check_kind(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if type(value) not in kinds:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise DataError(f"the {name} of a task cannot be {value!r}", f"give a value of type {wanted}")


def _check_mappings(values: Mapping[str, Any]) -> None:
    files, args = values.get("data_files"), values.get("template_args")
    if files is not None and not (
        isinstance(files, Mapping) and all(isinstance(part, str) for pair in files.items() for part in pair)
    ):
        raise DataError("the data files of a task are no names by split", "write data_files: {test: FILE}")
    if args is not None and not (isinstance(args, Mapping) and all(isinstance(name, str) for name in args)):
        raise DataError(
            "the template arguments of a task are no values by name",
            "write template_args: {enable_thinking: false}",
        )
