"""`surgery evaluate`: variants on held-out rows."""

import argparse

from surgery.adapter import open_adapter
from surgery.cli.answer_options import add_answer_options, answer_settings
from surgery.cli.options import (
    Command,
    Result,
    add_field_options,
    add_model_options,
    add_variant_options,
    base_from,
    count,
    data_from,
    encoding_from,
    fields_from,
    kept_run,
    margin_from,
    positive,
)
from surgery.cli.progress import progress_reporter
from surgery.cli.variants import proof_of, refuse_unscoped, variants_from
from surgery.data import EvaluationPlan, fetch_source, read_slices
from surgery.experiments import prove
from surgery.model import attach
from surgery.spectra import decompose


def evaluate_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra = decompose(adapter)
    plan = EvaluationPlan(
        data_from(options, "test"),
        options.limit,
        options.random,
        batch_size=options.batch_size,
        encoding=encoding_from(options),
        seed=options.seed,
        start=options.start,
        leave_out=options.leave_out,
        **fields_from(options),
        margin=margin_from(options),
        **answer_settings(options),
    )
    variants = variants_from(options.variant or [], adapter, spectra)
    refuse_unscoped(spectra, variants, random=options.random, scope=options.scope)
    base = base_from(options)
    fetch_source(plan.data, progress_reporter())
    slices = read_slices(variants.seen, plan)
    variants.refuse_seen(slices.held_out)
    with attach(adapter, spectra, base, control=progress_reporter()) as live:
        proof = proof_of(live, plan, variants, options, base, slices)
        run = prove(live, proof, slices=slices, control=progress_reporter("evaluating"))
    record, text = kept_run(run.evaluation, run)
    return {**record, "format": slices.format}, f"{text}\nrows read as: {slices.format}"


def _options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser, "held-out rows; a demo has its own")
    add_variant_options(parser)
    parser.add_argument("--start", type=count, default=0, help="offset of the slice")
    parser.add_argument("--seed", type=count, help="shuffle before the slice is taken (default: file order)")
    add_field_options(parser)
    parser.add_argument(
        "--leave-out", action="store_true", help="leave out rows that cannot be asked, and count them"
    )
    add_answer_options(parser)
    parser.add_argument("--limit", type=positive, help="so many rows (default: all)")
    parser.add_argument("--batch-size", type=positive, default=32, help="examples at a time (default 32)")


COMMAND = Command(
    "evaluate",
    "loss and exact match of variants, or accuracy of labels, paired with the unedited adapter",
    _options,
    evaluate_command,
)
