"""Records of a task from files of a person's own."""

import json

import pytest

from surgery.errors import DataError
from surgery.evaluation.lm_eval import local_data


def test_records_of_a_file_have_the_same_fields(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('{"a": 1}\n\n{"b": "x"}\n')
    assert local_data.read_records(str(file)) == [{"a": 1, "b": None}, {"a": None, "b": "x"}]
    (tmp_path / "rows.json").write_text(json.dumps([{"a": 1}]))
    assert local_data.read_records(str(tmp_path / "rows.json")) == [{"a": 1}]
    for text in ("", "3", '{"a": '):
        file.write_text(text)
        with pytest.raises(DataError):
            local_data.read_records(str(file))


def test_a_split_that_examples_are_drawn_from_may_not_be_missing():
    config = {"task": "t", "test_split": "test", "training_split": "train", "num_fewshot": 2}
    records = [{"a": 1}]
    with pytest.raises(DataError, match="split 'train'"):
        local_data.with_files(config, {"test": records}, None)
    kept = local_data.with_files(config, {"test": records}, 0)
    assert "training_split" not in kept
    assert kept["custom_dataset"]()["test"].to_list() == records
    assert "training_split" in config
