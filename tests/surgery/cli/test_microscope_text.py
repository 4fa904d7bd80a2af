"""A look as lines of text."""

from surgery.cli import microscope_text as module

RECORD = {
    "module": "m",
    "component": 3,
    "rows": [
        {
            "row": 5,
            "g": 0.25,
            "tokens": [{"text": "a\n", "share": 0.3}, {"text": "b", "share": -0.05}, {"text": "c", "share": 0.0}],
        }
    ],
    "reads": [{"row": 5, "token": 2, "text": "b", "value": -3.5, "random_below": 0.84, "beyond_random": False}],
    "writes": None,
    "no_lens": "module 'm' does not write into the residual stream → look elsewhere",
}


def test_a_look_is_told_row_by_row_with_its_baselines():
    assert module.microscope_text(RECORD).splitlines() == [
        "m, component 3",
        "row 5: g +0.25: 'a\\n' +0.3, 'b' -0.05",
        "reads",
        "  -3.5 'b' (row 5, token 2): not beyond random, 84 % of random directions less",
        "writes: module 'm' does not write into the residual stream → look elsewhere",
    ]
    written = {"tokens": [{"text": " x", "logit": 12.345}], "random_below": 1.0, "beyond_random": True}
    told = module.microscope_text({**RECORD, "writes": {"+": written, "-": written}, "written": "f.csv"})
    assert "+u raises (beyond random, 100 % of random directions less): ' x' 12.35" in told
    assert told.endswith("written to f.csv")
