"""`surgery pulls`: the library's ranking with the rows' own words, and what it refuses."""

import json

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan, Encoding, planned_rows, rows_digest, seen_keys
from surgery.edits import EditPlan, component_pulls, pulls
from surgery.model import BaseChoice
from surgery.policies import GradDirection
from surgery.sensitivity import Provenance, Sensitivity, measurement_header, save_sensitivity
from surgery.spectra import decompose


@pytest.fixture
def stand(small_adapter, tmp_path):
    """The small adapter with made-up sensitivities of twenty rows of a file."""
    rows = [{"prompt": f"question {i}\n\x1b[31mred", "answer": f"answer {i}"} for i in range(20)]
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    plan, adapter = CalibrationPlan(str(source), examples=20), open_adapter(small_adapter)
    known = planned_rows(plan).rows
    rng = np.random.default_rng(0)
    values = {name: rng.normal(rng.normal(size=4), 0.5, (20, 4)) for name in adapter.modules}
    provenance = Provenance(adapter.digest, "base", "examples", Encoding(), tuple(values), "float32")
    measured = Sensitivity(
        values, np.ones(20), provenance, rows=rows_digest(known), keys=tuple(map(seen_keys, known))
    )
    file = tmp_path / "measured.safetensors"
    save_sensitivity(measured, file, measurement_header(plan, BaseChoice("base"), provenance, {}))
    return small_adapter, file, decompose(adapter), measured, known, source


def test_both_ends_of_the_ranking_come_with_their_words(stand, ok):
    folder, file, spectra, measured, known, _ = stand
    record = ok(
        "pulls", str(folder), "--policy", "grad_direction", "--sensitivities", str(file), "--rows", "3", "--json"
    )
    found = pulls(EditPlan(GradDirection()), spectra, measured)
    assert (record["examples"], record["helped"], record["hurt"]) == (
        20,
        int((found.told < 0).sum()),
        int((found.told > 0).sum()),
    )
    assert record["held_out"]
    helped, hurt = found.ends(3)
    for rows, name in ((helped, "most_helped"), (hurt, "most_hurt")):
        assert [each["row"] - 1 for each in record[name]] == rows
        for row, each in zip(rows, record[name], strict=True):
            assert each["held_out"] == pytest.approx(found.held[row])
            assert each["this_edit"] == pytest.approx(found.own[row])
            assert (each["prompt"], each["answer"]) == (known[row].prompt, known[row].answer)
    assert record["conflict"]["cosine"] == pytest.approx(
        measured.moments.of_scope(tuple(found.sigma_after)).conflict.cosine
    )


def test_text_is_a_line_a_row_and_drives_no_terminal(stand, ok):
    folder, file, spectra, measured, *_ = stand
    text = ok("pulls", str(folder), "--policy", "grad_direction", "--sensitivities", str(file), "--rows", "2")
    found = pulls(EditPlan(GradDirection()), spectra, measured)
    assert text.startswith(f"expected to help {int((found.told < 0).sum())} of 20 calibration rows")
    row = int(found.order[0])
    assert f"  {found.held[row]:+.4f}  row {row + 1}  question " in text
    assert "\x1b" not in text


def test_one_component_alone(stand, ok):
    folder, file, spectra, measured, _, _ = stand
    module = next(iter(spectra))
    words = ["--policy", "identity", "--component", f"{module}:1", "--gain", "2", "--sensitivities", str(file)]
    record = ok("pulls", str(folder), *words, "--rows", "1", "--json")
    found = component_pulls(spectra, measured, module, 1, gain=2.0)
    assert record["most_helped"][0]["this_edit"] == pytest.approx(found.own.min())
    assert "conflict" not in record
    assert not record["shaped_by_rows"]


def test_rows_that_are_gone_leave_the_numbers(stand, ok):
    folder, file, *_, source = stand
    source.unlink()
    record = ok("pulls", str(folder), "--policy", "grad_direction", "--sensitivities", str(file), "--json")
    assert "prompt" not in record["most_helped"][0]
    assert "the rows are not shown" in record["notes"][0]


def test_what_it_cannot_rank_is_refused(stand, fails):
    folder, file, spectra, *_ = stand
    assert "a ranking of rows works from a measurement" in fails("pulls", str(folder), "--policy", "identity")
    words = ["pulls", str(folder), "--policy", "identity", "--sensitivities", str(file), "--component"]
    assert "names no component" in fails(*words, "nowhere:0")
    assert "cannot be given gain" in fails(*words, f"{next(iter(spectra))}:4")
