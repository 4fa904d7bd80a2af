"""The ledger of right answers of several runs as one Markdown table, from what `surgery … --base-arm --json` printed.

    python tests/benchmarks/ledger_report.py kinship.json piqa.json arc_easy.json > tests/benchmarks/LEDGER_REPORT.md

Each file is one task; the last lines of each edit are the macro means over all of them.
"""

import argparse
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from surgery.evaluation import BASE, BASELINE, OUTCOMES, RATES, Gap, Ledger, Rate, averaged, parse_ledger

MEAN = "macro mean"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    files = parser.parse_args().files
    records = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    ledgers = {task: ledgers_of(record) for task, record in records.items()}
    edits = dict.fromkeys(edit for each in ledgers.values() for edit in each)
    for edit in edits:
        own = {task: each[edit] for task, each in ledgers.items() if edit in each}
        print(f"## `{edit}`\n")
        print("\n".join(rates_table(own | {MEAN: averaged(own)})), end="\n\n")
        print("\n".join(counts_table(own)), end="\n\n")
    print("## Right answers\n")
    print("\n".join(means_table(records)))


def ledgers_of(record: Mapping[str, Any]) -> dict[str, Ledger]:
    """By edit, the ledger of the first metric that has one."""
    found = {name: each.get("ledgers", {}) for name, each in record["variants"].items()}
    return {name: parse_ledger(next(iter(each.values()))) for name, each in found.items() if each}


def rates_table(ledgers: Mapping[str, Ledger]) -> Iterator[str]:
    yield f"| task | {' | '.join(RATES.values())} | Δ base, adapter | Δ base, edited | gap, adapter | gap, edited |"
    yield "|---" * (len(RATES) + 5) + "|"
    for task, found in ledgers.items():
        cells = [_rate(found.rates[name]) for name in RATES]
        cells += [_difference(found.unedited), _difference(found.edited), _gap(found.unedited), _gap(found.edited)]
        yield f"| {task} | {' | '.join(cells)} |"


def counts_table(ledgers: Mapping[str, Ledger]) -> Iterator[str]:
    yield f"| task | {' | '.join(f'{code} {words}' for code, words in OUTCOMES.items())} |"
    yield "|---" * (len(OUTCOMES) + 1) + "|"
    for task, found in ledgers.items():
        yield f"| {task} | {' | '.join(str(found.counts[code]) for code in OUTCOMES)} |"


def means_table(records: Mapping[str, Any]) -> Iterator[str]:
    names = dict.fromkeys((BASE, BASELINE, *(name for each in records.values() for name in each["variants"])))
    yield f"| task | examples | metric | {' | '.join(names)} |"
    yield "|---" * (len(names) + 3) + "|"
    for task, record in records.items():
        metric = next(each for each in record["measures"] if each["binary"])
        found = {name: each["means"][metric["name"]] for name, each in record["variants"].items()}
        means = [f"{100 * found[name]:.1f}" if name in found else "" for name in names]
        yield f"| {task} | {record['examples']} | {metric['title']} | {' | '.join(means)} |"


def _rate(rate: Rate) -> str:
    if math.isnan(rate.value):
        return "NA, 0 of 0"
    return f"{rate.value:.1%} [{rate.low:.1%}, {rate.high:.1%}], {rate.count} of {rate.of}"


def _difference(gap: Gap) -> str:
    effect = gap.difference
    return f"{100 * effect.mean:+.1f} [{100 * effect.low:+.1f}, {100 * effect.high:+.1f}]"


def _gap(gap: Gap) -> str:
    return f"{100 * gap.value:.1f} [{100 * gap.low:.1f}, {100 * gap.high:.1f}]"


if __name__ == "__main__":
    main()
