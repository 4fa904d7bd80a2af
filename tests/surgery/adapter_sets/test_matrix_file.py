"""A matrix is found again by its adapters' bytes, and a damaged file is as none."""

from dataclasses import fields

import numpy as np
import pytest

from surgery.adapter_sets import keep_matrix, kept_matrix, matrix_file
from surgery.errors import DataError
from tests.helpers.refusals import refusal


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))


def test_what_was_kept_comes_back_for_the_same_adapters_and_for_no_others(related, matrix):
    assert kept_matrix(related, matrix.members) is None
    keep_matrix(matrix, matrix_file(related, matrix.members))
    again = kept_matrix(related, matrix.members)
    for field in fields(matrix):
        np.testing.assert_array_equal(getattr(again, field.name), getattr(matrix, field.name))
    assert kept_matrix(related, matrix.members[:2]) is None
    assert kept_matrix(related, matrix.members[::-1]) is None


def with_first(data, value):
    """The file with another first number, which is of the widest type."""
    at = 8 + int.from_bytes(data[:8], "little")
    return data[:at] + value + data[at + len(value) :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-8],
        lambda data: b"",
        lambda data: b"\xff" * 40,
        lambda data: data.replace(b"surgery-matrix-1", b"surgery-matrix-0"),
        lambda data: data.replace(b'ks\\": [1', b'ks\\": [9'),
        lambda data: with_first(data, np.float64(np.nan).tobytes()),
        lambda data: data[:-4] + np.int32(-1).tobytes(),
    ],
)
def test_a_damaged_file_is_as_none(related, matrix, damage):
    file = matrix_file(related, matrix.members)
    keep_matrix(matrix, file)
    before = file.read_bytes()
    assert damage(before) != before
    file.write_bytes(damage(before))
    assert kept_matrix(related, matrix.members) is None


def test_a_place_that_cannot_be_written_is_told(related, matrix, tmp_path):
    (tmp_path / "matrices").write_text("a file")
    assert "SURGERY_HOME" in refusal(DataError, lambda: keep_matrix(matrix, matrix_file(related, matrix.members)))
