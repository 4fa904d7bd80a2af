"""The first rows as tokens on the page: shown when asked for, told what is odd, and never as HTML."""

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.state.workspace import Workspace
from surgery import decompose, open_adapter
from surgery.data import CalibrationPlan, Encoding, planned_rows
from surgery.model import BaseChoice, preview_tokens
from tests.helpers.models import save_adapter, save_model, tiny_llama, tiny_tokenizer

LABEL = "Show the first rows as tokens"


def page() -> None:
    """The panel alone, which notes what the component is given."""
    import streamlit as st

    from app.spectra import token_rows
    from app.spectra.calibration import plan_controls

    def noted(*, key: str, data: object) -> None:
        st.session_state["shown"] = data

    token_rows._mount = noted
    plan_controls()


@pytest.fixture
def workspace(tmp_path: Path, own_home: Path) -> Workspace:
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    own = tiny_tokenizer()
    own.chat_template = "{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}"
    own.save_pretrained(tmp_path / "adapter")
    rows = [
        {"prompt": "<u>a", "answer": "<b>1"},
        *({"prompt": f"{i}+{i}=", "answer": str(2 * i)} for i in range(6)),
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    adapter = open_adapter(str(tmp_path / "adapter"))
    plan = CalibrationPlan(str(tmp_path / "rows.jsonl"), 7)
    return Workspace(adapter, decompose(adapter), BaseChoice(str(tmp_path / "base")), plan)


def opened(workspace: Workspace) -> AppTest:
    test = AppTest.from_function(page, default_timeout=120)
    test.session_state["workspace"] = workspace
    return clean(test.run())


def clean(test: AppTest) -> AppTest:
    assert not test.exception, test.exception
    return test


def by_label(elements: object, label: str) -> object:
    return next(each for each in elements if each.label == label)  # type: ignore[attr-defined]


def warned(test: AppTest) -> str:
    return "\n".join(str(each.value) for each in test.warning).replace("\\", "")


def test_the_page_shows_the_tokens_of_the_library_and_says_what_is_odd(workspace: Workspace) -> None:
    test = opened(workspace)
    assert "shown" not in test.session_state
    clean(by_label(test.toggle, LABEL).set_value(True).run())  # type: ignore[attr-defined]
    plan = workspace.calibration
    assert plan is not None
    assert workspace.base is not None
    expected = preview_tokens(workspace.adapter, workspace.base, plan, planned_rows(plan))
    shown = test.session_state["shown"]
    assert [[t["id"] for t in row] for row in shown["rows"]] == [[t.id for t in row] for row in expected.rows]
    assert [[t["scored"] for t in row] for row in shown["rows"]] == [
        [t.scored for t in row] for row in expected.rows
    ]
    assert shown["total"] == "7"
    assert "has another chat template than the base" in warned(test)
    assert "1 of 7 rows has the template's own '<u>'" in warned(test)


def test_the_settings_of_the_form_reach_the_tokens(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "own.jinja").write_text(
        "{{ strftime_now('%Y') }}{% if loud %}+{% endif %}{% for m in messages %}<u>{{ m['content'] }}</s>{% endfor %}"
    )
    test = opened(workspace)
    by_label(test.toggle, LABEL).set_value(True)  # type: ignore[attr-defined]
    by_label(test.selectbox, "Template").set_value("file")  # type: ignore[attr-defined]
    clean(test.run())
    for label, text in (
        ("Template file", str(tmp_path / "own.jinja")),
        ("Template arguments", '{"loud": true}'),
        ("System prompt", "abc"),
        ("Day", "2031-05-06"),
    ):
        by_label(test.text_input, label).set_value(text)  # type: ignore[attr-defined]
    clean(test.run())
    text = "".join(token["text"] for token in test.session_state["shown"]["rows"][0])
    assert text.startswith("2031+<u>abc</s><u>")
    assert "2031-05-06 is used" in warned(test)
    clean(by_label(test.selectbox, "Tokenizer").set_value("base").run())  # type: ignore[attr-defined]
    assert "the adapter's folder" not in warned(test)


@pytest.mark.parametrize(
    ("label", "text", "said"),
    [
        ("Template arguments", "[1]", "no template arguments"),
        ("Day", "tomorrow", "is no date"),
    ],
)
def test_a_setting_that_cannot_be_read_is_a_message(
    workspace: Workspace, label: str, text: str, said: str
) -> None:
    test = opened(workspace)
    clean(by_label(test.text_input, label).set_value(text).run())  # type: ignore[attr-defined]
    assert said in "\n".join(str(each.value) for each in test.error).replace("\\", "")


def test_a_tokenizer_that_cannot_be_loaded_is_a_message(workspace: Workspace) -> None:
    folder = Path(workspace.adapter.source)
    (folder / "tokenizer.json").write_text("{")
    adapter = open_adapter(str(folder))
    test = opened(Workspace(adapter, workspace.spectra, workspace.base, workspace.calibration))
    clean(by_label(test.toggle, LABEL).set_value(True).run())  # type: ignore[attr-defined]
    assert "cannot be loaded" in "\n".join(str(each.value) for each in test.error)


def test_an_earlier_recipes_rule_of_tokens_is_kept_by_the_form(workspace: Workspace) -> None:
    from dataclasses import replace

    encoding = Encoding(separator=True, tokenised="apart", tokenizer="base")
    plan = replace(workspace.calibration, encoding=encoding)
    test = opened(Workspace(workspace.adapter, workspace.spectra, workspace.base, plan))
    clean(by_label(test.toggle, LABEL).set_value(True).run())  # type: ignore[attr-defined]
    expected = preview_tokens(workspace.adapter, workspace.base, plan, planned_rows(plan))
    assert [t["id"] for t in test.session_state["shown"]["rows"][0]] == [t.id for t in expected.rows[0]]
