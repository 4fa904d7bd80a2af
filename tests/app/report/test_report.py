"""A run as one file: in which order it tells what, that it loads nothing, and that no text of a file becomes markup."""

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from app.evaluation.findings import about, effects_table, finding
from app.evaluation.ledger_table import ledger_table
from app.report import report_html, write_report
from app.state.workspace import Workspace
from surgery.data import Margins
from surgery.errors import DataError
from surgery.evaluation import BASE, BASELINE, Scores, in_words, ledgers_of, margin_verdicts, summarise
from surgery.experiments import EDIT
from surgery.runs import Run, RunGroup, keep_group, known_run, known_runs
from tests.app.report.conftest import Keep
from tests.app.report.reading import Read
from tests.helpers.proofs import evaluation_of, gained_or_lost, kept_proof, simple
from tests.helpers.refusals import refusal
from tests.helpers.reports import HOSTILE, hostile_run, synthetic, with_a_second_edit

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "nav", "section", "script", "noscript"),
    *("h1", "h2", "h3", "p", "strong", "ol", "ul", "li", "a", "dl", "dt", "dd", "div", "span", "pre", "code"),
    *("table", "thead", "tbody", "tr", "th", "td", "details", "summary", "label", "select", "option", "input"),
}
ATTRIBUTES = {
    *("lang", "charset", "http-equiv", "content", "name", "id", "class", "hidden", "href", "type", "style"),
    *("scope", "tabindex", "role", "aria-label", "value", "selected", "data-prefix"),
}


def unpacked(html: str, name: str) -> Any:
    (text,) = re.findall(rf'<script type="text/plain" id="data-{name}">([^<]*)</script>', html)
    return gzip.decompress(base64.b64decode(text)).decode()


@pytest.fixture
def two_edits(shipped: Run) -> Run:
    return with_a_second_edit(shipped)


@pytest.fixture
def shipped() -> Run:
    return next(run for run in known_runs() if run.plan.adapter == "demo:kinship")


@pytest.fixture
def html(shipped: Run) -> str:
    return _html(shipped.plan.key)


@cache
def _html(key: str) -> str:
    return report_html(known_run(key))


def test_a_reader_meets_the_verdict_then_the_table_then_the_rest(html: str, shipped: Run) -> None:
    read = Read(html)
    anchors = [attrs["id"] for tag, attrs in read.tags if tag == "section"]
    assert anchors[:3] == ["verdict", "effects", "intervals"]
    links = [attrs["href"] for tag, attrs in read.tags if tag == "a"]
    assert links == [f"#{name}" for name in anchors]
    found = finding(shipped.evaluation)
    places = [read.text.index(text) for text in (found.sentence, *found.context, about(shipped.evaluation))]
    assert places == sorted(places)


def test_the_table_is_the_pages_own_and_readable_without_a_script(html: str, shipped: Run) -> None:
    expected = effects_table(shipped.evaluation)
    (found,) = [table for table in read_tables(html) if "verdict" in table]
    assert set(found.columns) == set(expected.columns)
    for name in ("variant", "verdict", "Δ answer loss", "95 % of Δ exact match", "gained, lost"):
        assert list(found[name]) == list(expected[name]), name
    assert list(found["p, McNemar"]) == [f"{p:.3f}" for p in expected["p, McNemar"]]


def test_the_edit_the_recipe_the_environment_and_the_digests_are_told(html: str, shipped: Run) -> None:
    text = Read(html).text
    assert "its σ′ is bit for bit the one that was proven" in text
    assert shipped.recipe in text
    plan = shipped.plan
    for digest in (plan.key, plan.adapter_digest, plan.fingerprint, plan.asked, plan.variants[EDIT]):
        assert digest in text
    assert shipped.environment["packages"]["torch"] in text
    assert [note in text for note in shipped.evaluation.notes] == [True]


def test_the_figures_have_the_numbers_of_the_run(html: str, shipped: Run) -> None:
    figures = json.loads(unpacked(html, "figures"))
    own = ["gains-0", "gains-1", "spectrum"]
    # an edit whose σ′ this machine does not give to the bit has no figures
    made = [place for place in range(1, len(shipped.plan.edits)) if f'id="data-edit{place}-modules"' in html]
    assert len(made) >= len(shipped.plan.edits) - 2
    others = [f"edit{place}-{name}" for place in made for name in own]
    assert list(figures) == ["change-0", "change-1", *own, *others]
    effect = shipped.evaluation.effect(EDIT, "loss")
    assert figures["change-0"]["data"][0]["x"] == [pytest.approx(effect.mean)]
    assert all("template" not in figure["layout"] for figure in figures.values())
    places = [attrs["id"] for _, attrs in Read(html).tags if str(attrs.get("id")).startswith("figure-")]
    assert set(places) == {f"figure-{name}" for name in figures}
    assert len(json.loads(unpacked(html, "modules"))) == 60


def test_nothing_is_loaded_and_only_its_own_scripts_may_run(html: str) -> None:
    read = Read(html)
    (policy,) = [attrs["content"] for tag, attrs in read.tags if attrs.get("http-equiv")]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    (script,) = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    for source in (script, unpacked(html, "plotly")):
        assert f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'" in policy
    assert not [attrs for _, attrs in read.tags if {"src", "srcset", "action"} & set(attrs)]
    assert all(attrs["href"].startswith("#") for _, attrs in read.tags if "href" in attrs)


def test_the_same_run_gives_the_same_file(html: str, shipped: Run, tmp_path: Any) -> None:
    size = write_report(shipped, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == html
    assert size == len(html.encode()) < 3_000_000


def test_no_text_of_a_file_becomes_markup(kinship: Workspace) -> None:
    html = report_html(hostile_run(kinship))
    read = Read(html)
    assert {tag for tag, _ in read.tags} <= TAGS
    assert {name for _, attrs in read.tags for name in attrs} <= ATTRIBUTES
    assert [attrs.get("type") for tag, attrs in read.tags if tag == "script"] == ["text/plain"] * 4 + ["module"]
    assert not {"\u2028", "\u2029", "\u202e", "\x00", "\x1b"} & set(html)
    assert read.text.count(HOSTILE[0]) > 4, "it is told as it is"
    assert "\\u202e" in read.text


def test_an_edit_that_cannot_be_made_again_says_why(kept: Keep, kinship: Workspace) -> None:
    run = kept(synthetic(12, 5, 4))
    assert "its σ′ may differ from the proven one in its last digits" in Read(report_html(run)).text
    plan = replace(run.plan, adapter="nowhere")
    text = Read(report_html(replace(run, plan=plan), run.evaluation)).text
    assert re.search(r"The edit cannot be drawn: .*nowhere.* → ", text)
    assert "gains-0" not in json.loads(unpacked(report_html(replace(run, plan=plan)), "figures"))


def test_each_edit_of_a_run_is_drawn_and_chosen(two_edits: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    html = report_html(two_edits)
    read = Read(html)
    figures = json.loads(unpacked(html, "figures"))
    assert [name for name in figures if "gains" in name or "spectrum" in name] == [
        *("gains-0", "gains-1", "spectrum"),
        *("edit1-gains-0", "edit1-gains-1", "edit1-spectrum"),
    ]
    blocks = [attrs["data-prefix"] for _, attrs in read.tags if "data-prefix" in attrs]
    assert blocks == ["", "edit1-"]
    halved = json.loads(unpacked(html, "edit1-modules"))
    for module in halved:
        np.testing.assert_allclose(module["after"], 0.5 * np.array(module["sigma"]), rtol=1e-5)
    assert "Variant 'halved', made again for this report" in read.text
    assert any(attrs.get("id") == "which-edit" for tag, attrs in read.tags if tag == "select")
    # without room its numbers stand in the tables alone
    monkeypatch.setattr("app.report.edit_at_rest._ROOM", 1000)
    less = report_html(two_edits)
    assert "No room is left in this file for the figures of 'halved'" in Read(less).text
    assert "edit1-spectrum" not in json.loads(unpacked(less, "figures"))
    assert not any(attrs.get("id") == "which-edit" for tag, attrs in Read(less).tags if tag == "select")


def test_an_edit_that_cannot_be_made_again_leaves_the_others(two_edits: Run) -> None:
    lost = {**two_edits.plan.edits["halved"], "policy": "grad_direction", "knobs": {"eta_suppress": 0.3}}
    plan = replace(two_edits.plan, edits={**two_edits.plan.edits, "lost": lost})
    read = Read(report_html(replace(two_edits, plan=plan)))
    assert "The edit cannot be drawn: 'lost', what 'lost' was made from is not kept" in read.text
    assert [attrs["data-prefix"] for _, attrs in read.tags if "data-prefix" in attrs] == ["", "edit1-", "edit2-"]


def test_variants_that_are_no_edit_of_a_proof_are_told_one_by_one(kept: Keep) -> None:
    found = synthetic(30, 5, 4)
    lower = Scores(
        {**found.scores[EDIT].values, "loss": found.scores[BASELINE].loss - 0.1}, found.scores[EDIT].answers
    )
    run = kept(
        replace(
            found,
            scores={"mine.yaml" if n == EDIT else n: lower if n == EDIT else s for n, s in found.scores.items()},
        )
    )
    text = Read(report_html(run)).text
    verdicts = text[text.index("Verdict") : text.index("All variants")]
    assert re.search(r"mine\.yaml.*loss lower", verdicts)
    assert "random 0" not in verdicts
    assert "the run does not say how its variants were made" in text


def test_controls_alone_prove_no_edit(kept: Keep) -> None:
    found = synthetic(30, 5, 4)
    run = kept(replace(found, scores={name: each for name, each in found.scores.items() if name != EDIT}))
    assert "No edit was proven: all variants are controls." in Read(report_html(run)).text


def test_a_run_that_has_not_ended_has_no_report(kinship: Workspace) -> None:
    run = kept_proof(kinship, "rows.jsonl", synthetic(8, 4, 3), done=False)
    assert "has not ended" in refusal(DataError, report_html, run)


def test_a_proof_with_the_base_tells_its_ledger_in_the_pages_words_and_draws_the_flow(kept: Keep) -> None:
    right, broken = np.repeat([1.0, 0.0], 8), np.tile([1.0, 0.0], 8)
    scores = {BASELINE: broken, EDIT: right, BASE: right}
    evaluation = evaluation_of({name: simple(np.ones(16), exact) for name, exact in scores.items()})
    html = report_html(kept(evaluation))
    (drawn,) = (attrs for _, attrs in Read(html).tags if (attrs.get("id") or "").startswith("figure-flow"))
    assert drawn["aria-label"] == "Where right answers come from and go"
    found = ledgers_of(evaluation, EDIT)["exact"]
    assert in_words(found) in Read(html).text
    (table,) = [table for table in read_tables(html) if "Forgetting gap" in table]
    assert table.to_dict("records") == ledger_table({EDIT: found}).to_dict("records")


def test_a_proof_with_guards_sets_its_own_task_against_them(kinship: Workspace) -> None:
    runs = []
    for rows, gained in (("own.jsonl", 8), ("guard.jsonl", -8)):
        before = np.tile([0.0, 1.0], 16)
        scores = {BASELINE: simple(np.ones(32), before), EDIT: simple(np.ones(32), gained_or_lost(before, gained))}
        runs.append(kept_proof(kinship, rows, evaluation_of(scores)))
    keep_group(RunGroup(runs[0].plan.key, (runs[1].plan.key,)))
    html = report_html(runs[0])
    assert "figure-guards" in [attrs.get("id") for _, attrs in Read(html).tags]
    (table,) = [table for table in read_tables(html) if "asked as" in table]
    right = table[table["metric"] == "exact match"]
    assert dict(zip(right["asked as"], right["verdict"], strict=True)) == {"own task": "better", "guard": "worse"}
    assert "figure-guards" not in report_html(runs[1])


def test_a_margin_that_was_named_is_judged_beside_the_verdict(kept: Keep) -> None:
    evaluation = evaluation_of({name: simple(np.ones(40), np.ones(40)) for name in (BASELINE, BASE, EDIT)})
    run = kept(replace(evaluation, margins=Margins(None, 0.005)))
    (said,) = (each for each in margin_verdicts(summarise(run.evaluation)) if each.startswith(EDIT))
    text = Read(report_html(run)).text
    assert f"Non-inferiority, {said}" in text
    assert "Non-inferiority, base" not in text, "the verdict is on the edit"


def read_tables(html: str) -> list[pd.DataFrame]:
    """Every table of a page, cells as their texts."""
    return [pd.DataFrame(rows[1:], columns=rows[0]) for rows in Read(html).tables if rows]
