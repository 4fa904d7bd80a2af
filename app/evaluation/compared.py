"""Answers of the unedited adapter beside those of a variant, as a table that pages and reports show."""

import pandas as pd

from surgery.evaluation import BASELINE, Evaluation

FILTERS = {"changed": "Changed", "gained": "Gained", "lost": "Lost", "all": "All"}


def compared(evaluation: Evaluation, variant: str) -> pd.DataFrame:
    """A row for each example, with a column of truth for each filter."""
    before, after = evaluation.scores[BASELINE], evaluation.scores[variant]
    table = pd.DataFrame(
        {
            "question": [sample.prompt for sample in evaluation.samples],
            "reference": [sample.reference for sample in evaluation.samples],
            BASELINE: before.answers,
            variant: after.answers,
        }
    )
    if any(evaluation.parts):
        table.insert(0, "task", evaluation.parts)
    if any(sample.lost for sample in evaluation.samples):
        table.insert(table.columns.get_loc("reference"), "tokens cut", [s.lost for s in evaluation.samples])
    gained = lost = pd.Series(False, index=table.index)
    for metric in evaluation.metrics:
        old, new = before.values[metric.name], after.values[metric.name]
        if metric.binary:
            table[f"{metric.title}, unedited"], table[f"{metric.title}, {variant}"] = old == 1, new == 1
            if not gained.any() and not lost.any():
                gained, lost = pd.Series(new > old), pd.Series(new < old)
        else:
            table[f"Δ {metric.title}"] = new - old
    table["changed"] = table[BASELINE] != table[variant]
    table["gained"], table["lost"], table["all"] = gained, lost, True
    return table


def searched(table: pd.DataFrame, words: str) -> pd.DataFrame:
    """The rows in which every word stands, in any of the texts, whatever its case."""
    if table.empty:
        return table
    texts = table.select_dtypes(include=["object", "string"]).astype(str).agg(" ".join, axis=1).str.lower()
    for word in words.lower().split():
        table, texts = table[texts.str.contains(word, regex=False)], texts[texts.str.contains(word, regex=False)]
    return table
