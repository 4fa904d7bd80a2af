"""lm-eval's tasks through our engine: example by example what `lm_eval.simple_evaluate` says with its HF model."""

import json

import numpy as np
import pytest

from surgery.data import Row, TaskPlan, refuse_shared, shared_examples
from surgery.errors import DataError
from surgery.evaluation.lm_eval import Texts, load_task, run_task
from tests.helpers.lm_eval_reference import DATA, FILES, assert_same, plan, theirs
from tests.helpers.models import tiny_llama
from tests.surgery.evaluation.lm_eval.conftest import (
    OneByOne,
    byte_tokenizer,
    needs_data,
    tiny_base,
)

pytest.importorskip("lm_eval")


@needs_data
def test_a_slice_is_a_range_after_a_seeded_shuffle_and_is_asked_in_the_order_of_the_task(tmp_path):
    base = tiny_base()
    count = sum(1 for _ in (DATA / FILES["commonsense_qa"]["validation"]).open())
    for seed, offset in [(None, 7), (3, 5)]:
        task = plan("commonsense_qa", limit=4, offset=offset, seed=seed)
        order = list(range(count)) if seed is None else list(np.random.default_rng(seed).permutation(count))
        chosen = sorted(int(i) for i in order[offset : offset + 4])
        loaded = load_task(task)
        assert [sample.index for sample in loaded.documents] == chosen
        scores = run_task(loaded, OneByOne({"unedited": base.model}), base)
        assert_same(scores, "unedited", theirs(task, base, tmp_path, chosen=chosen), base.model)
    with pytest.raises(DataError, match=f"{count - 1}, but|has {count}"):
        load_task(plan("commonsense_qa", limit=2, offset=count - 1))
    assert len(load_task(plan("commonsense_qa", limit=None, offset=count - 2)).documents) == 2


def test_tasks_that_greedy_answers_cannot_serve_are_refused():
    texts = Texts(byte_tokenizer(), tiny_llama().config)
    for options, word in [
        ({"do_sample": True, "temperature": 0.7}, "samples"),
        ({"temperature": 0.2}, "samples"),
        ({"num_beams": 4}, "num_beams"),
    ]:
        with pytest.raises(DataError, match=word):
            texts.ending(options)
    with pytest.raises(DataError, match="no room in a model of 256"):
        texts.prompt("A", texts.ending({"max_gen_toks": 256}))
    for pair in [("A", ""), ("  ", ""), ("A", "b" * 300)]:
        with pytest.raises(DataError, match="scores"):
            texts.pair(*pair)


@needs_data
@pytest.mark.parametrize(
    ("task", "message"),
    [
        (TaskPlan("gsm9k"), "no task or group called 'gsm9k'.*gsm8k"),
        (TaskPlan("cruxeval_output_cot"), "runs generated code"),
        (TaskPlan("gsm8k", data_files={"test": "x"}), "split 'train'"),
        (TaskPlan("gsm8k", data_files={"test": "/none", "train": "/none"}), "no file at"),
        (plan("humaneval", fewshot=2), "humaneval shows no examples"),
        (TaskPlan("squadv2", data_files={"validation": "x"}), "makes its data by a program"),
        (plan("gsm8k", chat_template=True), "no chat template"),
    ],
)
def test_what_cannot_be_loaded_is_refused_with_a_way_forward(task, message):
    with pytest.raises(DataError, match=message) as caught:
        load_task(task)
    assert caught.value.remedy


@needs_data
def test_slices_share_examples_by_what_they_say_and_across_tasks():
    first = load_task(plan("gsm8k", limit=4))
    same = load_task(TaskPlan("gsm8k_cot", limit=3, offset=2, data_files={"test": str(DATA / "gsm8k/test.jsonl")}))
    assert [sample.hash for sample in first.documents[2:]] == [sample.hash for sample in same.documents[:2]]
    assert [(s.first, s.second) for s in shared_examples(first.documents, same.documents)] == [
        ("gsm8k 2", "gsm8k_cot 2"),
        ("gsm8k 3", "gsm8k_cot 3"),
    ]
    apart = load_task(plan("gsm8k", limit=4, offset=4))
    assert shared_examples(first.documents, apart.documents) == []
    with pytest.raises(DataError, match="calibration and test share 2 examples: gsm8k 2 is gsm8k_cot 2"):
        refuse_shared({"calibration": first.documents, "tuning": apart.documents, "test": same.documents})
    refuse_shared({"calibration": first.documents, "tuning": apart.documents})


@needs_data
@pytest.mark.parametrize("shape", ["{q}", "Question: {q}\nAnswer:", "Solve this.\n\nQ: {q}\nA:"])
def test_calibration_rows_are_recognised_in_a_task_whatever_stands_around_them(shape):
    for name, field in [("gsm8k", "question"), ("commonsense_qa", "question"), ("humaneval", "prompt")]:
        records = (DATA / next(reversed(FILES[name].values()))).read_text().splitlines()
        texts = [json.loads(line)[field] for line in records[:6]]
        texts = [text["stem"] if isinstance(text, dict) else text for text in texts]
        if name == "humaneval" and shape != "{q}":
            continue  # a prompt of several lines is found as a whole only
        rows = [Row(shape.format(q=text), "another answer") for text in texts[2:]]
        held = load_task(plan(name, limit=3)).documents
        assert [(s.first, s.second) for s in shared_examples(held, rows)] == [(f"{name} 2", "row 0")]
        assert shared_examples(held[:2], rows) == []
