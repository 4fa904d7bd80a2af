"""Work queue and result table of one engine call."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from surgery.progress import Control

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Task:
    """Work that is the same for every variant.

    wanted: the caller's requests that it answers, by number.
    tokens: how many one forward pass reads.
    bytes: what one row holds while the task runs.
    """

    wanted: tuple[int, ...]
    tokens: int
    bytes: int


class Slot(NamedTuple):
    """One row of a batch: a task for a variant, both by number."""

    task: int
    variant: int


class Queue:
    """Tasks of an engine call with the variants that each still lacks, the longest tasks first."""

    def __init__(self, tasks: Sequence[Task], variants: int) -> None:
        order = sorted(range(len(tasks)), key=lambda task: (-tasks[task].tokens, -tasks[task].bytes, task))
        self.tasks = tasks
        self.missing = {task: list(range(variants)) for task in order}

    def finish(self, slot: Slot) -> None:
        """Take a slot from the queue."""
        self.missing[slot.task].remove(slot.variant)
        if not self.missing[slot.task]:
            del self.missing[slot.task]


class Tally(Generic[T]):
    """Result table of an engine call, request by variant; tells of each request once its row is full."""

    def __init__(
        self,
        names: Sequence[str],
        count: int,
        control: Control,
        done: Callable[[int, Mapping[str, T]], None] | None,
    ) -> None:
        self._names, self._control, self._done = names, control, done
        self._results: list[dict[int, T]] = [{} for _ in range(count)]
        self._finished, self._total = 0, count * len(names)
        self._tell()

    def put(self, request: int, variant: int, result: T) -> None:
        """Enter one result."""
        results = self._results[request]
        results[variant] = result
        if len(results) == len(self._names):
            if self._done is not None:
                self._done(request, {name: results[i] for i, name in enumerate(self._names)})
            self._finished += len(results)
            self._tell()

    def _tell(self) -> None:
        self._control.progress(self._finished, self._total)

    @property
    def by_variant(self) -> dict[str, list[T]]:
        """The finished table: by variant, in the order of the requests."""
        return {name: [results[i] for results in self._results] for i, name in enumerate(self._names)}


def same_inputs(keys: Sequence[Key]) -> tuple[list[Key], list[tuple[int, ...]]]:
    """The distinct keys in order of their first appearance, and the indices at which each appears."""
    indices: dict[Key, list[int]] = {}
    for index, key in enumerate(keys):
        indices.setdefault(key, []).append(index)
    return list(indices), [tuple(each) for each in indices.values()]


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> list[int]:
    """Longest common prefix of prompts, short of the last token of the shortest; none for a single prompt."""
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)
    most = min(len(prompt) for prompt in prompts) - 1
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), most)
    return list(first[: min(same, most)])
