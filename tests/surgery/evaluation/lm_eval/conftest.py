"""Tiny bases with byte tokenizers, and an engine that asks one request at a time."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from surgery.model import CACHE, LoadedBase
from surgery.progress import SILENT
from tests.helpers.lm_eval_reference import DATA
from tests.helpers.models import tiny_llama
from tests.helpers.rounding import assert_clear_choice

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

    notes = ()

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


@pytest.fixture
def datasets_cache(monkeypatch, tmp_path):
    """Where lm-eval's own reading of files leaves its copies."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
