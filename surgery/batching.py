"""What a call of the engine still has to run, and what has come back: requests, tasks and their results by variant."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from surgery.progress import Control

Place = tuple[int, int]  # a task and a variant, by their numbers
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """Work that is the same for every variant. `wanted`: the caller's requests that it answers.

    `tokens` are read in one pass; `bytes` is what a row holds while the task runs.
    """

    wanted: tuple[int, ...]
    tokens: int
    bytes: int


class Queue:
    """Which tasks still lack which variants, the longest tasks first."""

    def __init__(self, tasks: Sequence[Task], variants: int) -> None:
        order = sorted(range(len(tasks)), key=lambda task: (-tasks[task].tokens, -tasks[task].bytes, task))
        self.missing = {task: list(range(variants)) for task in order}

    def finish(self, place: Place) -> None:
        task, variant = place
        self.missing[task].remove(variant)
        if not self.missing[task]:
            del self.missing[task]


class Tally(Generic[T]):
    """Results by request and variant as they come in; tells about each request that has all of them."""

    def __init__(
        self,
        names: Sequence[str],
        count: int,
        control: Control,
        done: Callable[[int, Mapping[str, T]], None] | None,
    ) -> None:
        self._names, self._control, self._done = names, control, done
        self._found: list[dict[int, T]] = [{} for _ in range(count)]
        self._finished, self._total = 0, count * len(names)
        self._tell()

    def put(self, request: int, variant: int, result: T) -> None:
        found = self._found[request]
        found[variant] = result
        if len(found) == len(self._names):
            if self._done is not None:
                self._done(request, {name: found[i] for i, name in enumerate(self._names)})
            self._finished += len(found)
            self._tell()

    def _tell(self) -> None:
        self._control.progress(self._finished, self._total)

    @property
    def by_variant(self) -> dict[str, list[T]]:
        return {name: [found[i] for found in self._found] for i, name in enumerate(self._names)}


def same_inputs(keys: Sequence[T]) -> tuple[list[T], list[tuple[int, ...]]]:
    """The different keys in order of their first place, and the places of each."""
    places: dict[T, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    return list(places), [tuple(each) for each in places.values()]


def opening_of(prompts: Sequence[tuple[int, ...]]) -> list[int]:
    """The tokens that all prompts begin with, but for the last one of the shortest; none for a single prompt."""
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)
    most = min(len(prompt) for prompt in prompts) - 1
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), most)
    return list(first[: min(same, most)])
