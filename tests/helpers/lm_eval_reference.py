"""What `lm_eval.simple_evaluate` says with its own HF model, and how our scores are held against it."""

import json
from pathlib import Path
from typing import Any

import pytest

from surgery.data import TaskPlan, content_key
from surgery.evaluation.lm_eval import Program, judge_for_code, judging, load_task, task_files
from surgery.model import LoadedBase
from tests.helpers.rounding import assert_losses

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "datasets"
FILES = {
    "commonsense_qa": {"validation": "commonsenseqa/dev_rand_split.jsonl"},
    "gsm8k": {"train": "gsm8k/train.jsonl", "test": "gsm8k/test.jsonl"},
    "humaneval": {"test": "humaneval/HumanEval.jsonl"},
    "ifeval": {"train": "ifeval/input_data.jsonl"},
}


def plan(name: str, limit: int = 2, **changes: Any) -> TaskPlan:
    files = {split: str(DATA / file) for split, file in FILES[name].items()}
    return TaskPlan(name, limit=limit, **{"data_files": files, **changes})


def shortened(task: TaskPlan, tokens: int, tokenizer: Any = None) -> tuple[Any, dict[str, Any]]:
    """The loaded task with answers of few tokens, and the option that gives lm-eval the same."""
    loaded = load_task(task, tokenizer)
    options = {}
    for request in loaded.requests:
        if request.request_type == "generate_until":
            request.args[1]["max_gen_toks"] = tokens
            options = {"gen_kwargs": {"max_gen_toks": tokens}}
    return loaded, options


def judge(program: Program) -> bool:
    """An opinion that depends on every letter of the program; nothing is run."""
    return content_key([program.text])[0] in "01234567"


def theirs(
    task: TaskPlan,
    base: LoadedBase,
    folder: Path,
    chosen: list[int] | None = None,
    batch_size: int = 1,
    **options: Any,
) -> Any:
    """`simple_evaluate` with lm-eval's HF model on its own reading of the same files."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks._yaml_loader import load_yaml

    files = {}
    for split, file in task.data_files.items():
        files[split] = file
        if "commonsenseqa" in file:  # the hub's layout, which their reader does not make
            files[split] = str(folder / f"{split}.jsonl")
            Path(files[split]).write_text("\n".join(map(hub_question, Path(file).read_text().splitlines())))
    with judge_for_code():
        config = load_yaml(task_files()[task.name])
    for key in ("training_split", "validation_split", "fewshot_split"):
        if config.get(key) not in files:
            config.pop(key, None)
    config |= {"dataset_path": "json", "dataset_name": None}
    config["dataset_kwargs"] = {"data_files": files, "cache_dir": str(folder)}
    slice_ = {"limit": task.limit} if chosen is None else {"samples": {task.name: chosen}}
    with judging(judge):
        return lm_eval.simple_evaluate(
            model=HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=batch_size),
            tasks=[config],
            num_fewshot=task.fewshot,
            task_manager=TaskManager(include_defaults=False),
            bootstrap_iters=0,
            confirm_run_unsafe_code=True,
            apply_chat_template=task.chat_template,
            **slice_,
            **options,
        )


def theirs_by_name(name: str, folder: Path, base: LoadedBase, model: Any = (), **options: Any) -> Any:
    """`simple_evaluate` of a name that lm-eval finds in a folder, as its command does; `model` are HFLM's arguments."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    return lm_eval.simple_evaluate(
        model=HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=1, **dict(model)),
        tasks=[name],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        **options,
    )


def hub_question(line: str) -> str:
    row = json.loads(line)
    choices = row["question"]["choices"]
    return json.dumps(
        {
            "id": row["id"],
            "question": row["question"]["stem"],
            "question_concept": row["question"]["question_concept"],
            "choices": {"label": [c["label"] for c in choices], "text": [c["text"] for c in choices]},
            "answerKey": row["answerKey"],
        }
    )


def assert_same(scores: Any, variant: str, results: Any, model: Any) -> None:
    """Prompts, responses, metrics per example and aggregates of a variant that `model` runs."""
    name = scores.plan.name
    for task, rows in results["samples"].items():
        places = [i for i, document in enumerate(scores.documents) if document.task == task]
        _assert_same_rows(scores, variant, places, rows, model)
        prefix = "" if task == name else f"{task}/"
        _assert_same_totals(scores.aggregates[variant], prefix, results["results"][task])
    for group, totals in results.get("groups", {}).items():
        _assert_same_totals(scores.aggregates[variant], "" if group == name else f"{group}/", totals)
    expected = results["higher_is_better"][next(iter(results["samples"]))]
    assert scores.higher_is_better == expected[scores.metric.split(",")[0]]


def _assert_same_rows(scores: Any, variant: str, places: list[int], rows: Any, model: Any) -> None:
    for key in dict.fromkeys(row["filter"] for row in rows):
        for i, row in zip(places, [row for row in rows if row["filter"] == key], strict=True):
            sample = scores.documents[i]
            assert sample.index == row["doc_id"]
            assert sample.prompt == row["arguments"][0][0]
            assert sample.target == str(row["target"])
            for ours, (response,) in zip(scores.responses[variant][i], row["resps"], strict=True):
                if isinstance(ours, tuple):
                    assert_losses(ours[0], response[0], model)
                    assert ours[1] == response[1]
                elif isinstance(ours, str):
                    assert ours == response
                else:
                    assert_losses(ours, response, model)
            for metric in row["metrics"]:
                value = scores.values[variant][f"{metric},{key}"][i]
                assert value == (pytest.approx(row[metric], abs=1e-3) if isinstance(value, float) else row[metric])


def _assert_same_totals(ours: Any, prefix: str, theirs: Any) -> None:
    expected = {k: v for k, v in theirs.items() if "," in k and "_stderr" not in k}
    assert {k for k in ours if k.startswith(prefix) and "/" not in k[len(prefix) :]} == {
        prefix + k for k in expected
    }
    for key, value in expected.items():
        assert ours[prefix + key] == pytest.approx(value, rel=1e-4)
