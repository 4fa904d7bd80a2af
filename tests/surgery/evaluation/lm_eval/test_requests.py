"""The requests of a task as token ids, held against those of lm-eval's own HF model."""

import numpy as np
import pytest
import torch

from surgery.evaluation.lm_eval import Texts, load_task, run_task
from tests.helpers.lm_eval_reference import assert_same, plan, shortened, theirs
from tests.helpers.models import tiny_llama
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
