"""What the command line says of smaller files."""

from surgery.cli import smaller_text as shown

RECORD = {
    "parameters_before": 2000,
    "parameters": 500,
    "bytes_before": 4_000_000,
    "bytes": 1_000_000,
    "ranks": {"a": 0, "b": 2, "c": 3},
    "kept": {"in_sum": {"kept": 5, "rank": 12, "energy": 0.9512, "functional": float("nan")}},
    "left_out": ["a"],
    "zeros": [],
    "skipped": {},
    "notes": [],
    "out": "folder",
    "rounding": 1.25e-8,
    "peft": {"text": "PEFT applies 2 of 2 modules to base"},
    "served": ["One rank"],
}


def test_a_smaller_file_is_told_with_what_it_kept_and_left_out():
    assert shown.smaller_text(RECORD).splitlines() == [
        "2,000 → 500 parameters, 4.00 → 1.00 MB of factors (75.0% saved), ranks 0 to 3",
        "kept 5 of 12 components: 95.12% of Σσ²",
        "left out: a",
        "wrote folder: rounding 1.2e-08",
        "PEFT applies 2 of 2 modules to base",
        "One rank",
    ]


def test_many_modules_are_counted_and_a_known_functional_energy_is_told():
    kept = {"in_sum": {**RECORD["kept"]["in_sum"], "functional": 0.5}}
    told = shown.smaller_text(
        {**RECORD, "left_out": list("abcde"), "zeros": ["f"], "kept": kept, "ranks": {"b": 2}}
    )
    assert "95.12% of Σσ², 50.00% of the functional energy" in told
    assert "left out: a, b, c and 2 more" in told
    assert "zero update, as PEFT makes it anyway: f" in told
    assert "ranks 2\n" in told


def test_a_cut_that_would_be_made_is_told_in_one_line():
    cut = {"share": 0.95, "saved": 0.6, "bytes": 2e6, "largest_rank": 7, "left_out": 3, "padded_saved": 0.25}
    assert shown.cut_line(cut) == (
        "a cut at 95% of all σ² saves 60.0%: 2.00 MB of factors at ranks up to 7, 3 modules left out; padded to 7 25.0%"
    )
