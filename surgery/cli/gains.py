"""`surgery gains`: a policy's gains for numbers given by hand."""

import argparse
from dataclasses import replace

import numpy as np

from surgery.cli.options import Command, Result, add_policy_options, finite, policy_from
from surgery.cli.text import gains_record, gains_text
from surgery.edits import EditPlan, LayerGroups, edit_modules, modules_at, scaled_module
from surgery.errors import PolicyError
from surgery.policies import evidence_for, for_scope
from surgery.sensitivity import moments_of


def gains_command(options: argparse.Namespace) -> Result:
    plan = EditPlan(
        policy_from(options),
        "all",
        options.energy or "",
        options.sigma_min,
        strength=options.strength,
        groups=LayerGroups(third=(options.group_gain, 1.0, 1.0)),
    )
    sigma = _numbers(options.sigma, "--sigma")
    _refuse_negative(sigma, "singular values")
    g = _one_for_each(options.sensitivity, "--sensitivity", "sensitivities", sigma)
    q = _one_for_each(options.q, "--q", "second moments", sigma)
    if g is None and plan.policy.needs_gradient:
        raise PolicyError(
            f"policy {plan.policy.name} works from sensitivities",
            "give one a component: --sensitivity 0.1,-0.4,0.2",
        )
    if q is None and plan.needs_inputs:
        what = f"policy {plan.policy.name}" if plan.policy.needs_q else "energy functional"
        raise PolicyError(f"{what} works from second moments of inputs", "give one a component: --q 1.5,0.2,0.9")
    # numbers given by hand count as one calibration example
    moments = None if g is None else moments_of({options.module: g[np.newaxis]})
    evidence = evidence_for([options.module], sigma[np.newaxis], moments)
    if q is not None:
        _refuse_negative(q, "second moments")
        evidence = replace(evidence, q=q[np.newaxis])
    policy = for_scope(plan.policy, [options.module], [evidence], moments)
    whole = edit_modules(evidence, policy, plan.energy, plan.sigma_min)
    whole = {name: scaled_module(each, plan.groups.third[0], plan.sigma_min) for name, each in whole.items()}
    edited = modules_at(whole, plan.strength, plan.sigma_min)[options.module]
    return gains_record(edited), gains_text(edited)


def _one_for_each(text: str | None, option: str, what: str, sigma: np.ndarray) -> np.ndarray | None:
    """The numbers of an option, one for every singular value; None where it was not given."""
    values = None if text is None else _numbers(text, option)
    if values is not None and values.size != sigma.size:
        raise PolicyError(f"{sigma.size} singular values met {values.size} {what}", "give one for each")
    return values


def _refuse_negative(values: np.ndarray, what: str) -> None:
    if (values < 0).any():
        raise PolicyError(f"{what} cannot be negative", "give numbers from 0 up")


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
    parser.add_argument(
        "--sensitivity", help="signed sensitivities, as 0.1,-0.4,0.2, for policies that work from them"
    )
    parser.add_argument(
        "--q",
        help="second moments of the input along each direction, as 1.5,0.2,0.9, for functional policies and energy "
        "functional",
    )
    parser.add_argument("--module", default="module", help="name that seeds random_index")
    add_policy_options(parser)
    parser.add_argument(
        "--group-gain",
        type=finite,
        default=1.0,
        help="gain of the module's layer group, after the energy rule (default 1)",
    )


COMMAND = Command("gains", "the gains of one module, from numbers given by hand", _options, gains_command)
