"""Overlaps of all modules of an adapter, computed once in the background while a person looks at a part of them."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import streamlit as st

from app.alignment_map.reference import chance, offered_ks
from surgery.alignment import OverlapTable, overlap_table
from surgery.spectrum import Spectrum

_KEPT = 6
_FEW = 80  # modules whose table is made on the spot, while that of all is not there yet


class Tables:
    """The tables of the adapters opened last, by a key that names adapters and side."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="overlaps")
        self._found: dict[str, Future[OverlapTable]] = {}
        self._lock = threading.Lock()

    def table(
        self, key: str, side: str, everything: Sequence[Spectrum], modules: Sequence[Spectrum]
    ) -> OverlapTable:
        """The table of `modules`, which are some of `everything`, in their order."""
        whole = self.begin(key, side, everything)
        if not whole.done() and len(modules) <= _FEW < len(everything):
            return overlap_table(modules, side=side)
        place = {id(module): at for at, module in enumerate(everything)}
        return whole.result().of([place[id(module)] for module in modules])

    def begin(self, key: str, side: str, everything: Sequence[Spectrum]) -> Future[OverlapTable]:
        """The table of `everything`, on its way or there."""
        with self._lock:
            if key not in self._found:
                for old in list(self._found)[: max(0, len(self._found) - _KEPT + 1)]:
                    del self._found[old]
                self._found[key] = self._worker.submit(overlap_table, list(everything), side=side)
                self._worker.submit(_know_chances, list(everything), side)
            return self._found[key]


def _know_chances(modules: Sequence[Spectrum], side: str) -> None:
    """Draw the chance levels that views of these modules will ask for; they are remembered."""
    for d in {(module.U if side == "output" else module.V).shape[0] for module in modules}:
        for k in offered_ks(max(module.rank for module in modules)):
            chance(d, k, "overlap")


@st.cache_resource(show_spinner=False)
def tables() -> Tables:
    """The one store of this server."""
    return Tables()
