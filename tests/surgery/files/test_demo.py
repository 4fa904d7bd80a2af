"""Names of demos lead to what ships, and nowhere else."""

import pytest

from surgery.errors import AdapterError, DataError
from surgery.files import (
    DEMO_FOLDER,
    SLICES,
    data_file,
    demo_folder,
    demo_names,
    demo_slice,
    is_shipped,
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
