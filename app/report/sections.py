"""The sections of a report, in the order in which it is read. A new one is a function and a line of `SECTIONS`."""

from dataclasses import replace
from html import escape

import viz
from app.evaluation.findings import about, changes, effects_table, finding, tasks_table, verdict
from app.report.answers import answers
from app.report.beside import base_part, guards_part
from app.report.edit_at_rest import edit_at_rest
from app.report.markup import Html, element, facts, join, paragraphs, table, visible
from app.report.material import Material, Part, Section
from app.report.places import figure_place
from app.report.records import digests, environment, plans, question, recipe
from surgery.evaluation import AGAIN, BASE, is_shape_control, margin_verdicts
from surgery.experiments import EDIT


def verdict_part(material: Material) -> Part:
    """What was found, in the sentences that the Evaluate page says; without an edit, of every variant in turn."""
    evaluation = material.evaluation
    caution = [element("p", evaluation.caution, class_="caution")] if evaluation.caution else []
    found = finding(evaluation, material.summary) if EDIT in evaluation.scores else None
    if found is None:
        told = {name: verdict(evaluation, name) for name in _compared(material)}
        said = facts(told) if told else paragraphs(["No edit was proven: all variants are controls."])
        return Part(join([said, *caution]))
    sure = "sure" if found.beyond_noise else "noise"
    summary = material.summary
    of_edit = replace(summary, variants={EDIT: summary.variants[EDIT]})
    return Part(
        join(
            [
                element("p", element("strong", found.sentence), class_=f"verdict {sure}"),
                paragraphs(found.explained),
                paragraphs(f"Non-inferiority, {said}" for said in margin_verdicts(of_edit)),
                *caution,
                paragraphs([" ".join(found.context)] if found.context else [], "small"),
            ]
        )
    )


def effects_part(material: Material) -> Part:
    """Every variant's verdict, means, changes, intervals and tests."""
    found = effects_table(material.evaluation)
    # the verdict first: the rest may lie beyond the edge of a narrow screen
    first = [name for name in ("variant", "verdict") if name in found]
    rows = found[[*first, *(name for name in found if name not in first)]].to_dict("records")
    return Part(join([element("p", about(material.evaluation), class_="small"), table(rows, class_="numbers")]))


def intervals_part(material: Material) -> Part:
    """The change of every variant with its interval, a figure for each of the first metrics."""
    figures = {}
    for place, change in enumerate(changes(material.evaluation)):
        drawn = viz.effect_intervals(
            [visible(name) for name in change.variants],
            change.means,
            change.lows,
            change.highs,
            title=visible(change.title),
            unit="",
            lower_is_better=not change.metric.higher_is_better,
        )
        # below the axis a narrow screen would cut it
        drawn.update_layout(
            title={"subtitle": {"text": escape(visible(change.unit), quote=False)}}, margin={"t": 72}
        )
        figures[f"change-{place}"] = drawn
    places = (figure_place(name, drawn, "Change of every variant") for name, drawn in figures.items())
    return Part(element("div", *places, class_="beside"), figures)


def tasks_part(material: Material) -> Part | None:
    """A group's tasks with what every variant scored on them."""
    rows = tasks_table(material.evaluation).to_dict("records")
    if not rows:
        return None
    headline = material.evaluation.metrics[0].title
    return Part(join([element("p", headline, class_="small"), table(rows, class_="numbers")]))


def notes_part(material: Material) -> Part | None:
    """What a reader has to know of how it was scored, and whose controls the controls are."""
    notes = material.evaluation.notes
    return Part(Html(element("ul", *(element("li", note) for note in notes)))) if notes else None


def _compared(material: Material) -> list[str]:
    """The variants that a reader asks about: no controls."""
    evaluation = material.evaluation
    return [
        name
        for name in evaluation.variants
        if name not in evaluation.controls and name not in (AGAIN, BASE) and not is_shape_control(name)
    ]


SECTIONS = (
    Section("verdict", "Verdict", verdict_part),
    Section("effects", "All variants", effects_part),
    Section("intervals", "Changes with their intervals", intervals_part),
    Section("base", "Against the base", base_part),
    Section("guards", "Own task against guards", guards_part),
    Section("tasks", "Scores by task", tasks_part),
    Section("notes", "Notes", notes_part),
    Section("edit", "The edit", edit_at_rest),
    Section("answers", "Answers", answers),
    Section("question", "What was asked", question),
    Section("plans", "How the variants were made", plans),
    Section("recipe", "Recipe", recipe),
    Section("environment", "Environment", environment),
    Section("digests", "Digests", digests),
)
