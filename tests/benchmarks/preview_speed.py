"""Time of an edit and its preview, as the Surgery page needs them at every turn of a knob.

    OMP_NUM_THREADS=1 python tests/benchmarks/preview_speed.py

Made-up spectra and sensitivities of 252 modules (36 layers of seven) at rank 16 with 128 examples,
every module in scope. Beside it stands the same edit made one module at a time.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from surgery import make_edit, preview
from surgery.data import Encoding
from surgery.policies import POLICIES, Policy
from surgery.sensitivity import Provenance, Sensitivity
from surgery.spectra import Spectrum

FAMILIES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Timing:
    """Medians in milliseconds: all modules at once, its two parts, and one module at a time."""

    policy: str
    edit: float
    preview: float
    together: float
    one_by_one: float


def preview_speed(
    layers: int = 36, rank: int = 16, examples: int = 128, repeats: int = 50
) -> tuple[float, list[Timing]]:
    """The statistics of a fresh measurement, once, in milliseconds; then the medians of every policy."""
    spectra, sensitivity = _made_up(layers, rank, examples)
    began = time.perf_counter()
    _ = sensitivity.moments
    once = 1e3 * (time.perf_counter() - began)
    return once, [_timing(policy(), spectra, sensitivity, repeats) for policy in POLICIES.values()]


def _timing(policy: Policy, spectra: dict[str, Spectrum], sensitivity: Sensitivity, repeats: int) -> Timing:
    edit = make_edit(spectra, policy, sensitivity=sensitivity, scope="all")

    def together() -> None:
        preview(make_edit(spectra, policy, sensitivity=sensitivity, scope="all"), sensitivity)

    def one_by_one() -> None:
        for name, spectrum in spectra.items():
            make_edit({name: spectrum}, policy, sensitivity=sensitivity, scope="all")

    return Timing(
        policy.name,
        _median(lambda: make_edit(spectra, policy, sensitivity=sensitivity, scope="all"), repeats),
        _median(lambda: preview(edit, sensitivity), repeats),
        _median(together, repeats),
        _median(one_by_one, max(3, repeats // 10)),
    )


def _median(call: Callable[[], object], repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def _made_up(layers: int, rank: int, examples: int) -> tuple[dict[str, Spectrum], Sensitivity]:
    rng = np.random.default_rng(0)
    spectra, values = {}, {}
    for layer in range(layers):
        for family in FAMILIES:
            name = f"model.layers.{layer}.{family}"
            sigma = np.sort(rng.lognormal(size=rank))[::-1]
            spectra[name] = Spectrum(name, layer, family, np.eye(rank), sigma, np.eye(rank))
            values[name] = rng.normal(0.001, 0.01, (examples, rank))
    provenance = Provenance("adapter", "base", "examples", Encoding(), tuple(spectra), "float32")
    return spectra, Sensitivity(values, np.ones(examples), provenance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--examples", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    once, timings = preview_speed(options.layers, options.rank, options.examples, options.repeats)
    print(
        f"{options.layers * len(FAMILIES)} modules, rank {options.rank}, {options.examples} examples, medians of "
        f"{options.repeats}; the statistics of a fresh measurement take {once:.0f} ms, once.\n"
    )
    print("| policy | make_edit, ms | preview, ms | both, ms | make_edit one module at a time, ms |")
    print("|---|---|---|---|---|")
    for t in timings:
        print(f"| {t.policy} | {t.edit:.2f} | {t.preview:.2f} | {t.together:.2f} | {t.one_by_one:.0f} |")


if __name__ == "__main__":
    main()
