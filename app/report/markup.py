"""HTML that cannot be broken out of: what is no `Html` is text, and is escaped where it enters an element."""

import math
import unicodedata
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

# of the invisible signs, those that words of many languages and emoji are written with
_JOINERS = "\u200c\u200d\u00ad"
# what a reader does not see, or what turns the text around it: C for controls, formats, surrogates and the unassigned
_HIDDEN = ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")


class Html(str):
    """Markup of our own making, in which every text is escaped."""

    __slots__ = ()


def visible(text: str) -> str:
    """Text of a file as a reader is shown it: signs that hide, or turn what stands around them, by their number."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"\\u{ord(sign):04x}" if sign not in f"\n\t{_JOINERS}" and unicodedata.category(sign) in _HIDDEN else sign
        for sign in text
    )


def element(tag: str, *children: str, **attributes: str | None) -> Html:
    """An element; children that are no `Html` are texts. Attributes of None are left out, and `class_` is `class`."""
    told = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(visible(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{told}>{join(children)}</{tag}>")


def join(children: Iterable[str]) -> Html:
    return Html(
        "".join(child if isinstance(child, Html) else escape(visible(child), quote=False) for child in children)
    )


def paragraphs(sentences: Iterable[str], class_: str | None = None) -> Html:
    return join(element("p", sentence, class_=class_) for sentence in sentences)


def table(rows: Iterable[Mapping[str, Any]], *, class_: str | None = None, id: str | None = None) -> Html:
    """A table with a head, the first column of which names the row; it scrolls sideways where it is too wide.

    rows: cells by the title of their column, alike in all rows.
    """
    rows = list(rows)
    titles = list(rows[0]) if rows else []
    head = element("tr", *(element("th", title, scope="col") for title in titles))
    body = [
        element("tr", *(_cell(row[title], first=place == 0) for place, title in enumerate(titles))) for row in rows
    ]
    whole = element("table", element("thead", head), element("tbody", *body), class_=class_, id=id)
    # a region that scrolls has to be reached by the keyboard, too
    return element("div", whole, class_="wide", tabindex="0")


def facts(pairs: Mapping[str, Any]) -> Html:
    """Names with their values, one a line."""
    return element(
        "dl",
        *(part for name, value in pairs.items() for part in (element("dt", name), element("dd", told(value)))),
    )


def told(value: Any) -> str:
    """A value as text: what is not known is a dash, a number that is no whole one has three digits."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _cell(value: Any, *, first: bool) -> Html:
    if isinstance(value, Html):
        return element("td", value)
    return element("th", told(value), scope="row") if first else element("td", told(value))
