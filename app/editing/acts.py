"""What a person did on the board, as changes of the workspace. Acts come from the browser: nothing is trusted."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.state.workspace import Workspace
from surgery.edits import EditPlan, LayerGroups, best_step, check_rules, hold, put, release, with_group
from surgery.errors import PolicyError
from surgery.policies import Identity, knob_values, make_policy


def applied(workspace: Workspace, act: Mapping[str, Any]) -> Workspace:
    """The workspace after one act; raises `PolicyError` for one that cannot be carried out."""
    plan = workspace.plan
    match act.get("type"):
        case "policy":
            name = str(act.get("value"))
            policy = make_policy(name, knob_values(plan.policy) if name == plan.policy.name else {})
            # a rule that a person chose stays; one that came with a policy goes with it
            energy = "" if plan.energy == plan.policy.usual_energy else plan.energy
            return _tried(workspace, f"policy {name}", replace(plan, policy=policy, energy=energy))
        case "knob":
            knob, value = str(act.get("knob")), act.get("value")
            if isinstance(value, float):
                value = round(value, 9)
            turned = make_policy(plan.policy.name, {**knob_values(plan.policy), knob: value})
            return _tried(workspace, f"{knob} {value}", replace(plan, policy=turned))
        case "strength":
            strength = round(_number(act.get("value")), 9)
            return _tried(workspace, f"strength {strength:g}", replace(plan, strength=strength))
        case "group":
            name, gain = str(act.get("group")), round(_number(act.get("value")), 9)
            words = name.partition(": ")[2] + (" third" if name.startswith("third") else "")
            return _tried(workspace, f"{words} ×{gain:g}", with_group(plan, name, gain))
        case "ungroup":
            return _tried(workspace, "layer groups at 1", replace(plan, groups=LayerGroups()))
        case "best":
            best = best_step(plan, workspace.spectra, workspace.sensitivity)
            return _tried(workspace, "best expected step", best.plan)
        case "energy":
            energy = str(act.get("value"))
            check_rules(energy, plan.sigma_min)
            return _tried(workspace, f"energy {energy}", replace(plan, energy=energy))
        case "sigma_min":
            sigma_min = _number(act.get("value"))
            check_rules(plan.energy, sigma_min)
            return _tried(workspace, f"smallest σ {sigma_min:g}", replace(plan, sigma_min=sigma_min))
        case "manual":
            return _by_hand(workspace, act)
        case "undo":
            return workspace.with_history(workspace.history.jump(workspace.history.at - 1))
        case "redo":
            return workspace.with_history(workspace.history.jump(workspace.history.at + 1))
        case "forget":
            return _tried(workspace, "reset all by hand", replace(plan, manual={}))
    raise PolicyError(f"act {act.get('type')!r} is not known", "reload the page")


def _by_hand(workspace: Workspace, act: Mapping[str, Any]) -> Workspace:
    name, given = str(act.get("module")), act.get("gains")
    if name not in workspace.spectra or not isinstance(given, dict) or not given:
        raise PolicyError(f"there is no module {name!r} to change", "reload the page")
    rank = workspace.spectra[name].rank
    gains: dict[int, Any] = {}
    for component, gain in given.items():
        if not str(component).isdecimal() or len(str(component)) > 9 or int(component) >= rank:
            raise PolicyError(f"module {name!r} has no component {component!r}", f"use 0 to {rank - 1}")
        gains[int(component)] = gain
    parts = ", ".join(map(str, sorted(gains))) if len(gains) < 5 else f"{len(gains)} components"
    layer = workspace.spectra[name].layer
    where = f"{'' if layer is None else f'layer {layer} '}{name.rpartition('.')[2]} #{parts}"
    plan, known = workspace.plan, (workspace.spectra, workspace.plan, workspace.sensitivity)
    wanted = next(iter(gains.values()))
    if wanted is None:
        return _tried(workspace, f"reset {where}", release(plan, name, gains))
    if wanted == "lock":
        return _tried(workspace, f"lock {where}", hold(*known, name, gains))
    return _tried(
        workspace, f"by hand {where}", put(*known, name, {k: _number(gain) for k, gain in gains.items()})
    )


def _tried(workspace: Workspace, label: str, plan: EditPlan) -> Workspace:
    return checked(workspace.with_history(workspace.history.record(label, plan)))


def checked(workspace: Workspace) -> Workspace:
    """The workspace, if its plan or what of it can be applied before a calibration can; else raises `PolicyError`."""
    if workspace.lacks_sensitivities:
        plan = workspace.plan
        energy = "none" if plan.energy == "functional" else plan.energy  # that rule waits for a calibration too
        replace(plan, policy=Identity(), energy=energy, protect=False).apply(workspace.spectra, None)
    else:
        workspace.edit  # noqa: B018 - applied here and kept: the page draws this one
    return workspace


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e6:
        raise PolicyError(f"{value!r} is no number from 0 up", "give a number")
    return float(value)
