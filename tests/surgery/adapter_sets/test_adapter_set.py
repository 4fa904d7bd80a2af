"""A set gives each member's own spectra, holds no more bytes than its bound, and notices files that change."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery import decompose, open_adapter
from surgery.adapter_sets import adapter_set as module
from surgery.adapter_sets import open_set
from surgery.errors import AdapterError, Cancelled, DataError
from surgery.progress import Control
from surgery.spectra import inspect_many
from tests.helpers.adapter_folders import WIDE, factors, write_adapter_at
from tests.helpers.refusals import refusal


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Three adapters of one base at two ranks and one of other targets, one of another base, one that is torn."""
    root = tmp_path_factory.mktemp("set")
    write_adapter_at(root / "a", factors(2, seed=1))
    write_adapter_at(root / "b", factors(4, seed=2))
    write_adapter_at(
        root / "c", factors(4, seed=3, layers=3, shapes={"self_attn.q_proj": WIDE["self_attn.q_proj"]})
    )
    write_adapter_at(root / "other", factors(2, shapes={"self_attn.q_proj": (14, 10)}))
    shutil.copytree(root / "a", root / "torn")
    (root / "torn" / "adapter_model.safetensors").write_bytes(b"torn")
    return root


def names(members):
    return [member.name for member in members]


def test_members_are_what_inspect_many_tells_and_the_refused_stay_with_their_reason(many):
    found = open_set(many)
    rows = {row.folder: row for row in inspect_many(many)}
    assert {member.name: member.row for member in found.members if not member.refusal} == {
        name: row for name, row in rows.items() if not row.refusal
    }
    assert [(member.name, member.refusal) for member in found.members if member.refusal] == [
        ("torn", rows["torn"].refusal)
    ]
    assert names(found.opened) == ["a", "b", "c", "other"]
    assert [names(group) for group in found.alike] == [["a", "b", "c"], ["other"]]


def test_spectra_of_a_pass_are_those_of_each_adapter_opened_alone_to_the_last_bit(many):
    found = open_set(many)
    alone = {name: decompose(open_adapter(many / name)) for name in "abc"}
    seen = {}
    for name, spectra in found.by_module(list("abc")):
        for member, spectrum in zip("abc", spectra, strict=True):
            assert (spectrum is None) == (name not in alone[member])
            if spectrum is not None:
                seen[member, name] = spectrum
                expected = alone[member][name]
                for part in ("U", "sigma", "V"):
                    np.testing.assert_array_equal(getattr(spectrum, part), getattr(expected, part))
                assert (spectrum.layer, spectrum.family, spectrum.precision) == (
                    expected.layer,
                    expected.family,
                    expected.precision,
                )
    assert seen.keys() == {(member, name) for member in alone for name in alone[member]}
    for (member, name), spectrum in seen.items():
        np.testing.assert_array_equal(found.spectrum(member, name).U, spectrum.U)
        np.testing.assert_array_equal(found[member].modules[name].sigma, spectrum.sigma)


LEAST = 10_000  # room for one module of these adapters and for the largest of their files


@pytest.fixture(scope="module")
def tight(many):
    return open_set(many)


@settings(max_examples=6, deadline=None)
@given(
    st.integers(LEAST, 60_000),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 30)), max_size=6),
)
def test_no_more_bytes_are_held_than_the_bound_and_a_pass_decomposes_each_module_once(tight, most, looks):
    found = module.AdapterSet(tight.root, tight.members, most)
    made = []
    original = module.whole_spectrum

    def counted(factors):
        made.append(factors.name)
        assert found.held.held <= most
        return original(factors)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "whole_spectrum", counted)
        for member, at in looks:
            of_member = list(found[member].modules)
            found.spectrum(member, of_member[at % len(of_member)])
        made.clear()
        for _ in found.by_module(list("abc")):
            assert found.held.held <= most
        assert len(made) <= sum(len(found[member].modules) for member in "abc")
    assert found.held.peak <= most


def test_where_not_one_module_fits_it_is_said_before_anything_is_read(tight):
    found = module.AdapterSet(tight.root, tight.members, 1000)
    assert "set more memory" in refusal(DataError, lambda: next(found.by_module(list("abc"))))


def test_a_pass_tells_how_far_it_is_and_stops(tight):
    told = []
    list(tight.by_module(["a", "b"], control=Control(progress=lambda done, total: told.append((done, total)))))
    count = len(tight.modules(["a", "b"]))
    assert told == [(2 * at, 2 * count) for at in range(1, count + 1)]
    with pytest.raises(Cancelled):
        list(tight.by_module(["a"], control=Control(cancelled=lambda: True)))
    assert next(iter(tight.by_module(["a"])))  # the stopped pass holds up no other


def test_files_that_change_after_the_set_was_opened_are_noticed(many, tmp_path):
    shutil.copytree(many / "a", tmp_path / "a")
    found = open_set(tmp_path)
    shutil.rmtree(tmp_path / "a")
    shutil.copytree(many / "b", tmp_path / "a")
    name = next(iter(found["a"].modules))
    assert "open the set again" in refusal(AdapterError, lambda: found.spectrum("a", name))


def test_a_member_without_the_module_is_refused(tight):
    assert "no module" in refusal(DataError, lambda: tight.spectrum("a", "nowhere"))
    assert "no module" in refusal(DataError, lambda: tight.spectrum("torn", "nowhere"))


def test_what_a_pass_made_is_kept_where_all_of_it_fits_and_not_where_it_does_not(tight):
    members = ["a", "b"]
    size = sum(each.directions for member in members for each in tight[member].modules.values())
    for most, kept in [(2 * size + 40_000, True), (2 * size - 1, False)]:
        found = module.AdapterSet(tight.root, tight.members, most)
        for _ in found.by_module(members):
            pass
        name = next(iter(found["a"].modules))
        assert (found.held.get(("a", name)) is not None) == kept
