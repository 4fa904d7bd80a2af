"""Tables of a map, kept and sent once."""

from dataclasses import replace

import numpy as np

from app.geometry.choice import Choice
from app.geometry.tables import Tables, table_bytes
from surgery.spectra import overlap_table
from tests.app.geometry.conftest import RANK, SPECTRA, shown


def test_numbers_that_the_browser_holds_are_not_sent_again() -> None:
    view, data = shown(Choice())
    assert data["table"]["key"] == view.key
    assert shown(Choice(k=2, ratio=True), held=view.key)[1]["table"] is None
    assert shown(Choice(side="input"), held=view.key)[1]["table"] is not None
    assert shown(Choice(first="up_proj"), held=view.key)[1]["table"] is not None


def test_tables_are_kept_up_to_a_bound_of_bytes_those_used_last() -> None:
    few = list(SPECTRA.values())
    made = overlap_table(few)
    assert table_bytes(len(few), RANK) == made.squares.nbytes
    tables = Tables(most=5 * made.squares.nbytes)
    begun = {key: tables.begin(key, "output", few) for key in "abcde"}
    assert all(tables.begin(key, "output", few) is table for key, table in begun.items())
    tables.begin("a", "output", few)
    tables.begin("f", "output", few)
    assert tables.begin("a", "output", few) is begun["a"]
    assert tables.begin("b", "output", few) is not begun["b"]
    # one that is larger than the bound leaves what two adapters need
    large = [replace(module, name=f"{module.name}.{n}") for n in range(4) for module in few]
    kept = [tables.begin(key, "input", large) for key in "wxyz"]
    assert all(tables.begin(key, "input", large) is table for key, table in zip("wxyz", kept, strict=True))
    np.testing.assert_array_equal(kept[0].result().values(), overlap_table(large, side="input").values())
