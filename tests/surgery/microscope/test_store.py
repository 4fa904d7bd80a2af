"""Looks are found again, refused where they are damaged, and kept within a bound."""

import dataclasses
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import Token
from surgery.errors import DataError
from surgery.microscope import Lens, Look, Subject, TokenPass, load_look, look, look_file, save_look, stored_look
from tests.helpers.policies import measured

RANK, LENGTHS = 3, (2, 4)


def made(lens: bool = True) -> Look:
    rng = np.random.default_rng(0)
    total = sum(LENGTHS)
    numbers = rng.standard_normal((total, RANK)).astype(np.float32)
    seen = TokenPass(
        LENGTHS,
        numbers.astype(np.float64),
        np.where(numbers > 1, np.nan, numbers).astype(np.float32),
        np.arange(total) % 2 == 0,
        rng.random((7, 3), dtype=np.float32),
    )
    tokens = rng.integers(0, 4, (RANK, 2, 5))
    written = Lens(tokens, *rng.random((2, RANK, 2, 5), dtype=np.float32), rng.random(7, dtype=np.float32))
    texts = tuple(tuple(Token(i, f"<b>{i}", i > 1, "") for i in range(length)) for length in LENGTHS)
    g = rng.standard_normal((2, RANK)).astype(np.float32).astype(np.float64)
    return Look(
        "m",
        (5, 1),
        g,
        texts,
        seen,
        written if lens else None,
        "" if lens else "no head",
        dict.fromkeys(range(4), "x") if lens else {},
    )


def assert_same(first, second):
    for part in dataclasses.fields(first):
        a, b = getattr(first, part.name), getattr(second, part.name)
        if dataclasses.is_dataclass(a):
            assert_same(a, b)
        else:
            np.testing.assert_equal(a, b)


@pytest.mark.parametrize("lens", [True, False])
def test_a_look_is_read_as_it_was_written(lens, tmp_path):
    save_look(made(lens), tmp_path / "new" / "look.safetensors")
    assert_same(load_look(tmp_path / "new" / "look.safetensors"), made(lens))


@given(cut=st.integers(0, 5000), flip=st.integers(0, 5000))
def test_a_damaged_file_is_as_none(cut, flip, tmp_path_factory):
    file = tmp_path_factory.mktemp("looks") / "look.safetensors"
    save_look(made(), file)
    data = bytearray(file.read_bytes())
    file.write_bytes(data[:cut] if cut < len(data) else data)
    if cut < len(data):
        assert stored_look(file) is None
        with pytest.raises(DataError, match="holds no look"):
            load_look(file)
    data[flip % len(data)] ^= 0xFF
    file.write_bytes(data)
    stored_look(file)  # whatever a byte became, nothing but a refusal comes of it
    assert stored_look(file.with_name("none")) is None


def test_the_oldest_looks_go_where_they_take_too_much_room(tmp_path, monkeypatch):
    files = [tmp_path / f"{i}.safetensors" for i in range(4)]
    save_look(made(), files[0])
    monkeypatch.setattr("surgery.microscope.store.MOST_BYTES", int(2.5 * files[0].stat().st_size))
    for age, file in enumerate(files):
        save_look(made(), file)
        os.utime(file, ns=(age * 10**9, age * 10**9))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["2.safetensors", "3.safetensors"]


def test_a_look_that_is_stored_needs_no_model(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))
    sensitivity = measured({"m": np.ones((6, RANK))})
    subject = Subject(sensitivity, "m", (5, 1))
    save_look(made(), look_file(subject))
    assert_same(look(None, None, subject), made())
