"""One text as the variants of a classifier label it, against PEFT's own probabilities."""

import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import Encoding
from surgery.errors import DataError
from surgery.model import BaseChoice, attach, stream_answers
from surgery.spectra import decompose
from tests.helpers.classifiers import KINDS, save_classifier, word_tokenizer
from tests.helpers.refusals import refusal


@pytest.fixture
def attached(request, tmp_path):
    trained, base, folder = save_classifier(KINDS["bert"], tmp_path, request.param)
    adapter = open_adapter(folder)
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        yield trained, live


def zero(live):
    return {name: 0 * own.sigma for name, own in live.spectra.items()}


@pytest.mark.parametrize("attached", ["SEQ_CLS"], indirect=True)
def test_a_text_is_told_its_likeliest_labels(attached):
    trained, live = attached
    (told,) = stream_answers(live, "a fine film", {"unedited": None, "without": zero(live)}, Encoding())
    with torch.no_grad():
        ids = torch.tensor([word_tokenizer()("a fine film").input_ids])
        expected = trained(input_ids=ids).logits[0].softmax(-1)
    order = expected.argsort(descending=True).tolist()
    assert told["unedited"] == "\n".join(f"LABEL_{number}  {expected[number]:.1%}" for number in order)
    assert told["without"] != told["unedited"]


@pytest.mark.parametrize("attached", ["TOKEN_CLS"], indirect=True)
def test_words_are_told_their_tags(attached):
    trained, live = attached
    (told,) = stream_answers(live, "EU rejects lamb", {"unedited": None}, Encoding())
    found = word_tokenizer()(["EU", "rejects", "lamb"], is_split_into_words=True)
    with torch.no_grad():
        tags = trained(input_ids=torch.tensor([found.input_ids])).logits[0].argmax(-1).tolist()
    first = [found.word_ids().index(word) for word in range(3)]
    assert told["unedited"] == "\n".join(
        f"{word}  LABEL_{tags[at]}" for word, at in zip(["EU", "rejects", "lamb"], first, strict=True)
    )


@pytest.mark.parametrize("attached", ["SEQ_CLS"], indirect=True)
def test_a_text_that_is_empty_or_too_long_is_refused(attached):
    _, live = attached
    assert "empty" in refusal(DataError, stream_answers, live, " ", {"unedited": None}, Encoding())
    assert "tokens long" in refusal(
        DataError, stream_answers, live, "fine " * 9, {"unedited": None}, Encoding(max_length=5)
    )
