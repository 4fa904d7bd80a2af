"""lm-eval's tasks through our engine: example by example what `lm_eval.simple_evaluate` says with its HF model."""

import copy
import json
import random
import threading
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from surgery.adapter import open_adapter
from surgery.data import Row, refuse_shared, shared_examples, task_document
from surgery.errors import Cancelled, DataError
from surgery.evaluation.lm_eval import Program, TaskPlan, Texts, load_task, run_task, sandboxed
from surgery.files import DEMO_BASE, home
from surgery.model import CACHE, LiveModel, LoadedBase, load_base
from surgery.progress import SILENT, Control
from surgery.spectra import decompose
from tests.helpers.lm_eval_reference import DATA, FILES, assert_same, judge, plan, shortened, theirs
from tests.helpers.models import tiny_llama
from tests.helpers.rounding import assert_clear_choice

pytest.importorskip("lm_eval")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the benchmarks' files are not at {DATA}")
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class Scored:
    log_likelihood: float
    greedy: bool


class OneByOne:
    """The engine's interface over whole models, one request at a time, without a cache shared by requests."""

    def __init__(self, variants: dict[str, Any]) -> None:
        self.variants = variants

    @torch.no_grad()
    def log_likelihoods(self, requests, *, control=SILENT):
        return {name: [self._score(model, *pair) for pair in requests] for name, model in self.variants.items()}

    def _score(self, model, context, continuation):
        ids = torch.tensor([[*context, *continuation]])
        logits = model(ids[:, :-1]).logits[0, -len(continuation) :].log_softmax(-1)
        right = torch.tensor(continuation)
        total = float(logits.gather(1, right[:, None]).sum())
        return Scored(total, bool((logits.argmax(-1) == right).all()))

    @torch.no_grad()
    def generate(self, prompts, *, max_new_tokens, stop=None, control=SILENT):
        return {
            name: [self._answer(model, i, ids, max_new_tokens[i], stop) for i, ids in enumerate(prompts)]
            for name, model in self.variants.items()
        }

    def _answer(self, model, index, prompt, limit, stop):
        ends = model.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        answer, given, cache = [], torch.tensor([prompt]), None
        while len(answer) < limit:
            out = model(given, use_cache=True, **{CACHE: cache})
            assert_clear_choice(model, out.logits[0, -1])
            token = int(out.logits[0, -1].argmax())
            if token in ends:
                break
            answer.append(token)
            if stop(index, answer):
                break
            given, cache = torch.tensor([[token]]), out[CACHE]
        return answer


def byte_tokenizer(*, bos: bool = False) -> PreTrainedTokenizerFast:
    """One token per byte, a chat template, and with `bos` an <s> before every text."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {word: i for i, word in enumerate(["<s>", "</s>", *letters, *BIGRAMS])}
    tokenizer = Tokenizer(models.BPE(words, [tuple(pair) for pair in BIGRAMS], unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>" if bos else None, eos_token="</s>", chat_template=TEMPLATE
    )


# a space that joins the letter after it shows where context and continuation are split
BIGRAMS = ["Ġa", "ĠA", "ĠB", "ĠC", "Ġt", "th", "er", ":Ċ"]


def tiny_base(*, seed: int = 0, bos: bool = False, length: int = 8192) -> LoadedBase:
    model = tiny_llama(seed, vocab_size=266, num_hidden_layers=2, max_position_embeddings=length, eos_token_id=1)
    return LoadedBase(model, byte_tokenizer(bos=bos), "tiny", "tiny")


@pytest.fixture(autouse=True)
def no_survey_of_the_machine(monkeypatch):
    """lm-eval lists every installed package after each run, which takes seconds."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)
    monkeypatch.setattr("lm_eval.evaluator.get_git_commit_hash", lambda: None)


@pytest.fixture(scope="module")
def bases() -> dict[str, LoadedBase]:
    return {"unedited": tiny_base(), "edited": tiny_base(seed=1)}


def engine_of(bases: dict[str, LoadedBase]) -> OneByOne:
    return OneByOne({name: base.model for name, base in bases.items()})


METRICS = {
    "commonsense_qa": "acc,none",
    "gsm8k": "exact_match,strict-match",
    "humaneval": "pass@1,create_test",
    "ifeval": "prompt_level_strict_acc,none",
}


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_scores_each_variant_as_simple_evaluate_does(name, bases, tmp_path):
    task = plan(name)
    loaded, options = shortened(task, 60)
    scores = run_task(loaded, engine_of(bases), bases["unedited"], judge=judge)
    assert scores.metric == METRICS[name]
    assert scores.higher_is_better
    for variant, base in bases.items():
        assert_same(scores, variant, theirs(task, base, tmp_path, **options), base.model)
    assert scores.responses["unedited"] != scores.responses["edited"]
    assert scores.numbers("edited").shape == (2,)
    assert scores.notes == ()


@needs_data
@pytest.mark.parametrize("name", FILES)
def test_the_engine_scores_variants_of_an_adapter_as_simple_evaluate_scores_them_one_by_one(name, tmp_path):
    engine = pytest.importorskip("surgery.model.engine")
    base = tiny_base()
    adapter = open_adapter(adapter_for(base, tmp_path / "adapter"))
    spectra = decompose(adapter)
    sigma = {module: 3.0 * spectrum.sigma for module, spectrum in spectra.items()}
    task = plan(name)
    loaded, options = shortened(task, 25)
    with LiveModel(base, adapter, spectra) as live:
        variants = {"unedited": None, "threefold": sigma}
        scores = run_task(loaded, engine.VariantEngine(live, variants), live.base, judge=judge)
        for variant, values in variants.items():
            live.set_sigma(values)
            assert_same(scores, variant, theirs(task, base, tmp_path, **options), base.model)
    assert scores.responses["unedited"] != scores.responses["threefold"]


def adapter_for(base: LoadedBase, folder: Path) -> Path:
    config = LoraConfig(r=2, lora_alpha=16, target_modules=["o_proj", "down_proj"], init_lora_weights=False)
    torch.manual_seed(2)
    get_peft_model(copy.deepcopy(base.model), config).save_pretrained(folder)
    return folder


@pytest.mark.demo
@needs_data
@pytest.mark.parametrize("name", FILES)
def test_a_benchmark_on_the_demo_base_is_that_of_simple_evaluate(name, demo_base, tmp_path):
    # the five examples of gsm8k make a thousand tokens
    task = plan(name, limit=1 if name == "gsm8k" else 3)
    loaded, options = shortened(task, 10)
    scores = run_task(loaded, OneByOne({"unedited": demo_base.model}), demo_base, judge=judge)
    assert_same(scores, "unedited", theirs(task, demo_base, tmp_path, **options), demo_base.model)


@needs_data
def test_answers_are_as_long_as_the_task_allows_and_no_longer_than_fits(tmp_path):
    base = tiny_base(length=1600)
    for name, tokens in [("gsm8k", 256), ("humaneval", 1024), ("ifeval", 1280)]:
        texts = Texts(base.tokenizer, base.model.config)
        (request,) = load_task(plan(name, limit=1)).task.instances
        ending = texts.ending(request.args[1])
        assert ending.new_tokens == tokens
        assert len(texts.prompt(request.args[0] * 20, ending)) == 1600 - tokens


@pytest.fixture(scope="module")
def demo_base() -> LoadedBase:
    if not list((home() / "bases").glob("*/model.safetensors")):
        pytest.skip("the demo base is not in the cache of SURGERY_HOME")
    return load_base(DEMO_BASE)


@needs_data
@pytest.mark.parametrize("bos", [False, True])
@pytest.mark.parametrize("name", ["commonsense_qa", "gsm8k"])
def test_long_prompts_and_special_tokens_are_treated_as_by_the_hf_model(name, bos, tmp_path):
    # 5 examples of gsm8k and the choices of a question are longer than the model
    base = tiny_base(bos=bos, length=128)
    task = plan(name)
    loaded, options = shortened(task, 30)
    scores = run_task(loaded, OneByOne({"unedited": base.model}), base)
    assert_same(scores, "unedited", theirs(task, base, tmp_path, **options), base.model)


@needs_data
@pytest.mark.parametrize("name", ["commonsense_qa", "gsm8k"])
def test_chat_templates_are_those_of_the_hf_model(name, tmp_path):
    base = tiny_base(bos=True)
    task = plan(name, fewshot=2, chat_template=True) if name == "gsm8k" else plan(name, chat_template=True)
    loaded, options = shortened(task, 20, base.tokenizer)
    assert loaded.documents[0].prompt.startswith("<|user|>")
    scores = run_task(loaded, OneByOne({"unedited": base.model}), base)
    assert_same(scores, "unedited", theirs(task, base, tmp_path, **options), base.model)


@needs_data
def test_a_slice_is_a_range_after_a_seeded_shuffle_and_is_asked_in_the_order_of_the_task(tmp_path):
    base = tiny_base()
    count = sum(1 for _ in (DATA / FILES["commonsense_qa"]["validation"]).open())
    for seed, offset in [(None, 7), (3, 5)]:
        task = plan("commonsense_qa", limit=4, offset=offset, seed=seed)
        order = list(range(count)) if seed is None else list(np.random.default_rng(seed).permutation(count))
        chosen = sorted(int(i) for i in order[offset : offset + 4])
        loaded = load_task(task)
        assert [document.index for document in loaded.documents] == chosen
        scores = run_task(loaded, OneByOne({"unedited": base.model}), base)
        assert_same(scores, "unedited", theirs(task, base, tmp_path, chosen=chosen), base.model)
    with pytest.raises(DataError, match=f"{count - 1}, but|has {count}"):
        load_task(plan("commonsense_qa", limit=2, offset=count - 1))
    assert len(load_task(plan("commonsense_qa", limit=None, offset=count - 2)).documents) == 2


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


@needs_data
def test_generation_stops_where_the_hf_model_stops():
    from lm_eval.models.utils_hf import MultiTokenEOSCriteria

    tokenizer = byte_tokenizer()
    texts = Texts(tokenizer, tiny_llama().config)
    ending = texts.ending({"until": ["th er", "\n\n", "</s>"], "do_sample": False, "max_gen_toks": 9})
    assert ending.until == ("th er", "\n\n", "</s>")
    stops = texts.stops([ending])
    rng = np.random.default_rng(0)
    pieces = [*tokenizer("th er \n:").input_ids, 1]
    ended = 0
    for _ in range(60):
        ids = [int(i) for i in rng.choice(pieces, 24)]
        for length in range(1, 25):
            criteria = [MultiTokenEOSCriteria(text, tokenizer, 2, 1) for text in ending.until]
            whole = torch.tensor([[5, 5, *ids[:length]]])
            expected = any(criterion(whole, None) for criterion in criteria)
            assert stops(0, ids[:length]) == expected
            ended += expected
    assert 0 < ended < 60 * 24


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
        (TaskPlan("gsm9k"), "no task called 'gsm9k'.*gsm8k"),
        (TaskPlan("mmlu"), "not a group"),
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
def test_sentence_data_that_is_missing_is_named_before_any_model_runs(monkeypatch):
    monkeypatch.setattr("surgery.evaluation.lm_eval.tasks.has_punkt", lambda: False)
    with pytest.raises(DataError, match="punkt_tab"):
        load_task(plan("ifeval", limit=100))
    assert load_task(plan("ifeval")).documents


def test_a_plan_survives_a_recipe():
    task = TaskPlan("gsm8k", limit=8, seed=1, data_files={"test": "a.jsonl"}, chat_template=True)
    assert TaskPlan.of(json.loads(json.dumps(task.values()))) == task
    assert TaskPlan("ifeval").values() == {"name": "ifeval"}
    for values in [
        {"name": "a", "limt": 1},
        {"name": "a", "limit": "3"},
        {"limit": 1},
        {"name": "a", "data_files": 3},
    ]:
        with pytest.raises(DataError):
            TaskPlan.of(values)
    for changes in [{"limit": 0}, {"offset": -1}, {"fewshot": -1}, {"name": " "}]:
        with pytest.raises(DataError):
            TaskPlan(**{"name": "a", **changes})


@needs_data
def test_slices_share_examples_by_what_they_say_and_across_tasks():
    first = load_task(plan("gsm8k", limit=4))
    same = load_task(TaskPlan("gsm8k_cot", limit=3, offset=2, data_files={"test": str(DATA / "gsm8k/test.jsonl")}))
    assert [document.hash for document in first.documents[2:]] == [
        document.hash for document in same.documents[:2]
    ]
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


def test_documents_that_share_a_topic_or_hold_numbers_alone_are_not_the_same():
    def sample(index: int, document: dict[str, Any], question: str) -> Any:
        return task_document(document, task="t", index=index, prompt=question, target="", question=question)

    topic = "how to remove ice from a car"
    about = [
        sample(
            i, {"topic": topic, "raw": f"[step] {i}"}, f"{topic}: a sentence, number {i}, made of it by the task"
        )
        for i in (1, 2)
    ]
    assert shared_examples(about[:1], about[1:]) == []
    numbers = [sample(i, {"a": i, "b": 2}, f"{i} + 2 =") for i in (1, 2)]
    assert shared_examples(numbers[:1], numbers[1:]) == []
    again = sample(7, {"b": "x", "text": f"{topic} 1"}, f"{topic}  1")
    assert len(shared_examples([again], [sample(8, {"other": f"{topic} 1 "}, f"Q: {topic} 1")])) == 1


def test_cancelling_ends_loading_and_scoring(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "A b C"}')
    task = TaskPlan("lambada_openai", data_files={"test": str(file)})
    with pytest.raises(Cancelled):
        load_task(task, control=Control(cancelled=lambda: True))
    base = tiny_base()
    with pytest.raises(Cancelled):
        run_task(load_task(task), OneByOne({"a": base.model}), base, control=Control(cancelled=lambda: True))


def test_settings_of_the_base_that_only_lm_eval_follows_are_told(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": "1 + 1?", "answer": "#### 2"}')
    base = tiny_base()
    base.model.generation_config.repetition_penalty = 1.1
    loaded = load_task(TaskPlan("gsm8k", fewshot=0, data_files={"test": str(file)}))
    (note,) = run_task(loaded, OneByOne({"a": base.model}), base).notes
    assert "repetition_penalty 1.1" in note
