"""Work queue and result table of one engine call."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from surgery.data import Example
from surgery.progress import Control

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Task:
    """Work that is the same for every variant.

    wanted: the caller's requests that it answers, by number.
    tokens: how many one forward pass reads.
    bytes: what one row holds while the task runs.
    lengths: of its sequences, where they are several.
    """

    wanted: tuple[int, ...]
    tokens: int
    bytes: int
    lengths: tuple[int, ...] = ()


@dataclass(frozen=True)
class Scored:
    """A continuation given its context: log likelihood in nats, and whether greedy decoding would write it."""

    log_likelihood: float
    greedy: bool


class Slot(NamedTuple):
    """One row of a batch: a task for a variant, both by number."""

    task: int
    variant: int


class Queue:
    """Tasks of an engine call with the variants that each still lacks, the longest tasks first.

    variants: their numbers, in the order in which they are asked.
    """

    def __init__(self, tasks: Sequence[Task], variants: Sequence[int]) -> None:
        order = sorted(
            range(len(tasks)),
            key=lambda task: (-tasks[task].tokens, tasks[task].lengths, -tasks[task].bytes, task),
        )
        self.tasks = tasks
        self.missing = {task: list(variants) for task in order}

    def finish(self, slot: Slot) -> None:
        """Take a slot from the queue."""
        self.missing[slot.task].remove(slot.variant)
        if not self.missing[slot.task]:
            del self.missing[slot.task]


class Tally(Generic[T]):
    """Result table of an engine call, request by variant; tells of each request once its row is full.

    costs: tokens that each request is expected to take for one variant.
    """

    def __init__(
        self,
        names: Sequence[str],
        costs: Sequence[int],
        control: Control,
        done: Callable[[int, Mapping[str, T]], None] | None,
    ) -> None:
        self._names, self._costs, self._control, self._done = names, costs, control, done
        self._results: list[dict[int, T]] = [{} for _ in costs]
        self._finished, self._total = 0, len(costs) * len(names)
        self._taken: dict[tuple[int, int], int] = {}
        self._tokens, self._all_tokens = 0, sum(costs) * len(names)
        self._control.progress(self._finished, self._total)
        self.tell()

    def reached(self, request: int, variant: int, tokens: int) -> None:
        """A request without its result yet has taken so many tokens; it cannot come to all that are expected."""
        self._take(request, variant, min(tokens, self._costs[request] - 1))

    def put(self, request: int, variant: int, result: T) -> None:
        """Enter one result."""
        results = self._results[request]
        results[variant] = result
        self._take(request, variant, self._costs[request])
        if len(results) == len(self._names):
            if self._done is not None:
                self._done(request, {name: results[i] for i, name in enumerate(self._names)})
            self._finished += len(results)
            self._control.progress(self._finished, self._total)

    def tell(self) -> None:
        """Tell of the tokens so far, which is due after every forward pass."""
        self._control.tokens(self._tokens, self._all_tokens)

    def _take(self, request: int, variant: int, tokens: int) -> None:
        """Count what is new: a batch that did not fit reads its rows again."""
        before = self._taken.get((request, variant), 0)
        if tokens > before:
            self._taken[request, variant] = tokens
            self._tokens += tokens - before

    @property
    def by_variant(self) -> dict[str, list[T]]:
        """The finished table: by variant, in the order of the requests."""
        return {name: [results[i] for results in self._results] for i, name in enumerate(self._names)}


def pair_tokens(requests: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[int]:
    """Tokens that each context with its continuation takes, and each prompt with its answer: all of them are read."""
    return [len(before) + len(after) for before, after in requests]


def answer_tokens(examples: Sequence[Example]) -> list[int]:
    """Tokens that each example is expected to take: its prompt and its answer are read, and one as long is written."""
    return [len(each.prompt_ids) + 2 * len(each.answer_ids) for each in examples]


def text_tokens(prompts: Sequence[Sequence[int]], limits: Sequence[int]) -> list[int]:
    """Tokens that each prompt may take: it is read, and as many as its limit says may be written."""
    return [len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True)]


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
