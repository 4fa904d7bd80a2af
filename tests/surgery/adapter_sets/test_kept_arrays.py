"""Arrays and their record come back as they were, or there is nothing."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from surgery.adapter_sets import keep_arrays, kept_arrays


def test_arrays_and_record_come_back(tmp_path):
    file = tmp_path / "new" / "kept.safetensors"
    keep_arrays(file, "it", {"steps": [1, 2]}, {"a": np.arange(3.0), "b": np.array([True])})
    about, arrays = kept_arrays(file)
    assert about == {"steps": [1, 2]}
    assert {name: (each.dtype, each.tolist()) for name, each in arrays.items()} == {
        "a": (np.float64, [0.0, 1.0, 2.0]),
        "b": (np.bool_, [True]),
    }


@pytest.mark.parametrize("metadata", [None, {"about": "[1]"}, {"about": "{"}, {"other": "{}"}], ids=str)
def test_a_file_without_a_record_is_not_intact(tmp_path, metadata):
    file = tmp_path / "kept.safetensors"
    save_file({"a": np.zeros(1)}, file, metadata)
    with pytest.raises(ValueError, match="kept"):
        kept_arrays(file)
    with pytest.raises(ValueError, match="missing"):
        kept_arrays(tmp_path / "missing")
