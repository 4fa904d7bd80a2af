"""The page around the sections: one document that loads nothing, and whose policy lets it load nothing."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from app.report.markup import Html, element, facts, join
from app.report.material import Material, Part, Section
from app.report.payload import packed, plotly_script
from surgery.experiments import EDIT

_HERE = Path(__file__).parent
_NOTICE = "Without JavaScript this page has no figures; its tables are whole."


def page(material: Material, sections: Sequence[Section]) -> str:
    """The whole document of a run, the sections that have something to say in their order."""
    parts = {section: part for section in sections if (part := section.part(material)) is not None}
    figures = {name: _record(drawn) for part in parts.values() for name, drawn in part.figures.items()}
    data = {name: text for part in parts.values() for name, text in part.data.items()}
    library, small = plotly_script()
    script = _script()
    head = join(
        [
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{_policy([script, library])}">'),
            Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            Html('<meta name="referrer" content="no-referrer">'),
            element("title", _title(material)),
            Html(f"<style>{(_HERE / 'report.css').read_text(encoding='utf-8')}</style>"),
        ]
    )
    body = join(
        [
            _header(material),
            element("main", *_contents(parts)),
            *(_block(name, text) for name, text in {"figures": packed(figures), **data}.items()),
            _block("plotly", small),
            Html(f'<script type="module">{script}</script>'),
        ]
    )
    return f'<!doctype html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _contents(parts: Mapping[Section, Part]) -> list[Html]:
    """The first section, the table of contents, and the others."""
    links = (element("li", element("a", section.title, href=f"#{section.name}")) for section in parts)
    contents = element("nav", element("ol", *links), aria_label="Contents")
    drawn = [
        element("section", element("h2", section.title), part.html, id=section.name)
        for section, part in parts.items()
    ]
    return [*drawn[:1], contents, *drawn[1:]]


def _header(material: Material) -> Html:
    run = material.run
    plan = run.plan
    whose = f"{run.started:%Y-%m-%d %H:%M} UTC" + (
        ", ran elsewhere and ships with the demo" if run.shipped else ""
    )
    policy = plan.edits.get(material.subject or EDIT, {}).get("policy")
    named = {
        "adapter": plan.adapter,
        "base": plan.base.get("location"),
        "policy": policy,
        "run": plan.key,
        "started": whose,
    }
    return element(
        "header",
        element("h1", _title(material)),
        facts({name: value for name, value in named.items() if value}),
        element("noscript", element("p", _NOTICE, class_="caution")),
        element("p", class_="caution", id="trouble", hidden=""),
    )


def _title(material: Material) -> str:
    plan = material.run.plan
    return f"{plan.purpose[:1].upper()}{plan.purpose[1:]} of {plan.adapter} on {plan.slice_name}"


def _record(drawn: go.Figure) -> dict[str, Any]:
    """A figure as plotly.js takes it; its colours of text and lines are the page's, by its style sheet."""
    record: dict[str, Any] = json.loads(drawn.to_json())
    record["layout"].pop("template", None)  # Streamlit makes one with placeholder colours plotly's default
    record["layout"] |= {"paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)"}
    return record


def _block(name: str, text: str) -> Html:
    """Packed data; base64 has no sign that could end the block."""
    return Html(f'<script type="text/plain" id="data-{name}">{text}</script>')


def _script() -> str:
    return (_HERE / "report.mjs").read_text(encoding="utf-8") + "\nstart(document)\n"


def _policy(scripts: Sequence[str]) -> str:
    """No network, and no script but these; plotly.js writes its own rules of style, and its pictures are data."""
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts
    )
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
