"""Memory that really runs out: a process that the system gives so much and no more halves its batches and goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import json, resource, sys
import numpy as np
import torch
from surgery.adapter import open_adapter
from surgery.data import Calibration
from surgery.data import Encoding
from surgery.data import Example
from surgery.model import VariantEngine
from surgery.errors import DataError
from surgery.model import LiveModel
from surgery.edits import make_edit
from surgery.policies import RandomIndex
from surgery.model import Prompts
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import VOCABULARY, loaded_base, save_adapter, tiny_llama
from tests.helpers.rounding import losses_apart, sensitivities_apart, watched

torch.set_num_threads(1)
Prompts.chosen = watched(Prompts.chosen)
MEBIBYTE = 1 << 20
rng = np.random.default_rng(0)


def allow(more):
    # what is mapped now and so much beyond; None: all there is
    used = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmData")) * 1024
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (used + more * MEBIBYTE if more else hard, hard))


def ids(count):
    return tuple(rng.integers(6, VOCABULARY, size=count).tolist())


# a token takes 32 KiB in each tensor of an MLP, a row of 240 tokens 7.5 MiB
model = tiny_llama(intermediate_size=8192, num_hidden_layers=2, initializer_range=0.02)
adapter = open_adapter(save_adapter(model, sys.argv[1], targets=["o_proj", "down_proj"]))
spectra = decompose(adapter)
rows = [Example(f"row {i}", ids(230), ids(10), "") for i in range(4)]
calibration = Calibration(tuple(rows), Encoding(), {})
told = {}
with LiveModel(loaded_base(model), adapter, spectra) as live:
    names = list(spectra)
    edits = {name: make_edit(spectra, RandomIndex(seed=seed)).sigma_after for name, seed in (("a", 0), ("b", 1))}

    def measured(batch, sizes):
        keep = lambda partial: sizes.append(partial.batch_size)
        return measure_sensitivity(live, calibration, names, batch_size=batch, keep=keep).values

    def answered():
        found = VariantEngine(live, {"unedited": None, **edits}).answer(rows, max_new_tokens=4)
        return {name: [[each.loss, *map(int, each.tokens)] for each in answers] for name, answers in found.items()}

    # of what rounding can do
    def farthest(one, other):
        apart = max(float(np.linalg.norm(one[name] - other[name]) / np.linalg.norm(one[name])) for name in one)
        return apart / sensitivities_apart(live.model)

    first, spoken = measured(1, []), answered()
    sizes = []
    allow(250)
    told["less"] = farthest(first, measured(4, sizes))
    told["sizes"] = sizes
    allow(None)
    seen = []
    original = live.model.forward
    live.model.forward = lambda *a, **o: (seen.append(len(o["input_ids"])), original(*a, **o))[1]
    allow(80)
    again = answered()
    allow(None)
    told["rows"] = seen
    live.model.forward = original
    told["tokens"] = all(a[1:] == b[1:] for name in spoken for a, b in zip(spoken[name], again[name], strict=True))
    pairs = [(a[0], b[0]) for name in spoken for a, b in zip(spoken[name], again[name], strict=True)]
    told["losses"] = max(abs(a - b) / float(losses_apart(live.model, a)) for a, b in pairs)
    allow(5)
    problems = []
    for work in (lambda: measured(4, []), answered):
        try:
            work()
        except DataError as error:
            problems.append(str(error))
    allow(None)
    told["problems"] = problems
    told["after"] = farthest(first, measured(2, []))
print(json.dumps(told))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit on a process's data is Linux's")
def test_batches_are_halved_until_they_fit_and_one_that_never_fits_leaves_the_model_usable(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "adapter")],
        cwd=ROOT,
        # glibc keeps freed blocks below a threshold that grows with them; what is free is to be the system's again
        env={**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 20)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert max(told["sizes"]) < 4, "a batch of four cannot have fitted"
    assert told["less"] <= 1
    assert max(told["rows"]) > min(told["rows"]), "the engine tried more rows than fitted"
    assert told["tokens"]
    assert told["losses"] <= 1
    assert len(told["problems"]) == 2
    assert all("does not fit into memory" in problem for problem in told["problems"])
    assert told["after"] <= 1
