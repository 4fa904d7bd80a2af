"""`surgery evaluate`: variants on held-out rows."""

import argparse
from dataclasses import replace

from surgery.adapter import open_adapter
from surgery.cli.answer_options import add_answer_options, answer_settings
from surgery.cli.options import (
    AGAIN_HELP,
    Command,
    Result,
    add_field_options,
    add_model_options,
    base_from,
    count,
    data_from,
    edits_of,
    encoding_from,
    kept_run,
    positive,
    variants_from,
)
from surgery.cli.text import progress_reporter
from surgery.data import EvaluationPlan, read_slices
from surgery.evaluation import BASELINE
from surgery.experiments import Proof, prove, random_controls
from surgery.model import attach
from surgery.spectra import decompose


def evaluate_command(options: argparse.Namespace) -> Result:
    from surgery.model import LiveModel

    adapter = open_adapter(options.adapter)
    spectra = decompose(adapter)
    plan = EvaluationPlan(
        data_from(options, "test"),
        options.limit,
        options.random,
        batch_size=options.batch_size,
        encoding=encoding_from(options),
        seed=options.seed,
        start=options.start,
        prompt_field=options.prompt_field,
        answer_field=options.answer_field,
        **answer_settings(options),
    )
    recipes, folders = variants_from(options.variant or [], adapter.digest)
    base = base_from(options)
    seen = [plan for recipe in recipes.values() for plan in recipe.seen]
    slices = read_slices(seen, plan)
    plans = {name: recipe.edit for name, recipe in recipes.items()}
    with attach(adapter, spectra, base) as live:
        edits = edits_of(live, recipes, base, slices) | random_controls(spectra, options.random)
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
    return kept_run(evaluation, run)


def _options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser, "held-out rows; a demo has its own")
    parser.add_argument("--variant", nargs="+", action="extend", help="exported folders or recipe files")
    parser.add_argument("--random", type=count, default=0, help="how many random controls")
    parser.add_argument("--start", type=count, default=0, help="offset of the slice")
    parser.add_argument("--seed", type=count, help="shuffle before the slice is taken (default: file order)")
    add_field_options(parser)
    add_answer_options(parser)
    parser.add_argument("--again", action="store_true", help=AGAIN_HELP)
    parser.add_argument("--limit", type=positive, help="so many rows (default: all)")
    parser.add_argument("--batch-size", type=positive, default=32, help="examples at a time (default 32)")


COMMAND = Command(
    "evaluate", "loss and exact match of variants, paired with the unedited adapter", _options, evaluate_command
)
