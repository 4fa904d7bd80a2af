"""lm-eval's task definitions: found by name, built on the hub's data or local files.

Nothing here calls a model.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from surgery.data import BENCHMARKS, TaskPlan
from surgery.errors import DataError
from surgery.evaluation.lm_eval.catalogue import close_names, collection_names, entries, task_files
from surgery.evaluation.lm_eval.code_judge import holds_judge, judge_for_code
from surgery.evaluation.lm_eval.local_data import Records, with_files
from surgery.evaluation.lm_eval.own_tasks import OwnTasks, leaves, read_folder
from surgery.evaluation.lm_eval.process_state import OTHER_SEED, refusing
from surgery.files import digest

_RUNS_CODE = re.compile(r"\bexec\(|\bsubprocess\b|\bos\.system\b")


@dataclass(frozen=True)
class BuiltTasks:
    """What a name stands for: tasks by name, in lm-eval's order, and the group that adds them up, if one does.

    `own` is the identity of definitions of a person's own, empty without any.
    """

    tasks: Mapping[str, Any]
    group: Any | None = None
    own: str = ""
    notes: tuple[str, ...] = ()


def build_tasks(plan: TaskPlan, *, trust_code: bool = False) -> BuiltTasks:
    """lm-eval's task objects for the name of a plan, seeded as `simple_evaluate` does.

    `trust_code` lets the definitions in the plan's own folder import Python. Raises `DataError` for a name that
    is not known, for data that are not there, for definitions that would run code unasked, and for a task that
    would run generated code in this process.
    """
    from lm_eval.tasks import TaskManager

    own = read_folder(plan.include_path) if plan.include_path is not None else None
    registry = _registry(plan.name, own)
    names = [name for name in _members(plan.name, registry) if name in registry]
    _check_files(plan, names)
    if any("ifeval" in name for name in names):
        has_punkt()  # before its definition goes and asks the network for it
    remedy = "check the connection to the hub, or name local files for its splits"
    with refusing(plan.name, "load", remedy), judge_for_code():
        prepared = {name: _prepared(name, registry, plan, own, trust_code) for name in names}
        manager = TaskManager(include_defaults=False)
        manager.task_index.update({**registry, **prepared})
        found = manager.load([plan.name])
    tasks = found["tasks"]
    notes = _show_examples(plan, tasks)
    return BuiltTasks(tasks, found.get("groups", {}).get(plan.name), _identity(own, prepared), notes)


def has_several_tasks(plan: TaskPlan) -> bool:
    """Whether the name is one of a group or a tag; raises `DataError` for a folder that holds no definitions."""
    held = read_folder(plan.include_path).entries if plan.include_path is not None else {}
    if plan.name in held:
        return held[plan.name].kind.name in ("GROUP", "TAG")
    single = plan.name in BENCHMARKS or plan.name in task_files()
    return not single and plan.name in collection_names()


def _registry(name: str, own: OwnTasks | None) -> dict[str, Any]:
    """lm-eval's entries that a name may lead to; its slow index is asked for groups and tags alone."""
    from lm_eval.tasks._index import Entry, Kind

    held = own.entries if own is not None else {}
    if name in held and held[name].kind in (Kind.TASK, Kind.PY_TASK):
        return {name: held[name]}
    if name not in held and name in task_files():
        return {name: Entry(name, Kind.TASK, task_files()[name])}
    if name in held and not {*task_files(), *collection_names()} & set(_members(name, held)) - set(held):
        return dict(held)
    known = {*task_files(), *collection_names(), *held}
    if name not in known:
        close = close_names(name, known)
        unread = next((f"; {file}: {why}" for file, why in own.unread.items()), "") if own is not None else ""
        raise DataError(
            f"lm-eval has no task or group called {name[:60]!r}{unread}",
            f"did you mean {' or '.join(close)}?" if close else "name one that `lm-eval ls tasks` lists",
        )
    return {**entries(), **held}


def _members(name: str, registry: Mapping[str, Any]) -> list[str]:
    """All names that a name leads to, itself among them; one that a group defines on the spot is no entry."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        if each not in found:
            found[each] = None
            entry = registry.get(each)
            if entry is not None and entry.cfg is None and entry.yaml_path is None:
                waiting += entry.tags  # a tag has tasks and no definition
            else:
                waiting += _named(entry and entry.cfg)
    return list(found)


def _named(config: Any) -> Iterator[str]:
    """What the members of a group are called, inside groups that are written there too."""
    members = (config or {}).get("task") if "group" in (config or {}) else None
    for member in [members] if isinstance(members, str) else members or []:
        if isinstance(member, str):
            yield member
        elif isinstance(member, Mapping):
            yield from [name for key in ("group", "task") if isinstance(name := member.get(key), str)]
            yield from _named(member)


def _prepared(
    name: str, registry: Mapping[str, Any], plan: TaskPlan, own: OwnTasks | None, trust_code: bool
) -> Any:
    """The entry with the settings that lm-eval is to build: checked, and on local files where there are some."""
    from lm_eval.tasks._index import Entry, Kind
    from lm_eval.tasks._yaml_loader import load_yaml

    entry = registry[name]
    records: Mapping[str, Records] | None = None
    if own is not None and own.holds(name, entry) and entry.kind is not Kind.TAG and not trust_code:
        own.check(name)
        config = dict(entry.cfg)
        records = None if entry.kind is Kind.GROUP else own.records(name)
    elif entry.kind in (Kind.GROUP, Kind.TAG):
        return entry
    else:
        config = load_yaml(entry.yaml_path)
    if entry.kind is not Kind.GROUP:
        _refuse_code_runners(name, config)
        files: dict[str, str | Records] = {**(records or {}), **_files_of(name, plan)}
        config = with_files(config, files, plan.fewshot) if files else config
    return Entry(name, entry.kind, None, config, entry.tags)


def _check_files(plan: TaskPlan, names: list[str]) -> None:
    """Raise `DataError` for a local file that is for none of the tasks."""
    several = [name for name in names if name != plan.name]
    for place in plan.data_files or {}:
        task, _, split = place.rpartition(":")
        if task and task not in names:
            raise DataError(f"{task!r} is no task of {plan.name}", f"use {(several or names)[-1]}:{split}=FILE")
        if several and not task:
            raise DataError(
                f"{plan.name} has several tasks, and the file for {split!r} names none of them",
                f"write the task before the split, as in {several[-1]}:{split}=FILE",
            )


def _files_of(name: str, plan: TaskPlan) -> dict[str, str]:
    """The plan's local files of one task, by split."""
    places = {place: place.rpartition(":") for place in plan.data_files or {}}
    files = plan.data_files or {}
    return {split: files[place] for place, (task, _, split) in places.items() if task in ("", name)}


def _show_examples(plan: TaskPlan, tasks: Mapping[str, Any]) -> tuple[str, ...]:
    """Have the tasks show as many examples as the plan says, where lm-eval lets it; tells where not."""
    fixed = [name for name, task in tasks.items() if task.get_config("num_fewshot") == 0]
    if plan.fewshot and len(fixed) == len(tasks):
        # lm-eval ignores the wish without a word
        raise DataError(
            f"{plan.name} shows no examples by its definition, not {plan.fewshot}", "leave the number out"
        )
    for task in tasks.values():
        own = task.get_config("num_fewshot")
        if own != 0 and (plan.fewshot is not None or own is None):
            task.set_config(key="num_fewshot", value=plan.fewshot or 0)
        task.set_fewshot_seed(seed=OTHER_SEED)
    if not plan.fewshot or not fixed:
        return ()
    return (f"{len(fixed)} of the {len(tasks)} tasks show no examples by their definition, as {fixed[0]}",)


def _identity(own: OwnTasks | None, prepared: Mapping[str, Any]) -> str:
    """Of what a person's own definitions say, the Python that they import included; empty without any."""
    if own is None:
        return ""
    files = [own.entries[name].yaml_path for name in sorted(prepared) if name in own.entries]
    texts = [text for file in files if file is not None for text in own.texts[file]]
    programs = {file for entry in prepared.values() for file in _programs(entry.cfg or {})}
    if programs:  # and what these may import
        programs |= set(own.folder.rglob("*.py"))
    return digest([*texts, *(file.read_text(encoding="utf-8") for file in sorted(programs))]) if texts else ""


def has_punkt() -> bool:
    """Whether nltk finds what it splits sentences by; a copy inside the llama-index-core wheel will do."""
    import nltk

    spec = find_spec("llama_index.core") if find_spec("llama_index") else None
    for folder in spec.submodule_search_locations or [] if spec else []:
        carried = str(Path(folder) / "_static" / "nltk_cache")
        if carried not in nltk.data.path:
            nltk.data.path.append(carried)
    try:
        nltk.data.find("tokenizers/punkt_tab")
    except LookupError:
        return False
    return True


def _refuse_code_runners(name: str, config: Mapping[str, Any]) -> None:
    functions = [value for value in leaves(config) if callable(value)]
    sources = [file.read_text(encoding="utf-8") for file in _programs(config)]
    runs = config.get("unsafe_code") or any(_RUNS_CODE.search(source) for source in sources)
    if runs and not any(holds_judge(function) for function in functions):
        raise DataError(
            f"the task {name!r} runs generated code in its own way",
            "choose a task whose programs a judge can take",
        )


def _programs(config: Mapping[str, Any]) -> set[Path]:
    """The files of the functions in a definition."""
    functions = [value for value in leaves(config) if callable(value)]
    named = {getattr(function, "__globals__", {}).get("__file__") for function in functions}
    return {Path(file) for file in named if file and Path(file).is_file()}
