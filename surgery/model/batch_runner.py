"""The tasks of an engine call in batches that fit into memory, halved where one does not."""

from collections.abc import Callable, Sequence

from surgery.errors import DataError, RowsMixedError
from surgery.model.memory import is_out_of_memory, release
from surgery.model.queue import Queue, Slot, Task
from surgery.model.variant_rows import VariantRows
from surgery.model.ways import Layout
from surgery.progress import Control


class BatchRunner:
    """Runs queues of tasks for all variants, batch by batch, and remembers what did not fit.

    rows: the variants.
    most_rows: rows that a batch may have.
    """

    def __init__(self, rows: VariantRows, most_rows: int) -> None:
        self._rows, self._most_rows = rows, most_rows
        self._known_to_fit: int | None = None  # bytes, once a batch of more did not

    def run(
        self,
        queue: Queue,
        step: Callable[[Sequence[Slot]], None],
        control: Control,
        layout: Layout,
        *,
        in_one_pass: bool,
    ) -> None:
        """Run all tasks of a queue; `step` finishes slots of its batch as it goes.

        layout: how the rows of a batch stand.
        in_one_pass: whether a batch is a single forward pass, so that its tokens count too.

        The live model has the adapter's own σ after it. Raises `DataError` for a single row that does not fit.
        """
        free = self._rows.budget
        budget = free if self._known_to_fit is None else min(free, self._known_to_fit)
        try:
            while queue.missing:
                control.heed()
                batch = self._rows.packed(queue, budget, layout, self._most_rows, in_one_pass=in_one_pass)
                mixed = short = False
                try:
                    step(batch)
                except RowsMixedError:
                    if len({slot.variant for slot in batch}) == 1:
                        raise
                    mixed = True
                except (RuntimeError, MemoryError) as error:
                    if not is_out_of_memory(error):
                        raise
                    short = True
                # outside of the handlers, where nothing holds the tensors of the failed step any more
                if mixed:
                    self._rows.apart = True
                if short:
                    release()
                    budget = self._halved([queue.tasks[slot.task] for slot in batch])
        finally:
            self._rows.live.set_sigma(None)

    def _halved(self, tasks: Sequence[Task]) -> int:
        """Bytes of half a batch that did not fit, learnt for later; raises `DataError` for a single row."""
        if len(tasks) == 1:
            raise DataError(
                f"one request of {tasks[0].tokens} tokens does not fit into memory",
                "shorten it, or use a smaller dtype",
            )
        self._known_to_fit = max(task.bytes for task in tasks) * (len(tasks) // 2)
        return self._known_to_fit
