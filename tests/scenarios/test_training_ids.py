"""Rows become the ids that TRL's own collation trains on, under the chat templates that real models have.

The templates are those that TRL ships; their markers are tokens of a small byte-level vocabulary trained here.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trl
from datasets import Dataset, disable_progress_bars
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from surgery.data import DATE, Encoding, Example, Message, Row, encode, parse_date
from tests.helpers.models import tiny_llama

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
MARKERS = re.compile(
    r"<\|[^|>\s]+\|>|<｜[^｜\s]+｜>|<(?:start|end)_of_turn>|<turn\|>|<\|turn>|<\|[A-Z_]+_TOKEN\|>|</?think>|\[gMASK\]|<sop>"
)
THOUGHTS = ("<think>", "</think>")


@dataclass(frozen=True)
class Family:
    """A template with its tokenizer's start and end of sequence, and what it writes after the end of turn."""

    template: str
    bos: str | None
    eos: str
    end: str | None
    after: str = ""
    thought: str = ""


FAMILIES = [
    Family(
        "qwen2_5", None, "<|endoftext|>", "<|im_end|>", "\n"
    ),  # the base model's eos is another than its turn's end
    Family("qwen3", None, "<|im_end|>", "<|im_end|>", "\n", "<think>\n\n</think>\n\n"),
    Family("qwen3_instruct_2507", None, "<|im_end|>", "<|im_end|>", "\n"),
    Family("gemma", "<bos>", "<eos>", "<end_of_turn>", "\n"),
    Family("gemma3", "<bos>", "<eos>", "<end_of_turn>", "\n"),
    Family("llama3", "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"),
    Family("llama3_1", "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    Family("llama3_2", "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    Family("phi3", "<s>", "<|endoftext|>", "<|end|>", "\n<|endoftext|>"),
    Family("phi3_5", "<s>", "<|endoftext|>", "<|end|>", "\n<|endoftext|>"),
    Family("deepseek_r1_distill", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    Family("deepseekv3", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
    Family("glm4moe", None, "<|endoftext|>", None, thought="\n<think></think>\n"),
    Family("cohere", "<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    Family("lfm2", "<|startoftext|>", "<|im_end|>", "<|im_end|>", "\n"),
    Family("gptoss", "<|startoftext|>", "<|return|>", "<|return|>"),
]
by_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.template)


@functools.cache
def template(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


@functools.cache
def vocabulary() -> str:
    """Bytes and a few merges of them, so that words, line feeds and spaces join across a boundary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    texts = ["What is the sum of two and three? It is five.", "user assistant system model\n\n It is\n\n"]
    tokenizer.train_from_iterator(texts * 5, trainer)
    return tokenizer.to_str()


def tokenizer_of(family: Family) -> PreTrainedTokenizerFast:
    found = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(vocabulary()),
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token="<pad>",
    )
    written = sorted(set(MARKERS.findall(template(family.template))))
    found.add_special_tokens({"additional_special_tokens": [token for token in written if token not in THOUGHTS]})
    found.add_tokens([token for token in written if token in THOUGHTS])
    found.chat_template = template(family.template)
    return found


def turns(*texts: str, system: str = "") -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(texts)
    said = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    return [{"role": "system", "content": system}, *said] if system else said


CONVERSATIONS = [
    turns("What is 2+3?", "It is five."),
    turns("Hi", "Yes?", "What is two and three?", "five"),
    turns("two\n", "three "),
]
PAIRS = [("What is 2+3? ", "five"), ("Q: two\nA:", " It is"), ("wor", "ds of two"), ("It is\n", "\nfive")]


def collated(rows: Sequence[Mapping[str, Any]], tokenizer: Any, **settings: Any) -> Dataset:
    """Rows as TRL's trainer prepares them: their ids and labels."""
    disable_progress_bars()
    config = SFTConfig(output_dir="unused", report_to=[], use_cpu=True, bf16=False, **settings)
    model = tiny_llama(vocab_size=len(tokenizer))
    return SFTTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(list(rows)), processing_class=tokenizer
    ).train_dataset


def ours(conversation: Sequence[Mapping[str, str]], tokenizer: Any, **settings: Any) -> Example:
    row = Row.of([Message(**turn) for turn in conversation])
    return encode([row], tokenizer, Encoding(**settings)).examples[0]


def pinned(family: Family) -> dict[str, Any]:
    """The day for TRL, whose templates would otherwise print today's."""
    return (
        {"date_string": parse_date(DATE).strftime("%d %b %Y")}
        if "date_string" in template(family.template)
        else {}
    )


def without_clock(tokenizer: Any) -> Any:
    """The tokenizer with the pinned day written into a template that has no argument for it."""
    tokenizer.chat_template = tokenizer.chat_template.replace('strftime_now("%Y-%m-%d")', f'"{DATE}"')
    return tokenizer


def labels_begin(labels: Sequence[int]) -> int:
    return next(i for i, label in enumerate(labels) if label != -100)


@by_family
def test_a_prompt_and_its_completion_have_the_ids_and_the_mask_of_training(family):
    tokenizer = tokenizer_of(family)
    rows = [
        {"prompt": turns_[:-1], "completion": turns_[-1:], "chat_template_kwargs": {"_": 0, **pinned(family)}}
        for turns_ in CONVERSATIONS
    ]
    trained = collated(rows, without_clock(tokenizer_of(family)))
    for conversation, theirs in zip(CONVERSATIONS, trained, strict=True):
        example = ours(conversation, tokenizer)
        assert list(theirs["input_ids"])[: example.length] == [*example.prompt_ids, *example.answer_ids]
        assert labels_begin(theirs["labels"]) == len(example.prompt_ids)
        # what training scores beyond the end of turn never has to be said
        assert tokenizer.decode(theirs["input_ids"][example.length :]) == family.after
        assert example.end == (None if family.end is None else tokenizer.convert_tokens_to_ids(family.end))
        answer = tokenizer.decode(example.answer_ids)
        assert answer.strip().startswith(family.thought.strip())
        assert conversation[-1]["content"].strip() in answer


@by_family
def test_the_scored_tokens_of_the_last_turn_are_those_of_trainings_assistant_mask(family):
    file = TEMPLATES / f"{family.template}_training.jinja"
    if not file.exists():
        pytest.skip("TRL has no template of this family that marks the assistant's turns")
    marked = tokenizer_of(family)
    marked.chat_template = template(f"{family.template}_training")
    rows = [{"messages": each, "chat_template_kwargs": {"_": 0, **pinned(family)}} for each in CONVERSATIONS[:2]]
    trained = collated(rows, without_clock(marked), assistant_only_loss=True)
    for conversation, theirs in zip(CONVERSATIONS, trained, strict=False):
        example = ours(conversation, marked, template=str(file))
        ids, labels = list(theirs["input_ids"]), list(theirs["labels"])
        assert ids[: example.length] == [*example.prompt_ids, *example.answer_ids]
        mine = range(len(example.prompt_ids), example.length)
        scored = [i for i, label in enumerate(labels) if label != -100 and i >= mine.start]
        # line feeds that join otherwise before an answer, and an empty thought, are the prompt's in a mask by turns
        unscored = [i for i in mine if i not in scored]
        assert unscored == list(mine)[: len(unscored)]
        assert marked.decode([ids[i] for i in unscored]).strip() in ("", family.thought.strip())
        assert marked.decode([ids[i] for i in scored if i not in mine]) in ("", family.after)


def test_texts_are_tokenised_whole_as_training_does_it():
    family = FAMILIES[0]
    tokenizer = tokenizer_of(family)
    trained = collated(
        [{"prompt": prompt, "completion": answer} for prompt, answer in PAIRS], tokenizer_of(family)
    )
    for (prompt, answer), theirs in zip(PAIRS, trained, strict=True):
        example = encode([Row(prompt, answer)], tokenizer, Encoding("plain")).examples[0]
        assert list(theirs["input_ids"]) == [*example.prompt_ids, *example.answer_ids]
        assert labels_begin(theirs["labels"]) == len(example.prompt_ids)


def test_a_text_alone_has_the_ids_of_training():
    family = FAMILIES[0]
    texts = [answer for _, answer in PAIRS]
    trained = collated([{"text": text} for text in texts], tokenizer_of(family))
    for text, theirs in zip(texts, trained, strict=True):
        example = encode([Row("", text)], tokenizer_of(family), Encoding()).examples[0]
        # nothing stands before its first token, so no model can be asked for that
        assert list(theirs["input_ids"]) == [*example.prompt_ids, *example.answer_ids]
        assert len(example.prompt_ids) == 1


def test_template_arguments_decide_as_they_do_in_training():
    family = next(each for each in FAMILIES if each.template == "qwen3")
    tokenizer = tokenizer_of(family)
    conversation = CONVERSATIONS[0]
    rows = [
        {
            "prompt": conversation[:-1],
            "completion": conversation[-1:],
            "chat_template_kwargs": {"enable_thinking": False},
        }
    ]
    theirs = collated(rows, tokenizer_of(family))[0]
    example = ours(conversation, tokenizer, template_args='{"enable_thinking": false}')
    assert list(theirs["input_ids"])[: example.length] == [*example.prompt_ids, *example.answer_ids]
    assert labels_begin(theirs["labels"]) == len(example.prompt_ids)
    # the empty thought is the prompt's then
    assert "</think>" in tokenizer.decode(example.prompt_ids)


def test_the_paper_separator_is_one_space_more_and_off_unless_asked_for():
    tokenizer = tokenizer_of(FAMILIES[0])
    plain, spaced = (ours(CONVERSATIONS[0], tokenizer, separator=separator) for separator in (False, True))
    assert tokenizer.decode(spaced.answer_ids) == f" {tokenizer.decode(plain.answer_ids)}"
