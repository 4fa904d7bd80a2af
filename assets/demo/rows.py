"""The rows of the demos: training's own, the slices that ship, and confirmation rows that came later.

    python -m assets.demo.rows kinship arithmetic

writes assets/demo/NAME/confirmation.jsonl: 1,024 rows by another seed, none of them a training row or nearly the same
as one of calibration, tuning or test. Edits are confirmed on them once, when everything about them is chosen. Needs
reasoning_gym in the version that the demo's card names.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import reasoning_gym

from surgery.data import Row, near_duplicates, shared_keys
from surgery.files import demo_folder

TASKS = {
    "kinship": ("family_relationships", {}),
    "arithmetic": ("chain_sum", {"min_terms": 2, "max_terms": 3, "min_digits": 1, "max_digits": 2}),
}
SLICES = {"calibration": 256, "tuning": 256, "test": 512}
CONFIRMATION, FRESH_SEED = 1024, 1_000_003  # item i is drawn by seed + i: far from all that training drew


def generated(task: str, size: int, seed: int) -> Iterator[Row]:
    """Rows of a task in generation order, repeated ones too."""
    name, options = TASKS[task]
    for item in reasoning_gym.create_dataset(name, size=size, seed=seed, **options):
        yield Row(item["question"].strip(), item["answer"].strip())


def unique_rows(task: str, count: int, seed: int) -> list[Row]:
    """`count` generated rows without a repeated content, in generation order."""
    rows: dict[str, Row] = {}
    for row in generated(task, 4 * count, seed):
        rows.setdefault(row.key, row)
        if len(rows) == count:
            return list(rows.values())
    raise SystemExit(f"only {len(rows)} distinct rows of {TASKS[task][0]}")


def confirmation_rows(task: str, trained: int, seed: int) -> list[Row]:
    """1,024 rows of a task that neither training nor a slice has, nor anything nearly the same as a slice's.

    trained, seed: how many rows the adapter was trained on, and by which seed all of them were drawn.
    """
    known = unique_rows(task, trained + sum(SLICES.values()), seed)
    prompts = {row.prompt for row in known}
    candidates: dict[str, Row] = {}
    for row in generated(task, 8 * CONFIRMATION, FRESH_SEED):
        if row.prompt not in prompts:
            candidates.setdefault(row.prompt, row)
    rows, slices = list(candidates.values())[: 2 * CONFIRMATION], known[trained:]
    near = {pair.held for pair in near_duplicates(rows, slices)}
    fresh = [row for number, row in enumerate(rows) if f"row {number}" not in near][:CONFIRMATION]
    if len(fresh) < CONFIRMATION or near_duplicates(fresh, slices) or shared_keys(fresh, known):
        raise SystemExit(f"too few rows of {task}, or some that are nearly the same as a slice's")
    return fresh


def write_rows(file: Path, rows: list[Row]) -> None:
    """Rows as JSON lines."""
    lines = (json.dumps({"prompt": row.prompt, "answer": row.answer}) for row in rows)
    file.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demos", nargs="+", choices=TASKS)
    for demo in parser.parse_args().demos:
        card = json.loads((demo_folder(demo) / "card.json").read_text())
        fresh = confirmation_rows(demo, card["examples"], card["seed"])
        write_rows(demo_folder(demo) / "confirmation.jsonl", fresh)


if __name__ == "__main__":
    main()
