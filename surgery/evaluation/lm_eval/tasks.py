"""Benchmarks on held-out examples: lm-eval's own tasks, loaded for one slice and asked by this project's engine.

lm-eval makes the prompts: few-shot examples, chat turns, stop texts. `run_task` has the answers scored.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from surgery.data import TaskDocument, TaskPlan, task_document
from surgery.errors import DataError
from surgery.evaluation.lm_eval.code_judge import uses_judge
from surgery.evaluation.lm_eval.definitions import build_tasks, has_punkt
from surgery.evaluation.lm_eval.process_state import RandomState, kept_random_state, quiet, refusing
from surgery.evaluation.lm_eval.requests import chat_prompt
from surgery.files import digest
from surgery.progress import SILENT, Control

KINDS = ("loglikelihood", "loglikelihood_rolling", "generate_until")
# instructions of IFEval whose check splits sentences or words with data that nltk fetches
_NEED_PUNKT = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


@dataclass(frozen=True)
class LoadedTask:
    """A task of lm-eval with the requests of one slice, or the tasks of a group; `needs_judge` where its answers
    are programs.

    `tasks` are by name, in lm-eval's order; `group` adds them up, None where none does. `own` is the identity of
    a person's own definitions, and `notes` tell what of the plan was not done.
    """

    plan: TaskPlan
    documents: tuple[TaskDocument, ...]
    needs_judge: bool
    tasks: Mapping[str, Any] = field(repr=False)
    state: RandomState = field(repr=False)
    group: Any | None = field(default=None, repr=False)
    own: str = ""
    notes: tuple[str, ...] = ()

    @property
    def is_single(self) -> bool:
        """Whether the name is that of one task, and of no group or tag."""
        return self.group is None and list(self.tasks) == [self.plan.name]

    @property
    def requests(self) -> list[Any]:
        """What the model is asked: the requests of all tasks, in order."""
        return [request for task in self.tasks.values() for request in task.instances]

    @property
    def places(self) -> list[list[int]]:
        """Of each document, the places of its requests among all."""
        known = {id(request): place for place, request in enumerate(self.requests)}
        return [[known[id(each)] for each in group] for task in self.tasks.values() for group in by_document(task)]

    @property
    def digest(self) -> str:
        """Identity of what the model is asked: the requests, in order."""
        return digest(repr(request.args) for request in self.requests)

    @property
    def scoring(self) -> tuple[str, ...]:
        """Identity of what scores the answers beyond lm-eval's own definition; empty where that alone does."""
        thought = "" if self.plan.think_end is None else repr(self.plan.think_end)
        return tuple(f"{name} {value}" for name, value in (("own", self.own), ("thought", thought)) if value)


def load_task(
    plan: TaskPlan, tokenizer: Any = None, *, trust_code: bool = False, control: Control = SILENT
) -> LoadedTask:
    """Load a task and make the requests of its slice; for a worker thread, seconds or a download long.

    plan: the task and its slice.
    tokenizer: needed for its chat template only.
    trust_code: whether definitions in the plan's own folder may import Python.
    control: is asked whether to go on.

    Raises `DataError` for a task that cannot be loaded or asked, a slice that is empty or longer than the task,
    and `Cancelled`.
    """
    if plan.chat_template and not getattr(tokenizer, "chat_template", None):
        raise DataError("the tokenizer has no chat template", "use the task without it")
    control.heed()
    with quiet(), kept_random_state(RandomState.of_lm_eval()):
        built = build_tasks(plan, trust_code=trust_code)
        documents: list[TaskDocument] = []
        for name, task in built.tasks.items():
            control.heed()
            with refusing(name, "ask"):
                documents += _asked(plan, name, task, tokenizer, several=len(built.tasks) > 1)
        judged = any(uses_judge(task) for task in built.tasks.values())
        state = RandomState.now()
    return LoadedTask(plan, tuple(documents), judged, built.tasks, state, built.group, built.own, built.notes)


def _asked(plan: TaskPlan, name: str, task: Any, tokenizer: Any, *, several: bool) -> list[TaskDocument]:
    """Make the requests of the slice of one task; its documents."""
    chosen = _slice(plan, name, len(task.eval_docs), several=several)
    render = partial(chat_prompt, tokenizer, plan.arguments) if plan.chat_template else None
    task.build_all_requests(
        samples=frozenset(chosen),
        system_instruction=plan.system or None,
        apply_chat_template=plan.chat_template,
        fewshot_as_multiturn=True,
        chat_template=render,
    )
    _refuse_requests(plan, name, task)
    return [_document(name, task, i, group) for i, group in zip(chosen, by_document(task), strict=True)]


def _slice(plan: TaskPlan, name: str, count: int, *, several: bool) -> list[int]:
    """The numbers of the documents; of `several` tasks a small one gives what it has."""
    wanted = count - plan.offset if plan.limit is None else plan.limit
    if several:
        wanted = min(wanted, count - plan.offset)
    if wanted < 1 or plan.offset + wanted > count:
        raise DataError(
            f"{max(wanted, 0)} examples from offset {plan.offset} were asked for, but {name} has {count}",
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


def _refuse_requests(plan: TaskPlan, name: str, task: Any) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise DataError(f"the task {name!r} shows pictures or sound", "choose a task of texts alone")
    kinds = {request.request_type for request in task.instances}
    if unknown := sorted(kinds - set(KINDS)):
        raise DataError(f"the task {name!r} makes requests of kind {unknown[0]!r}", f"use {', '.join(KINDS)}")
    if plan.arguments.get("enable_thinking") and "loglikelihood" in kinds:
        raise DataError(
            f"{name} compares likelihoods, and the template's thinking is on",
            "set enable_thinking to false, or choose a task that generates text",
        )
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
    """The requests of a task, those of one document together."""
    groups: dict[int, list[Any]] = {}
    for request in task.instances:
        groups.setdefault(request.doc_id, []).append(request)
    return [sorted(groups[number], key=lambda request: request.idx) for number in sorted(groups)]
