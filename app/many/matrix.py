"""Member against member: the comparison as a job, and the choice of what is compared."""

from collections.abc import Sequence

import streamlit as st

from app.frame import plain
from app.many.matrix_map import matrix_map
from app.running import waits_for
from app.state import jobs
from surgery.adapter_sets import AdapterSet, Matrix, Member, compare_members, keep_matrix, kept_matrix, matrix_file

KIND = "matrix"
_MATRIX = "many-matrix"
EXPLANATION = r"""
**What is drawn.** A cell compares two adapters, module by module, and shows the mean over the modules that both have.
*Overlap* is $\lVert U_{i,k}^\top U_{j,k}\rVert_F^2 / k$, the mean squared cosine of the k principal angles between the
spaces that the k leading directions span; *leading direction* is $|u_{1i}^\top u_{1j}|$; *cosine of ΔW* is
$\langle \Delta W_i, \Delta W_j\rangle / (\lVert\Delta W_i\rVert\,\lVert\Delta W_j\rVert)$ over all modules of the scope.

**How to read it.** A faded cell lies below what one pair of random updates of these shapes in a hundred exceeds. Over many
modules that level is close to the mean of random, so a small value may be certain and still small: read *× random* and the
value, not only the colour. The tree joins adapters by 1 − value, average linkage; pairs within chance count as sharing nothing.

**What it does not say.** Adapters that were trained from the same random A read alike on the input side without having
learned the same; look at the output side and at the cosine. The same shape is not always the same base model.

**In the paper.** §3.2, Eq. 3, for modules of one adapter.
"""


def matrix_view(adapters: AdapterSet) -> None:
    """The members that are chosen against each other; compared on a button, found again when they were compared before."""
    group = _group(adapters)
    if group is None:
        return
    names = _chosen(adapters, group)
    if len(names) < 2:
        st.caption("Choose two adapters or more.")
        return
    if waits_for(KIND, "The comparison is under way. The matrix appears here when it ends."):
        return
    matrix = _found(adapters, names)
    if matrix is None:
        st.caption(
            f"{len(names)} adapters, {len(names) * (len(names) - 1) // 2} pairs, "
            f"{len(adapters.modules(names))} modules. The result is kept and found again."
        )
        if st.button(f"Compare {len(names)} adapters", type="primary"):
            _start(adapters, names)
            st.rerun()
        return
    matrix_map(adapters, matrix)
    with st.expander("What this shows, how to read it, the formulas"):
        st.markdown(EXPLANATION)


def _group(adapters: AdapterSet) -> tuple[Member, ...] | None:
    """The adapters of one base shape."""
    groups = [group for group in adapters.alike if len(group) > 1]
    if not groups:
        st.caption("No two adapters here are of the same base shape, so none can be compared.")
        return None
    at = 0
    if len(groups) > 1:
        at = st.selectbox(
            "Base shape", range(len(groups)), key="matrix-group", format_func=lambda which: _named(groups[which])
        )
    return groups[at]


def _named(group: Sequence[Member]) -> str:
    bases = sorted({member.row.base or "unnamed" for member in group})
    return f"{len(group)} adapters of {', '.join(bases[:2])}{' …' if len(bases) > 2 else ''}"


def _chosen(adapters: AdapterSet, group: Sequence[Member]) -> tuple[str, ...]:
    """Those of the group that are not left out; which members are of another one is told."""
    names = [member.name for member in group]
    words, choice = st.columns([4, 1], vertical_alignment="center")
    with choice.popover("Leave out", icon=":material/checklist:", width="stretch"):
        left_out = st.multiselect(
            "Adapters left out", names, key="matrix-left-out", help="Fewer take less memory and less time."
        )
    others = [member.name for member in adapters.members if member not in group]
    if others:
        listed = ", ".join(others[:8]) + (" …" if len(others) > 8 else "")
        words.caption(f"Of another base shape, or refused, and not compared here: {plain(listed)}.")
    return tuple(name for name in names if name not in left_out)


def _found(adapters: AdapterSet, names: tuple[str, ...]) -> Matrix | None:
    """The matrix of these members: that of this session, or one that was kept."""
    held: Matrix | None = st.session_state.get(_MATRIX)
    digests = tuple(adapters[name].digest for name in names)
    if held is None or held.members != names or held.digests != digests:
        held = kept_matrix(adapters, names)
        st.session_state[_MATRIX] = held
    return held


def _start(adapters: AdapterSet, names: tuple[str, ...]) -> None:
    def work(job: jobs.Job, _: jobs.Models) -> Matrix:
        matrix = compare_members(adapters, names, control=job.control)
        keep_matrix(matrix, matrix_file(adapters, names))
        return matrix

    def collect(matrix: Matrix) -> None:
        st.session_state[_MATRIX] = matrix

    jobs.start(KIND, f"Comparing {len(names)} adapters", work, collect, needs_model=False)
