"""Gains of layer groups on the command line."""

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.edits import EditPlan, LayerGroups
from surgery.export import read_record
from surgery.policies import RandomIndex
from surgery.spectra import decompose

WORDS = ["--family-gain", "o_proj=0.5", "--third-gain", "1", "1", "0.8", "--family-third-gain", "down_proj=1,2,0"]
GROUPS = LayerGroups({"o_proj": 0.5}, (1.0, 1.0, 0.8), {"down_proj": (1.0, 2.0, 0.0)})


def test_an_edit_has_the_gains_that_were_named_and_says_so(small_adapter, tmp_path, ok):
    out = tmp_path / "out"
    told = ok("edit", str(small_adapter), "--policy", "random_index", *WORDS, "--out", str(out), "--json")
    plan = EditPlan(RandomIndex(), groups=GROUPS)
    assert read_record(out).edit == plan
    spectra = decompose(open_adapter(small_adapter))
    wanted = plan.apply(spectra, None).sigma_after
    total = sum(spectra[name].sigma.sum() for name in wanted)
    assert told["energy_kept"] == pytest.approx(sum(each.sum() for each in wanted.values()) / total, rel=1e-12)
    back = decompose(open_adapter(out))
    for name, sigma in wanted.items():
        assert np.sort(back[name].sigma) == pytest.approx(np.sort(sigma), abs=1e-5 * sigma.max())


def test_the_gain_of_a_group_scales_the_numbers_of_a_module(ok):
    words = ["gains", "--sigma", "3,2,1", "--policy", "rank", "--keep", "2", "--energy", "l1", "--json"]
    whole, half = ok(*words)["sigma"], ok(*words, "--group-gain", "0.5")["sigma"]
    assert half == [each / 2 for each in whole]
    assert sum(half) == pytest.approx(3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--family-gain", "o_proj"], "no family with its gain"),
        (["--family-gain", "o_proj=x"], "no family with its gain"),
        (["--family-gain", "o_proj=1", "o_proj=2"], "two gains"),
        (["--family-third-gain", "o_proj=1,2"], "write it as q_proj=1,0.8,0.5"),
        (["--third-gain", "1", "3", "1"], "from 0 to 2"),
        (["--family-gain", "nothing=0.5"], "the adapter has no family 'nothing'"),
    ],
)
def test_what_is_no_gain_of_a_group_is_refused(small_adapter, tmp_path, fails, words, said):
    line = fails("edit", str(small_adapter), "--policy", "random_index", *words, "--out", str(tmp_path / "out"))
    assert said in line
    assert not (tmp_path / "out").exists()
