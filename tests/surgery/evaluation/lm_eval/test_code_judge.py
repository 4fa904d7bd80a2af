"""Programs that a task asks for are judged once, apart from this process."""

import json
from types import SimpleNamespace

import pytest

from surgery.data import TaskPlan
from surgery.errors import DataError
from surgery.evaluation.lm_eval import Program, load_task, run_task, sandboxed
from tests.helpers.lm_eval_reference import DATA, plan, shortened
from tests.surgery.evaluation.lm_eval.conftest import OneByOne, byte_tokenizer, engine_of, needs_data


@needs_data
def test_programs_need_a_judge_and_each_is_judged_once(bases):
    loaded, _ = shortened(plan("humaneval"), 5)
    assert loaded.needs_judge
    with pytest.raises(DataError, match=r"programs.*judge"):
        run_task(loaded, engine_of(bases), bases["unedited"])
    seen: list[Program] = []

    def accept(program: Program) -> bool:
        seen.append(program)
        return True

    twice = OneByOne({"a": bases["unedited"].model})
    scores = run_task(loaded, twice, bases["unedited"], judge=accept)
    assert scores.aggregates["a"]["pass@1,create_test"] == 1
    assert len(seen) == 2
    assert seen[0].candidate == loaded.documents[0].prompt + scores.responses["a"][0][0]
    assert seen[0].text.endswith("check(has_close_elements)")


@needs_data
def test_the_sandbox_judges_the_programs_of_humaneval_and_of_mbpp(bases):
    sandbox = pytest.importorskip("surgery.sandbox")
    try:
        inside = sandboxed(sandbox.open_sandbox())
    except sandbox.SandboxError as error:
        pytest.skip(f"no sandbox here: {error.problem}")
    row = json.loads((DATA / "humaneval" / "HumanEval.jsonl").read_text().splitlines()[0])
    loaded, _ = shortened(plan("humaneval", limit=1), 1)
    for answer, right in [(row["canonical_solution"], 1), ("    return True", 0)]:
        engine = SimpleNamespace(generate=lambda prompts, a=answer, **_: {"a": [byte_tokenizer()(a).input_ids]})
        scores = run_task(loaded, engine, bases["unedited"], judge=inside)
        assert scores.numbers("a").tolist() == [right]
    rows = [json.loads(line) for line in (DATA / "mbpp" / "mbpp.jsonl").read_text().splitlines()[10:12]]
    loaded = load_task(
        TaskPlan("mbpp", limit=2, offset=10, data_files={"test": str(DATA / "mbpp" / "mbpp.jsonl")})
    )
    answers = [byte_tokenizer()(text).input_ids for text in (rows[0]["code"], "def f(): pass")]
    engine = SimpleNamespace(generate=lambda prompts, **_: {"a": answers})
    assert run_task(loaded, engine, bases["unedited"], judge=inside).numbers("a").tolist() == [1, 0]
