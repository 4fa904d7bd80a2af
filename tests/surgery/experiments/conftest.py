"""Live models with what an experiment starts from: measurements, slices, and losses worked out by hand."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import Calibration, Encoding, TextPlan
from surgery.edits import EditPlan
from surgery.model import LiveModel, answer_losses, collate
from surgery.policies import (
    GradDirection,
)
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import (
    double,
    example_loss,
    loaded_base,
    random_examples,
    save_adapter,
    singular_triplets,
    tiny_llama,
)
from tests.helpers.workplace import workplace


@pytest.fixture(scope="module")
def live(workplace_files):
    with workplace(workplace_files, workplace_files / "no home").attach() as attached:
        yield attached


@pytest.fixture
def text_plan(tmp_path):
    """A text of sums that no row says, and how it is cut."""
    file = tmp_path / "text.txt"
    file.write_text("".join(f"{n}+{7 * n % 23}={n + 7 * n % 23}. " for n in range(16)))
    return TextPlan(str(file), 5, window=24, stride=12)


PLAN = EditPlan(GradDirection(eta_suppress=0.4), energy="none")


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A live model in float64 with its sensitivities, a slice to tune on and the adapter's folder."""
    folder = save_adapter(tiny_llama(), tmp_path_factory.mktemp("adapter"))
    adapter = open_adapter(folder)
    spectra = decompose(adapter)
    with LiveModel(loaded_base(double(tiny_llama())), adapter, spectra) as live:
        sensitivity = measure_sensitivity(live, slice_of(8, seed=1), list(spectra))
        tuning = slice_of(7, seed=2)
        yield SimpleNamespace(
            live=live,
            spectra=spectra,
            sensitivity=sensitivity,
            folder=folder,
            slice_=tuning,
            unedited=held_losses(live, tuning),
        )


@pytest.fixture(autouse=True)
def everything_is_put_back(request):
    """After every test that had the live model, it holds the adapter's own σ."""
    yield
    if "shop" in request.fixturenames:
        shop = request.getfixturevalue("shop")
        found = held_losses(shop.live, shop.slice_)
        np.testing.assert_array_equal(found, shop.unedited)


def slice_of(count: int, seed: int) -> Calibration:
    return Calibration(tuple(random_examples(count, seed)), Encoding())


def held_losses(live, slice_) -> np.ndarray:
    """Losses at the σ that the live model holds."""
    with torch.no_grad():
        return answer_losses(live.model, collate(slice_.examples, 0)).numpy()


def without_model(shop):
    """The shop with a live model that has spectra and nothing that could run."""
    live = SimpleNamespace(spectra=shop.spectra)
    return SimpleNamespace(live=live, slice_=shop.slice_, sensitivity=shop.sensitivity)


def losses_by_hand(shop, sigma_after, examples) -> np.ndarray:
    """Dense weights W + U·diag(σ′)·Vᵀ in a float64 model without any adapter, one example at a time."""
    model = double(tiny_llama())
    with torch.no_grad():
        for name, (U, sigma, V) in singular_triplets(tiny_llama(), shop.folder).items():
            new = torch.as_tensor(sigma_after.get(name, sigma))
            model.get_submodule(name).weight += U @ torch.diag(new) @ V.T
        return np.array([example_loss(model, example).item() for example in examples])


def assert_effect_by_hand(shop, effect, edit, examples) -> None:
    change = losses_by_hand(shop, edit.sigma_after, examples) - losses_by_hand(shop, {}, examples)
    assert abs(change).max() > 1e-4, "an edit that does nothing shows nothing"
    np.testing.assert_allclose(effect.mean, change.mean(), rtol=1e-9)
    np.testing.assert_allclose(effect.standard_error, change.std(ddof=1) / np.sqrt(change.size), rtol=1e-9)
    assert effect.low < effect.mean < effect.high


def stop_after(calls: int):
    """A `cancelled` that says yes from its call number `calls` on, counted from 0."""
    count = itertools.count()
    return lambda: next(count) >= calls
