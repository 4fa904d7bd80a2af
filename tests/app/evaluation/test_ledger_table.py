"""The ledger on the Evaluate page: its table, its streams and the answers behind each."""

import numpy as np
import pytest

from app.evaluation.ledger_table import ledger_table, stream_table
from surgery.evaluation import BASE, BASELINE, OUTCOMES, Evaluation, ledgers_by_part, ledgers_of
from surgery.experiments import EDIT
from tests.app.evaluation.conftest import with_base


def test_the_table_tells_rates_with_their_examples_and_an_empty_denominator_as_such() -> None:
    found = with_base()
    table = ledger_table({name: ledgers_of(found, name)["exact"] for name in found.variants if name != BASE})
    rows = table.set_index("variant").T.to_dict()
    assert list(rows) == [BASELINE, EDIT, "random 0"]
    assert rows[EDIT]["Recovery"] == "50.0% [9.5%, 90.5%] · 1 of 2"
    assert rows[EDIT]["Retention"] == "66.7% [20.8%, 93.9%] · 2 of 3"
    assert rows[EDIT]["New damage"].endswith("1 of 16")
    assert rows[BASELINE]["Recovery"] == ""
    assert rows[BASELINE]["Δ base"].startswith("+6.2 [")
    assert rows[BASELINE]["Forgetting gap"].startswith("0.0 [0.0, ")
    nothing = with_base(right=0)
    (row,) = ledger_table({EDIT: ledgers_of(nothing, EDIT)["exact"]}, unedited=False).to_dict("records")
    assert row["Recovery"] == "NA"
    assert row["Retention"] != "NA"


def test_every_answer_stands_in_one_stream_with_what_all_three_said() -> None:
    found = with_base()
    table = stream_table(found, EDIT, "exact")
    counts = ledgers_of(found, EDIT)["exact"].counts
    assert {code: int((table["outcome"] == code).sum()) for code in OUTCOMES} == counts
    back = table[table["outcome"] == "101"]
    assert [tuple(row) for row in back[[BASE, BASELINE, EDIT]].to_numpy()] == [("base says", "b", "a")]


@pytest.mark.parametrize("several", [True, False])
def test_the_tasks_of_a_group_have_a_ledger_each(several: bool) -> None:
    whole = with_base()
    parts = np.array(["colours", "words"] * 8) if several else np.array([""] * 16)
    samples = tuple(
        type(s)(s.key, s.prompt, s.reference, str(p)) for s, p in zip(whole.samples, parts, strict=True)
    )
    found = Evaluation(whole.scores, samples, whole.metrics)
    assert list(ledgers_by_part(found, EDIT, "exact")) == (["colours", "words"] if several else [])
    assert ("task" in stream_table(found, EDIT, "exact")) == several
