"""Rows as tokens in a terminal: prompt and scored part apart, special tokens named, breaks seen."""

from surgery.cli import tokens_text as shown
from surgery.data import Encoding, Row, encode, token_view
from surgery.model import TokenPreview
from tests.helpers.models import tiny_tokenizer


def _preview(rows, left_out=None, notes=()):
    tokenizer, encoding = tiny_tokenizer(), Encoding("plain")
    calibration = encode(rows, tokenizer, encoding, left_out=left_out)
    views = tuple(token_view(example, tokenizer, encoding) for example in calibration.examples[:1])
    return TokenPreview(views, calibration, tuple(notes))


def test_the_record_has_tokens_ids_and_which_are_scored():
    record = shown.tokens_record(_preview([Row("ab", "c"), Row("d", "e")], {"unreadable": 3}, ["odd"]))
    assert (record["examples"], record["dropped"], record["dropped_by_reason"]) == (2, 3, {"unreadable": 3})
    assert record["notes"] == ["odd"]
    (row,) = record["rows"]
    assert [(t["id"], t["text"], t["scored"], t["name"]) for t in row["tokens"]] == [
        (1, "<s>", False, "BOS"),
        (6, "a", False, ""),
        (7, "b", False, ""),
        (8, "c", True, ""),
        (2, "</s>", True, "EOS"),
    ]


def test_the_text_marks_what_is_scored_and_names_starts_and_ends():
    text = shown.tokens_text(shown.tokens_record(_preview([Row("ab", "c")], notes=["odd"])))
    assert text == "\n".join(
        [
            "row 1 of 1: 5 tokens, 2 scored",
            "  prompt <s>⟨BOS⟩│a│b",
            "  scored c│</s>⟨EOS⟩",
            "note: odd",
        ]
    )


def test_breaks_and_tabs_are_seen_and_break_no_line():
    record = shown.tokens_record(_preview([Row("ab", "c")]))
    record["rows"][0]["tokens"][1]["text"] = "\n\t"
    assert "⏎⇥" in shown.tokens_text(record)
    assert len(shown.tokens_text(record).splitlines()) == 3
