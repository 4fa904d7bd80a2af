"""What lm-eval changes in this process is put back."""

import random

import numpy as np
import pytest
import torch
from lm_eval import utils
from tqdm.std import tqdm

from surgery.errors import Cancelled, DataError
from surgery.evaluation.lm_eval import process_state


def test_generators_bars_and_templates_are_as_they_were(capsys):
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = [random.random(), np.random.rand(), float(torch.rand(()))]
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    before = utils.env, tqdm.__init__
    with process_state.quiet(), process_state.kept_random_state(process_state.RandomState.of_lm_eval()):
        assert utils.apply_template("{{ a }}\n", {"a": 1}) == "1\n"
        assert utils.apply_template("{{ a | regex_replace('b', 'c') }}", {"a": "abb"}) == "acc"
        with pytest.raises(Exception, match="unsafe"):
            utils.apply_template("{{ a.__class__.__mro__ }}", {"a": 1})
        list(tqdm([random.random(), np.random.rand(), torch.rand(())]))
        print("a data loader's words")
    assert (utils.env, tqdm.__init__) == before
    assert [random.random(), np.random.rand(), float(torch.rand(()))] == expected
    assert capsys.readouterr() == ("", "a data loader's words\n")


def test_what_a_definition_raises_becomes_a_refusal_and_a_cancel_stays_one():
    with pytest.raises(DataError, match="could not load the task 'x'"), process_state.refusing("x", "load"):
        raise KeyError("a")
    with pytest.raises(Cancelled), process_state.refusing("x", "load"):
        raise Cancelled
