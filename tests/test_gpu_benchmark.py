"""The benchmark of a GPU runs whole on a CPU, at the scale of tiny models, so that it works where it is needed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery.adapter import open_adapter
from surgery.files import places
from surgery.model import answer_losses, collate
from surgery.progress import Control
from tests.benchmarks import gpu
from tests.benchmarks.gpu_bench import FULL, TINY, Bench, Measured
from tests.benchmarks.gpu_demo import DEMO, case
from tests.benchmarks.gpu_parts import plain_pass
from tests.benchmarks.random_models import TINY_LLAMA, TINY_QWEN, random_examples, random_live

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's data is Linux's")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole run."""
    out = tmp_path_factory.mktemp("gpu")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", "--tiny", "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    (out / "table.md").write_text(done.stdout)
    return out


def numbers(results: Path, part: str) -> dict[str, float]:
    found = json.loads((results / "results.json").read_text())["parts"][part]
    assert found["state"] == "finished"
    return {row["what"]: row["value"] for row in found["measured"]}


def test_every_part_is_finished_and_every_number_is_in_the_table(results: Path) -> None:
    table = (results / "table.md").read_text().splitlines()
    found = json.loads((results / "results.json").read_text())["parts"]
    assert list(found) == list(gpu.PARTS)
    assert all(part["state"] == "finished" for part in found.values())
    told = [line for line in table if line.startswith("| ")]
    assert len(told) == 1 + sum(1 + len(part["measured"]) for part in found.values())


@pytest.mark.parametrize("part", ["calibrate-llama", "calibrate-qwen"])
def test_the_share_of_the_matrix_rate_follows_from_the_pace(results: Path, part: str) -> None:
    found = numbers(results, part)
    shape = {"calibrate-llama": TINY_LLAMA, "calibrate-qwen": TINY_QWEN}[part]
    rate = 1e12 * found["bfloat16 matrix product"]
    scale = TINY
    tokens, head = scale.prompt + scale.answer, shape.vocab_size * shape.hidden_size
    hidden, inside, narrow = shape.hidden_size, shape.intermediate_size, shape.hidden_size // 2
    layer = 2 * hidden * hidden + 2 * hidden * narrow + 3 * hidden * inside
    work = 4 * scale.rows * (tokens * shape.num_hidden_layers * layer + (scale.answer + 1) * head)
    for what in ("calibration", "plain forward and backward"):
        took = found[f"{shape.name}: {what}"]
        assert found[f"{shape.name}: {what}, pace"] == pytest.approx(scale.rows * tokens / took)
        assert found[f"{shape.name}: {what}, of the matrix rate"] == pytest.approx(100 * work / took / rate)
        assert found[f"{shape.name}: {what}, peak beside the model"] > 0


def test_memory_that_runs_out_halves_the_batch_and_leaves_the_numbers_as_they_were(results: Path) -> None:
    found = numbers(results, "memory")
    assert found["calibration, batch that was left"] < TINY.batch
    assert found["calibration, against such batches with all memory"] == 0
    assert found["calibration, refused where no row fits"] == 1
    assert found["calibration afterwards, against before"] == 0
    assert found["answers afterwards, losses against before"] == 0
    assert found["answers, rows at once that were left"] < 4 * TINY.requests


def test_the_demos_part_measures_what_one_row_at_a_time_gives(results: Path) -> None:
    found = json.loads((results / "results.json").read_text())["parts"]["demo-calibration"]["measured"]
    (compared,) = [row for row in found if row["what"] == "demo: sensitivities against the CPU's"]
    assert compared["value"] <= float(compared["note"].rsplit(" ", 1)[1])


def test_a_finished_part_is_not_run_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def again(*_: object, **__: object) -> None:
        pytest.fail("a finished part ran again")

    monkeypatch.setattr(gpu, "run_part", again)
    before = (results / "results.json").read_bytes()
    assert gpu.main(["--tiny", "--out", str(results)]) == 0
    assert (results / "results.json").read_bytes() == before


def test_a_part_without_time_is_skipped_and_one_that_takes_too_long_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(bench: Bench) -> Any:
        for turn in range(1000):
            torch.zeros(1000).sum()
            yield Measured(f"turn {turn}", 1.0, "s")

    monkeypatch.setattr(gpu, "PARTS", {"first": gpu.Part(240, slow), "second": gpu.Part(240, slow)})
    assert gpu.main(["--tiny", "--out", str(tmp_path), "--seconds", "0.02"]) == 0
    parts = json.loads((tmp_path / "results.json").read_text())["parts"]
    assert parts["first"]["state"].startswith("stopped")
    assert parts["first"]["measured"]
    assert parts["second"]["state"].split()[0] in ("skipped:", "stopped")
    assert parts["first"]["seconds"] < 5


def test_results_of_another_machine_are_not_mixed_in(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "machine_of", lambda options: {"device": "another card"})
    with pytest.raises(SystemExit, match="of another machine"):
        gpu.main(["--tiny", "--out", str(results)])


def test_the_plain_pass_is_the_base_model_alone() -> None:
    examples = random_examples(2, TINY_QWEN.vocab_size, prompt=12, spread=0, answer=4)
    bench = Bench(torch.device("cpu"), TINY, Path(), Control())
    seen: list[int] = []
    with random_live(TINY_QWEN, "cpu") as live:
        batch = collate(examples, 0, layout=live.layout)
        edited = answer_losses(live.model, batch)
        with live.alone():
            plain = answer_losses(live.model, batch)
            plain_pass(live, examples, bench, seen)
        assert not torch.equal(edited, plain)
        assert torch.equal(edited, answer_losses(live.model, batch))
    assert seen == [2]


def test_on_a_card_the_demo_is_measured_against_what_ships(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGERY_HOME", "set back after the test")
    bench = Bench(torch.device("cuda"), FULL, tmp_path, Control())
    chosen = case(bench)
    assert places.home() == tmp_path / "home"
    assert (chosen.base.device, chosen.base.dtype) == ("cuda", "float32")
    assert chosen.held_out.limit == 512
    assert chosen.reference is not None
    assert chosen.reference.examples == chosen.calibration.examples == 128
    assert chosen.reference.provenance.adapter == open_adapter(DEMO).digest
