"""Which expert of a mixture the figures show.

An adapter of a mixture of experts has thousands of modules, more than a figure can draw or a person read. Of such an
adapter the figures have what lies outside of the experts and one expert of every layer, which a person chooses; edits,
scopes, predictions and exports are of all of them.
"""

from dataclasses import dataclass, field

import streamlit as st

from surgery.adapter import expert_of, experts_of, of_one_expert
from surgery.spectra import Spectra

_MOST = 1_000  # modules that the figures draw at their pace
_EXPERT, _SHOWN = "expert", "expert-modules"


def expert_picker(spectra: Spectra, wanted: str | None = None) -> None:
    """Let a person choose the expert that is shown, where not all are; `wanted` is a module that has to be shown now."""
    experts = _folded(spectra).experts
    if not experts:
        return
    number = expert_of(wanted) if wanted is not None else None
    if number in experts:
        st.session_state[_EXPERT] = number
    left, right = st.columns([1, 4], vertical_alignment="bottom")
    left.selectbox("Expert shown", experts, key=_EXPERT, persist_state="session")
    right.caption(
        f"{len(spectra):,} modules: the figures show one of {len(experts)} experts of every layer and what lies outside of "
        f"the experts, {len(shown(spectra)):,} modules. Edits, predictions and exports are of all of them."
    )


def shown(spectra: Spectra) -> Spectra:
    """The modules that the figures show; the same object while neither adapter nor expert changes."""
    folded = _folded(spectra)
    if not folded.experts:
        return spectra
    number = st.session_state.get(_EXPERT)
    expert = number if number in folded.experts else folded.experts[0]
    if folded.expert != expert:
        folded.expert, folded.modules = expert, of_one_expert(spectra, expert)
    return folded.modules


def is_folded(spectra: Spectra) -> bool:
    """Whether the figures show some of these modules only."""
    return bool(_folded(spectra).experts)


@dataclass
class _Folded:
    """The experts of an adapter that has too many modules to be drawn, none for any other, and what was shown last."""

    of: Spectra
    experts: list[int]
    expert: int = -1
    modules: Spectra = field(default_factory=dict)


def _folded(spectra: Spectra) -> _Folded:
    kept: list[_Folded] = st.session_state.setdefault(_SHOWN, [])
    for each in kept:
        if each.of is spectra:
            return each
    found = _Folded(spectra, experts_of(spectra) if len(spectra) > _MOST else [])
    kept[:] = [*kept[-1:], found]  # a second adapter may be open beside the first
    return found
