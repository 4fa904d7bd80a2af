"""What a person chose to see on the Geometry page: kept in the session, written into the page's address."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from surgery.spectra import DEFAULT_K

SIDES = {"output": "Output, U: what is written", "input": "Input, V: what is read"}


@dataclass(frozen=True)
class Kind:
    """A view: what it is for, which controls it has, and whether it needs a second adapter."""

    title: str
    purpose: str
    uses: tuple[str, ...]
    other: bool = False


VIEWS = {
    "invariance": Kind(
        "Layer invariance", "Does one family use the same directions in every layer?", ("first", "measure")
    ),
    "synergy": Kind(
        "Module synergy", "Do two families meet inside a layer?", ("first", "second", "measure")
    ),
    "grid": Kind("Full grid", "Every module against every module of its dimension.", ("group", "measure")),
    "wall": Kind(
        "The wall", "Every family across layers, by both measures.", ()
    ),
    "adapters": Kind(
        "Two adapters", "Does another adapter of this base use the same directions?", ("first", "measure"), True
    ),
}  # fmt: skip
_GROUPS = ("family", "layer")


@dataclass(frozen=True)
class Choice:
    """One view of the page. `cell` is the selected pair: panel, row, column."""

    view: str = "invariance"
    measure: str = "overlap"
    side: str = "output"
    first: str = "o_proj"
    second: str = "down_proj"
    k: int = DEFAULT_K
    ratio: bool = False
    marks: bool = True
    group: str = "family"
    cell: tuple[int, int, int] | None = None

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"cell": list(self.cell) if self.cell else None}

    def address(self) -> dict[str, str]:
        """As query parameters, without what is as it is by default."""
        return {
            field.name: ",".join(map(str, self.cell or ()))
            if field.name == "cell"
            else str(int(value) if isinstance(value, bool) else value)
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        }


def choice_from(given: Mapping[str, Any], families: list[str], largest_k: int, *, has_other: bool) -> Choice:
    """The choice that a component or an address tells; what is not known of it is as by default."""
    default = Choice()
    view = _known(
        given.get("view"), [name for name, kind in VIEWS.items() if has_other or not kind.other], default.view
    )
    return Choice(
        view=view,
        measure=_known(given.get("measure"), ["overlap", "principal"], default.measure),
        side=_known(given.get("side"), list(SIDES), default.side),
        first=_known(given.get("first"), families, default.first if default.first in families else families[0]),
        second=_known(
            given.get("second"), families, default.second if default.second in families else families[-1]
        ),
        k=min(max(_whole(given.get("k"), default.k), 1), largest_k),
        ratio=_flag(given.get("ratio"), default.ratio),
        marks=_flag(given.get("marks"), default.marks),
        group=_known(given.get("group"), list(_GROUPS), default.group),
        cell=_cell(given.get("cell")),
    )


def _known(value: Any, options: list[str], default: str) -> str:
    return value if isinstance(value, str) and value in options else default


def _flag(value: Any, default: bool) -> bool:
    return value in (True, "1") if value in (True, False, "0", "1") else default


def _whole(value: Any, default: int) -> int:
    try:
        return int(str(value)[:9])
    except ValueError:
        return default


def _cell(value: Any) -> tuple[int, int, int] | None:
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, list) else []
    numbers = [_whole(part, -1) for part in parts]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == 3 and min(numbers) >= 0 else None
