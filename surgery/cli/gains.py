"""`surgery gains`: a policy's gains for numbers given by hand."""

import argparse

import numpy as np

from surgery.cli.options import Command, Result, add_policy_options, policy_from
from surgery.cli.text import gains_record, gains_text
from surgery.edits import edit_modules
from surgery.errors import PolicyError
from surgery.policies import evidence_for, for_scope
from surgery.sensitivity import moments_of


def gains_command(options: argparse.Namespace) -> Result:
    sigma, g = _numbers(options.sigma, "--sigma"), _numbers(options.sensitivity, "--sensitivity")
    if sigma.size != g.size:
        raise PolicyError(f"{sigma.size} singular values met {g.size} sensitivities", "give one for each")
    if (sigma < 0).any():
        raise PolicyError("singular values cannot be negative", "give numbers from 0 up")
    # numbers given by hand count as one calibration example
    moments = moments_of({options.module: g[np.newaxis]})
    evidence = evidence_for([options.module], sigma[np.newaxis], moments)
    policy = for_scope(policy_from(options), {options.module: sigma}, moments)
    edited = edit_modules(evidence, policy, options.energy, options.sigma_min)[options.module]
    return gains_record(edited), gains_text(edited)


def _numbers(text: str, option: str) -> np.ndarray:
    try:
        values = np.array([float(part) for part in text.split(",")])
    except ValueError:
        raise PolicyError(f"{option} {text!r} is no list of numbers", "write numbers with commas: 3,2,1") from None
    if not np.isfinite(values).all():
        raise PolicyError(f"{option} {text!r} holds NaN or infinity", "give finite numbers")
    return values


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sigma", required=True, help="singular values, as 3,2,1")
    parser.add_argument("--sensitivity", required=True, help="signed sensitivities, as 0.1,-0.4,0.2")
    parser.add_argument("--module", default="module", help="name that seeds random_index")
    add_policy_options(parser)


COMMAND = Command("gains", "the gains of one module, from numbers given by hand", _options, gains_command)
