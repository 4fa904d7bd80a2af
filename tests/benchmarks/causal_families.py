"""Every causal family of the installed transformers: the way taken, and evaluation against one row at a time.

    python tests/benchmarks/causal_families.py [FAMILY …]

Each model is as small as its config allows and has random weights and a LoRA of peft's on its linear layers. Five
rows that begin alike go through calibration, likelihoods, losses and greedy answers, together with a second variant
without the adapter's update. The reference is transformers' model with peft's layers (or with none) on one row of ids,
without padding, mask, positions or a cache.
"""

import signal
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from surgery import SurgeryError
from surgery.model import Way
from tests.helpers.families import attached, build, reference, train
from tests.helpers.row_by_row import ROWS, alone, together

SECONDS = 60
# what no part of this table is about: a tower of pictures or sound that no setting makes small
TOWERS = (
    "fuyu",
    "gemma3",
    "gemma3n",
    "gemma4",
    "gemma4_unified",
    "gemma4_unified_assistant",
    "got_ocr2",
    "moss_transcribe_diarize",
    "musicgen",
    "musicgen_melody",
)


def compared(kind: str, folder: Path) -> str:
    """A line of the table."""
    train(kind, folder)
    with attached(kind, folder) as live:
        found, way = together(live), named(live.way)
    expected = {"adapter": alone(reference(kind, folder)), "base": alone(build(kind))}
    apart = max(float(abs(losses - expected[name].losses).max()) for name, losses in found.losses)
    pairs = [(name, i) for name in expected for i in range(len(ROWS))]
    equal = sum(found.answers[name][i] == expected[name].answers[i] for name, i in pairs)
    return f"| {kind} | {way} | {apart:.1e} | {equal} of {len(pairs)} |"


def named(way: Way) -> str:
    """The layouts and what is left out of the fastest way."""
    if way == Way():
        return "fastest"
    parts = [f"scored {way.scoring}", f"decoded {way.decoding}"]
    lacking = {"no cache": not way.cached, "no shared opening": way.cached and not way.shared}
    lacking["answers scored apart"] = way.cached and not way.follows
    return ", ".join([*parts, *(what for what, is_so in lacking.items() if is_so)])


def line(kind: str) -> str:
    """The outcome for one family, whatever it is."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"not within {SECONDS} s of a processor")

    if kind in TOWERS:
        return f"| {kind} | not built: has no small form | | |"
    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        build(kind)(input_ids=torch.tensor([[7, 8, 9]]), use_cache=False)
    except Exception as error:
        return f"| {kind} | not built: {_short(error)} | | |"
    try:
        with tempfile.TemporaryDirectory() as folder:
            return compared(kind, Path(folder))
    except SurgeryError as error:
        return f"| {kind} | refused: {error.problem} | | |"
    except Exception as error:
        return f"| {kind} | FAILED: {_short(error)} | | |"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _short(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())[:110]}".replace("|", "/")


def main() -> None:
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    kinds = sys.argv[1:] or [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "falcon-alibi"]
    print("| family | way | largest difference of a loss, nats | answers equal |")
    print("| --- | --- | --- | --- |")
    for kind in kinds:
        print(line(kind), flush=True)


if __name__ == "__main__":
    main()
