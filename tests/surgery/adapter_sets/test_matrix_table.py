"""The table of pairs holds what the matrix tells, and is written whole."""

import csv
import io

import pytest

from surgery.adapter_sets import matrix_values, pair_rows, pairs_csv, write_pairs
from surgery.cli import main
from surgery.errors import DataError
from tests.helpers.refusals import refusal


@pytest.mark.parametrize(("family", "layer"), [(None, None), ("q_proj", 1)])
def test_every_pair_is_a_row_with_the_numbers_of_the_matrix(matrix, family, layer):
    rows = pair_rows(matrix, 2, family=family, layer=layer)
    assert len(rows) == 10
    cosines = matrix_values(matrix, "cosine", 2, "output", family=family, layer=layer)
    for row in rows:
        i, j = (matrix.members.index(row[name]) for name in ("first", "second"))
        assert i < j
        assert row["modules"] == cosines.modules[i, j]
        assert row["cosine"] == pytest.approx(cosines.values[i, j], nan_ok=True) or row["cosine"] is None
        for side in ("output", "input"):
            found = matrix_values(matrix, "overlap", 2, side, family=family, layer=layer)
            if row[f"overlap {side}"] is None:
                assert "zero" in (row["first"], row["second"])
            else:
                assert row[f"overlap {side}"] == found.values[i, j]
                assert row[f"overlap {side}, chance"] == found.chance[i, j]


def test_the_command_line_writes_the_same_table_beside_the_rows(related, matrix, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    file = tmp_path / "pairs.csv"
    assert main(["inspect", "--many", str(related.root), "--matrix", str(file), "--k", "2"]) == 0
    assert f"compared 5 adapters at k = 2; wrote {file}" in capsys.readouterr().out
    written = list(csv.DictReader(io.StringIO(file.read_text())))
    expected = list(csv.DictReader(io.StringIO(pairs_csv(pair_rows(matrix, 2)))))
    assert written == expected


def test_what_the_command_line_cannot_compare_is_refused_in_one_line(related, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    file = str(tmp_path / "pairs.csv")
    for options, words in [
        ([str(related["a"].folder), "--matrix", file], "--many FOLDER"),
        (["--many", str(related["a"].folder), "--matrix", file], "fewer than two"),
        (["--many", str(related.root), "--matrix", file, "--k", "3"], "choose one of 1, 2, 4"),
    ]:
        assert main(["inspect", *options]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "pairs.csv").exists()


def test_a_file_that_cannot_be_written_is_told(matrix, tmp_path):
    assert "another file" in refusal(
        DataError, lambda: write_pairs(pair_rows(matrix, 1), tmp_path / "no" / "f.csv")
    )
