"""One evaluation as a page shows it: a verdict in words, intervals, exact tests, the place among controls."""

import pandas as pd
import streamlit as st

import viz
from app.evaluation.margin import say_margins
from app.frame import plain
from surgery.evaluation import (
    ACCURACY,
    AGAIN,
    BASE,
    BASELINE,
    EXACT,
    Evaluation,
    Metric,
    comparison,
    scale_or_shape,
    summarise,
)
from surgery.experiments import EDIT

LEVEL = 0.05  # of the corrected p from which a change of answers is called one
_DRAWN = 2


def show_results(evaluation: Evaluation, title: str, key: str) -> None:
    """Charts and a table for all variants, and words for the edit where it is among them."""
    means = ", ".join(
        f"{metric.title} {_level(evaluation.mean(BASELINE, metric.name), metric)}"
        for metric in evaluation.metrics[:_DRAWN]
    )
    st.caption(
        f"{plain(title)}: {len(evaluation.samples)} held-out examples. Unedited adapter: {plain(means)}. Changes are paired by "
        "example; lines are 95 % bootstrap intervals, and grey means that the interval holds zero: within noise."
    )
    if evaluation.caution:
        st.warning(evaluation.caution, icon=":material/warning:")
    if EDIT in evaluation.scores:
        _say(evaluation)
    say_margins(evaluation)
    _show_effects(evaluation, key)
    _show_table(effects_table(evaluation), key)
    if not (tasks := tasks_table(evaluation)).empty:
        with st.expander(f"Scores by task, {plain(evaluation.metrics[0].title)}"):
            st.dataframe(tasks, hide_index=True, width="stretch", key=f"tasks-{key}")
    for note in evaluation.notes:
        st.caption(plain(note))


def _show_effects(evaluation: Evaluation, key: str) -> None:
    """The change of every variant with its interval, a chart for each of the first measures.

    The base has its own: beside it, no change of an edit could be seen.
    """
    names = [name for name in evaluation.variants if name != BASE]
    columns = st.columns(min(_DRAWN, len(evaluation.metrics)), gap="large")
    for column, metric in zip(columns, evaluation.metrics, strict=False):
        effects = [evaluation.effect(name, metric.name) for name in names]
        scale = 100 if metric.binary else 1
        column.plotly_chart(
            viz.effect_intervals(
                names,
                [scale * effect.mean for effect in effects],
                [scale * effect.low for effect in effects],
                [scale * effect.high for effect in effects],
                title=f"Change of {metric.title}",
                unit=_unit(metric),
                lower_is_better=not metric.higher_is_better,
            ),
            key=f"effect-{key}-{metric.name}",
            alt=f"Change of {metric.title} for every variant with 95 % intervals",
        )


def _show_table(table: pd.DataFrame, key: str) -> None:
    st.dataframe(
        table,
        hide_index=True,
        width="stretch",
        key=f"table-{key}",
        column_config={
            name: st.column_config.NumberColumn(
                format="%.3f",
                help="Exact, two-sided, of gained against lost"
                + (", corrected for all variants of this table." if "Holm" in name else "."),
            )
            for name in table.columns
            if name.startswith("p, ")
        },
    )
    st.download_button(
        "Download as CSV",
        table.to_csv(index=False),
        "evaluation.csv",
        "text/csv",
        on_click="ignore",
        key=f"csv-{key}",
        icon=":material/download:",
    )


def effects_table(evaluation: Evaluation) -> pd.DataFrame:
    """A row for each variant: means, paired changes, intervals, tests, verdict."""
    tests = {metric.name: evaluation.tests(metric.name) for metric in evaluation.metrics}
    adjusted = {metric.name: evaluation.adjusted(metric.name) for metric in evaluation.metrics}
    several = sum(bool(found) for found in tests.values()) > 1
    rows = []
    for name in evaluation.variants:
        row: dict[str, object] = {"variant": name}
        for metric in evaluation.metrics[:4]:
            effect = evaluation.effect(name, metric.name)
            mean = evaluation.mean(name, metric.name)
            scale, digits = (100, 1) if metric.binary else (1, 4)
            row[metric.title] = _level(mean, metric)
            row[f"Δ {metric.title}"] = (
                f"{scale * effect.mean:+.{digits}f} ± {scale * effect.standard_error:.{digits}f}"
            )
            row[f"95 % of Δ {metric.title}"] = (
                f"{scale * effect.low:+.{digits}f} … {scale * effect.high:+.{digits}f}"
            )
            if name in tests[metric.name]:
                test, tail = tests[metric.name][name], f", {metric.title}" if several else ""
                row[f"gained, lost{tail}"] = f"{test.gained}, {test.lost}"
                row[f"p, McNemar{tail}"] = test.p
                row[f"p, Holm{tail}"] = adjusted[metric.name].get(name)
        row["control of"] = ", ".join(evaluation.control_of(name))
        for metric in evaluation.metrics[:4]:
            beside = comparison(evaluation, name, metric.name)
            if beside is not None:
                row[f"non-inferiority, {metric.title}"] = beside.verdict
        row["verdict"] = verdict(evaluation, name)
        rows.append(row)
    return pd.DataFrame(rows)


def tasks_table(evaluation: Evaluation) -> pd.DataFrame:
    """A group's tasks and groups with what every variant scored on them; empty for a single task."""
    ending = f"/{evaluation.metrics[0].name}"
    totals = evaluation.aggregates.get(BASELINE, {})
    names = [key.removesuffix(ending) for key in totals if key.endswith(ending)]
    scores = {
        variant: [own[f"{name}{ending}"] for name in names] for variant, own in evaluation.aggregates.items()
    }
    return pd.DataFrame({"task": names, **scores}) if names else pd.DataFrame()


def verdict(evaluation: Evaluation, name: str) -> str:
    """What a variant does beyond noise: intervals decide for numbers, corrected exact tests for shares."""
    if name == AGAIN:
        return "the noise floor"
    if name == BASE:
        return "without the adapter"
    parts = []
    for metric in evaluation.metrics:
        change = evaluation.effect(name, metric.name)
        test = evaluation.adjusted(metric.name).get(name)
        if change.certain if test is None else test <= LEVEL:
            parts.append(_direction(metric, change.mean))
    return ", ".join(dict.fromkeys(parts)) or "within noise"


def _say(evaluation: Evaluation) -> None:
    """The finding in a sentence or two, with the rank among controls and the noise floor."""
    found = verdict(evaluation, EDIT)
    words = []
    for metric in evaluation.metrics[:_DRAWN]:
        rank = evaluation.permutation_rank(EDIT, metric.name)
        if rank is not None:
            words.append(
                f"On {metric.title} it does better than {rank.beaten} of its {rank.controls} random controls "
                f"(p = {rank.p:.2f}; with {rank.controls} no p can be below {1 / (1 + rank.controls):.2f})."
            )
        if AGAIN in evaluation.scores:
            size = abs(evaluation.effect(AGAIN, metric.name).mean)
            words.append(
                f"Unedited once more, {metric.title} moves by {100 * size:.2f} points."
                if metric.binary
                else f"Unedited once more, {metric.title} moves by {size:.1e}."
            )
    icon = ":material/horizontal_rule:" if found == "within noise" else ":material/flag:"
    text = (
        "The edit changes nothing beyond noise on this slice."
        if found == "within noise"
        else f"The edit: {found}."
    )
    st.info(f"**{text}**", icon=icon)
    for sentence in scale_or_shape(summarise(evaluation)):
        st.info(plain(sentence), icon=":material/straighten:")
    if words:
        st.caption(" ".join(words))


def _direction(metric: Metric, change: float) -> str:
    if metric.name in (EXACT.name, ACCURACY.name):
        return "more correct" if change > 0 else "fewer correct"
    if metric.name == "loss":
        return "loss lower" if change < 0 else "loss higher"
    return f"{metric.title} {'higher' if change > 0 else 'lower'}"


def _level(mean: float, metric: Metric) -> str:
    return f"{mean:.1%}" if metric.binary else f"{mean:.4f}"


def _unit(metric: Metric) -> str:
    better = "higher is better" if metric.higher_is_better else "lower is better"
    return f"{metric.unit}, {better}"
