"""Surgery: choose a policy, turn its knobs, and see what happens to every singular value."""

import math
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

import viz
from app.frame import ask_for_calibration, show_title
from app.workspace import Workspace, current, keep
from surgery.edit import ENERGY_RULES, Edit, Manual, preview, summary
from surgery.policy import POLICIES, Knob, Policy, knobs_of, make_policy
from surgery.scope import SCOPES

ENERGY_LABELS = {"l1": "keep Σσ (l1)", "l2": "keep ‖σ‖₂ (l2)", "none": "no rule"}
OWN_SCOPE = "regular expression…"


def controls(workspace: Workspace) -> Workspace:
    """Widgets are told apart by their keys: a start value that follows the workspace would rename them."""
    keyed: dict[str, Any] = {"persist_state": "session"}
    names = list(POLICIES)
    name = st.selectbox(
        "Policy",
        names,
        names.index(workspace.policy.name),
        key="surgery-policy",
        help="A rule that turns sensitivities into gains.",
        **keyed,
    )
    st.caption(f"{POLICIES[name].title}.")
    policy = knob_controls(name, workspace.policy)
    st.caption(
        "Step sizes and gates start at the values of the authors' released code; the paper does not give them."
    )
    options = [*SCOPES, OWN_SCOPE]
    known = workspace.scope if workspace.scope in SCOPES else OWN_SCOPE
    scope = st.selectbox(
        "Scope",
        options,
        options.index(known),
        key="surgery-scope",
        help="Residual writers are o_proj and down_proj.",
        **keyed,
    )
    if scope == OWN_SCOPE:
        own = workspace.scope if workspace.scope not in SCOPES else r"layers\.(1\d)\..*o_proj"
        scope = st.text_input("Modules whose path matches", own, key="surgery-own-scope", **keyed)
    energy = st.selectbox(
        "Energy rule",
        ENERGY_RULES,
        ENERGY_RULES.index(workspace.energy),
        key="surgery-energy",
        format_func=ENERGY_LABELS.get,
        **keyed,
    )
    sigma_min = st.number_input(
        "Smallest new σ",
        0.0,
        1e6,
        workspace.sigma_min,
        step=0.01,
        format="%.3f",
        key="surgery-sigma-min",
        **keyed,
    )
    return keep(workspace.with_edit(policy=policy, scope=scope, energy=energy, sigma_min=float(sigma_min)))


def knob_controls(name: str, present: Policy) -> Policy:
    values: dict[str, Any] = {}
    for knob in knobs_of(POLICIES[name]):
        start = getattr(present, knob.name) if present.name == name else knob.default
        idle = knob.when is not None and values[knob.when[0]] != knob.when[1]
        values[knob.name] = start if idle else knob_widget(name, knob, start)
    return make_policy(name, values)


def knob_widget(policy: str, knob: Knob, start: Any) -> Any:
    key = f"knob-{policy}-{knob.name}"
    label = knob.name
    if knob.kind is bool:
        return st.toggle(label, start, key=key, help=knob.help, persist_state="session")
    if knob.choices:
        return st.selectbox(
            label, knob.choices, knob.choices.index(start), key=key, help=knob.help, persist_state="session"
        )
    kind = knob.kind
    if knob.name == "seed":
        return st.number_input(label, 0, 2**31 - 1, start, key=key, help=knob.help, persist_state="session")
    low, high, step = kind(knob.low or 0), kind(knob.high or 0), kind(knob.step or 1)
    return st.slider(label, low, high, kind(start), step, key=key, help=knob.help, persist_state="session")


def effect(workspace: Workspace, edit: Edit) -> None:
    numbers = preview(edit, workspace.sensitivity)
    shown = numbers or summary(edit)
    cells = st.columns([1.5, 1, 1, 1, 1])
    if numbers is None:
        cells[0].metric("Predicted Δ loss", "not measured", help="Calibrate on the Spectra page first.")
    else:
        noise = abs(numbers.predicted) <= 2 * numbers.standard_error
        error = f"± {numbers.standard_error:.4f}" if math.isfinite(numbers.standard_error) else ""
        cells[0].metric(
            "Predicted Δ loss",
            f"{numbers.predicted:+.4f} {error}",
            "within noise" if noise else ("lower is better"),
            delta_color="off",
            delta_arrow="off",
            help="First order, on the calibration examples, in nats per answer token. Large steps overshoot: "
            "measure held out on the Evaluate page.",
        )
    cells[1].metric(
        "Edited scalars", f"{edit.scalars:,}", f"{len(edit.modules)} modules", delta_color="off", delta_arrow="off"
    )
    cells[2].metric("Raised", shown.raised)
    cells[3].metric("Lowered", shown.lowered, f"{shown.silenced} silenced", delta_color="off", delta_arrow="off")
    cells[4].metric(
        "Energy moved",
        f"{shown.energy_moved:.1%}",
        f"Σσ′/Σσ {shown.energy_kept:.3f}",
        delta_color="off",
        delta_arrow="off",
        help="Half of Σ|σ′ − σ| over Σσ.",
    )
    skipped = edit.skipped
    if skipped:
        reasons = "; ".join(sorted(set(skipped.values())))
        st.warning(
            f"{len(skipped)} of {len(edit.modules)} modules were left alone: {reasons}.", icon=":material/info:"
        )


def maps(workspace: Workspace, edit: Edit) -> None:
    spectra = workspace.spectra
    families = list(dict.fromkeys(spectra[name].family for name in edit.modules))
    map_side, module_side = st.columns([1, 1.25], gap="large")
    with map_side:
        family = st.selectbox("Family", families, key="surgery-family", persist_state="session") or families[0]
        members = [name for name in edit.modules if spectra[name].family == family]
        width = max(edit.modules[name].gains.size for name in members)
        gains = np.full((len(members), width), np.nan)
        for row, name in enumerate(members):
            gains[row, : edit.modules[name].gains.size] = edit.modules[name].gains
        figure = viz.gain_map(gains, [_layer(workspace, name) for name in members], title=f"Gains of {family}")
        st.plotly_chart(figure, key="surgery-map", alt=f"Gains of {family}, layers by components")
    with module_side:
        chosen = st.selectbox(
            "Module",
            members,
            format_func=lambda name: f"layer {_layer(workspace, name)}",
            key=f"surgery-module-{family}",
            persist_state="session",
        )
        name = chosen if chosen in members else members[0]
        module = edit.modules[name]
        figure = viz.before_and_after(module.sigma, module.sigma_after, title=name)
        st.plotly_chart(figure, key="surgery-module-figure", alt=f"Spectrum of {name} before and after")
        by_hand(workspace, edit, name)


def by_hand(workspace: Workspace, edit: Edit, name: str) -> None:
    """A table of the module's components in which gains can be set by hand."""
    module = edit.modules[name]
    mine = workspace.manual.get(name, {})
    statistics = workspace.sensitivity.statistics(name) if workspace.sensitivity else None
    table = pd.DataFrame({"component": range(module.gains.size), "σ": module.sigma})
    if statistics is not None:
        table["mean g"] = statistics.mean
    table["gain"] = module.gains
    table["by hand"] = [mine.get(k) for k in range(module.gains.size)]
    table["by hand"] = table["by hand"].astype("float64")
    fixed = [column for column in table.columns if column != "by hand"]
    number = st.column_config.NumberColumn
    edited = st.data_editor(
        table,
        hide_index=True,
        disabled=fixed,
        height=250,
        width="stretch",
        key=f"by-hand-{name}-{sorted(mine.items())}",
        column_config={
            "σ": number(format="%.4f"),
            "mean g": number(format="%.4f"),
            "gain": number(format="%.3f"),
            "by hand": number(
                format="%.3f", min_value=0.0, max_value=16.0, help="Overrides the policy; empty follows it."
            ),
        },
    )
    wanted = {int(k): float(gain) for k, gain in enumerate(edited["by hand"]) if pd.notna(gain)}
    if wanted != dict(mine):
        others: Manual = {other: gains for other, gains in workspace.manual.items() if other != name}
        keep(workspace.with_edit(manual={**others, name: wanted} if wanted else others))
        st.rerun()
    count = sum(len(gains) for gains in workspace.manual.values())
    if count and st.button(f"Forget all {count} gains set by hand", icon=":material/undo:"):
        keep(workspace.with_edit(manual={}))
        st.rerun()


def _layer(workspace: Workspace, name: str) -> str:
    layer = workspace.spectra[name].layer
    return name if layer is None else str(layer)


show_title(
    "Surgery",
    "Change only the singular values. The prediction moves with the knobs; the proof comes on the next page.",
)
left, right = st.columns([1, 3], gap="large")
with left:
    workspace = controls(current())
with right:
    if workspace.lacks_sensitivities:
        ask_for_calibration(workspace)
    else:
        edit = workspace.edit()
        effect(workspace, edit)
        maps(workspace, edit)
