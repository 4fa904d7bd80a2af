"""The requests of a task as token ids, held against those of lm-eval's own HF model."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.data import TaskPlan
from surgery.errors import DataError
from surgery.evaluation import BASELINE
from surgery.evaluation.lm_eval import Texts, benchmarked, load_task, run_task
from surgery.model import LoadedBase
from tests.helpers.lm_eval_reference import assert_same, plan, shortened, theirs, theirs_by_name
from tests.helpers.models import tiny_llama
from tests.helpers.own_tasks import own_tasks
from tests.surgery.evaluation.lm_eval.conftest import OneByOne, byte_tokenizer, needs_data, tiny_base


@needs_data
def test_answers_are_as_long_as_the_task_allows_and_no_longer_than_fits(tmp_path):
    base = tiny_base(length=1600)
    for name, tokens in [("gsm8k", 256), ("humaneval", 1024), ("ifeval", 1280)]:
        texts = Texts(base.tokenizer, base.model.config)
        (request,) = load_task(plan(name, limit=1)).requests
        ending = texts.ending(request.args[1])
        assert ending.new_tokens == tokens
        assert len(texts.prompt(request.args[0] * 20, ending).ids) == 1600 - tokens


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
@pytest.mark.parametrize(("name", "room"), [("commonsense_qa", 128), ("gsm8k", 98)])
def test_a_prompt_that_is_cut_is_recorded_as_the_hf_model_reads_it(name, room, tmp_path, monkeypatch):
    from lm_eval.models.huggingface import HFLM

    base, read = tiny_base(length=128), []
    for method, place in [("_model_call", "inps"), ("_model_generate", "context")]:
        original = getattr(HFLM, method)

        def recorded(self, *args, original=original, place=place, **options):
            read.append(base.tokenizer.decode((args[0] if args else options[place])[0]))
            return original(self, *args, **options)

        monkeypatch.setattr(HFLM, method, recorded)
    loaded, options = shortened(plan(name, limit=3), 30)
    found = run_task(loaded, OneByOne({"unedited": base.model}), base)
    theirs(plan(name, limit=3), base, tmp_path, **options)
    lengths = [len(base.tokenizer(document.prompt).input_ids) for document in found.documents]
    assert sorted(found.cuts) == [i for i, length in enumerate(lengths) if length > room] != []
    for number, cut in found.cuts.items():
        # of a choice the model reads its own tokens too, all but the last
        assert any(text.startswith(cut.asked) and len(text) - len(cut.asked) < 30 for text in read)
        assert found.documents[number].prompt.endswith(cut.asked)
        assert cut.lost >= lengths[number] - room
    (note,) = found.notes
    assert note.startswith(f"{len(found.cuts)} of 3 prompts are longer than the 128 tokens")
    samples = benchmarked(loaded, OneByOne({BASELINE: base.model}), base).samples
    assert [sample.lost for sample in samples] == [getattr(found.cuts.get(i), "lost", 0) for i in range(3)]
    assert samples[next(iter(found.cuts))].prompt == found.cuts[next(iter(found.cuts))].asked


THINKING = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if enable_thinking is defined and not enable_thinking %}"
    "<think></think>{% endif %}{{ mood }}{% endif %}"
)


@pytest.mark.parametrize("system", ["", "Be brief."])
@pytest.mark.parametrize("args", [None, {"mood": "calm"}, {"enable_thinking": False}])
def test_system_instruction_and_template_arguments_are_those_of_the_hf_model(
    system, args, tmp_path, datasets_cache
):
    folder, base = own_tasks(tmp_path, colours=2, words=2), thinking_base()
    chat = args is not None
    for name in ("spoken", "words"):  # words are shown an example, in turns of its own
        task = TaskPlan(
            name,
            chat_template=chat,
            include_path=str(folder),
            system=system,
            template_args=json.dumps(args) if args else "",
        )
        scores = run_task(load_task(task, base.tokenizer), OneByOne({"a": base.model}), base)
        results = theirs_by_name(
            name,
            folder,
            base,
            {"chat_template_args": args},
            system_instruction=system or None,
            apply_chat_template=chat,
        )
        assert_same(scores, "a", results, base.model)
        assert ("Be brief." in scores.documents[0].prompt) == (system != "")
        assert scores.documents[0].prompt.endswith("<think></think>") == (args == {"enable_thinking": False})


def test_an_answer_begins_after_its_thought_as_that_of_the_hf_model(tmp_path, datasets_cache):
    folder, base = own_tasks(tmp_path, colours=2, words=2), thinking_base(2)
    task = TaskPlan(
        "spoken",
        2,
        chat_template=True,
        include_path=str(folder),
        template_args='{"enable_thinking": true}',
        think_end="</s>",
    )
    plain = run_task(load_task(task, base.tokenizer), OneByOne({"a": base.model}), base)
    (whole,) = plain.responses["a"][0]
    # a letter stands for </think> in what a tiny model says
    end = next(letter for letter in whole[1:-1] if letter.isascii())
    (number,) = base.tokenizer.encode(end)
    for told in (end, number, str(number)):
        scores = run_task(
            load_task(replace(task, think_end=told), base.tokenizer), OneByOne({"a": base.model}), base
        )
        model = {"enable_thinking": True, "think_end_token": told}
        results = theirs_by_name("spoken", folder, base, model, limit=2, apply_chat_template=True)
        assert_same(scores, "a", results, base.model)
        assert scores.responses["a"][0] == (whole.rpartition(end)[2].lstrip(),)
        assert load_task(replace(task, think_end=told), base.tokenizer).scoring[1:] == (f"thought {told!r}",)


def test_a_thought_is_asked_only_where_its_end_is_known_and_text_is_generated(tmp_path):
    folder, base = own_tasks(tmp_path, colours=2, words=2), thinking_base()
    thinking = {"chat_template": True, "include_path": str(folder), "template_args": '{"enable_thinking": true}'}
    with pytest.raises(DataError, match="nothing says where a thought ends"):
        TaskPlan("spoken", **thinking)
    with pytest.raises(DataError, match="compares likelihoods"):
        load_task(TaskPlan("words", think_end="</think>", **thinking), base.tokenizer)


def thinking_base(seed: int = 0) -> LoadedBase:
    base = tiny_base(seed=seed)
    base.tokenizer.chat_template = THINKING
    return base


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
