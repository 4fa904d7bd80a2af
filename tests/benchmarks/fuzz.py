"""Fuzz the parsers with coverage guidance: `python tests/benchmarks/fuzz.py [SECONDS for each parser]`.

Needs `pip install atheris`. A finding is a foreign exception, more than a second or half a GiB; its input is
written to tests/scenarios/corpus, where `test_hostile_input.py` replays it. Prints executions, seconds, lines reached.
"""

import hashlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
CORPUS = ROOT / "tests" / "surgery" / "corpus"
LONGEST = 4096  # bytes of an input
FILES = {
    "adapter": ("adapter", "weights", "lora_config", "keys", "naming", "site", "patterns"),
    "recipe": ("recipe", "plain_yaml", "policy", "scope", "patterns", "knobs"),
    "rows": ("sources", "parquet_rows", "calibration"),
    "archive": ("archive",),
}

WORDS = (
    *(
        "lora_A",
        "lora_B",
        ".default",
        "lora_embedding_A",
        ".base_layer",
        "_orig_mod.",
        "experts",
        "data_offsets",
        "BF16",
    ),
    *(
        "rank_pattern",
        "alpha_pattern",
        "target_parameters",
        "layers_pattern",
        "exclude_modules",
        "use_dora",
        "(a|aa)+",
    ),
    *(
        "!!int ",
        "!!binary ",
        "!!set ",
        "&a ",
        "*a",
        "<<: ",
        "%TAG ! tag:x\\x0a",
        "0x1f",
        "1:2:3",
        "1e999",
        ".nan",
        "? ",
    ),
    *("manual", "knobs", "scope", "policy", "grad_direction", "rank", "energy", "sigma_min", "\\x00", "\\xff"),
    *("question", "answer", "\\\\ud800", "1e999", "PAR1", "PK\\x03\\x04", "PK\\x05\\x06", "../", "data.pkl"),
)


def fuzz(parser: str, seconds: int, corpus: Path) -> None:
    """Run libFuzzer in this process; it ends the process."""
    import atheris

    with atheris.instrument_imports(include=["surgery"]):
        from tests.helpers.fuzzing import finding, seeds
    found: set[str] = set()
    folder = Path(tempfile.mkdtemp())
    for seed in seeds(parser):
        finding(parser, seed, folder)  # what is imported on first use is no finding

    def one(data: bytes) -> None:
        reason = finding(parser, data, folder)
        kind = re.sub(r"\d+", "#", reason or "")[:60]
        if reason and kind not in found:
            found.add(kind)
            target = CORPUS / parser / hashlib.sha256(data).hexdigest()[:12]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            print(f"FOUND {parser} {target.name}: {reason}", file=sys.stderr, flush=True)

    words = folder / "words"
    words.write_text("".join(f'"{word}"\n' for word in WORDS))
    options = [
        f"-dict={words}",
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-print_final_stats=1",
        "-rss_limit_mb=3000",
    ]
    atheris.Setup([sys.argv[0], *options, "-timeout=30", "-use_value_profile=1", str(corpus)], one)
    atheris.Fuzz()


def lines_reached(parser: str, corpus: Path) -> tuple[int, int]:
    """Lines of the parser's own files that the kept inputs run, and how many have code."""
    from tests.helpers.fuzzing import finding

    files = {str(ROOT / "surgery" / f"{name}.py") for name in FILES[parser]}
    reached: set[tuple[str, int]] = set()

    def trace(frame, event, _):
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            reached.add((frame.f_code.co_filename, frame.f_lineno))
        return trace

    with tempfile.TemporaryDirectory() as folder:
        sys.settrace(trace)
        for file in corpus.iterdir():
            finding(parser, file.read_bytes(), Path(folder))
        sys.settrace(None)
    return len(reached), sum(len(_lines_in_functions(Path(file))) for file in files)


def _lines_in_functions(file: Path) -> set[int]:
    todo, lines = [compile(file.read_text(encoding="utf-8"), str(file), "exec")], set()
    while todo:
        code = todo.pop()
        todo += [const for const in code.co_consts if hasattr(const, "co_lines")]
        if code.co_flags & 0x2:  # a function: what a module's body runs at its import does not count
            lines |= {line for *_, line in code.co_lines() if line and line != code.co_firstlineno}
    return lines


def main(seconds: int) -> None:
    from tests.helpers.fuzzing import PARSERS, seeds

    for parser in PARSERS:
        with tempfile.TemporaryDirectory() as folder:
            for at, seed in enumerate(seeds(parser)):
                (Path(folder) / f"seed-{at}").write_bytes(seed)
            began = time.monotonic()
            done = subprocess.run(
                [sys.executable, __file__, parser, str(seconds), folder],
                capture_output=True,
                text=True,
                check=False,
            )
            took = time.monotonic() - began
            executed = re.search(r"number_of_executed_units: (\d+)", done.stderr)
            found = [line for line in done.stderr.splitlines() if line.startswith(("FOUND", "==", "SUMMARY"))]
            lines, of = lines_reached(parser, Path(folder))
            count = executed[1] if executed else "?"
            print(
                f"{parser}: {count} executions, {took:.0f} s, {lines} of {of} lines, {len(found)} findings",
                flush=True,
            )
            print(*found, sep="\n", flush=True)
            if executed is None:
                print(done.stderr[-2000:])


if __name__ == "__main__":
    if len(sys.argv) == 4:
        fuzz(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 120)
