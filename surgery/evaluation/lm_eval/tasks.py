"""Benchmarks on held-out examples: lm-eval's own tasks, loaded for one slice and asked by this project's engine.

lm-eval makes the prompts: few-shot examples, chat turns, stop texts. `task_scores` has the answers scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any

import numpy as np

from surgery.data import TaskDocument, task_document
from surgery.errors import DataError
from surgery.evaluation.lm_eval.code_judge import uses_judge
from surgery.evaluation.lm_eval.definitions import (
    RandomState,
    build_task,
    has_punkt,
    kept_random_state,
    quiet,
    refusing,
)
from surgery.evaluation.lm_eval.requests import chat_prompt
from surgery.files import digest
from surgery.progress import SILENT, Control

# the four the paper reports, by lm-eval's names
BENCHMARKS = ("commonsense_qa", "gsm8k", "humaneval", "ifeval")
KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
# instructions of IFEval whose check splits sentences or words with data that nltk fetches
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


@dataclass(frozen=True)
class TaskPlan:
    """Which task on which slice, in plain values that a recipe can keep.

    The slice is `limit` documents (None: all) from `offset` on, of the task's own order or of a shuffle
    seeded by `seed`; they are asked in the task's order either way, as lm-eval does. `fewshot` replaces the
    task's own number of examples shown. `data_files` names a local file for each split. `chat_template`
    puts prompts into the tokenizer's template, examples as turns of their own. Raises `DataError` for values out of range.
    """

    name: str
    limit: int | None = None
    offset: int = 0
    seed: int | None = None
    fewshot: int | None = None
    data_files: Mapping[str, str] | None = None
    chat_template: bool = False

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise DataError("a task without a name was asked for", f"name one, such as {BENCHMARKS[0]}")
        for name, least in (("limit", 1), ("offset", 0), ("fewshot", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise DataError(f"the {name} of a task cannot be {value}", f"use {least} or more")

    def values(self) -> dict[str, Any]:
        """The plan as a recipe writes it: what is not at its default."""
        given = asdict(self)
        return {f.name: given[f.name] for f in fields(self) if f.name == "name" or given[f.name] != f.default}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "TaskPlan":
        """The plan that `values()` wrote; raises `DataError` for anything else."""
        kinds = {"name": str, "limit": int, "offset": int, "seed": int, "fewshot": int, "chat_template": bool}
        if unknown := sorted(set(values) - {f.name for f in fields(cls)}):
            raise DataError(
                f"a task has no setting {unknown[0]!r}", f"use {', '.join(f.name for f in fields(cls))}"
            )
        for name, kind in kinds.items():
            value = values.get(name)
            if (
                name in values
                and type(value) is not kind
                and not (value is None and name not in ("name", "offset"))
            ):
                raise DataError(
                    f"the {name} of a task cannot be {value!r}", f"give a value of type {kind.__name__}"
                )
        files = values.get("data_files")
        if files is not None and not (
            isinstance(files, Mapping) and all(isinstance(part, str) for pair in files.items() for part in pair)
        ):
            raise DataError("the data files of a task are no names by split", "write data_files: {test: FILE}")
        if "name" not in values:
            raise DataError("a task without a name was asked for", f"name one, such as {BENCHMARKS[0]}")
        return cls(**values)


@dataclass(frozen=True)
class LoadedTask:
    """A task of lm-eval with the requests of one slice; `needs_judge` where its answers are programs."""

    plan: TaskPlan
    documents: tuple[TaskDocument, ...]
    needs_judge: bool
    task: Any = field(repr=False)
    state: RandomState = field(repr=False)

    @property
    def digest(self) -> str:
        """Identity of what the model is asked: the requests, in order."""
        return digest(repr(request.args) for request in self.task.instances)


def load_task(plan: TaskPlan, tokenizer: Any = None, *, control: Control = SILENT) -> LoadedTask:
    """Load a task and make the requests of its slice; for a worker thread, seconds or a download long.

    The tokenizer is needed for its chat template only. Raises `DataError` for a task that cannot be loaded or
    asked, a slice that is empty or longer than the task, and `Cancelled`.
    """
    if plan.chat_template and not getattr(tokenizer, "chat_template", None):
        raise DataError("the tokenizer has no chat template", "use the task without it")
    control.heed()
    with quiet(), kept_random_state(RandomState.of_lm_eval()):
        task = build_task(plan.name, fewshot=plan.fewshot, data_files=plan.data_files)
        control.heed()
        with refusing(plan.name, "ask"):
            chosen = _slice(plan, len(task.eval_docs))
            task.build_all_requests(
                samples=frozenset(chosen),
                apply_chat_template=plan.chat_template,
                fewshot_as_multiturn=True,
                chat_template=partial(chat_prompt, tokenizer) if plan.chat_template else None,
            )
            _refuse_requests(plan.name, task)
            groups = zip(chosen, by_document(task), strict=True)
            documents = tuple(_document(plan.name, task, index, requests) for index, requests in groups)
        return LoadedTask(plan, documents, uses_judge(task), task, RandomState.now())


def _slice(plan: TaskPlan, count: int) -> list[int]:
    wanted = count - plan.offset if plan.limit is None else plan.limit
    if wanted < 1 or plan.offset + wanted > count:
        raise DataError(
            f"{max(wanted, 0)} examples from offset {plan.offset} were asked for, but {plan.name} has {count}",
            "lower the number of examples or the offset",
        )
    order = np.arange(count) if plan.seed is None else np.random.default_rng(plan.seed).permutation(count)
    return sorted(int(index) for index in order[plan.offset : plan.offset + wanted])


def _document(name: str, task: Any, index: int, requests: Sequence[Any]) -> TaskDocument:
    document = requests[0].doc
    return task_document(
        document,
        task=name,
        index=index,
        prompt=str(requests[0].args[0]),
        target=str(task.doc_to_target(document)),
        question=str(task.doc_to_text(document)),
    )


def _refuse_requests(name: str, task: Any) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise DataError(f"the task {name!r} shows pictures or sound", "choose a task of texts alone")
    kinds = {request.request_type for request in task.instances}
    if unknown := sorted(kinds - set(KINDS)):
        raise DataError(f"the task {name!r} makes requests of kind {unknown[0]!r}", f"use {', '.join(KINDS)}")
    needed = {kind for request in task.instances for kind in _instructions(request.doc)} & _NEED_PUNKT
    if needed and not has_punkt():
        raise DataError(
            f"{name} checks {sorted(needed)[0]} with nltk's sentence data, which is not on this machine",
            "run: python -m nltk.downloader punkt_tab, or where only PyPI is reached: "
            "pip install --no-deps llama-index-core, which carries it",
        )


def _instructions(document: Any) -> Sequence[str]:
    return document.get("instruction_id_list") or () if isinstance(document, Mapping) else ()


def by_document(task: Any) -> list[list[Any]]:
    groups: dict[int, list[Any]] = {}
    for request in task.instances:
        groups.setdefault(request.doc_id, []).append(request)
    return [sorted(groups[number], key=lambda request: request.idx) for number in sorted(groups)]
