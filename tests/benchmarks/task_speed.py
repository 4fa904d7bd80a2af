"""The paper's four benchmarks by our engine and by lm-eval's own model on the same slice, as a Markdown table.

    python tests/benchmarks/task_speed.py

`demo:kinship` on its base; one variant and eight against `lm_eval.simple_evaluate` with its HF model, which gives one
variant's scores. Scores of the unedited adapter are compared example by example before a row is printed; programs are
judged by a stand-in that runs nothing, for both alike. Times are seconds of the processor.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from surgery import decompose, open_adapter
from surgery.evaluation.lm_eval import run_task
from surgery.experiments import random_controls
from surgery.model import VariantEngine, attach
from surgery.recipes import demo_plans
from tests.helpers.lm_eval_reference import FILES, assert_same, judge, plan, shortened, theirs

DEMO = "demo:kinship"
LIMITS = {"commonsense_qa": 24, "gsm8k": 3, "humaneval": 4, "ifeval": 6}
TOKENS = 48
THEIR_BATCH = 4


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    begun = time.process_time()
    found = work()
    return found, time.process_time() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=TOKENS, help="longest answer of tasks that generate")
    options = parser.parse_args()
    adapter = open_adapter(DEMO)
    spectra = decompose(adapter)
    edits = {name: edit.sigma_after for name, edit in random_controls(spectra, 7).items()}
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; answers of at most "
        f"{options.tokens} tokens; lm-eval's batch size {THEIR_BATCH}\n"
    )
    print(
        "| task | examples | lm-eval, one variant | ours, one | ours, eight | eight of ours / eight of lm-eval | score |"
    )
    print("|---|---|---|---|---|---|---|")
    with attach(adapter, spectra, demo_plans(DEMO)[0]) as live, tempfile.TemporaryDirectory() as folder:
        for name in FILES:
            task = plan(name, limit=LIMITS[name])
            loaded, settings = shortened(task, options.tokens)
            one = VariantEngine(live, {"unedited": None})
            eight = VariantEngine(live, {"unedited": None, **edits})
            scores, ours = timed(lambda one=one, loaded=loaded: run_task(loaded, one, live.base, judge=judge))
            several, together = timed(
                lambda all_=eight, loaded=loaded: run_task(loaded, all_, live.base, judge=judge)
            )
            live.set_sigma(None)
            results, their = timed(
                lambda task=task, settings=settings: theirs(
                    task, live.base, Path(folder), batch_size=THEIR_BATCH, **settings
                )
            )
            assert_same(scores, "unedited", results, live.model)
            assert_same(several, "unedited", results, live.model)
            print(
                f"| {name} | {len(scores.documents)} | {their:.1f} s | {ours:.1f} s | {together:.1f} s | "
                f"{together / (8 * their):.2f} | {scores.metric} {scores.numbers('unedited').mean():.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
