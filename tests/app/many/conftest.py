"""A small set of adapters: a training of three checkpoints, one of another base, one that is refused."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.state.jobs import jobs
from surgery.adapter_sets import AdapterSet, open_set
from tests.helpers.adapter_folders import factors, write_adapter_at

APP = Path(__file__).resolve().parents[3] / "app"


def after_jobs(test: AppTest) -> AppTest:
    """The page once more, when no work is under way any longer."""
    until = time.monotonic() + 30
    while any(not job.finished for job in jobs()._jobs.values()) and time.monotonic() < until:
        time.sleep(0.02)
    return test.run()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("many adapters")
    for step in (10, 20, 100):
        write_adapter_at(root / "run" / f"checkpoint-{step}", factors(4, seed=step))
    write_adapter_at(
        root / "other", factors(2, shapes={"self_attn.q_proj": (14, 9)}), base_model_name_or_path="made-up/other"
    )
    torn = write_adapter_at(root / "torn", factors(2))
    (torn / "adapter_model.safetensors").write_bytes(b"torn")
    return root


@pytest.fixture(scope="session")
def adapters(folder: Path) -> AdapterSet:
    return open_set(folder)


@pytest.fixture
def page(adapters: AdapterSet) -> Callable[[], AppTest]:
    """The page with the set open."""

    def show() -> AppTest:
        test = AppTest.from_file(str(APP / "main.py"), default_timeout=60)
        test.session_state["many-set"] = adapters
        return test.run().switch_page("views/many.py").run()

    return show
