"""The variants that a command names: recipes, exported folders, other adapters, and the random controls of each."""

import argparse
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from surgery.adapter import Adapter, adapter_folder, adapter_source, in_scope, open_adapter, scope_for
from surgery.cli.options import margin_from
from surgery.cli.progress import progress_reporter
from surgery.data import (
    CalibrationPlan,
    EvaluationPlan,
    Examples,
    Slices,
    TaskPlan,
    TextPlan,
    margins_from,
    refuse_seen_keys,
)
from surgery.edits import Edit, EditPlan
from surgery.errors import DataError
from surgery.experiments import ControlRules, Proof, is_reserved, rules_of, with_controls
from surgery.export import RECIPE_FILE, RECORD_FILE, ExportRecord, differing_modules, edit_between, read_record
from surgery.files import is_demo, user_path
from surgery.hub import hub_name
from surgery.model import BaseChoice
from surgery.recipes import Recipe, in_one_step, read_recipe
from surgery.sensitivity import Sensitivity, calibrate
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.evaluation.lm_eval import LoadedTask
    from surgery.model import LiveModel


@dataclass(frozen=True)
class FolderVariant:
    """An adapter in a folder beside the one that is evaluated.

    `edit` is None where it is no edit of that one and has to be attached by itself; `plan` is what made the edit,
    where the folder says so; `record` names the rows that it was made on.
    """

    adapter: Adapter
    edit: Edit | None
    energy: str
    differing: tuple[str, ...]
    plan: EditPlan | None = None
    record: ExportRecord | None = None


@dataclass(frozen=True)
class Variants:
    """Recipes and folders by the short names of their variants."""

    recipes: Mapping[str, Recipe]
    folders: Mapping[str, FolderVariant]

    @property
    def seen(self) -> list[CalibrationPlan]:
        """The slices that the recipes were made or chosen on."""
        return [plan for recipe in self.recipes.values() for plan in recipe.seen]

    @property
    def seen_tasks(self) -> list[TaskPlan]:
        """The tasks that the recipes were chosen on."""
        return [plan for recipe in self.recipes.values() for plan in recipe.seen_tasks]

    @property
    def plans(self) -> dict[str, EditPlan]:
        """What made the edits, of those of which that is known."""
        known = {name: folder.plan for name, folder in self.folders.items()}
        return {name: recipe.edit for name, recipe in self.recipes.items()} | {k: p for k, p in known.items() if p}

    @property
    def adapters(self) -> dict[str, Adapter]:
        """The folders that are no edits of the adapter."""
        return {name: folder.adapter for name, folder in self.folders.items() if folder.edit is None}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be told of the folders."""
        alone = (f"{name!r} is no edit of this adapter: it was attached by itself" for name in self.adapters)
        unknown = (
            f"{name!r} does not say by which rule it was edited: read from its singular values, energy rule "
            f"{folder.energy} on the {len(folder.differing)} modules that differ"
            for name, folder in self.folders.items()
            if folder.edit is not None and folder.plan is None
        )
        rows = (
            f"{name!r} does not say on which rows it was made: whether they are among these is not known"
            for name, folder in self.folders.items()
            if folder.differing and (folder.record is None or folder.record.unknown)
        )
        return (*alone, *unknown, *rows)

    def refuse_seen(self, examples: Examples) -> None:
        """Raise `DataError` where examples are among the rows that a folder says its edit was made on."""
        for name, folder in self.folders.items():
            if folder.record is not None:
                refuse_seen_keys(examples, folder.record.keys, name)


def variants_from(sources: Sequence[str], adapter: Adapter, spectra: Spectra) -> Variants:
    """The variants named, each opened; nothing is measured.

    sources: recipe files and folders, as they were named.
    adapter: what all of them are compared with.
    spectra: of all its modules, by name.

    Raises `DataError` for a recipe of another adapter.
    """
    recipes: dict[str, Recipe] = {}
    folders: dict[str, FolderVariant] = {}
    for source in sources:
        # a name on the hub is no path, wherever this process may read
        path = user_path(adapter_source(source)) if hub_name(source, DataError) is None else Path(source)
        name = _short_name(path, {*recipes, *folders})
        if path.is_file():
            recipes[name] = in_one_step(read_recipe(path))
            made_for = recipes[name].adapter_digest
            if made_for and made_for != adapter.digest:
                raise DataError(f"recipe {source!r} was made for another adapter", "evaluate it with its own")
        else:
            folders[name] = _folder_variant(open_adapter(source), adapter, spectra)
    return Variants(recipes, folders)


def _short_name(path: Path, taken: Collection[str]) -> str:
    """The name of a variant from a path: its end, more of it where that is taken."""
    name = ""
    for part in (path.name, str(path), *(f"{path} {number}" for number in range(2, len(taken) + 3))):
        name = f"variant {part}" if is_reserved(part) else part
        if name not in taken:
            break
    return name


def _folder_variant(folder: Adapter, adapter: Adapter, spectra: Spectra) -> FolderVariant:
    found, differing = edit_between(adapter, spectra, folder), tuple(differing_modules(adapter, folder))
    place = adapter_folder(folder.source, (RECORD_FILE, RECIPE_FILE))
    record = None if is_demo(folder.source) else read_record(place)
    if found is None:
        return FolderVariant(folder, None, "l1", differing, record=record)
    plan = record.edit if record is not None and record.adapter == adapter.digest else None
    # exports of earlier versions have their rules in the recipe alone
    if record is None and not is_demo(folder.source) and (place / RECIPE_FILE).is_file():
        recipe = read_recipe(place / RECIPE_FILE)
        plan = recipe.edit if recipe.adapter_digest == adapter.digest else None
    return FolderVariant(folder, found.edit, found.energy, differing, plan, record)


def refuse_unscoped(spectra: Spectra, variants: Variants, *, random: int, scope: str | None) -> None:
    """Raise `DataError` or `PolicyError` for what `proof_of` would refuse; meant to be called before a model is loaded."""
    for recipe in variants.recipes.values():
        in_scope(spectra, recipe.edit.scope)
    if random:
        if not (variants.recipes or variants.folders) or scope is not None:
            in_scope(spectra, scope or ControlRules().scope)
        for name, folder in variants.folders.items():
            _folder_rules(name, folder, spectra, scope)


def proof_of(
    live: "LiveModel",
    question: "EvaluationPlan | LoadedTask | TextPlan",
    variants: Variants,
    options: argparse.Namespace,
    base: BaseChoice,
    slices: Slices,
) -> Proof:
    """The proof of the variants, with their controls; recipes are calibrated where that was not done before.

    live: the adapter in its running base model.
    question: held-out rows, a loaded task or plain text.
    variants: recipes and folders.
    options: of the command, as `add_variant_options` and its batch size give them.
    base: how `live` was loaded.
    slices: the rows of the recipes.
    """
    measured = _measured(live, variants, base, slices)
    edits = {name: variants.recipes[name].edit.apply(live.spectra, each) for name, each in measured.items()}
    subjects = _subjects(live.spectra, variants, edits, random=options.random, scope=options.scope)
    beside = with_controls(
        live.spectra,
        subjects,
        random=options.random,
        scale=False,
        shape=options.scale_or_shape,
        measured=measured,
    )
    return Proof(
        question,
        beside.edits,
        variants.seen,
        plans=variants.plans,
        again=options.again,
        base=base,
        batch_size=options.batch_size,
        controls=beside.controls,
        adapters=variants.adapters,
        notes=variants.notes,
        allow_near=options.allow_near_duplicates,
        margins=margins_from(margin_from(options)),
        base_arm=options.base_arm,
        seen_tasks=variants.seen_tasks,
    )


def _subjects(
    spectra: Spectra, variants: Variants, edits: Mapping[str, Edit], *, random: int, scope: str | None
) -> dict[str, tuple[Edit | None, ControlRules]]:
    """The edits of recipes and folders, with the rules of their controls.

    spectra: of all modules of the adapter, by name.
    variants: recipes and folders.
    edits: of the recipes, by name.
    random: random controls of each variant; of no edit where there is no variant.
    scope: of the controls of what gives them none.

    Raises `DataError` where a folder gives its random controls no scope and none was named.
    """
    subjects: dict[str, tuple[Edit | None, ControlRules]] = {
        name: (edit, rules_of(variants.recipes[name].edit)) for name, edit in edits.items()
    }
    for name, folder in variants.folders.items():
        if random:
            subjects[name] = (folder.edit, _folder_rules(name, folder, spectra, scope))
        elif folder.edit is not None:
            subjects[name] = (folder.edit, ControlRules())
    if not subjects and random:
        subjects[""] = (None, ControlRules() if scope is None else ControlRules(scope))
    return subjects


def _folder_rules(name: str, folder: FolderVariant, spectra: Spectra, scope: str | None) -> ControlRules:
    differing = scope_for(spectra, folder.differing) if folder.differing else None
    if folder.edit is not None and differing is not None:
        if folder.plan is not None and folder.plan.energy == "functional":
            raise DataError(
                f"the random controls of {name!r} have to hold its functional energy, and a folder does not say what "
                "enters its modules",
                "name its recipe.yaml in place of the folder, or leave out --random",
            )
        if folder.plan is not None:
            return replace(rules_of(folder.plan), scope=differing)
        return ControlRules(differing, folder.energy, 0.0, None)
    scope = scope or differing
    if scope is None:
        raise DataError(
            f"no module of {name!r} differs from the adapter's, so its random controls have no scope",
            "name one, such as --scope all, or leave out --random",
        )
    return ControlRules(scope, folder.energy)


def _measured(live: "LiveModel", variants: Variants, base: BaseChoice, slices: Slices) -> dict[str, Sensitivity]:
    """What the recipes' edits are made from, calibrated where that was not done before."""
    measured = {}
    for name, recipe in variants.recipes.items():
        plan, control = recipe.calibration, progress_reporter(f"calibrating {name}")
        own, *protected = (
            calibrate(live, each, base=base, slice_=slices.seen[each], control=control)
            for each in (plan, *recipe.protected)
        )
        measured[name] = replace(own, protected=tuple(protected))
    return measured
