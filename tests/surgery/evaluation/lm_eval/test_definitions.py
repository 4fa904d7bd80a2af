"""Tasks built from lm-eval's definitions on files of this machine, without a trace in this process."""

import json
import random
import threading

import numpy as np
import pytest
import torch

from surgery.data import TaskPlan
from surgery.errors import DataError
from surgery.evaluation.lm_eval import load_task, run_task
from surgery.model import LoadedBase
from tests.helpers.lm_eval_reference import assert_same, plan, theirs
from tests.surgery.evaluation.lm_eval.conftest import OneByOne, needs_data, tiny_base

OTHERS = {
    # shows none of its five examples' split, which no file is named for
    "mmlu_anatomy": (
        "test",
        [{"question": "Which bone?", "subject": "anatomy", "choices": ["a", "th", "A b", "er"], "answer": 2}],
    ),
    "lambada_openai": ("test", [{"text": "A b a the other C"}, {"text": "one more Time"}]),
    "wikitext": ("test", [{"page": "A b = a the other C . " * 30}, {"page": "B"}]),
    "winogrande": (
        "validation",
        [{"sentence": "Ann met Bea and _ was glad.", "option1": "Ann", "option2": "Bea", "answer": "2"}],
    ),
    "arc_easy": (
        "test",
        [
            {
                "id": "1",
                "question": {
                    "stem": "Why?",
                    "choices": [{"label": "A", "text": "so"}, {"label": "B", "text": "a t"}],
                },
                "answerKey": "B",
            }
        ],
    ),
}


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("name", OTHERS)
def test_other_tasks_come_by_name_on_files_of_one_s_own(name, suffix, tmp_path):
    split, rows = OTHERS[name]
    file = tmp_path / f"rows.{suffix}"
    if suffix == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        file.write_text(json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows)))
    task = TaskPlan(name, data_files={split: str(file)})
    base = tiny_base(bos=True, length=64)
    scores = run_task(load_task(task), OneByOne({"unedited": base.model}), base)
    assert len(scores.documents) == len(rows)
    if suffix == "jsonl" and name != "arc_easy":
        assert_same(scores, "unedited", theirs(task, base, tmp_path), base.model)


def test_global_seeds_are_left_alone(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "A b C"}')
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = [random.random(), np.random.rand(), float(torch.rand(()))]
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    base = LoadedBase(None, None, "", "")
    state = torch.get_rng_state()
    loaded = load_task(TaskPlan("lambada_openai", data_files={"test": str(file)}))
    base = tiny_base()
    torch.set_rng_state(state)
    run_task(loaded, OneByOne({"a": base.model}), base)
    assert [random.random(), np.random.rand(), float(torch.rand(()))] == expected


@needs_data
def test_a_task_loads_in_a_thread_without_the_hub_and_says_nothing(monkeypatch, capfd):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    found = []
    thread = threading.Thread(target=lambda: found.append(load_task(plan("gsm8k"))))
    thread.start()
    thread.join()
    assert len(found[0].documents) == 2
    assert found[0].documents[0].prompt.count("Question:") == 6
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@needs_data
def test_sentence_data_that_is_missing_is_named_before_any_model_runs(monkeypatch):
    monkeypatch.setattr("surgery.evaluation.lm_eval.tasks.has_punkt", lambda: False)
    with pytest.raises(DataError, match="punkt_tab"):
        load_task(plan("ifeval", limit=100))
    assert load_task(plan("ifeval")).documents
