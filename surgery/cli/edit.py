"""`surgery edit`: an edited adapter folder."""

import argparse
import sys

from surgery.adapter import Adapter, open_adapter
from surgery.cli.options import Command, Result, add_policy_options, policy_from
from surgery.cli.text import export_record, export_text
from surgery.edits import make_edit
from surgery.errors import DataError
from surgery.export import export
from surgery.sensitivity import Sensitivity, load_sensitivity, shipped_measurements
from surgery.spectra import decompose


def edit_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter)
    spectra = decompose(adapter)
    policy = policy_from(options)
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


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help="a folder, or demo:NAME")
    parser.add_argument("--sensitivities", help="file written by calibrate")
    parser.add_argument(
        "--scope", default="residual", help="residual, attention-inputs, all, or a regular expression"
    )
    parser.add_argument("--out", required=True, help="new folder for the edited adapter")
    add_policy_options(parser)


COMMAND = Command("edit", "apply a policy and write the edited adapter", _options, edit_command)
