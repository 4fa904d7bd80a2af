"""The edits of a sweep: each entry of the list is a recipe, or one grid, whose lists are its axes."""

import json
import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from surgery.adapter import SCOPES, check_scope
from surgery.edits import EditPlan, check_rules, check_strength, edit_record, parse_groups
from surgery.errors import SweepError
from surgery.experiments.sweeps.swept_edit import SweptEdit, recipe_edit
from surgery.files import mapping_of, refuse_unknown, shipped_folder
from surgery.policies import Policy, make_policy

MOST_CELLS = 100_000
LOOK = f"compare {shipped_folder('sweeps') / 'demos.yaml'}"
_GRID = ("policies", "scopes", "energies", "budgets", "seeds", "strengths", "groups", "sigma_min")


def swept_edits(value: Any, examples: int | None) -> tuple[SweptEdit, ...]:
    """The points of all grids and the recipes, each once, in the order in which they are written."""
    if not isinstance(value, list) or not value:
        raise SweepError("the sweep has no list of edits", LOOK)
    found: dict[str, SweptEdit] = {}
    for number, entry in enumerate(value):
        where = f"edits[{number}]"
        record = mapping_of(entry, where, SweepError)
        if "recipe" in record:
            edit = recipe_edit(record, where, examples)
            if edit.label in found:
                raise SweepError(f"two recipes are called {edit.label!r}", "rename the file of one")
            found[edit.label] = edit
            continue
        for edit in _points(record, where, examples):
            found[json.dumps([edit_record(edit.plan), edit.budget, edit.seed])] = edit
    return tuple(found.values())


def _points(grid: Mapping[str, Any], where: str, examples: int | None) -> Iterator[SweptEdit]:
    """The points of one grid."""
    refuse_unknown(grid, set(_GRID), where, SweepError)
    if "policies" not in grid:
        raise SweepError(f"{where} names no policies", LOOK)
    sigma_min = grid.get("sigma_min", 0.0)
    if type(sigma_min) not in (int, float):
        raise SweepError(f"{where}.sigma_min cannot be {sigma_min!r}", "write a number")
    axes = _axes(grid, where)
    if math.prod(map(len, axes)) > MOST_CELLS:
        raise SweepError(f"{where} makes more than {MOST_CELLS:,} edits", "shorten its lists")
    for policy, scope, energy, strength, group, budget, seed in product(*axes):
        plan = EditPlan(policy, scope, energy, float(sigma_min), strength=float(strength), groups=group)
        check_rules(plan.energy, plan.sigma_min)
        yield SweptEdit(plan, min(budget, examples or budget), seed)


def _axes(grid: Mapping[str, Any], where: str) -> tuple[list[Any], ...]:
    """Policies, scopes, energies, strengths, groups, budgets and seeds, each value checked."""
    policies = [
        policy for each in list_of(grid, "policies", where, (str, dict)) for policy in _policies(each, where)
    ]
    scopes = list_of(grid, "scopes", where, str, ["residual"])
    energies = list_of(grid, "energies", where, str, [""])
    budgets = [whole_number(n, f"{where}.budgets", 1) for n in list_of(grid, "budgets", where, int, [128])]
    seeds = [whole_number(n, f"{where}.seeds", 0) for n in list_of(grid, "seeds", where, int, [0])]
    for scope in scopes:
        if scope not in SCOPES:
            check_scope(scope)
    strengths = list_of(grid, "strengths", where, (int, float), [1.0])
    for strength in strengths:
        check_strength(strength)
    groups = [parse_groups(each, f"{where}.groups") for each in list_of(grid, "groups", where, dict, [{}])]
    return policies, scopes, energies, strengths, groups, budgets, seeds


def _policies(entry: Any, where: str) -> list[Policy]:
    """A policy by name, or one for every combination of the values listed for its knobs."""
    if isinstance(entry, str):
        return [make_policy(entry)]
    refuse_unknown(entry, {"policy", "knobs"}, f"{where}.policies", SweepError)
    knobs = mapping_of(entry.get("knobs"), f"{where}.policies.knobs", SweepError)
    lists = {name: value if isinstance(value, list) else [value] for name, value in knobs.items()}
    if empty := next((name for name, values in lists.items() if not values), None):
        raise SweepError(f"{where} lists no value of the knob {empty!r}", "list one or more")
    points = product(*lists.values())
    return [make_policy(str(entry.get("policy")), dict(zip(lists, point, strict=True))) for point in points]


def list_of(record: Mapping[str, Any], name: str, where: str, kind: Any, default: Any = ()) -> list[Any]:
    """The list `name` of a section, whose items are of one `kind` or several; raises `SweepError` for anything else."""
    value = record.get(name, list(default))
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, list) or not value or not all(type(item) in kinds for item in value):
        names = {str: "texts", int: "whole numbers", float: "numbers", dict: "settings"}
        words = " or ".join(names[each] for each in kinds)
        raise SweepError(f"{where}.{name} cannot be {value!r}", f"write a list of {words}: [a, b]")
    return value


def whole_number(value: Any, where: str, least: int) -> int:
    """A whole number from `least`; raises `SweepError` for anything else."""
    if type(value) is not int or value < least:
        raise SweepError(f"{where} cannot be {value!r}", f"use a whole number from {least}")
    return value
