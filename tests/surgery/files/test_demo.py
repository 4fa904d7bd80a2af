"""Names of demos lead to what ships, and nowhere else."""

import pytest

from surgery.errors import AdapterError, DataError
from surgery.files import (
    DEMO_FOLDER,
    SLICES,
    data_file,
    demo_folder,
    demo_names,
    demo_sets,
    demo_slice,
    is_shipped,
    set_path,
    shipped_files,
)
from tests.helpers.refusals import refusal


def test_every_demo_has_its_folder_and_its_slices():
    assert demo_names()[0] == "kinship"
    for name in demo_names():
        assert demo_folder(f"demo:{name}") == DEMO_FOLDER / name
        for part in SLICES:
            assert data_file(demo_slice(f"demo:{name}", part)).is_file()


@pytest.mark.parametrize("name", ["demo:nothing", "demo:../kinship", "demo:", "demo:/etc"])
def test_a_demo_that_there_is_not_is_refused_with_those_that_there_are(name):
    assert "kinship" in refusal(AdapterError, demo_folder, name)


@pytest.mark.parametrize("name", ["demo:kinship", "demo:kinship/other", "demo:kinship/../test"])
def test_a_slice_that_there_is_not_is_refused(name):
    assert "no demo slice" in refusal(DataError, data_file, name)


def test_what_ships_is_told_from_what_leads_out_of_it(tmp_path):
    assert shipped_files("*.safetensors")
    assert all(is_shipped(file) for file in shipped_files("*.safetensors"))
    assert not is_shipped(DEMO_FOLDER / "kinship" / ".." / ".." / "x")
    assert not is_shipped(tmp_path)


def test_the_checkpoints_of_a_training_ship_as_a_set_and_as_no_adapter(tmp_path):
    assert demo_sets() == ("demo:kinship-training",)
    assert set_path("demo:kinship-training") == DEMO_FOLDER / "kinship-training"
    assert is_shipped(set_path("demo:kinship-training"))
    assert "kinship-training" not in demo_names()
    assert "--many" in refusal(AdapterError, demo_folder, "demo:kinship-training")
    assert set_path(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["demo:kinship", "demo:nothing", "demo:kinship-training/..", "demo:"])
def test_a_set_that_there_is_not_is_refused_with_the_one_that_there_is(name):
    assert "demo:kinship-training" in refusal(DataError, set_path, name)
