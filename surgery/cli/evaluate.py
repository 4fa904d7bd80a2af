"""`surgery evaluate`: variants on held-out rows, or on plain text."""

import argparse

from surgery.adapter import open_adapter
from surgery.cli.answer_options import add_answer_options, answer_settings
from surgery.cli.guards import add_guard_option, group_result, joined
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
from surgery.data import EvaluationPlan, TextPlan, fetch_source, read_slices
from surgery.errors import DataError
from surgery.experiments import check_guards, load_guards, parse_guard, prove_with_guards
from surgery.model import attach
from surgery.spectra import decompose


def evaluate_command(options: argparse.Namespace) -> Result:
    question = _text(options) if options.text is not None else _rows(options)
    guards = [parse_guard(each) for each in options.guard]
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra = decompose(adapter)
    variants = variants_from(options.variant or [], adapter, spectra)
    refuse_unscoped(spectra, variants, random=options.random, scope=options.scope)
    base = base_from(options)
    if isinstance(question, TextPlan):
        slices, read_as = read_slices(variants.seen), "plain text"
        check_guards([question], variants.seen)
    else:
        fetch_source(question.data, progress_reporter())
        slices = read_slices(variants.seen, question)
        variants.refuse_seen(slices.held_out)
        read_as = slices.format
    check_guards(guards, variants.seen)  # before the base model is loaded
    with attach(adapter, spectra, base, control=progress_reporter()) as live:
        proof = proof_of(live, question, variants, options, base, slices)
        asked = load_guards(live, guards)
        run, group = prove_with_guards(live, proof, asked, slices=slices, control=progress_reporter("evaluating"))
    record, text = kept_run(run.evaluation, run)
    record, text = {**record, "format": read_as}, f"{text}\nrows read as: {read_as}"
    return (record, text) if group is None else joined((record, text), group_result(group))


def _rows(options: argparse.Namespace) -> EvaluationPlan:
    for name, flag in (("window", "--window"), ("stride", "--stride")):
        if getattr(options, name) is not None:
            raise DataError(
                f"{flag} is for plain text, and rows were asked for", "give --text FILE, or leave it out"
            )
    return EvaluationPlan(
        data_from(options, "test"),
        options.limit,
        options.random,
        batch_size=options.batch_size or EvaluationPlan("").batch_size,
        encoding=encoding_from(options),
        seed=options.seed,
        start=options.start,
        leave_out=options.leave_out,
        divergence=options.divergence,
        **fields_from(options),
        margin=margin_from(options),
        **answer_settings(options),
    )


def _text(options: argparse.Namespace) -> TextPlan:
    if options.divergence:
        raise DataError("--divergence is for rows: a text is asked for nothing else", "leave it out")
    if options.data is not None:
        raise DataError("rows and a text were asked for", "evaluate them one after the other (--data or --text)")
    given = {"window": options.window, "stride": options.stride, "batch_size": options.batch_size}
    return TextPlan(
        options.text, options.limit, **{name: each for name, each in given.items() if each is not None}
    )


def _options(parser: argparse.ArgumentParser) -> None:
    add_model_options(parser, "held-out rows; a demo has its own")
    add_variant_options(parser)
    add_guard_option(parser)
    parser.add_argument("--start", type=count, default=0, help="offset of the slice")
    parser.add_argument("--seed", type=count, help="shuffle before the slice is taken (default: file order)")
    add_field_options(parser)
    parser.add_argument(
        "--leave-out", action="store_true", help="leave out rows that cannot be asked, and count them"
    )
    add_answer_options(parser)
    parser.add_argument("--limit", type=positive, help="so many rows or windows (default: all)")
    parser.add_argument(
        "--batch-size", type=positive, help="examples at a time (default 32), or windows of a text (default 8)"
    )
    parser.add_argument(
        "--divergence",
        action="store_true",
        help="KL from the unedited adapter and from the base per answer token, in place of answers",
    )
    parser.add_argument(
        "--text",
        metavar="FILE",
        help="plain text in place of rows, for cross-entropy and KL per token: a file, or demo:text",
    )
    parser.add_argument("--window", type=positive, help="tokens of each window of a text (default 128)")
    parser.add_argument(
        "--stride", type=positive, help="its last tokens, which count, and where the next one begins (default 64)"
    )


COMMAND = Command(
    "evaluate",
    "loss and exact match of variants, accuracy of labels, or KL on rows or text, paired with the unedited adapter",
    _options,
    evaluate_command,
)
