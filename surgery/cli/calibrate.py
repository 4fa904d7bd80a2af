"""`surgery calibrate`: sensitivities of every module on a slice."""

import argparse

from surgery.adapter import open_adapter
from surgery.cli.options import (
    Command,
    Result,
    add_field_options,
    add_model_options,
    base_from,
    count,
    data_from,
    encoding_from,
    fields_from,
    positive,
)
from surgery.cli.progress import progress_reporter
from surgery.cli.text import sensitivity_record, sensitivity_text
from surgery.cli.tokens_text import tokens_record, tokens_text
from surgery.data import GIVEN, SAMPLED, CalibrationPlan, fetch_source, read_slices
from surgery.errors import DataError
from surgery.model import attach, encoding_notes, preview_tokens
from surgery.sensitivity import calibrate, measurement_header, save_sensitivity
from surgery.spectra import decompose


def calibrate_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter, control=progress_reporter())
    plan = CalibrationPlan(
        data_from(options, "calibration"),
        options.examples,
        options.seed,
        options.start,
        options.batch_size,
        encoding_from(options),
        options.checkpointing,
        labels=options.labels,
        base_inputs=options.base_inputs,
        **fields_from(options),
    )
    base = base_from(options)
    fetch_source(plan.data, progress_reporter())
    slice_ = read_slices([plan]).seen[plan]
    if options.preview:
        record = tokens_record(preview_tokens(adapter, base, plan, slice_))
        return record, tokens_text(record)
    if not options.out:
        raise DataError(
            "no file to write the sensitivities to was named", "give --out, or --preview to see tokens"
        )
    with attach(adapter, decompose(adapter), base, control=progress_reporter()) as live:
        sensitivity = calibrate(live, plan, base=base, slice_=slice_, control=progress_reporter("calibrating"))
        notes = (*live.scoring_notes, *encoding_notes(live, plan, slice_))
    about = measurement_header(plan, base, sensitivity.provenance, sensitivity.left_out)
    save_sensitivity(sensitivity, options.out, about)
    record = sensitivity_record(sensitivity, options.out, slice_, notes)
    return record, sensitivity_text(record)


def _options(parser: argparse.ArgumentParser) -> None:
    add_model_options(
        parser,
        "calibration rows: a file (JSON lines or array, CSV, TSV, CoNLL, parquet, arrow), a folder that datasets saved, or "
        "hub:OWNER/NAME[/CONFIG]:SPLIT; a demo has its own",
    )
    parser.add_argument("--examples", type=count, default=128, help="how many rows (default 128)")
    parser.add_argument("--seed", type=count, default=0, help="seed of the shuffle (default 0)")
    parser.add_argument("--start", type=count, default=0, help="offset into the shuffled rows")
    parser.add_argument("--batch-size", type=positive, default=8, help="examples at a time (default 8)")
    parser.add_argument(
        "--checkpointing", action="store_true", help="recompute activations: slower, for long examples"
    )
    parser.add_argument(
        "--labels",
        choices=(GIVEN, SAMPLED),
        default=GIVEN,
        help="given: the answers of the rows; sampled: drawn from the model, for a slice to protect that has none",
    )
    parser.add_argument(
        "--base-inputs",
        action="store_true",
        help="take the functional energy over the hidden states of the base alone (σ = 0), by a forward pass more",
    )
    add_field_options(parser)
    parser.add_argument("--out", help="file to write the sensitivities to")
    parser.add_argument(
        "--preview", action="store_true", help="show the first rows as tokens and what is odd, and measure nothing"
    )


COMMAND = Command("calibrate", "measure sensitivities on a calibration slice", _options, calibrate_command)
