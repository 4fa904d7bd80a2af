"""Folders that `datasets` saved, against what it reads from them itself."""

import json
import shutil

import datasets
import pytest

from surgery.data import CalibrationPlan, Row, planned_rows, read_source, refuse_changed_rows, rows_digest
from surgery.errors import DataError
from tests.helpers.refusals import refusal


def rows_of(saved) -> tuple[Row, ...]:
    return tuple(Row(record["prompt"], record["answer"]) for record in saved)


def made(name: str, count: int) -> datasets.Dataset:
    return datasets.Dataset.from_list([{"prompt": f"{name} {n}", "answer": str(n)} for n in range(count)])


def test_a_saved_dataset_is_read_shard_after_shard_and_in_its_order(tmp_path):
    made("q", 9).shuffle(seed=1).save_to_disk(tmp_path / "saved", num_shards=3)
    expected = rows_of(datasets.load_from_disk(tmp_path / "saved"))
    assert read_source(str(tmp_path / "saved")).rows == expected
    assert read_source(f"hub:{tmp_path}/saved:train").rows == expected
    assert "'test'" in refusal(DataError, read_source, f"{tmp_path}/saved:test")


def test_a_split_of_a_saved_dataset_is_named_behind_its_folder(tmp_path):
    splits = datasets.DatasetDict({"train": made("train", 5), "test": made("test", 3)})
    splits.save_to_disk(tmp_path / "saved")
    for split in splits:
        assert read_source(f"{tmp_path}/saved:{split}").rows == rows_of(splits[split])
    assert read_source(str(tmp_path / "saved")).rows == rows_of(splits["train"])
    assert "there are 'train', 'test'" in refusal(DataError, read_source, f"{tmp_path}/saved:other")
    datasets.DatasetDict({"a": made("a", 1), "b": made("b", 1)}).save_to_disk(tmp_path / "two")
    assert "several splits" in refusal(DataError, read_source, str(tmp_path / "two"))


def test_a_saved_dataset_that_changed_is_told_from_the_one_that_was_measured(tmp_path):
    plan = CalibrationPlan(str(tmp_path / "saved"), 4)
    made("q", 9).save_to_disk(tmp_path / "saved")
    measured = rows_digest(planned_rows(plan).rows)
    refuse_changed_rows(plan, measured)
    shutil.rmtree(tmp_path / "saved")
    made("other", 9).save_to_disk(tmp_path / "saved")
    assert "have changed" in refusal(DataError, refuse_changed_rows, plan, measured)


@pytest.mark.parametrize(
    "state",
    ["{", "[]", {}, {"_data_files": []}, {"_data_files": [{"filename": "../other/data-00000-of-00001.arrow"}]},
     {"_data_files": [{"filename": "gone.arrow"}]}, {"_data_files": 3},
     {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_indices_data_files": [{"filename": "i"}]}],
)  # fmt: skip
def test_a_list_of_files_is_never_a_path(state, tmp_path):
    made("q", 2).save_to_disk(tmp_path / "other")
    made("q", 2).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text(state if isinstance(state, str) else json.dumps(state))
    refusal(DataError, read_source, str(tmp_path / "saved"))


@pytest.mark.parametrize("splits", [["../other"], [3], None, ["gone"]])
def test_a_list_of_splits_is_never_a_path(splits, tmp_path):
    made("q", 2).save_to_disk(tmp_path / "other")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
    refusal(DataError, read_source, str(tmp_path / "saved"))
    refusal(DataError, read_source, f"{tmp_path}/saved:../other")
