"""How rows are put before a model so that it gives each the numbers that it gives that row alone.

Padding, a cache and a shared opening save time and are no part of what is computed. Layers that measure distance by
place in the row, recurrent states and positions counted from elsewhere make them one; `probe` finds it out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from surgery.adapter import CAUSAL_LM

# how the rows of a batch stand: padded on one side, all of one length, or one row alone
Layout = Literal["left", "right", "equal", "single"]
LAYOUTS: tuple[Layout, ...] = ("left", "right", "equal", "single")


def layouts_of(task: str) -> tuple[Layout, ...]:
    """The layouts that rows of a task may have, the fastest first: padding on the left is for what is gone on with."""
    return LAYOUTS if task == CAUSAL_LM else LAYOUTS[1:]


@dataclass(frozen=True)
class Way:
    """One way to read rows and to decode answers; the default is the fastest of a causal language model.

    scoring: layout of passes over whole rows.
    decoding: layout of rows that are decoded together.
    cached: whether decoding keeps what was read; otherwise every token reads its whole row again.
    shared: whether what all prompts begin with is read once, where the cache allows it.
    follows: whether a row's own answer is scored after its prompt's cache; otherwise by a pass over the whole row.
    """

    scoring: Layout = "left"
    decoding: Layout = "left"
    cached: bool = True
    shared: bool = True
    follows: bool = True


def fastest_way(task: str, scoring: Layout) -> Way:
    """The fastest way where whole rows are scored in this layout. An encoder reads every prompt as a whole."""
    return Way(scoring) if task == CAUSAL_LM else Way(scoring, decoding=scoring, shared=False)


def decoding_ways(scoring: Layout, task: str = CAUSAL_LM) -> Iterator[Way]:
    """Every way to decode where whole rows are scored in this layout, from the fastest to the slowest."""
    if task != CAUSAL_LM:
        for layout in dict.fromkeys((scoring, *layouts_of(task))):
            cached = replace(fastest_way(task, scoring), decoding=layout)
            yield cached
            yield replace(cached, cached=False)
        return
    shared = Way(scoring)
    yield shared
    yield replace(shared, follows=False)
    layouts: tuple[Layout, ...] = ("left", "equal", "single")
    for layout in layouts:
        cached = replace(shared, decoding=layout, shared=False)
        yield cached
        yield replace(cached, follows=False)
    yield Way(scoring, decoding=scoring, cached=False, shared=False, follows=False)


_READ = {
    "left": "",
    "right": "rows are padded on the right",
    "equal": "only rows of one length are read together",
    "single": "rows are read one at a time",
}
_DECODED = {
    "left": "in padded batches",
    "right": "in batches padded on the right",
    "equal": "in batches of one length",
    "single": "one at a time",
}


def scoring_note(model: str, layout: Layout, task: str = CAUSAL_LM) -> str:
    """What a reader has to know of this layout; empty for the fastest. `model` is the name of its class."""
    fastest = layouts_of(task)[0]
    if layout == fastest:
        return ""
    return f"{model} gives rows padded on the {fastest} other numbers than each row alone: {_READ[layout]}."


def decoding_note(model: str, way: Way, task: str = CAUSAL_LM) -> str:
    """What a reader has to know of this way to decode; empty for the fastest. `model` is the name of its class."""
    fastest = fastest_way(task, way.scoring)
    if way == fastest:
        return ""
    parts = [f"answers are decoded {_DECODED[way.decoding]}"]
    if not way.cached:
        parts.append("each token of an answer reads its whole row again")
    elif fastest.shared and not way.shared:
        parts.append("what the prompts begin with is read for each of them")
    if way.cached and not way.follows:
        parts.append("losses come from a pass of their own")
    how = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"{model} does not decode in the fastest way as it does row by row: {how}."
