"""What became of long prompts is told in numbers."""

from surgery.evaluation.lm_eval import answers


def test_the_note_counts_the_prompts_and_the_tokens_that_were_cut():
    assert answers.cut_note({}, 5, 256) == ()
    (one,) = answers.cut_note({2: answers.Cut(7, "x")}, 5, 2048)
    assert one.startswith("1 of 5 prompts are longer than the 2,048 tokens")
    assert "by 7 tokens" in one
    (span,) = answers.cut_note({0: answers.Cut(1254, "x"), 3: answers.Cut(12, "y")}, 5, 256)
    assert "by 12 to 1,254 tokens" in span
