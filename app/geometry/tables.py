"""Overlaps of all modules of an adapter, computed once in the background while a person looks at a part of them.

A table grows with the rank and with the square of the modules, so what is kept is bounded by its bytes.
"""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import streamlit as st

from app.geometry.reference import chance, offered_ks
from surgery.spectra import OverlapTable, Spectrum, overlap_table

_LEAST = 4  # tables that are kept whatever they take: both sides of two adapters
_MOST = 16 << 20  # bytes beyond which no further table is kept
_FEW = 80  # modules whose table is made on the spot, while what is under way in the background is not there yet


class Tables:
    """The tables that were looked at last, by a key that names adapters, side and modules."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="overlaps")
        self._found: dict[str, tuple[int, Future[OverlapTable]]] = {}  # with its bytes; used last, stands last
        self._lock = threading.Lock()

    def table(
        self, key: str, side: str, everything: Sequence[Spectrum], modules: Sequence[Spectrum]
    ) -> OverlapTable:
        """The table of `modules`, which are some of `everything`, in their order."""
        whole = self.begin(key, side, everything)
        if not whole.done() and len(modules) <= _FEW:
            return overlap_table(modules, side=side)
        place = {id(module): at for at, module in enumerate(everything)}
        return whole.result().of([place[id(module)] for module in modules])

    def begin(self, key: str, side: str, everything: Sequence[Spectrum]) -> Future[OverlapTable]:
        """The table of `everything`, on its way or there."""
        with self._lock:
            kept = self._found.pop(key, None)
            if kept is None:
                modules = list(everything)
                size = table_bytes(len(modules), max((module.rank for module in modules), default=0))
                kept = size, self._worker.submit(overlap_table, modules, side=side)
                self._worker.submit(_know_chances, modules, side)
            self._found[key] = kept
            while len(self._found) > _LEAST and sum(size for size, _ in self._found.values()) > self._most:
                del self._found[next(iter(self._found))]
            return kept[1]


def table_bytes(modules: int, rank: int) -> int:
    """What an `OverlapTable` of so many modules takes."""
    return 4 * rank * modules**2


def _know_chances(modules: Sequence[Spectrum], side: str) -> None:
    """Draw the chance levels that views of these modules will ask for; they are remembered."""
    for d in {module.directions(side).shape[0] for module in modules}:
        for k in offered_ks(max(module.rank for module in modules)):
            chance(d, k, "overlap")


@st.cache_resource(show_spinner=False)
def tables() -> Tables:
    """The one store of this server."""
    return Tables()
