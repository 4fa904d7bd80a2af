"""What the command line says: plain lines that a name from a file cannot break."""

import math

import numpy as np

from surgery.cli import evaluation_text, progress_reporter, text
from surgery.evaluation import AGAIN, BASELINE, Evaluation, Sample, row_scores, summarise


def test_control_characters_of_names_do_not_reach_the_terminal():
    assert text.printable("a\x1b[31mb\r\n\u202ec\u2028") == "a[31mb\nc"


def test_an_evaluation_is_told_measure_by_measure_with_noise_named():
    scores = {
        BASELINE: row_scores(np.array([1.0, 2.0, 3.0]), np.array([0, 1, 0], dtype=float), ["a", "b", "c"]),
        "edit": row_scores(np.array([0.5, 1.5, 2.5]), np.array([1, 1, 0], dtype=float), ["a", "b", "c"]),
        AGAIN: row_scores(np.array([1.0, 2.0, 3.0]), np.array([0, 1, 0], dtype=float), ["a", "b", "c"]),
    }
    samples = tuple(Sample(str(n), f"q{n}", "a") for n in range(3))
    lines = evaluation_text(summarise(Evaluation(scores=scores, samples=samples))).splitlines()
    assert lines[0].startswith("3 examples")
    (told,) = [line for line in lines if line.startswith("  edit ") and "-0.5000" in line]
    assert "1.5000  -0.5000 ± 0.0000 [-0.5000, -0.5000]" in told
    assert "within noise" not in told
    (again,) = [line for line in lines if line.startswith(f"  {AGAIN}") and "2.0000" in line]
    assert "within noise" in again
    assert any("gained 1, lost 0" in line for line in lines)


def test_progress_is_a_line_for_every_tenth_where_there_is_no_terminal(capsys):
    control = progress_reporter("first")
    for done in range(101):
        control.progress(done, 100)
    control.begin("second")
    control.progress(0, 0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [*(f"first: {done}/100" for done in range(0, 101, 10)), "second: 0/0"]


def test_the_time_left_is_told_by_tokens_before_the_first_example_is_done(capsys, monkeypatch):
    now = [50.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    control = progress_reporter("evaluating")
    control.progress(0, 15)
    control.tokens(0, 4000)
    for tokens in (100, 200, 1000):
        now[0] += 31
        control.tokens(tokens, 4000)
    control.progress(15, 15)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "evaluating: 0/15"
    assert lines[1].startswith("evaluating: 0/15, 2% of the tokens, about ")
    assert lines[3] == "evaluating: 0/15, 25% of the tokens, about 5 min left"
    assert lines[4:] == ["evaluating: 15/15"]


def test_one_example_has_a_loss_and_no_error_of_it():
    record = {"components": 4, "modules": 1, "examples": 1, "loss": 2.0, "loss_error": math.nan, "dropped": 0}
    assert "calibration loss 2.0000 ± nan" in text.sensitivity_text(
        {**record, "out": "g", "format": "texts", "first_unusable": "", "notes": []}
    )
