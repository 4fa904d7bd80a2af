"""The ledger of right answers: what training broke and taught, and what an edit gives back, keeps, adds and damages.

Each example is right or wrong for the base, the adapter and the edited adapter, which makes eight counts n_BLE
(follow-up, TTtianTT/peft-sft-lab). Recovery = n101/(n100 + n101) and Retention = n011/(n010 + n011) are shares of the
examples on which training changed something; without any they are no number. New success n001 and new damage n110 are
shares of all examples. The forgetting gap is max(0, base − variant); clipped, it is above zero by noise alone, so it
stands beside the plain difference.

Intervals are 95 %. A share of one task has Wilson's score interval (Wilson, 1927); a macro mean of shares combines
those of its tasks by square-and-add (Newcombe, 1998; MOVER). Differences have the paired bootstrap of all effects.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy import ndarray
from scipy.special import ndtri

from surgery.errors import DataError
from surgery.evaluation.evaluation import BASE, BASELINE, Effect, Evaluation, paired_effect

# by whether base, adapter and edited adapter are right, in the order in which a reader goes through them
OUTCOMES: Mapping[str, str] = {
    "111": "right throughout",
    "101": "broken by training, given back",
    "100": "broken by training, not given back",
    "110": "new damage by the edit",
    "011": "taught by training, kept",
    "010": "taught by training, lost again",
    "001": "new success of the edit",
    "000": "wrong throughout",
}
RATES: Mapping[str, str] = {
    "recovery": "Recovery",
    "retention": "Retention",
    "new_success": "New success",
    "new_damage": "New damage",
}
# why a rate is no number
EMPTY: Mapping[str, str] = {
    "recovery": "NA: training broke no answer that the base had right",
    "retention": "NA: training taught no answer that the base had wrong",
}
# numerator and denominator of each rate
_CELLS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "recovery": (("101",), ("100", "101")),
    "retention": (("011",), ("010", "011")),
    "new_success": (("001",), tuple(OUTCOMES)),
    "new_damage": (("110",), tuple(OUTCOMES)),
}
_LEVEL = 0.05


@dataclass(frozen=True)
class Rate:
    """A share and its 95 % interval: `count` of `of` examples, NaN where there are none.

    Of a macro mean `count` and `of` are pooled, and `value` is the mean over the tasks that have the rate.
    """

    value: float
    low: float
    high: float
    count: int
    of: int


@dataclass(frozen=True)
class Gap:
    """What a variant forgets: max(0, base − variant) with its 95 % interval, and the plain difference to the base."""

    value: float
    low: float
    high: float
    difference: Effect


@dataclass(frozen=True)
class Ledger:
    """The eight counts by outcome (base, adapter, edited: 1 is right), the rates by name, and what both forget."""

    counts: Mapping[str, int]
    rates: Mapping[str, Rate]
    unedited: Gap
    edited: Gap

    @property
    def examples(self) -> int:
        return sum(self.counts.values())


def outcomes(
    base: Float64[ndarray, " example"], adapter: Float64[ndarray, " example"], edited: Float64[ndarray, " example"]
) -> list[str]:
    """The outcome of every example, such as `101`; raises `DataError` for scores that are not 0 or 1."""
    rows = (base, adapter, edited)
    if not np.isin(rows, (0.0, 1.0)).all():
        raise DataError("a ledger needs scores that are 0 or 1", "choose a metric of right answers")
    return [f"{b:.0f}{a:.0f}{e:.0f}" for b, a, e in zip(*rows, strict=True)]


def ledger(
    base: Float64[ndarray, " example"],
    adapter: Float64[ndarray, " example"],
    edited: Float64[ndarray, " example"],
    *,
    parts: Sequence[str] | None = None,
) -> Ledger:
    """The ledger of one task from 0/1 scores of the same examples; raises `DataError` as `outcomes` does.

    With `parts`, the names of the examples' sub-benchmarks, rates and differences are the means of those of the parts;
    a part without the examples of a rate does not count for it.
    """
    found = np.array(outcomes(base, adapter, edited))
    names = np.array(parts if parts is not None else [""] * found.size, dtype=object)
    by_part = [_counts(found[names == name]) for name in dict.fromkeys(names)]
    return Ledger(
        _counts(found),
        {rate: _mean_rate([_rate(counts, rate) for counts in by_part]) for rate in RATES},
        _gap(paired_effect(base, adapter, parts=parts)),
        _gap(paired_effect(base, edited, parts=parts)),
    )


def averaged(tasks: Mapping[str, Ledger]) -> Ledger:
    """The macro mean of the ledgers of several tasks: counts are added, rates, differences and gaps averaged.

    A task without the examples of a rate does not count for it. The mean of clipped gaps is above zero by noise alone,
    the more the more tasks there are; its interval is the mean of the tasks' clipped intervals at a level that holds
    for all of them at once (Bonferroni), wide rather than wrong. Raises `DataError` without a task.
    """
    if not tasks:
        raise DataError("there is no task to average", "name one or more")
    each = list(tasks.values())
    return Ledger(
        {outcome: sum(one.counts[outcome] for one in each) for outcome in OUTCOMES},
        {rate: _mean_rate([one.rates[rate] for one in each]) for rate in RATES},
        _mean_gap([one.unedited for one in each]),
        _mean_gap([one.edited for one in each]),
    )


def ledgers_of(evaluation: Evaluation, variant: str) -> dict[str, Ledger]:
    """The ledgers of a variant by metric, of those that are 0 or 1; empty without the base, and for the base itself."""
    if BASE not in evaluation.scores or variant in (BASE, BASELINE):
        return {}
    found = {}
    for metric in evaluation.metrics:
        rows = [evaluation.numbers(name, metric.name) for name in (BASE, BASELINE, variant)]
        if metric.binary and np.isin(rows, (0.0, 1.0)).all():
            found[metric.name] = ledger(*rows, parts=_parts(evaluation))
    return found


def ledgers_by_part(evaluation: Evaluation, variant: str, metric: str) -> dict[str, Ledger]:
    """The ledger of each part of a slice, such as the tasks of a group; empty where it has one part alone."""
    names = _parts(evaluation)
    if names is None:
        return {}
    rows = [evaluation.numbers(name, metric) for name in (BASE, BASELINE, variant)]
    of = np.array(names, dtype=object)
    return {name: ledger(*(row[of == name] for row in rows)) for name in dict.fromkeys(names)}


def in_words(found: Ledger, whose: str = "the edit") -> str:
    """The ledger in sentences that need no formula; `whose` is what the variant is called there."""
    n, rates = found.counts, found.rates
    had, broken = n["111"] + n["110"] + n["101"] + n["100"], rates["recovery"].of
    said = [
        f"Of {found.examples} answers the base has {had} right.",
        f"Training broke {broken} of them, and {whose} gives {rates['recovery'].count} back."
        if broken
        else "Training broke none of them, so there is nothing to recover.",
        f"Of the rest it taught {rates['retention'].of}, and {whose} keeps {rates['retention'].count}."
        if rates["retention"].of
        else "Of the rest it taught none, so there is nothing to retain.",
        f"{n['001']} that neither had right are new, and {n['110']} that both had are lost.",
    ]
    return " ".join(said)


def _parts(evaluation: Evaluation) -> Sequence[str] | None:
    return evaluation.parts if len(set(evaluation.parts)) > 1 else None


def _counts(found: ndarray) -> dict[str, int]:
    return {outcome: int((found == outcome).sum()) for outcome in OUTCOMES}


def _rate(counts: Mapping[str, int], name: str) -> Rate:
    above, below = (sum(counts[outcome] for outcome in cells) for cells in _CELLS[name])
    if not below:
        return Rate(float("nan"), float("nan"), float("nan"), 0, 0)
    share, z = above / below, float(ndtri(1 - _LEVEL / 2))
    middle = (share + z**2 / (2 * below)) / (1 + z**2 / below)
    half = z / (1 + z**2 / below) * np.sqrt(share * (1 - share) / below + z**2 / (4 * below**2))
    # at a share of 0 or 1 the end is that share, which rounding misses
    low = 0.0 if above == 0 else float(middle - half)
    high = 1.0 if above == below else float(middle + half)
    return Rate(share, low, high, above, below)


def _mean_rate(rates: Sequence[Rate]) -> Rate:
    known = [(rate.value, rate.low, rate.high) for rate in rates if rate.of]
    value, low, high = _square_and_add(known)
    return Rate(value, low, high, sum(rate.count for rate in rates), sum(rate.of for rate in rates))


def _square_and_add(known: Sequence[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Mean and interval of the mean of independent numbers, from each with its ends; NaN of none."""
    if not known:
        return float("nan"), float("nan"), float("nan")
    values, lows, highs = np.array(known).T
    mean = float(values.mean())
    return (
        mean,
        mean - float(np.linalg.norm(values - lows)) / len(known),
        mean + float(np.linalg.norm(highs - values)) / len(known),
    )


def _gap(difference: Effect) -> Gap:
    return Gap(_clipped(-difference.mean), _clipped(-difference.high), _clipped(-difference.low), difference)


def _clipped(number: float) -> float:
    return number if np.isnan(number) else max(0.0, number)


def _mean_gap(gaps: Sequence[Gap]) -> Gap:
    if len(gaps) == 1:
        return gaps[0]
    effects = [gap.difference for gap in gaps]
    mean, low, high = _square_and_add([(each.mean, each.low, each.high) for each in effects])
    errors = np.array([each.standard_error for each in effects])
    difference = Effect(mean, float(np.linalg.norm(errors)) / len(gaps), low, high)
    losses = -np.array([each.mean for each in effects])
    reach = float(ndtri(1 - _LEVEL / (2 * len(gaps)))) * errors
    value, least, most = (float(np.maximum(ends, 0).mean()) for ends in (losses, losses - reach, losses + reach))
    return Gap(value, least, most, difference)


def ledger_record(found: Ledger) -> dict[str, Any]:
    """The ledger as one object for JSON, NaN left in it; `parse_ledger` reads it."""
    return asdict(found)


def parse_ledger(record: Mapping[str, Any]) -> Ledger:
    """The ledger of a record; raises `LookupError`, `TypeError` and so on."""
    rates = {name: Rate(**_known(record["rates"][name])) for name in RATES}
    unedited, edited = (
        Gap(**_known({**record[name], "difference": Effect(**_known(record[name]["difference"]))}))
        for name in ("unedited", "edited")
    )
    return Ledger({outcome: int(record["counts"][outcome]) for outcome in OUTCOMES}, rates, unedited, edited)


def _known(record: Mapping[str, Any]) -> dict[str, Any]:
    """JSON has null where a number is not known."""
    return {name: float("nan") if value is None else value for name, value in record.items()}
