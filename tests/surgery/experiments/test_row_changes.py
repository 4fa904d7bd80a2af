"""Single rows measured against losses by hand, kept, found again, and never taken for rows of another file."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from surgery.errors import DataError
from surgery.experiments import known_row_changes, measure_row_changes
from surgery.files import row_changes_folder
from surgery.sensitivity import calibration_slice, measure_sensitivity
from tests.helpers.refusals import refusal
from tests.helpers.rounding import losses_apart
from tests.helpers.workplace import workplace
from tests.surgery.experiments.conftest import losses_by_hand


@pytest.fixture(scope="module")
def stand(live, workplace_files):
    """The live model of a workplace with the sensitivities of its ten rows, and a σ′."""
    plan = workplace(workplace_files, workplace_files / "no home").calibration
    slice_ = calibration_slice(live, plan)
    sensitivity = measure_sensitivity(live, slice_, list(live.spectra))
    after = {name: one.sigma * 0.2 for name, one in live.spectra.items()}
    return SimpleNamespace(
        live=live,
        plan=plan,
        slice_=slice_,
        sensitivity=sensitivity,
        after=after,
        folder=workplace_files / "adapter",
    )


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))


def measure(stand, rows, **changes):
    sensitivity = changes.pop("sensitivity", stand.sensitivity)
    return measure_row_changes(stand.live, stand.plan, sensitivity, stand.after, rows, **changes)


def test_what_is_measured_is_the_change_of_the_loss_of_these_rows_and_is_found_again(stand):
    assert np.isnan(known_row_changes(stand.sensitivity, stand.after)).all()
    found = measure(stand, [7, 2])
    examples = [stand.slice_.examples[row] for row in (2, 7)]
    before, after = (losses_by_hand(stand, sigma, examples) for sigma in ({}, stand.after))
    assert np.abs(after - before).min() > 1e-3
    room = losses_apart(stand.live.model, before) + losses_apart(stand.live.model, after)
    assert (np.abs(found[[2, 7]] - (after - before)) <= room).all()
    assert np.isfinite(found).nonzero()[0].tolist() == [2, 7]
    np.testing.assert_array_equal(known_row_changes(stand.sensitivity, stand.after), found)
    other = {name: sigma * 2 for name, sigma in stand.after.items()}
    assert np.isnan(known_row_changes(stand.sensitivity, other)).all(), "of another edit nothing is known"


def test_what_is_known_is_not_measured_again(stand):
    first = measure(stand, [0, 1])
    (file,) = row_changes_folder().iterdir()
    record = json.loads(file.read_text())
    record["changes"]["0"] = 42.0
    file.write_text(json.dumps(record))
    again = measure(stand, [0, 1, 3])
    assert again[0] == 42.0
    assert again[1] == first[1]
    assert np.isfinite(again).nonzero()[0].tolist() == [0, 1, 3]


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b'{"changes": 3}', b'{"changes": {"x": 1}}', b'{"changes": {"0": null}}', b"[" * 100_000],
)
def test_a_damaged_file_counts_as_never_measured(stand, content):
    measure(stand, [0])
    (file,) = row_changes_folder().iterdir()
    file.write_bytes(content)
    assert np.isnan(known_row_changes(stand.sensitivity, stand.after)).all()


def test_rows_out_of_range_and_numbers_that_are_none_are_left_out(stand):
    measure(stand, [0])
    (file,) = row_changes_folder().iterdir()
    file.write_text('{"changes": {"-1": 1.0, "10": 1.0, "1": NaN, "2": 0.5}}')
    found = known_row_changes(stand.sensitivity, stand.after)
    assert np.isfinite(found).nonzero()[0].tolist() == [2]


def test_other_rows_than_were_measured_are_refused(stand):
    other = replace(stand.sensitivity, provenance=replace(stand.sensitivity.provenance, examples="others"))
    assert "not those that were measured" in refusal(DataError, measure, stand, [0], sensitivity=other)


def test_a_home_that_cannot_be_written_is_told(stand, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "row-changes").write_text("a file stands here")
    assert "cannot be kept" in refusal(DataError, measure, stand, [0])
