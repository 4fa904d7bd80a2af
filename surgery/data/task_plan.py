"""Which task of lm-eval on which slice, and how its prompts are made: plain values that a recipe can keep."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from surgery.data.encoding import TOKENIZERS
from surgery.data.rendering import template_arguments
from surgery.errors import DataError

# the four the paper reports, by lm-eval's names
BENCHMARKS = ("commonsense_qa", "gsm8k", "humaneval", "ifeval")
# what a plan's values may be, and those of them that may not be None
_KINDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "offset": (int,),
    "chat_template": (bool,),
    "limit": (int,),
    "seed": (int,),
    "fewshot": (int,),
    "include_path": (str,),
    "system": (str,),
    "template_args": (str,),
    "think_end": (str, int),
    "tokenizer": (str,),
}
_NEVER_NONE = ("name", "offset", "chat_template", "system", "template_args", "tokenizer")


@dataclass(frozen=True)
class TaskPlan:
    """Which task on which slice, in plain values that a recipe can keep.

    The slice is `limit` documents (None: all) from `offset` on, of the task's own order or of a shuffle
    seeded by `seed`; they are asked in the task's order either way, as lm-eval does. A group's slice is that of
    each of its tasks, or what a smaller one has. `fewshot` replaces the task's own number of examples shown.
    `data_files` names a local file for each split, as `split` or, in a group, as `task:split`. `include_path` is
    a folder of definitions beside lm-eval's own.

    `chat_template` puts prompts into the tokenizer's template, examples as turns of their own; `template_args` are
    the template's arguments as a JSON object. `system` is lm-eval's system instruction. Of an answer counts
    what follows the last `think_end`, a text or the id of a token. `tokenizer` is as in `data.Encoding`. Raises
    `DataError` for values out of range.
    """

    name: str
    limit: int | None = None
    offset: int = 0
    seed: int | None = None
    fewshot: int | None = None
    data_files: Mapping[str, str] | None = None
    chat_template: bool = False
    include_path: str | None = None
    system: str = ""
    template_args: str = ""
    think_end: str | int | None = None
    tokenizer: str = TOKENIZERS[0]

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise DataError("a task without a name was asked for", f"name one, such as {BENCHMARKS[0]}")
        for name, least in (("limit", 1), ("offset", 0), ("fewshot", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise DataError(f"the {name} of a task cannot be {value}", f"use {least} or more")
        if self.tokenizer not in TOKENIZERS:
            raise DataError(f"tokenizer {self.tokenizer!r} is not known", f"use {' or '.join(TOKENIZERS)}")
        self._check_template()

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the chat template, by name."""
        return template_arguments(self.template_args)

    def _check_template(self) -> None:
        args = self.arguments
        if args and not self.chat_template:
            raise DataError(
                f"the template argument {next(iter(args))!r} is for prompts in the chat template, and these are plain",
                "turn the chat template on, or leave the arguments out",
            )
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
        _check_files(values.get("data_files"))
        if "name" not in values:
            raise DataError("a task without a name was asked for", f"name one, such as {BENCHMARKS[0]}")
        return cls(**values)


def _check_kind(name: str, value: Any, kinds: tuple[type, ...]) -> None:
    if type(value) not in kinds:
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise DataError(f"the {name} of a task cannot be {value!r}", f"give a value of type {wanted}")


def _check_files(files: Any) -> None:
    if files is not None and not (
        isinstance(files, Mapping) and all(isinstance(part, str) for pair in files.items() for part in pair)
    ):
        raise DataError("the data files of a task are no names by split", "write data_files: {test: FILE}")
