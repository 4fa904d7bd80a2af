"""The numeric tests on the kernels of other processors and with other numbers of threads, as a Markdown table.

    python tests/benchmarks/cpu_settings.py
    python tests/benchmarks/cpu_settings.py --tests model --setting avx2-1 default-2 --workers 2
    python tests/benchmarks/cpu_settings.py --tests model --setting other

A setting names kernels and a number of threads; `other` is one that this machine does not choose by itself. In each,
torch's own loops, oneDNN, MKL and numpy's OpenBLAS are held to the same instructions, and what they took is read from
the process, not from what was asked. (On processors of other makers than Intel, MKL knows only its own choice and the
compatible one, which `default` asks for.) Settings that this machine lacks are named and passed over. The exit code
is 1 where a test failed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
# tests that run a model
MODEL = [
    "surgery/adapter/test_adapter_variants.py",
    "surgery/runs/test_answer_log.py",
    "surgery/model/test_streaming.py",
    "scenarios/test_demo_sensitivity.py",
    "surgery/model/test_device_map.py",
    "surgery/model/test_engine.py",
    "surgery/evaluation/test_rows.py",
    "surgery/model/test_live_model.py",
    "surgery/sensitivity/test_calibration.py",
    "scenarios/test_model_families.py",
    "scenarios/test_out_of_memory.py",
    "surgery/sensitivity/test_checkpoint.py",
    "surgery/experiments/test_proof.py",
    "scenarios/test_quantised_base.py",
    "surgery/experiments/test_recipe_run.py",
    "surgery/export/test_peft_check.py",
    "surgery/sensitivity/test_sensitivity.py",
    "app/spectra/test_calibration.py",
    "app/evaluation/test_proving.py",
]
# and those that compare sums and decompositions of numpy's
ARITHMETIC = [
    "test_rounding.py",
    "surgery/spectra/test_alignment.py",
    "surgery/edits/test_manual.py",
    "surgery/spectra/test_random_subspaces.py",
    "surgery/policies/test_controls.py",
    "surgery/sensitivity/test_component_verdicts.py",
    "surgery/edits/test_edit.py",
    "surgery/edits/test_edit_invariants.py",
    "surgery/evaluation/test_evaluation.py",
    "surgery/policies/test_evidence.py",
    "surgery/export/test_folder.py",
    "surgery/policies/test_gates.py",
    "surgery/spectra/test_facts_of_folder.py",
    "surgery/spectra/test_intruders.py",
    "surgery/edits/test_knob_steps.py",
    "surgery/spectra/test_angles.py",
    "surgery/policies/test_policy.py",
    "surgery/evaluation/test_significance.py",
    "surgery/spectra/test_spectrum.py",
    "surgery/sensitivity/test_stability.py",
    "surgery/policies/test_gradient.py",
    "app/geometry/test_page.py",
    "app/editing/test_board.py",
    "app/geometry/test_intruding.py",
    "app/spectra/test_board.py",
    "viz/test_figures.py",
    "viz/test_geometry.py",
]
TESTS = {"model": MODEL, "arithmetic": ARITHMETIC, "numeric": MODEL + ARITHMETIC}


@dataclass(frozen=True)
class Kernels:
    """What torch says of itself under these kernels, how each library is told of them, and what oneDNN and OpenBLAS say."""

    torch: str
    variables: Mapping[str, str]
    onednn: str
    openblas: str


def kernels(torch: str, *, onednn: tuple[str, str], mkl: str, openblas: str) -> Kernels:
    variables = {
        "ATEN_CPU_CAPABILITY": torch.lower(),
        "ONEDNN_MAX_CPU_ISA": onednn[0],
        "MKL_CBWR": mkl,
        "OPENBLAS_CORETYPE": openblas,
    }
    return Kernels(torch, variables, onednn[1], openblas)


# from the oldest instructions to the newest
KERNELS = {
    "default": kernels("DEFAULT", onednn=("SSE41", "SSE4.1"), mkl="COMPATIBLE", openblas="Nehalem"),
    "avx2": kernels("AVX2", onednn=("AVX2", "AVX2"), mkl="AVX2", openblas="Haswell"),
    "avx512": kernels("AVX512", onednn=("AVX512_CORE", "AVX-512"), mkl="AVX512", openblas="SkylakeX"),
}
THREADS = (1, 2)
HELD = ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "OPENBLAS_CORETYPE")
THREAD_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

# a convolution, because small products go to MKL and leave oneDNN silent
PROBE = """
import json, numpy, threadpoolctl, torch
torch.nn.functional.conv2d(torch.ones(8, 16, 32, 32), torch.ones(32, 16, 3, 3))
blas = [pool for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"]
told = {"torch": torch.backends.cpu.get_cpu_capability(), "threads": torch.get_num_threads()}
print(json.dumps({**told, "openblas": [pool["architecture"] for pool in blas]}))
"""


@dataclass(frozen=True)
class Setting:
    """Kernels by name, None for the machine's own choice, and a number of threads."""

    kernels: str | None
    threads: int

    @property
    def name(self) -> str:
        return f"{self.kernels or 'own'}-{self.threads}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a process that runs in this setting."""
        kept = {name: value for name, value in os.environ.items() if name not in (*HELD, *THREAD_COUNTS)}
        held = KERNELS[self.kernels].variables if self.kernels else {}
        return {**kept, **held, **dict.fromkeys(THREAD_COUNTS, str(self.threads))}


@dataclass(frozen=True)
class Found:
    """What a process in a setting told of its libraries."""

    torch: str
    onednn: str
    openblas: str
    threads: int

    def misses(self, setting: Setting) -> bool:
        """Whether the libraries took other kernels or threads than the setting names."""
        wanted = KERNELS[setting.kernels or "default"]
        took = self.torch == wanted.torch and wanted.onednn in self.onednn and self.openblas == wanted.openblas
        return self.threads != setting.threads or (setting.kernels is not None and not took)


@dataclass(frozen=True)
class Outcome:
    """Tests that ran in a setting, those that failed, and the wall time in seconds."""

    ran: int
    failed: tuple[str, ...]
    seconds: float


def probe(setting: Setting) -> Found | None:
    """What the libraries take in this setting; None where the machine cannot run it."""
    environment = {**setting.environment, "ONEDNN_VERBOSE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None
    told = json.loads(done.stdout.splitlines()[-1])
    isa = re.search(r"cpu,isa:(?:Intel )?(.*)", done.stdout)
    return Found(told["torch"], isa[1] if isa else "", ", ".join(told["openblas"]) or "none", told["threads"])


def run_tests(setting: Setting, files: Sequence[str], workers: int) -> Outcome:
    """Run the files with pytest in a setting, in so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}"]
        command += ["-n", str(workers), "--dist", "loadfile"] if workers > 1 else []
        start = time.perf_counter()
        done = subprocess.run(
            [*command, *(f"tests/{name}" for name in files)],
            cwd=ROOT,
            env=setting.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - start
        if not report.exists():
            return Outcome(0, (f"pytest itself, exit code {done.returncode}: {done.stdout[-2000:]}",), seconds)
        return outcome(report, seconds)


def outcome(report: Path, seconds: float) -> Outcome:
    """The outcome that a JUnit report of pytest tells."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = [case for case in cases if any(case.find(kind) is not None for kind in ("failure", "error"))]
    names = sorted({f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}" for case in failed})
    ran = sum(case.find("skipped") is None for case in cases)
    return Outcome(ran, tuple(names), seconds)


def other(own: Found) -> Setting:
    """A setting unlike the machine's own: the next older kernels, or where there are none two threads."""
    names = list(KERNELS)
    at = next((place for place, each in enumerate(KERNELS.values()) if each.torch == own.torch), 0)
    return Setting(names[at - 1], 1) if at else Setting(None, 2)


def settings_of(names: Sequence[str]) -> list[Setting]:
    """The settings of these names, all where there are none."""
    known = {s.name: s for kind in (*KERNELS, None) for threads in THREADS for s in [Setting(kind, threads)]}
    if not names:
        return [setting for setting in known.values() if setting.kernels]
    own = probe(Setting(None, 1)) if "other" in names else None
    chosen = {**known, **({"other": other(own)} if own else {})}
    unknown = [name for name in names if name not in chosen]
    if unknown:
        sys.exit(f"no setting {', '.join(unknown)} → choose from {', '.join([*known, 'other'])}")
    return [chosen[name] for name in names]


def line(setting: Setting, files: Sequence[str], workers: int) -> tuple[str, tuple[str, ...]]:
    """A row of the table, and the tests that failed."""
    start = f"| {setting.kernels or 'own'} | {setting.threads} |"
    found = probe(setting)
    if found is None or (setting.kernels == "avx512" and found.misses(setting)):
        return f"{start} not on this machine | | | | | |", ()
    took = f"{found.torch} | {found.onednn} | {found.openblas}"
    if found.misses(setting):
        return f"{start} {took} | not run: the setting did not take effect | | |", ("the setting itself",)
    result = run_tests(setting, files, workers)
    return f"{start} {took} | {result.ran} | {len(result.failed)} | {result.seconds:.0f} |", result.failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", choices=TESTS, default="numeric", help="which (numeric: all)")
    parser.add_argument(
        "--setting", nargs="+", default=[], help="for example avx2-1, own-2 or other (all kernels)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes of pytest")
    options = parser.parse_args()
    settings = settings_of(options.setting)
    print(
        "| kernels | threads | torch | oneDNN | OpenBLAS | tests | failed | s |\n|---|---|---|---|---|---|---|---|"
    )
    failures = {}
    for setting in settings:
        row, failed = line(setting, TESTS[options.tests], options.workers)
        print(row, flush=True)
        failures[setting.name] = failed
    for name, failed in failures.items():
        for test in failed:
            print(f"\n{name}: {test}")
    return int(any(failures.values()))


if __name__ == "__main__":
    sys.exit(main())
