"""`surgery resize`: the adapter at a lower rank, in a file that is truly smaller."""

import argparse
from dataclasses import replace
from typing import Any

from surgery.adapter import Adapter, in_scope, open_adapter
from surgery.cli.edit import base_of, documents_of, measured_for
from surgery.cli.options import ADAPTER_HELP, Command, Result, add_pad_option, count
from surgery.cli.progress import progress_reporter
from surgery.cli.smaller_text import smaller_record, smaller_text
from surgery.cli.text import peft_record
from surgery.edits import EditPlan, activation_cuts, kept_in_sum, kept_of
from surgery.errors import PolicyError
from surgery.export import Smaller, Verification, export, export_truncations, turned_documents
from surgery.policies import SCORES, Rank
from surgery.sensitivity import Sensitivity
from surgery.spectra import Spectra, decompose

ACTIVATION = "activation"
_TURNED = (
    "the directions are turned inside the span of each module, so the folder is an adapter of its own and no edit of "
    "the original's singular values; on fixed directions the best cut is --by functional"
)


def resize_command(options: argparse.Namespace) -> Result:
    adapter = open_adapter(options.adapter, control=progress_reporter())
    spectra = decompose(adapter)
    turns = options.by == ACTIVATION
    policy = _policy(options, "functional" if turns else options.by)
    plan = EditPlan(policy, options.scope)
    file, sensitivity = measured_for(options, adapter, plan)
    form = Smaller(options.pad)
    notes = [*adapter.changes, *plan.notes(spectra)]
    if turns:
        assert sensitivity is not None  # by functional needs one
        verification, kept, alone = _turned(options, adapter, spectra, plan, sensitivity)
        notes.append(_TURNED)
    else:
        edit = plan.apply(spectra, sensitivity)
        recipe, documents = documents_of(options, adapter, plan, sensitivity, file)
        base = base_of(options, adapter, recipe)
        verification = export(adapter, spectra, edit, options.out, documents=documents, base=base, form=form)
        kept = {"modules": {name: vars(each) for name, each in kept_of(edit, sensitivity).items()}}
        kept |= {"in_sum": vars(kept_in_sum(edit, sensitivity))}
        alone = {name: why for name, why in edit.skipped.items() if "nothing to change" not in why}
    record = {
        "out": str(verification.folder),
        "cut": policy.cut,
        "by": options.by,
        **smaller_record(verification),
        "kept": kept,
        "skipped": alone,
        "rounding": verification.rounding,
        "peft": peft_record(verification.loading),
        "notes": notes,
    }
    return record, smaller_text(record)


def _policy(options: argparse.Namespace, by: str) -> Rank:
    if options.to_rank is not None:
        return Rank(keep=options.to_rank, by=by)
    for cut, share in (("energy", options.keep_energy), ("para", options.para)):
        if share is not None:
            return Rank(cut=cut, share=share, by=by)
    return Rank(cut="effective" if options.effective else "knee", by=by)


def _turned(
    options: argparse.Namespace, adapter: Adapter, spectra: Spectra, plan: EditPlan, sensitivity: Sensitivity
) -> tuple[Verification, dict[str, Any], dict[str, str]]:
    """The activation-aware cut, written out, with what is kept of each module and why others stay as they are."""
    policy = plan.policy
    if not isinstance(policy, Rank):
        raise PolicyError("only a cut of rank turns directions", "use policy rank")
    names = in_scope(spectra, plan.scope)
    cut, alone = activation_cuts(spectra, sensitivity.inputs, replace(policy, by="sigma"), names)
    verification = export_truncations(
        adapter,
        cut,
        options.out,
        Smaller(options.pad),
        documents=turned_documents(adapter.digest, plan, sensitivity),
        base=base_of(options, adapter, None),
    )
    kept = {name: {"rank": spectra[name].rank, "kept": cut[name].rank} for name in names if name in cut}
    return verification, {"modules": kept}, alone


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help=ADAPTER_HELP)
    cuts = parser.add_mutually_exclusive_group(required=True)
    cuts.add_argument("--to-rank", type=count, metavar="N", help="keep the leading N components of every module")
    cuts.add_argument("--keep-energy", type=float, metavar="SHARE", help="keep a share of every module, as 0.95")
    cuts.add_argument(
        "--para", type=float, metavar="SHARE", help="keep a share of the whole scope by one threshold (PARA)"
    )
    cuts.add_argument("--effective", action="store_true", help="keep the effective rank of every module")
    cuts.add_argument("--knee", action="store_true", help="keep what stands before the knee of every spectrum")
    parser.add_argument(
        "--by",
        choices=(*SCORES, ACTIVATION),
        default=SCORES[0],
        help="what ranks the components: σ², functional σ²q, gradient |σ·ḡ|, sensitivity |g|, or activation, which "
        "turns the directions to what the inputs hold (default sigma; all others read --sensitivities)",
    )
    parser.add_argument("--sensitivities", help="file written by calibrate")
    parser.add_argument(
        "--scope", default="all", help="all, residual, attention-inputs, or a regular expression (default all)"
    )
    add_pad_option(parser)
    parser.add_argument("--base", help="base model that PEFT's loading is checked on")
    parser.add_argument("-o", "--out", required=True, help="new folder for the smaller adapter")
    parser.set_defaults(protected=[])


COMMAND = Command("resize", "cut the rank and write a truly smaller adapter", _options, resize_command)
