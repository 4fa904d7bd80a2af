"""lm-eval's task definitions: found by name, built on the hub's data or local files, without its slow index.

Nothing here calls a model. What lm-eval changes in the process, its seeds and progress bars, is put back.
"""

import contextlib
import logging
import random
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, partialmethod
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from surgery.data import UnusableRow, parse_record
from surgery.errors import Cancelled, DataError, SurgeryError, first_line
from surgery.evaluation.lm_eval.code_judge import holds_judge, judge_for_code
from surgery.files import parquet_records, read_limited, user_path

# what simple_evaluate sets before it loads a task
RANDOM_SEED, OTHER_SEED = 0, 1234
_TASK_LINE = re.compile(rb"""^["']?task["']?:[ \t]*["']?([^"'\s#\[{]+)["']?[ \t]*(?:#.*)?\r?$""", re.MULTILINE)
_RUNS_CODE = re.compile(r"\bexec\(|\bsubprocess\b|\bos\.system\b")
_PATCHING = RLock()
_MOST_BYTES = 256 << 20  # of a task's examples as text
_MOST_RECORDS = 1_000_000


@cache
def task_files() -> Mapping[str, Path]:
    """The definition file of every single task that the installed lm-eval knows, by name (about a second).

    Raises `DataError` when lm-eval is not installed.
    """
    try:
        import lm_eval
    except ImportError as error:
        raise DataError(
            f"lm-eval is not installed ({error})", "run: pip install 'lm-eval[ifeval]==0.4.13'"
        ) from error
    folder = Path(lm_eval.__file__).parent / "tasks"
    found: dict[str, Path] = {}
    # in lm-eval's own order, where the first of two files wins
    for file in sorted(folder.rglob("*.yaml"), key=Path.as_posix):
        match = _TASK_LINE.search(file.read_bytes())
        if match is not None:
            found.setdefault(match[1].decode(), file)
    return found


def build_task(
    name: str,
    *,
    fewshot: int | None = None,
    data_files: Mapping[str, str] | None = None,
) -> Any:
    """lm-eval's task object for `name`, seeded as `simple_evaluate` does.

    `data_files` names a JSON, JSON lines or parquet file for each split in place of the task's dataset on
    the hub. Raises `DataError` for a name that lm-eval does not know, for data that is not there, and for
    a task that would run generated code in this process.
    """
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    file = task_files().get(name)
    if file is None:
        close = get_close_matches(name, task_files(), n=3)
        hint = f", or did you mean {' or '.join(close)}" if close else ""
        raise DataError(f"lm-eval has no task called {name[:60]!r}", f"name a single task, not a group{hint}")
    remedy = "check the connection to the hub, or name local files for its splits"
    if "ifeval" in name:
        has_punkt()  # before its definition goes and asks the network for it
    with refusing(name, "load", remedy), judge_for_code():
        config = load_yaml(file)
        _refuse_code_runners(name, config)
        if data_files:
            config = _with_files(config, data_files, fewshot)
        task = TaskManager(include_defaults=False).load([config])["tasks"][name]
    own = task.get_config("num_fewshot")
    if fewshot is not None and fewshot != own:
        # lm-eval ignores the wish without a word
        if own == 0:
            raise DataError(f"{name} shows no examples by its definition, not {fewshot}", "leave the number out")
        task.set_config(key="num_fewshot", value=fewshot)
    elif own is None:
        task.set_config(key="num_fewshot", value=0)
    task.set_fewshot_seed(seed=OTHER_SEED)
    return task


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


def _with_files(config: dict[str, Any], files: Mapping[str, str], fewshot: int | None) -> dict[str, Any]:
    """The definition with the splits read from files. A split that no example is drawn from may be missing."""
    name = config["task"]
    if "class" in config or config.get("custom_dataset"):
        raise DataError(f"the task {name!r} makes its data by a program", "run it without local files")
    config = dict(config)
    judged = config.get("test_split") or config.get("validation_split")
    shown = config.get("num_fewshot") if fewshot is None else fewshot
    wanted = {judged}
    given = dict(config.get("fewshot_config") or {})
    if shown and not given.get("samples"):
        split = given.get("split") or config.get("fewshot_split") or config.get("training_split")
        wanted.add(split or config.get("validation_split") or judged)
    if missing := sorted(str(split) for split in wanted if split not in files):
        raise DataError(
            f"the task {name!r} needs a file for the split {missing[0]!r}", f"name one, as in {missing[0]}=FILE"
        )
    for key in ("training_split", "validation_split", "test_split", "fewshot_split"):
        if config.get(key) not in files:
            config.pop(key, None)
    if given.get("split") not in files:
        given.pop("split", None)
    config["fewshot_config"] = given or None
    splits = {split: read_records(path) for split, path in files.items()}

    def local_dataset(**_: Any) -> Any:
        from datasets import Dataset, DatasetDict

        return DatasetDict({split: Dataset.from_list(records) for split, records in splits.items()})

    return {**config, "custom_dataset": local_dataset}


def read_records(path: str) -> list[dict[str, Any]]:
    """The objects of a `.jsonl`, `.json` (lines or one list) or `.parquet` file, all with the same fields.

    Questions in AI2's own layout (CommonsenseQA, ARC) become those of the hub. Raises `DataError`.
    """
    file = user_path(path, DataError)
    remedy = "name a JSON lines or parquet file with one object for each example"
    if not file.is_file():
        raise DataError(f"no file at {str(path)!r}", "check the path of the task's data")
    try:
        if file.suffix.lower() == ".parquet":
            records: list[Any] = [record for _, record in islice(parquet_records(file, None), _MOST_RECORDS + 1)]
        else:
            text = read_limited(file, _MOST_BYTES).decode()
            lines = (line for line in text.split("\n") if line.strip())
            records = (
                parse_record(text) if text.lstrip().startswith("[") else [parse_record(line) for line in lines]
            )
    except DataError:
        raise
    except UnusableRow as error:
        raise DataError(f"a line of {file.name!r} {error.problem}", remedy) from error
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{file.name!r} could not be read ({first_line(error, kind=True)})", remedy) from error
    if not records or not all(isinstance(record, dict) for record in records):
        raise DataError(f"{file.name!r} holds no list of objects", remedy)
    if len(records) > _MOST_RECORDS:
        raise DataError(f"{file.name!r} holds more than {_MOST_RECORDS:,} examples", "use a part of them")
    records = [_hub_layout(record) for record in records]
    names = dict.fromkeys(name for record in records for name in record)
    return [{name: record.get(name) for name in names} for record in records]


def _hub_layout(record: dict[str, Any]) -> dict[str, Any]:
    question = record.get("question")
    if not isinstance(question, dict) or not {"stem", "choices"} <= set(question):
        return record
    choices = {part: [choice.get(part) for choice in question["choices"]] for part in ("label", "text")}
    others = {name: value for name, value in question.items() if name not in ("stem", "choices")}
    return {**record, **others, "question": question["stem"], "choices": choices}


def _refuse_code_runners(name: str, config: Mapping[str, Any]) -> None:
    functions = [value for value in _leaves(config) if callable(value)]
    files = {getattr(function, "__globals__", {}).get("__file__") for function in functions}
    sources = [Path(file).read_text(encoding="utf-8") for file in files if file and Path(file).is_file()]
    runs = config.get("unsafe_code") or any(_RUNS_CODE.search(source) for source in sources)
    if runs and not any(holds_judge(function) for function in functions):
        raise DataError(
            f"the task {name!r} runs generated code in its own way",
            "choose a task whose programs a judge can take",
        )


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if not isinstance(value, list):
        yield value
        return
    for part in value:
        yield from _leaves(part)


@dataclass(frozen=True)
class RandomState:
    """The state of the global generators of Python, numpy and torch."""

    python: Any
    numpy: Any
    torch: Any

    @classmethod
    def now(cls) -> "RandomState":
        import torch

        return cls(random.getstate(), np.random.get_state(), torch.get_rng_state())

    @classmethod
    def of_lm_eval(cls) -> "RandomState":
        """The state right after the seeds that `simple_evaluate` sets."""
        import torch

        with kept_random_state():
            random.seed(RANDOM_SEED)
            np.random.seed(OTHER_SEED)
            # of the processor alone: torch.manual_seed would leave those of the accelerators changed
            torch.default_generator.manual_seed(OTHER_SEED)
            return cls.now()

    def restore(self) -> None:
        import torch

        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)


@contextlib.contextmanager
def kept_random_state(start: RandomState | None = None) -> Iterator[None]:
    """Whatever draws inside leaves the global generators as they were; `start` is what it draws from."""
    before = RandomState.now()
    if start is not None:
        start.restore()
    try:
        yield
    finally:
        before.restore()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep progress bars, warnings and prints of lm-eval and its data loaders off the standard streams' way.

    Bars and warnings for the author of a task are dropped; what is printed goes to standard error, for a
    command's output may be read by a program.
    """
    import datasets
    from tqdm.std import tqdm

    bar: Any = tqdm
    log = logging.getLogger("lm_eval")
    with _PATCHING, contextlib.redirect_stdout(sys.stderr):
        original, enabled, level = bar.__init__, datasets.is_progress_bar_enabled(), log.level
        bar.__init__ = partialmethod(original, disable=True)
        datasets.disable_progress_bars()
        log.setLevel(logging.ERROR)
        try:
            yield
        finally:
            bar.__init__ = original
            log.setLevel(level)
            if enabled:
                datasets.enable_progress_bars()


@contextlib.contextmanager
def refusing(name: str, doing: str, remedy: str = "choose another task or slice") -> Iterator[None]:
    """Definitions of tasks are programs of many authors: whatever they raise becomes a `DataError`."""
    try:
        yield
    except (SurgeryError, Cancelled):
        raise
    except Exception as error:
        raise DataError(
            f"lm-eval could not {doing} the task {name!r} ({first_line(error, kind=True)})", remedy
        ) from error
