"""A folder of one's own definitions is data: what would run or read beyond it is refused with a way out."""

import json
import sys
import time
from pathlib import Path

import pytest

from surgery.data import TaskPlan
from surgery.errors import DataError
from surgery.evaluation.lm_eval import load_task, run_task
from tests.helpers.lm_eval_reference import assert_same, theirs_by_name
from tests.helpers.own_tasks import own_tasks
from tests.surgery.evaluation.lm_eval.conftest import OneByOne, tiny_base

SIMPLE = """
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/mine.jsonl}}
output_type: generate_until
test_split: test
doc_to_text: "{{question}}"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 3}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
PROGRAM = """
from pathlib import Path

Path(__file__).with_name("was-run").touch()

def shout(document):
    return document["question"].upper()
"""


def definition(folder: Path, changed: str = "", to: str = "", text: str = SIMPLE) -> Path:
    rows = [{"question": "red or blue?", "answer": "red"}, {"question": "one or two?", "answer": "one"}]
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert changed in text
    (folder / "mine.yaml").write_text(
        text.replace(changed, to, 1 if changed else 0).replace("FOLDER", str(folder))
    )
    return folder


def load(folder: Path, name: str = "mine", **options):
    return load_task(TaskPlan(name, include_path=str(folder)), **options)


def test_python_that_a_definition_names_runs_for_a_trusted_folder_alone(tmp_path, datasets_cache):
    folder = definition(tmp_path, '"{{question}}"', "!function helpers.shout")
    (folder / "helpers.py").write_text(PROGRAM)
    with pytest.raises(DataError, match=r"imports Python \('helpers.shout'\)") as caught:
        load(folder)
    assert "--trust-task-code" in caught.value.remedy
    assert not (folder / "was-run").exists()
    loaded = load(folder, trust_code=True)
    assert (folder / "was-run").exists()
    base = tiny_base()
    scores = run_task(loaded, OneByOne({"a": base.model}), base)
    assert scores.documents[0].prompt == "RED OR BLUE?"
    assert_same(scores, "a", theirs_by_name("mine", folder, base), base.model)
    sys.modules.pop(str(folder / "helpers"))


def test_code_asks_for_trust_wherever_it_stands(tmp_path):
    folder = definition(tmp_path)
    (folder / "part").write_text("doc_to_text: !function os.getcwd\n")
    for number, text in enumerate(
        [
            "include: part\ntask: other",
            "task: other\nmetric_list: [{metric: !function os.getcwd}]",
            "task: other\nclass: !function os.getcwd",
            "task: other\ncustom_dataset: !function os.getcwd",
            "task: other\nuse_prompt: promptsource:*",
            "task: other\nmetric_list: [{metric: code_eval, hf_evaluate: true}]",
            "task: other\nmetric_list: [{metric: ./evil.py}]",
            "group: other\ntask: [{task: mine, process_docs: !function os.getcwd}]",
            "group: other\ntask: [mine, inner]",
        ]
    ):
        (folder / "other.yaml").write_text(text)
        (folder / "inner.yaml").write_text("task: inner\nprocess_results: !function os.getcwd")
        with pytest.raises(DataError) as caught:
            load(folder, "other")
        assert "--trust-task-code" in caught.value.remedy, (number, caught.value)
    # what is not asked for is not looked at
    assert len(load(folder).documents) == 2


@pytest.mark.parametrize(
    ("changed", "to", "said"),
    [
        ("FOLDER/mine.jsonl", "/etc/passwd", "no file inside"),
        ("FOLDER/mine.jsonl", "../outside.jsonl", "no file inside"),
        ("FOLDER/mine.jsonl", "https://example.org/a.jsonl", "no file inside"),
        ("FOLDER/mine.jsonl", "FOLDER/link.jsonl", "no file inside"),
        ("{data_files: {test: FOLDER/mine.jsonl}}", "{data_dir: /etc}", "has the setting 'data_dir'"),
        ("dataset_path: json", "dataset_path: FOLDER", "no data set of the hub"),
        ("dataset_path: json", "dataset_path: ./data", "no data set of the hub"),
        ("dataset_path: json", "dataset_path: pandas", "no data set of the hub"),
        ("dataset_path: json", "dataset_path: owner/name", "to come from '/"),
        ("task: mine", "include: ../outside.yaml\ntask: mine", "outside of the folder"),
        ("task: mine", "include: mine.yaml\ntask: mine", "includes itself"),
    ],
)
def test_no_path_in_a_definition_leads_out_of_its_folder(changed, to, said, tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    (tmp_path / "outside.jsonl").write_text('{"question": "a", "answer": "b"}')
    (tmp_path / "outside.yaml").write_text("test_split: test")
    (folder / "link.jsonl").symlink_to(tmp_path / "outside.jsonl")
    with pytest.raises(DataError, match=said) as caught:
        load(definition(folder, changed, to))
    assert caught.value.remedy


def test_files_beside_the_definition_and_files_that_a_person_names_are_read(tmp_path):
    folder = definition(tmp_path, "FOLDER/mine.jsonl", "mine.jsonl")
    assert len(load(folder).documents) == 2
    (tmp_path / "one.jsonl").write_text('{"question": "a", "answer": "b"}')
    plan = TaskPlan("mine", include_path=str(folder), data_files={"test": str(tmp_path / "one.jsonl")})
    assert [document.prompt for document in load_task(plan).documents] == ["a"]
    both = definition(tmp_path, "FOLDER/mine.jsonl", "[mine.jsonl, one.jsonl]")
    assert [document.prompt for document in load(both).documents][2:] == ["a"]


@pytest.mark.parametrize(
    "attack", ["{{ question.__class__.__mro__ }}", "{{ ''.__class__.__base__.__subclasses__() }}"]
)
def test_a_template_reaches_no_python(attack, tmp_path):
    with pytest.raises(DataError, match=r"SecurityError|unsafe"):
        load(definition(tmp_path, "{{question}}", attack))


def test_what_is_no_definition_is_named_where_the_task_is_missed(tmp_path):
    folder = definition(tmp_path)
    with pytest.raises(DataError, match="no task or group called 'miner'") as caught:
        load(folder, "miner")
    assert "mine" in caught.value.remedy
    (folder / "bad.yaml").write_text("task: [")
    with pytest.raises(DataError, match=r"bad\.yaml' could not be read"):
        load(folder, "bad")
    for place, said in [(tmp_path / "none", "no folder at"), (tmp_path / "empty", "no task is defined")]:
        if "defined" in said:
            place.mkdir()
        with pytest.raises(DataError, match=said):
            load(place)


def test_files_that_include_each_other_many_times_over_are_refused_at_once(tmp_path):
    folder = definition(tmp_path, "task: mine", "include: [part0, part0]\ntask: mine")
    for number in range(40):
        below = [f"part{number + 1}"] * 2 if number < 39 else []
        (folder / f"part{number}").write_text(f"include: {below}\ntest_split: test")
    begun = time.monotonic()
    with pytest.raises(DataError, match="includes more than 64 files"):
        load(folder)
    assert time.monotonic() - begun < 10


def test_a_definition_that_changes_is_another_question_and_lm_eval_s_own_is_the_same(tmp_path):
    first = load(definition(tmp_path))
    assert load(tmp_path).scoring == first.scoring
    other = load(
        definition(tmp_path, "exact_match, aggregation: mean", "exact_match, ignore_case: true, aggregation: mean")
    )
    assert other.digest == first.digest
    assert other.scoring != first.scoring
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "A b C"}')
    assert load_task(TaskPlan("lambada_openai", data_files={"test": str(file)})).scoring == ()


def test_a_definition_of_one_s_own_comes_before_lm_eval_s(tmp_path):
    folder = definition(tmp_path, "task: mine", "task: gsm8k")
    assert load(folder, "gsm8k").documents[0].prompt == "red or blue?"


def test_an_own_group_may_hold_lm_eval_s_tasks(tmp_path):
    folder = own_tasks(tmp_path / "own", colours=2, words=2)
    rows = [{"question": "Which bone?", "subject": "anatomy", "choices": ["a", "th", "A b", "er"], "answer": 2}]
    (tmp_path / "anatomy.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "both.yaml").write_text(
        "group: both\ntask: [colours, mmlu_anatomy]\naggregate_metric_list: [{metric: acc}]"
    )
    files = {"mmlu_anatomy:test": str(tmp_path / "anatomy.jsonl")}
    loaded = load_task(TaskPlan("both", include_path=str(folder), data_files=files))
    assert [document.task for document in loaded.documents] == ["colours", "colours", "mmlu_anatomy"]
