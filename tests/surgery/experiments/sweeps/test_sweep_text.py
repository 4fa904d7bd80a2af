"""A sweep as one record and as text."""

from surgery.evaluation import BASE
from surgery.experiments.sweeps import cost, results, sweep_record, sweep_text
from surgery.runs import stored_run
from tests.surgery.experiments.sweeps.conftest import swept_from


def test_a_sweep_with_the_base_asks_it_once_and_tells_what_every_cell_forgets(place, engine_calls):
    task = {"data": place.evaluation.data, "limit": 4, "separator": True, "base_arm": True}
    swept = swept_from(place, tasks={"sums": task})
    asked = [name for call in engine_calls for name in call.variants]
    assert (asked.count(BASE), len(asked)) == (1, 6 + 2)
    assert [group.requests for group, _ in swept.runs] == [4 * (2 + 2)] * 3
    cells = results(swept)
    told = cost(swept.plan)
    assert len(cells) == len(sweep_record(swept, cells, told)["cells"]) == 8
    for cell in cells:
        scores = stored_run(cell.run).evaluation.scores
        lost = scores[BASE].exact.mean() - scores[cell.cell.variant].exact.mean()
        assert cell.ledgers["exact"].edited.value == max(0, lost)
    assert sweep_text(swept, cells, told).count("forgetting gap exact") == 8
