"""Which modules stand against which in each view of the Geometry page."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.geometry.choice import Choice
from surgery.errors import PolicyError
from surgery.spectra import Spectra, Spectrum, depth, family_members, family_of_both, paired_families


@dataclass(frozen=True)
class Panel:
    """One map: indices of its rows and columns among the modules of the view.

    `same`: rows are columns, so that the diagonal compares modules with themselves. `inside`: the
    diagonal is the pair of a layer. `measure` is set where a panel has its own. `curve` is the title
    of the curve over depth, `groups` are runs of rows with a label, `foreign`: columns of another adapter.
    """

    title: str
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    x: str = "layer"
    y: str = "layer"
    same: bool = False
    inside: bool = False
    measure: str = ""
    curve: str = ""
    groups: tuple[tuple[int, int, str], ...] = ()
    foreign: bool = False


def panels_of(
    choice: Choice, mine: Spectra, other: Spectra | None
) -> tuple[tuple[Spectrum, ...], tuple[Panel, ...]]:
    """The modules of a view and its panels; raises `PolicyError` where it cannot be drawn."""
    match choice.view:
        case "synergy":
            return _synergy(choice, mine)
        case "grid":
            return _grid(choice, mine)
        case "wall":
            return _wall(mine)
        case "adapters":
            return _adapters(choice, mine, other)
    members = tuple(family_members(mine, choice.first))
    at, labels = tuple(range(len(members))), _labels(members)
    title = f"{choice.first} across layers, {choice.side} space"
    panel = Panel(title, at, at, labels, labels, same=True, curve=f"{choice.first}: mean with all other layers")
    return members, (panel,)


def _synergy(choice: Choice, mine: Spectra) -> tuple[tuple[Spectrum, ...], tuple[Panel, ...]]:
    rows, columns = paired_families(mine, choice.first, choice.second, side=choice.side)
    n = len(rows)
    panel = Panel(
        f"{choice.first} against {choice.second}, {choice.side} space",
        tuple(range(n)),
        tuple(range(n, 2 * n)),
        _labels(rows),
        _labels(columns),
        x=f"{choice.second}, layer",
        y=f"{choice.first}, layer",
        same=choice.first == choice.second,
        inside=choice.first != choice.second,
        curve="Inside each layer" if choice.first != choice.second else "Mean with all other layers",
    )
    return (*rows, *columns), (panel,)


def _grid(choice: Choice, mine: Spectra) -> tuple[tuple[Spectrum, ...], tuple[Panel, ...]]:
    order = list(dict.fromkeys(module.family for module in mine.values()))
    by_family = choice.group == "family"
    modules = sorted(
        mine.values(),
        key=lambda m: (order.index(m.family), depth(m)) if by_family else (depth(m), order.index(m.family)),
    )
    groups: list[tuple[int, int, str]] = []
    for at, module in enumerate(modules):
        label = module.family if by_family else "–" if module.layer is None else str(module.layer)
        if groups and groups[-1][2] == label:
            groups[-1] = (groups[-1][0], at + 1, label)
        else:
            groups.append((at, at + 1, label))
    index, labels = tuple(range(len(modules))), _labels(modules)
    axis = "family, by layer" if by_family else "layer, by family"
    title = f"{len(modules)} modules against each other, {choice.side} space"
    return tuple(modules), (
        Panel(title, index, index, labels, labels, x=axis, y=axis, same=True, groups=tuple(groups)),
    )


def _wall(mine: Spectra) -> tuple[tuple[Spectrum, ...], tuple[Panel, ...]]:
    modules: list[Spectrum] = []
    panels: list[Panel] = []
    for family in dict.fromkeys(module.family for module in mine.values()):
        members = family_members(mine, family)
        at, labels = tuple(range(len(modules), len(modules) + len(members))), _labels(members)
        modules += members
        for measure, title in (("principal", f"{family}, |cosine|"), ("overlap", f"{family}, overlap")):
            panels.append(Panel(title, at, at, labels, labels, same=True, measure=measure))
    return tuple(modules), tuple(panels)


def _adapters(
    choice: Choice, mine: Spectra, other: Spectra | None
) -> tuple[tuple[Spectrum, ...], tuple[Panel, ...]]:
    if other is None:
        raise PolicyError("no second adapter is open", "choose one above the map")
    rows, columns = family_of_both(mine, other, choice.first, side=choice.side)
    paired = [m.layer for m in rows] == [m.layer for m in columns]
    panel = Panel(
        f"{choice.first} of both adapters, {choice.side} space",
        tuple(range(len(rows))),
        tuple(range(len(rows), len(rows) + len(columns))),
        _labels(rows),
        tuple(f"other, {label}" for label in _labels(columns)),
        x="layer of the other adapter",
        y="layer of this adapter",
        inside=paired,
        curve="The same layer in both" if paired else "",
        foreign=True,
    )
    return (*rows, *columns), (panel,)


def _labels(modules: Sequence[Spectrum]) -> tuple[str, ...]:
    return tuple(m.name if m.layer is None else f"layer {m.layer} {m.family}" for m in modules)
