"""A film is found again by its checkpoints' bytes and steps, and a damaged file is as none."""

from dataclasses import fields

import numpy as np
import pytest

from surgery.adapter_sets import film_file, keep_film, kept_film, open_set, training_film
from surgery.errors import DataError
from tests.helpers.adapter_folders import factors, write_adapter_at
from tests.helpers.refusals import refusal


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Checkpoints of two modules a layer, the first without the second layer, and their film."""
    root = tmp_path_factory.mktemp("training")
    for step in (5, 10, 20):
        write_adapter_at(root / f"checkpoint-{step}", factors(3, seed=step, layers=1 if step == 5 else 2))
    adapters = open_set(root)
    (checkpoints,) = adapters.trainings.values()
    return checkpoints, training_film(adapters, checkpoints)


def test_what_was_kept_comes_back_for_the_same_checkpoints_and_for_no_others(training):
    checkpoints, film = training
    assert kept_film(checkpoints) is None
    keep_film(film, film_file(checkpoints))
    again = kept_film(checkpoints)
    assert (again.steps, list(again.modules)) == (film.steps, list(film.modules))
    for name, module in film.modules.items():
        for field in fields(module):
            np.testing.assert_array_equal(getattr(again.modules[name], field.name), getattr(module, field.name))
    assert kept_film(checkpoints[1:]) is None


def with_last(data, value):
    """The file with another last number."""
    return data[: -len(value)] + value


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-8],
        lambda data: b"",
        lambda data: b"\xff" * 40,
        lambda data: data.replace(b"surgery-film-1", b"surgery-film-0"),
        lambda data: data.replace(b'steps\\": [5', b'steps\\": [6'),
        lambda data: data.replace(b", 3], [", b", 2], [", 1),
        lambda data: data.replace(b'"about"', b'"aboud"'),
        lambda data: data.replace(np.float64(1.0).tobytes(), np.float64(np.inf).tobytes()),
    ],
)
def test_a_damaged_file_is_as_none(training, damage):
    checkpoints, film = training
    file = film_file(checkpoints)
    keep_film(film, file)
    before = file.read_bytes()
    assert damage(before) != before
    file.write_bytes(damage(before))
    assert kept_film(checkpoints) is None


def test_a_match_beyond_the_components_is_no_film(training):
    checkpoints, film = training
    wrong = next(iter(film.modules.values()))
    before = wrong.match.copy()
    wrong.match[0, 0] = 3
    keep_film(film, film_file(checkpoints))
    wrong.match[:] = before
    assert kept_film(checkpoints) is None


def test_a_place_that_cannot_be_written_is_told(training, tmp_path):
    checkpoints, film = training
    (tmp_path / "films").write_text("a file")
    assert "SURGERY_HOME" in refusal(DataError, lambda: keep_film(film, film_file(checkpoints)))
