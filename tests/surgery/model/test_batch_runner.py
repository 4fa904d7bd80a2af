"""Batches of an engine call: run until every task has every variant, and halved where one does not fit."""

from itertools import pairwise

import pytest
import torch

from surgery.errors import Cancelled, DataError
from surgery.model import batch_runner, queue, variant_rows
from surgery.progress import SILENT, Control


def run(live, llama, step, most_rows=6, control=SILENT):
    rows = variant_rows.VariantRows(live, llama.variants)
    waiting = queue.Queue([queue.Task((i,), 3, 10) for i in range(4)], range(rows.count))
    batch_runner.BatchRunner(rows, most_rows).run(waiting, step(waiting), control, "left", in_one_pass=True)
    return waiting


def test_every_task_is_run_for_every_variant_in_batches_of_the_rows_allowed(live, llama):
    seen = []

    def step(waiting):
        return lambda batch: (seen.append(batch), [waiting.finish(slot) for slot in batch])

    assert not run(live, llama, step).missing
    assert sorted(slot for batch in seen for slot in batch) == [(i, j) for i in range(4) for j in range(5)]
    assert max(map(len, seen)) <= 6


def test_what_does_not_fit_is_tried_in_halves_and_a_single_row_is_refused(live, llama):
    tried = []

    def step(waiting):
        def failing(batch):
            tried.append(len(batch))
            raise torch.OutOfMemoryError("CUDA out of memory")

        return failing

    with pytest.raises(DataError, match="one request of 3 tokens does not fit"):
        run(live, llama, step)
    assert tried[-1] == 1
    assert all(after <= before // 2 for before, after in pairwise(tried))


def test_it_stops_between_batches_when_cancelled(live, llama):
    with pytest.raises(Cancelled):
        run(live, llama, lambda _: pytest.fail, control=Control(cancelled=lambda: True))
