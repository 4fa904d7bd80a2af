"""The sections of a report on what stands beside an edit in its proof: the base model, and the guards."""

import plotly.graph_objects as go

from app.evaluation.guards_table import guards_figure, guards_table, rewards
from app.evaluation.ledger_table import flow_figure, ledger_table
from app.report.markup import Html, element, join, paragraphs, table, visible
from app.report.material import Material, Part
from app.report.places import figure_place
from surgery.evaluation import in_words
from surgery.experiments import EDIT
from surgery.runs import group_of, group_outcomes


def base_part(material: Material) -> Part | None:
    """The ledger of right answers by metric: sentences, the table, and the flow of the edit; None without the base."""
    summary = material.summary
    told: list[Html] = []
    figures: dict[str, go.Figure] = {}
    for metric in summary.metrics:
        ledgers = {
            name: each.ledgers[metric.name]
            for name, each in summary.variants.items()
            if metric.name in each.ledgers
        }
        if not ledgers:
            continue
        variant = EDIT if EDIT in ledgers else next(iter(ledgers))
        place, drawn = f"flow-{len(figures)}", flow_figure(ledgers[variant], visible(variant), metric)
        figures[place] = drawn
        told += [
            element("p", f"{metric.title}, {variant}: {in_words(ledgers[variant])}"),
            table(ledger_table(ledgers).to_dict("records"), class_="numbers"),
            figure_place(place, drawn, "Where right answers come from and go", wide=True),
        ]
    return Part(join(told), figures) if told else None


def guards_part(material: Material) -> Part | None:
    """Reward on the own task against risk on the guards that were asked with it; None without one."""
    group = group_of(material.run.plan.key)
    runs = group.runs if group is not None else ()
    if group is None or len(runs) < 2:
        return None
    found = group_outcomes(runs)
    reward, guards = rewards([each for each in found if not each.guard])[0], [each for each in found if each.guard]
    drawn = guards_figure(reward, guards)
    missing = 1 + len(group.guards) - len(runs)
    gone = [f"{missing} of {len(group.guards)} guards are gone from the history."] if missing else []
    html = join(
        [
            paragraphs(gone, "small"),
            figure_place("guards", drawn, "Gain on the own task against cost on the guards", wide=True),
            table(guards_table(found).to_dict("records"), class_="numbers"),
        ]
    )
    return Part(html, {"guards": drawn})
