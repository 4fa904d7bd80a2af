"""Sensitivities of a bfloat16 base against those of a float32 base, as a Markdown table.

    python tests/benchmarks/sensitivity_precision.py kinship --examples 32

Same examples, same batches. The sums over tokens are float32 in both; what differs is the model.
"""

import argparse
from dataclasses import replace

import numpy as np
from scipy.stats import spearmanr

from surgery import decompose, make_edit, make_policy, measure_sensitivity, open_adapter
from surgery.model import attach
from surgery.recipes import demo_plans
from surgery.sensitivity import Sensitivity, calibration_slice


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo")
    parser.add_argument("--examples", type=int, default=32)
    options = parser.parse_args()

    source = f"demo:{options.demo}"
    adapter = open_adapter(source)
    spectra = decompose(adapter)
    base, plan, _ = demo_plans(source)
    plan = replace(plan, examples=options.examples)
    measured: dict[str, Sensitivity] = {}
    for dtype in ("float32", "bfloat16"):
        with attach(adapter, spectra, replace(base, dtype=dtype)) as live:
            measured[dtype] = measure_sensitivity(live, calibration_slice(live, plan), list(spectra))
    exact, coarse = measured["float32"], measured["bfloat16"]
    whole = [np.concatenate(list(m.values.values()), axis=1) for m in (exact, coarse)]
    means = [g.mean(axis=0) for g in whole]
    magnitudes = [np.abs(g).mean(axis=0) for g in whole]
    policy = make_policy("grad_direction")
    gains = [
        np.concatenate([m.gains for m in make_edit(spectra, policy, sensitivity=each).modules.values()])
        for each in (exact, coarse)
    ]
    errors = whole[0].std(axis=0, ddof=1) / np.sqrt(len(whole[0]))
    print(f"{source}, {exact.examples} examples, {means[0].size} components, bfloat16 against float32\n")
    print("| quantity | relative error | rank correlation |")
    print("|---|---|---|")
    for name, pair in (
        ("loss of an example", [exact.losses, coarse.losses]),
        ("g of an example and component", [g.ravel() for g in whole]),
        ("mean g", means),
        ("mean |g|", magnitudes),
        ("gain of grad_direction", gains),
    ):
        error = np.linalg.norm(pair[1] - pair[0]) / np.linalg.norm(pair[0])
        print(f"| {name} | {error:.2%} | {spearmanr(*pair).statistic:.4f} |")
    share = np.abs(means[1] - means[0]) / errors
    print(
        f"\nThe change of mean g is {np.median(share):.2f} of its own standard error over examples in the median, "
        f"{np.quantile(share, 0.95):.2f} at the 95th percentile."
    )


if __name__ == "__main__":
    main()
