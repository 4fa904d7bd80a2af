"""A sweep from a folder of adapters and recipes alone: every recipe on every member, on the recipes' held-out rows."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import yaml

from surgery.data import plan_record
from surgery.errors import SweepError
from surgery.experiments.sweeps.spec import SCHEMA, Sweep, parse_sweep
from surgery.experiments.sweeps.swept_edit import recipe_edit

# the controls of a recipe: a sweep lists them as policies
_CONTROLS = ("random", "scale", "again", "scale_or_shape")


def sweep_of_set(
    folder: Path | str, recipes: Sequence[str], *, limit: int | None = None, examples: int | None = None
) -> Sweep:
    """Every recipe on every adapter at or below a folder; raises `SweepError` and what `parse_sweep` raises.

    folder: holds the adapters.
    recipes: files, which name the base, the rows that each adapter is measured on and those that it is proven on.
    limit: held-out examples, whatever the recipes say.
    examples: no recipe is measured on more.
    """
    return parse_sweep(sweep_file(folder, recipes), limit=limit, examples=examples, name=Path(folder).name)


def sweep_file(folder: Path | str, recipes: Sequence[str]) -> str:
    """The sweep file that `sweep_of_set` reads: one to start from where a sweep is to ask more."""
    edits = [recipe_edit({"recipe": file}, f"recipe {file!r}", None) for file in recipes]
    asked = dict.fromkeys(
        replace(edit.held_out, random=0, scale=False, again=False, scale_or_shape=False)
        for edit in edits
        if edit.held_out is not None
    )
    if len(asked) != 1:
        problem = (
            f"the recipes name {len(asked)} held-out slices" if asked else "the recipes name no held-out rows"
        )
        raise SweepError(problem, "write a sweep file, with the question under tasks")
    [plan] = asked
    record = {key: value for key, value in plan_record(plan).items() if key not in _CONTROLS}
    return yaml.safe_dump(
        {
            "sweep": SCHEMA,
            "adapters": {Path(folder).absolute().name or "set": {"set": str(folder)}},
            "tasks": {"held out": {**record, **asdict(plan.encoding)}},
            "edits": [{"recipe": file} for file in recipes],
        },
        sort_keys=False,
        allow_unicode=True,
    )
