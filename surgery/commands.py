"""What each command does with its parsed options: a JSON-ready record and the same as text.

torch and transformers are imported only by the commands that run a model.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from surgery.adapter import Adapter, open_adapter
from surgery.calibration import Encoding, Row
from surgery.demo import is_demo
from surgery.edit import Edit, edit_modules, make_edit
from surgery.errors import DataError, PolicyError, RecipeError, SweepError
from surgery.evaluation import BASELINE, Evaluation
from surgery.evidence import evidence_for, moments_of
from surgery.export import export
from surgery.history import known_run, known_runs
from surgery.home import user_path
from surgery.inspection import inspection
from surgery.measure import attach, calibrate
from surgery.measurements import shipped_measurements
from surgery.policy import Policy, for_scope, make_policy
from surgery.proof import Proof, prove, random_controls
from surgery.recipe import BaseChoice, CalibrationPlan, EvaluationPlan, Recipe, demo_plans, read_recipe
from surgery.redo import run_recipe
from surgery.report import (
    evaluation_text,
    export_record,
    export_text,
    gains_record,
    gains_text,
    inspection_text,
    progress_reporter,
    run_record,
    runs_text,
    sensitivity_record,
    sensitivity_text,
)
from surgery.run_metrics import summarise, summary_record
from surgery.runs import Run, runs_folder
from surgery.sensitivity import Sensitivity, load_sensitivity, save_sensitivity
from surgery.slices import Slices, read_slices
from surgery.spectrum import decompose

if TYPE_CHECKING:
    from surgery.live import LiveModel

Result = tuple[dict[str, Any], str]
KNOB_PREFIX = "knob_"


def inspect_command(options: argparse.Namespace) -> Result:
    if (options.adapter is None) == (options.many is None):
        raise DataError("inspect takes one adapter or --many FOLDER", "name one of the two")
    if options.many is not None:
        return _inspect_many(options)
    adapter = open_adapter(options.adapter)
    record = inspection(adapter, decompose(adapter))
    return record, inspection_text(record)


def _inspect_many(options: argparse.Namespace) -> Result:
    from surgery.inspect_many import inspect_many, many_record, many_text, write_parquet

    rows = inspect_many(options.many, workers=options.workers, control=progress_reporter("inspecting"))
    record = many_record(rows)
    text = many_text(record)
    if options.out:
        record["out"] = str(write_parquet(rows, options.out))
        text += f"\nwrote {record['out']}"
    return record, text


def gains_command(options: argparse.Namespace) -> Result:
    sigma, g = _numbers(options.sigma, "--sigma"), _numbers(options.sensitivity, "--sensitivity")
    if sigma.size != g.size:
        raise PolicyError(f"{sigma.size} singular values met {g.size} sensitivities", "give one for each")
    if (sigma < 0).any():
        raise PolicyError("singular values cannot be negative", "give numbers from 0 up")
    # numbers given by hand count as one calibration example
    moments = moments_of({options.module: g[np.newaxis]})
    evidence = evidence_for([options.module], sigma[np.newaxis], moments)
    policy = for_scope(_policy(options), {options.module: sigma}, moments)
    edited = edit_modules(evidence, policy, options.energy, options.sigma_min)[options.module]
    return gains_record(edited), gains_text(edited)


def calibrate_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter)
    plan = CalibrationPlan(
        _data(options, "calibration"),
        options.examples,
        options.seed,
        options.start,
        options.batch_size,
        _encoding(options),
        options.checkpointing,
        options.prompt_field,
        options.answer_field,
    )
    base = _base(options)
    slice_ = read_slices([plan]).seen[plan]
    with attach(adapter, decompose(adapter), base) as live:
        sensitivity = calibrate(live, plan, base=base, slice_=slice_, control=progress_reporter("calibrating"))
    save_sensitivity(sensitivity, options.out)
    record = sensitivity_record(sensitivity, options.out)
    return record, sensitivity_text(record)


def edit_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter)
    spectra = decompose(adapter)
    policy = _policy(options)
    sensitivity = load_sensitivity(options.sensitivities) if options.sensitivities else None
    if sensitivity is not None and sensitivity.provenance.adapter != adapter.digest:
        raise DataError("these sensitivities belong to another adapter", "calibrate this one")
    if sensitivity is None and policy.needs_gradient:
        sensitivity = _shipped(adapter)
    edit = make_edit(
        spectra,
        policy,
        sensitivity=sensitivity,
        scope=options.scope,
        energy=options.energy,
        sigma_min=options.sigma_min,
    )
    record = export_record(edit, sensitivity, export(adapter, spectra, edit, options.out))
    return record, export_text(record)


def _shipped(adapter: Adapter) -> Sensitivity | None:
    """What ships measured of a demo adapter, which is told on standard error; None for any other adapter."""
    found = next(iter(shipped_measurements(adapter.digest)), None)
    if found is None:
        return None
    print(
        f"without --sensitivities: taking those that ship with the demo, measured on {found.examples} examples",
        file=sys.stderr,
    )
    return load_sensitivity(found.file)


def evaluate_command(options: argparse.Namespace) -> Result:
    from surgery.live import LiveModel

    adapter = open_adapter(options.adapter)
    spectra = decompose(adapter)
    plan = EvaluationPlan(
        _data(options, "test"),
        options.limit,
        options.random,
        batch_size=options.batch_size,
        encoding=_encoding(options),
        seed=options.seed,
        start=options.start,
        prompt_field=options.prompt_field,
        answer_field=options.answer_field,
    )
    recipes, folders = _variants(options.variant or [], adapter.digest)
    base = _base(options)
    seen = [plan for recipe in recipes.values() for plan in recipe.seen]
    slices = read_slices(seen, plan)
    plans = {name: recipe.edit for name, recipe in recipes.items()}
    with attach(adapter, spectra, base) as live:
        edits = _edited(live, recipes, base, slices) | random_controls(spectra, options.random)
        proof = Proof(plan, edits, seen, plans=plans, again=options.again, base=base)
        run = prove(live, proof, slices=slices, control=progress_reporter("evaluating"))
        evaluation = run.evaluation
    for name, folder in folders.items():
        other = open_adapter(folder)
        with LiveModel(live.base, other, decompose(other)) as alone:
            other_proof = Proof(plan, {}, seen, base=base)
            found = prove(alone, other_proof, slices=slices, control=progress_reporter(f"evaluating {name}"))
        scores = {**evaluation.scores, name: found.evaluation.scores[BASELINE]}
        evaluation = replace(evaluation, scores=scores)
    return _told(evaluation, run)


def benchmark_command(options: argparse.Namespace) -> Result:
    from surgery.benchmark import refuse_seen
    from surgery.judge import sandboxed
    from surgery.sandbox import open_sandbox
    from surgery.tasks import TaskPlan, load_task

    adapter = open_adapter(options.adapter)
    spectra = decompose(adapter)
    files = dict(_assigned(pair) for pair in options.data_files or [])
    plan = TaskPlan(
        options.task, options.limit, options.offset, options.seed, options.fewshot, files or None, options.chat
    )
    recipes, folders = _variants(options.variant or [], adapter.digest)
    if folders:
        raise RecipeError(
            f"{next(iter(folders))!r} is a folder", "give recipes: all variants ride on one adapter in the model"
        )
    base = _base(options)
    seen = [plan for recipe in recipes.values() for plan in recipe.seen]
    slices = read_slices(seen)
    # a chat needs the base's tokenizer; what else can be refused is refused before the base model is loaded
    loaded = None if options.chat else load_task(plan)
    judge = sandboxed(open_sandbox()) if options.run_programs else None
    if loaded is not None:
        refuse_seen(loaded, _named(slices, recipes))
        if loaded.needs_judge and judge is None:
            raise DataError(
                f"the answers to {plan.name} are programs, which are not run unasked",
                "add --run-programs: each runs in a sandbox of its own",
            )
    with attach(adapter, spectra, base) as live:
        if loaded is None:
            loaded = load_task(plan, live.base.tokenizer)
            refuse_seen(loaded, _named(slices, recipes))
        edits = _edited(live, recipes, base, slices) | random_controls(spectra, options.random)
        plans = {name: recipe.edit for name, recipe in recipes.items()}
        proof = Proof(
            loaded, edits, seen, plans=plans, again=options.again, base=base, batch_size=options.batch_size
        )
        run = prove(live, proof, slices=slices, judge=judge, control=progress_reporter(plan.name))
    return _told(run.evaluation, run, f"{plan.name}, ")


def runs_command(options: argparse.Namespace) -> Result:
    if options.run is not None:
        run = known_run(options.run)
        if run is None:
            raise DataError(f"there is no run {options.run!r}", "list them with: surgery runs")
        return _told(run.evaluation, run, f"{run.plan.slice_name}, ")
    digest = open_adapter(options.adapter).digest if options.adapter else None
    runs = known_runs(digest)
    return {"folder": str(runs_folder()), "runs": [run_record(run) for run in runs]}, runs_text(runs)


def _edited(live: "LiveModel", recipes: Mapping[str, Recipe], base: BaseChoice, slices: Slices) -> dict[str, Edit]:
    """The edits of recipes, calibrated where that was not done before."""
    edits = {}
    for name, recipe in recipes.items():
        plan, control = recipe.calibration, progress_reporter(f"calibrating {name}")
        measured = calibrate(live, plan, base=base, slice_=slices.seen[plan], control=control)
        edits[name] = recipe.edit.apply(live.spectra, measured)
    return edits


def _told(evaluation: Evaluation, run: Run, of: str = "") -> Result:
    summary = summarise(evaluation)
    text = f"{evaluation_text(summary, of)}\nkept as run {run.plan.key}"
    return {"run": run.plan.key, "question": dict(run.plan.question), **summary_record(summary)}, text


def _named(slices: Slices, recipes: Mapping[str, Recipe]) -> dict[str, Sequence[Row]]:
    """The rows that each recipe was made or chosen on."""
    return {
        f"slice {number} of {name}": slices.seen[plan].rows
        for name, recipe in recipes.items()
        for number, plan in enumerate(recipe.seen)
    }


def _assigned(pair: str) -> tuple[str, str]:
    split, equals, file = pair.partition("=")
    if not equals or not split or not file:
        raise DataError(f"--data-files {pair!r} is no SPLIT=FILE", "write test=questions.jsonl")
    return split, file


def run_command(options: argparse.Namespace) -> Result:
    file = user_path(options.recipe)
    recipe = read_recipe(file)
    out = options.out or file.with_name(f"{file.stem}-export")
    report = run_recipe(recipe, out, control=progress_reporter())
    record = export_record(report.edit, report.sensitivity, report.verification)
    text = export_text(record)
    if report.evaluation is not None:
        summary = summarise(report.evaluation)
        record["evaluation"] = summary_record(summary)
        text += "\n" + evaluation_text(summary)
    return record, text


def sweep_command(options: argparse.Namespace) -> Result:
    from importlib.util import find_spec

    from surgery.sweeps.ledger import finished
    from surgery.sweeps.on_ray import on_ray
    from surgery.sweeps.plan import check, cost, cost_text, expand
    from surgery.sweeps.run import in_process, run_sweep
    from surgery.sweeps.spec import read_sweep
    from surgery.sweeps.tables import failures, results, sweep_record, sweep_text, write_tables

    sweep = read_sweep(options.sweep, limit=options.limit, examples=options.examples)
    plan = expand(sweep)
    check(plan)
    known = [group for group, run in zip(plan.groups, finished(plan.groups), strict=True) if run is not None]
    expected = cost(plan, known)
    if options.dry_run:
        return {"cost": asdict(expected)}, cost_text(expected)
    print(cost_text(expected), file=sys.stderr)
    # without an address, a machine that has no Ray does the same work in this process
    alone = options.in_process or (options.address is None and find_spec("ray") is None)
    runner = in_process if alone else on_ray(sweep.resources, address=options.address, workers=options.workers)
    swept = run_sweep(plan, runner, control=progress_reporter())
    found = results(swept)
    if swept.failed and not found:
        first = failures(swept)[0]
        raise SweepError(
            f"every pass failed, first {first['adapter']} on {first['task']}: {first['problem']}",
            "mend the cause and start it again",
        )
    record, text = sweep_record(swept, found, expected), sweep_text(swept, found, expected)
    if options.tables:
        written = [str(file) for file in write_tables(found, options.tables)]
        record["written"] = written
        text += "\nwrote " + ", ".join(written)
    return record, text


def _policy(options: argparse.Namespace) -> Policy:
    knobs = {k.removeprefix(KNOB_PREFIX): v for k, v in vars(options).items() if k.startswith(KNOB_PREFIX)}
    return make_policy(options.policy, knobs)


def _base(options: argparse.Namespace) -> BaseChoice:
    location = options.base
    if not location:
        if not is_demo(options.adapter):
            raise RecipeError(f"{options.adapter!r} is no demo, so it has no default base", "give --base")
        location = demo_plans(options.adapter)[0].location
    return BaseChoice(location, options.revision, options.device, options.dtype)


def _data(options: argparse.Namespace, slice_name: str) -> str:
    if options.data:
        return str(options.data)
    if not is_demo(options.adapter):
        raise DataError(f"{options.adapter!r} is no demo, so it has no default rows", "give --data F.jsonl")
    _, calibration, evaluation = demo_plans(options.adapter)
    return calibration.data if slice_name == "calibration" else evaluation.data


def _encoding(options: argparse.Namespace) -> Encoding:
    return Encoding(options.template, options.separator, options.eos, options.max_length)


def _variants(sources: Sequence[str], adapter_digest: str) -> tuple[dict[str, Recipe], dict[str, str]]:
    """Recipes and folders among the variants named, by a short name each."""
    recipes: dict[str, Recipe] = {}
    folders: dict[str, str] = {}
    for source in sources:
        path = user_path(source)
        name = path.name if path.name not in {BASELINE, *recipes, *folders} else str(path)
        if path.is_file():
            recipes[name] = read_recipe(path)
            made_for = recipes[name].adapter_digest
            if made_for and made_for != adapter_digest:
                raise DataError(f"recipe {source!r} was made for another adapter", "evaluate it with its own")
        else:
            open_adapter(source)  # refused now, before minutes are spent on the others
            folders[name] = source
    return recipes, folders


def _numbers(text: str, option: str) -> np.ndarray:
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise PolicyError(f"{option} {text!r} is no list of numbers", "write numbers with commas: 3,2,1") from None
    if not np.isfinite(values).all():
        raise PolicyError(f"{option} {text!r} holds NaN or infinity", "give finite numbers")
    return values
