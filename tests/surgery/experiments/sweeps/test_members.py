"""Sets of adapters in a sweep: every adapter below a folder, and those that take no part."""

import shutil
from dataclasses import replace

import pytest
import yaml

from surgery.errors import AdapterError, DataError, SweepError
from surgery.experiments.sweeps import check, expand, parse_sweep, pinned_sweep, refused_text
from surgery.policies import GradDirection
from surgery.recipes import dump_recipe
from tests.helpers.refusals import refusal
from tests.surgery.experiments.sweeps.conftest import record


@pytest.fixture
def folder(place, tmp_path):
    """Three adapters, of which one is torn."""
    for name in ("checkpoint-100", "checkpoint-20", "torn"):
        shutil.copytree(place.adapter, tmp_path / "set" / name)
    (tmp_path / "set" / "torn" / "adapter_model.safetensors").write_bytes(b"torn")
    return tmp_path / "set"


def parsed(place, folder, **changes):
    return parse_sweep(yaml.safe_dump(record(place, adapters={"run": {"set": str(folder)}}, **changes)))


def test_members_are_named_by_their_paths_and_refused_ones_are_told(place, folder):
    sweep = parsed(place, folder)
    names = [adapter.name for adapter in sweep.adapters]
    assert names == ["run/checkpoint-20", "run/checkpoint-100", "run/torn"], "by the numbers in them"
    pinned = pinned_sweep(sweep)
    assert [adapter.name for adapter in pinned.adapters] == names[:2]
    [torn] = pinned.refused
    assert torn.name == "run/torn"
    assert "header" in torn.reason
    assert refused_text(pinned).startswith("left out: run/torn: ")
    check(expand(pinned))
    # an adapter that is named is no member: it is refused at once
    named = parse_sweep(yaml.safe_dump(record(place, adapters={"x": str(folder / "torn")})))
    refusal(AdapterError, pinned_sweep, named)


def test_a_member_that_an_edit_does_not_fit_takes_no_part(place, folder, tmp_path):
    elsewhere = place.recipe(policy=GradDirection(), manual={"model.layers.99.q_proj": {0: 0.0}}, scope="all")
    file = tmp_path / "by-hand.yaml"
    file.write_text(dump_recipe(elsewhere))
    sweep = parsed(place, folder, edits=[{"recipe": str(file)}])
    said = refusal(SweepError, pinned_sweep, sweep)
    assert "none of 3 adapters" in said
    assert "by hand" in said


def test_the_folder_itself_may_be_a_member_and_an_empty_one_is_refused(place, folder, tmp_path):
    shutil.copytree(place.adapter, folder, dirs_exist_ok=True)
    assert parsed(place, folder).adapters[0].name == "run"
    (tmp_path / "empty").mkdir()
    assert "no adapter below" in refusal(DataError, parsed, place, tmp_path / "empty")
    both = {"run": {"set": str(folder), "source": "x"}}
    assert "names no folder alone" in refusal(
        SweepError, parse_sweep, yaml.safe_dump(record(place, adapters=both))
    )


def test_what_a_set_says_holds_for_each_of_its_members(place, folder):
    own = {"set": str(folder), "base": {"location": place.base.location, "dtype": "bfloat16"}}
    sweep = parse_sweep(yaml.safe_dump(record(place, adapters={"run": own}, base=None)))
    assert {adapter.base for adapter in sweep.adapters} == {replace(place.base, dtype="bfloat16")}


def test_names_of_folders_can_be_printed_and_no_two_adapters_share_one(place, folder):
    (folder / "torn").rename(folder / "to\nrn")
    assert "run/to\\nrn" in [adapter.name for adapter in parsed(place, folder).adapters]
    twice = {"run": {"set": str(folder)}, "run/checkpoint-20": place.adapter}
    said = refusal(SweepError, parse_sweep, yaml.safe_dump(record(place, adapters=twice)))
    assert "two adapters are called 'run/checkpoint-20'" in said
