"""`surgery calibrate`: sensitivities of every module on a slice."""

import argparse

from surgery.adapter import open_adapter
from surgery.cli.options import Result, base_from, data_from, encoding_from
from surgery.cli.text import progress_reporter, sensitivity_record, sensitivity_text
from surgery.data import CalibrationPlan, read_slices
from surgery.model import attach
from surgery.sensitivity import calibrate, save_sensitivity
from surgery.spectra import decompose


def calibrate_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter)
    plan = CalibrationPlan(
        data_from(options, "calibration"),
        options.examples,
        options.seed,
        options.start,
        options.batch_size,
        encoding_from(options),
        options.checkpointing,
        options.prompt_field,
        options.answer_field,
    )
    base = base_from(options)
    slice_ = read_slices([plan]).seen[plan]
    with attach(adapter, decompose(adapter), base) as live:
        sensitivity = calibrate(live, plan, base=base, slice_=slice_, control=progress_reporter("calibrating"))
    save_sensitivity(sensitivity, options.out)
    record = sensitivity_record(sensitivity, options.out)
    return record, sensitivity_text(record)
