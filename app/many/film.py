"""The tab "Training film": how σ, principal directions and leading subspaces move over a training's checkpoints."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st

from app.components import component
from app.frame import plain
from app.many.film_files import saved_film
from app.many.film_numbers import film_data
from app.running import waits_for
from app.state import jobs
from surgery.adapter_sets import AdapterSet, Film, Member, film_file, keep_film, kept_film, training_film
from surgery.files import digest

KIND = "film"
_KEY, _MADE, _ASKED = "film", "many-film", "many-film-asked"
EXPLANATION = r"""
**What is drawn.** ΔW = U·diag(σ)·Vᵀ of every module at every checkpoint. The map has a cell for each family and layer, the
curves have each family's mean, and on the right stand the components of the module whose cell is framed.

**How to read it.** Overlap $\lVert U_{s,k}^\top U_{t,k}\rVert_F^2 / k$ of the leading k directions at step s with those at
the last step, or at the checkpoint before: 1 where they span the same subspace, about k/d where they are unrelated.
A component of step s is matched with the one of the last step for which $|u^\top u'|\cdot|v^\top v'|$ is largest, and its
angle is the one to that match. A component can turn without its subspace moving: then its σ lies near a neighbour's.

**What it does not say.** A module that has turned has not learned more than one that kept its directions. The input side
starts from what A was drawn at random as, and B from zero: an overlap on the input side can be large from the first
step without any training. Checkpoints are compared, not what lies between them: nothing is interpolated.

**In the paper.** Overlap and its random level are those of §3.2, Eq. 3.
"""

_mount = component("film", Path(__file__).parent, "film")


@dataclass(frozen=True)
class _Made:
    """A film with what it was made of, and what the component is sent of it."""

    of: str
    film: Film
    data: Mapping[str, Any]
    name: str


def film_view(adapters: AdapterSet) -> None:
    """The film of one training of the set; made in the background the first time it is looked at, then found again."""
    trainings = adapters.trainings
    if not trainings:
        st.info(
            "There is no training here: a film needs two checkpoints or more beside each other, in folders called "
            "`checkpoint-STEP` as trainers name them.",
            icon=":material/movie:",
        )
        return
    names = list(trainings)
    name = names[0]
    if len(names) > 1:
        name = st.selectbox("Training", names, key="many-training", format_func=lambda each: plain(_called(each)))
    members = trainings[name]
    of = digest([adapters.root.as_posix(), *(f"{member.step} {member.digest}" for member in members)])
    made: _Made | None = st.session_state.get(_MADE)
    if made is not None and made.of == of:
        _show(of)
        return
    if waits_for(KIND, "The checkpoints are decomposed and compared. The film appears here when that has ended."):
        return
    # unasked the first time only: who has stopped it wants it no more
    if st.session_state.get(_ASKED) != of or st.button(f"Make the film of {len(members)} checkpoints"):
        st.session_state[_ASKED] = of
        _start(adapters, members, of, name)
        st.rerun()


def _called(training: str) -> str:
    return training.replace("*", "…")


def _start(adapters: AdapterSet, members: tuple[Member, ...], of: str, name: str) -> None:
    called = "-".join(part for part in (adapters.root.name, *name.split("/")) if part not in ("", ".", "*"))

    def work(job: jobs.Job, _: jobs.Models) -> _Made:
        film = kept_film(members)
        if film is None:
            film = training_film(adapters, members, control=job.control)
            keep_film(film, film_file(members))
        return _Made(of, film, film_data(film, f"film-{called}"), f"film-{called}")

    def collect(made: _Made) -> None:
        st.session_state[_MADE] = made

    jobs.start(KIND, f"Film of {len(members)} checkpoints", work, collect, needs_model=False)


@st.fragment
def _show(of: str) -> None:
    made: _Made | None = st.session_state.get(_MADE)
    if made is None or made.of != of:
        return
    wanted = (st.session_state.get(_KEY) or {}).get("file")
    data: dict[str, Any] = {**made.data, "file": None}
    if isinstance(wanted, dict):
        file = saved_film(made.film, made.name, wanted)
        # who asks for a file of this film holds it, and is not sent it again
        held = file is not None and file["have"] == made.data["key"]
        data = {**({"key": made.data["key"]} if held else made.data), "file": file}
    _mount(key=_KEY, data=data, on_file_change=lambda: None)
    with st.expander("What this shows, how to read it, the formulas"):
        st.markdown(EXPLANATION)
