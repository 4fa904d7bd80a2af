"""What the Spectra page shows: one small record that a link carries and that nobody is trusted to send."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from surgery.spectra import Spectra

VIEWS = ("all", "one", "depth", "lists", "stability")
SHOWS = ("sigma", "energy", "share", "functional", "mean", "magnitude")
MEASURES = ("effective", "stable", "k90", "nuclear", "functional", "full")
LISTS = ("harmful", "wasteful", "helpful")
COLUMNS = ("layer", "family", "component", "sigma", "share", "mean", "error", "silence")
_OPTIONS = {
    "view": VIEWS,
    "show": SHOWS,
    "scale": ("linear", "log"),
    "range": ("same", "each"),
    "measure": MEASURES,
    "list": LISTS,
    # a minus sign in front of a column: its largest first; nothing: the order of the list itself
    "sort": ("", *COLUMNS, *("-" + column for column in COLUMNS)),
}
_DIGITS = 5


@dataclass(frozen=True)
class Choice:
    """A view of the page and everything chosen in any of its views; an empty `family` means all."""

    module: str
    component: int = 0
    view: str = "all"
    show: str = "sigma"
    scale: str = "linear"
    range: str = "same"
    measure: str = "effective"
    family: str = ""
    list: str = "harmful"
    sort: str = ""


NAMES = tuple(field.name for field in fields(Choice))


def first_choice(spectra: Spectra) -> Choice:
    """All modules, with the first module that writes into the residual stream in hand."""
    names = list(spectra)
    return Choice(next((name for name in names if spectra[name].family == "o_proj"), names[0] if names else ""))


def choice_from(record: Any, spectra: Spectra) -> Choice:
    """Whatever a browser or an address says, as far as it makes sense for these modules."""
    choice = first_choice(spectra)
    if not isinstance(record, Mapping):
        return choice
    told: dict[str, Any] = {name: record.get(name) for name in _OPTIONS}
    known: dict[str, Any] = {
        name: value for name, value in told.items() if isinstance(value, str) and value in _OPTIONS[name]
    }
    choice = replace(choice, **known)
    family = record.get("family")
    if isinstance(family, str) and any(spectrum.family == family for spectrum in spectra.values()):
        choice = replace(choice, family=family)
    module = record.get("module")
    if isinstance(module, str) and module in spectra:
        choice = replace(choice, module=module)
    component = _whole(record.get("component"))
    if component is not None and choice.module in spectra and component < spectra[choice.module].rank:
        choice = replace(choice, component=component)
    return choice


def query_of(choice: Choice, spectra: Spectra) -> dict[str, str]:
    """The words of a link: what differs from the first choice."""
    usual = asdict(first_choice(spectra))
    return {name: str(value) for name, value in asdict(choice).items() if value != usual[name]}


def opened(request: Any, choice: Choice, spectra: Spectra) -> Choice:
    """The choice after another page asked to open a module, or a component (module, k) of it."""
    module, component = request if isinstance(request, tuple) and len(request) == 2 else (request, 0)
    if not isinstance(module, str) or module not in spectra:
        return choice
    return choice_from({**asdict(choice), "view": "one", "module": module, "component": component}, spectra)


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _DIGITS:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
