"""A workplace for tests that run the steps of a recipe, and a watch on what is asked of the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery.model import Prompts, VariantEngine, encoder_decoder
from tests.helpers.rounding import watched
from tests.helpers.workplace import Workplace, workplace, write_workplace


@pytest.fixture(autouse=True)
def clear_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests compare tokens: wherever the model chooses one, no rounding may turn the choice."""
    for read in (Prompts, encoder_decoder.EncodedPrompts):
        monkeypatch.setattr(read, "chosen", watched(read.chosen))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For what holds to the bit: several threads may split the sums of one row otherwise than those of another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def workplace_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Not to be changed."""
    return write_workplace(tmp_path_factory.mktemp("workplace"))


@pytest.fixture
def place(workplace_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """The workplace with a home of its own."""
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    return workplace(workplace_files, tmp_path / "home")


@dataclass(frozen=True)
class EngineCall:
    """One call of the engine: what was asked of which variants, and how many requests."""

    kind: str
    variants: tuple[str, ...]
    requests: int
    rows: int | None

    @property
    def answers(self) -> int:
        return self.requests * len(self.variants)


@pytest.fixture
def engine_calls(monkeypatch: pytest.MonkeyPatch) -> list[EngineCall]:
    """What is asked of the model through a logged engine, as it is asked."""
    calls: list[EngineCall] = []

    class Watched(VariantEngine):
        def __init__(self, live: Any, variants: Any, *, rows: int | None = None) -> None:
            super().__init__(live, variants, rows=rows)
            self.asked_rows = rows

    def watch(kind: str) -> None:
        original = getattr(VariantEngine, kind)

        def asked(self: Watched, requests: Any, *more: Any, **options: Any) -> Any:
            calls.append(EngineCall(kind, self._names, len(requests), self.asked_rows))
            return original(self, requests, *more, **options)

        setattr(Watched, kind, asked)

    for kind in ("log_likelihoods", "answer_losses", "divergences", "generate", "answer"):
        watch(kind)
    monkeypatch.setattr("surgery.runs.logged_engine.VariantEngine", Watched)
    return calls
