"""Where the script of a report draws a figure, and what stands there until it does."""

import plotly.graph_objects as go

from app.report.markup import Html, element

WAITING = "This figure needs JavaScript; the numbers stand in the tables."


def figure_place(name: str, figure: go.Figure, what: str, *, wide: bool = False) -> Html:
    """The place of a figure as high as it will be, so that nothing jumps; `what` says what it shows."""
    return element(
        "div",
        element("p", WAITING, class_="small"),
        id=f"figure-{name}",
        class_="figure wide-figure" if wide else "figure",
        role="group",
        aria_label=what,
        style=f"min-height:{int(figure.layout.height)}px",
    )
