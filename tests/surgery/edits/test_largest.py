"""The largest singular values of an edit."""

import numpy as np
import pytest

from surgery.edits import Edit, ModuleEdit, largest_text, largest_values, make_edit
from surgery.policies import Rank, Scale
from surgery.spectra import Spectrum


def spectrum(name: str, sigma: list[float]) -> Spectrum:
    basis = np.eye(5)[:, : len(sigma)]
    return Spectrum(name, 0, name, basis, np.array(sigma), basis)


SPECTRA = {"a.o_proj": spectrum("a.o_proj", [4.0, 3.0, 2.0, 1.0]), "b.o_proj": spectrum("b.o_proj", [2.0, 1.0])}


def test_a_truncation_keeps_what_it_keeps_and_under_a_rule_puts_all_into_it():
    free = largest_values(make_edit(SPECTRA, Rank(keep=1)))
    assert (free.least, free.most) == (1, 1)
    assert largest_text(free, "none") == "largest singular value of a module ×1 without an energy rule"
    held = largest_values(make_edit(SPECTRA, Rank(keep=1), energy="l1"))
    assert (held.least, held.most) == pytest.approx((1.5, 2.5))
    assert (held.module, held.before, held.after) == ("a.o_proj", 4.0, pytest.approx(10.0))
    assert largest_text(held, "l1") == (
        "largest singular value of a module ×1.5 to ×2.5 under energy rule l1, most in a.o_proj (4 to 10)"
    )


def test_a_smaller_value_names_no_module():
    found = largest_values(make_edit(SPECTRA, Scale(gamma=0.5)))
    assert largest_text(found, "none") == "largest singular value of a module ×0.5 without an energy rule"


def test_zero_updates_have_none():
    zero = np.zeros(2)
    assert largest_values(Edit({"x": ModuleEdit(np.ones(2), zero, zero, "zero")})) is None
