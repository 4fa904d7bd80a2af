"""What every page has around it: the strip that says what is live, its title, its messages."""

import re
from collections.abc import Collection, Mapping

import streamlit as st

from app.state import jobs
from app.state import saved as sessions
from app.state.runs import newest_proof
from app.state.workspace import Workspace, current
from surgery.errors import SurgeryError
from surgery.sensitivity import Sensitivity

_COMMIT = re.compile(r"@[0-9a-f]{40}\b")
# less air above and beside the page than Streamlit leaves, so that a figure fits 1280 × 800; what is at work stays in
# sight however far the page is scrolled; and white on the dark theme's buttons would be hard to read
STYLE = """<style>
.stMainBlockContainer { padding: 4.2rem 2.2rem 2rem; }
[data-testid="stMetricValue"] { font-size: 1.7rem; }
[data-testid="stLayoutWrapper"]:has(> .st-key-at-work) {
  position: sticky; top: 3.75rem; z-index: 50; padding-bottom: 0.4rem; background: light-dark(#fcfcfd, #12151d);
}
[data-testid^="stBaseButton-primary"]:not(:disabled, :hover, :active, :focus-visible) { color: light-dark(#fff, #12151d); }
</style>"""


def show_header() -> None:
    try:
        workspace = current()
    except SurgeryError:
        return
    # one element: each further one costs every answer of the page a little
    st.markdown(
        " ".join(
            f":{'primary' if live else 'gray'}-badge[:material/{icon}: {label}: {_short(text)}]"
            for icon, label, text, live in _entries(workspace)
        )
    )


def show_error(error: SurgeryError) -> None:
    """A refusal as a message; what arrived may come from a file, so it is shown as plain text."""
    st.error(f"{plain(error.problem)} → {plain(error.remedy)}", icon=":material/error:")


def show_title(title: str, purpose: str) -> None:
    """A page's heading and the one sentence that says what it is for."""
    st.subheader(title, anchor=False)
    st.caption(purpose)


def show_kind(workspace: Workspace) -> None:
    """What directions and σ are of, for an adapter of which that is not the whole change of a layer."""
    if workspace.adapter.kind == "DoRA":
        st.info(
            "DoRA: directions and σ are of the update ΔW before normalisation. Each output of W + ΔW is then scaled to "
            "the magnitude that was trained for it; sensitivities count what σ does to that norm.",
            icon=":material/straighten:",
        )


def keep_on_disk() -> None:
    """Write the open workspace for a later visit; says so where that fails."""
    try:
        sessions.save(current(), st.session_state[sessions.ID])
    except (OSError, SurgeryError) as error:
        st.warning(f"This workspace could not be saved for a later visit: {plain(str(error))}")


def write_address(names: Collection[str], words: Mapping[str, str]) -> None:
    """Put a page's words, of those `names` that are its own, into its address; others there are left alone."""
    present = st.query_params.to_dict()
    wanted = {name: value for name, value in present.items() if name not in names} | dict(words)
    if wanted != present:
        st.query_params.from_dict(wanted)


def plain(text: str) -> str:
    """File-derived text as Markdown that renders as itself."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]()#+-.!|<>~$:&" else c for c in text if c.isprintable())


def _entries(workspace: Workspace) -> list[tuple[str, str, str, bool]]:
    base, sensitivity = workspace.base, workspace.sensitivity
    proof = newest_proof(workspace)
    measuring, proving = (jobs.active(kind) is not None for kind in (jobs.CALIBRATION, jobs.EVALUATION))
    return [
        ("deployed_code", "adapter", workspace.adapter.source, True),
        ("memory", "base", base.location if base else "not chosen", base is not None),
        ("filter_alt", "scope", workspace.plan.scope, True),
        (
            "science",
            "calibration",
            "under way" if measuring else _measured_on(sensitivity),
            measuring or sensitivity is not None,
        ),
        ("tune", "policy", workspace.plan.policy.name, True),
        (
            "balance",
            "proof",
            "under way" if proving else f"{proof.plan.examples} held-out" if proof else "none yet",
            proving or proof is not None,
        ),
    ]


def _measured_on(sensitivity: Sensitivity | None) -> str:
    if sensitivity is None:
        return "none yet"
    return f"{sensitivity.examples} examples{', shipped' if sensitivity.shipped else ''}"


def short_commit(text: str) -> str:
    """A name on the hub as a person reads it: seven digits tell a commit."""
    return _COMMIT.sub(lambda match: match[0][:8], text)


def _short(text: str) -> str:
    text = short_commit(text)
    tail = text if len(text) <= 34 else "…" + text[-33:]
    return plain(tail)
