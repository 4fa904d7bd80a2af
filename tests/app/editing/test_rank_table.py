"""What a cut keeps, below the board and on the Export page: live numbers, closed it costs nothing, a click opens a cut."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.editing.rank_table import NOW, PICKERS, module_table
from app.editing.turned_cuts import TURNED
from app.state.workspace import Workspace
from surgery.adapter import open_adapter
from surgery.edits import EditPlan, kept_in_sum
from surgery.export import Smaller, edited_layout
from surgery.policies import Rank
from surgery.spectra import decompose
from tests.helpers.adalora import save_adalora
from tests.helpers.models import tiny_llama


def below_the_board() -> None:
    import streamlit as st

    from app.editing.rank_table import rank_panel

    rank_panel(st.session_state["workspace"])


def on_the_export_page() -> None:
    import streamlit as st

    from app.smaller_form import form_picker

    st.session_state["form"] = form_picker(st.session_state["workspace"])


def opened(page: Callable[[], None], workspace: Workspace, *, shown: bool = True) -> AppTest:
    test = AppTest.from_function(page, default_timeout=60)
    test.session_state["workspace"] = workspace
    test.session_state["rank-table-open"] = shown
    test.run()
    assert not test.exception
    return test


def test_the_table_says_what_every_picker_keeps_at_the_share_and_rank_chosen(cut_workspace: Workspace) -> None:
    test = opened(below_the_board, cut_workspace)
    test.slider(key="rank-share").set_value(0.8)
    test.slider(key="rank-fixed").set_value(3).run()
    table = test.dataframe[0].value.set_index("cut")
    assert list(table.index) == [NOW, *PICKERS, *TURNED]
    for name, picker in PICKERS.items():
        plan = EditPlan(replace(picker, share=0.8, keep=3), "all")
        edit = plan.apply(cut_workspace.spectra, cut_workspace.sensitivity)
        kept = kept_in_sum(edit, cut_workspace.sensitivity)
        ragged, padded = (edited_layout(cut_workspace.adapter, edit, Smaller(pad)) for pad in (None, 0))
        row = table.loc[name]
        assert row["components"] == f"{kept.kept} of {kept.rank}"
        assert row["kept of Σσ²"] == pytest.approx(kept.energy)
        assert row["of E‖ΔWx‖²"] == pytest.approx(kept.functional)
        assert (row["parameters"], row["largest rank"]) == (ragged.parameters, ragged.largest)
        assert row["MB padded"] == round(padded.bytes / 1e6, 2)


def test_module_by_module_it_follows_the_edit_on_the_board(cut_workspace: Workspace) -> None:
    cut = cut_workspace.with_edit("cut", policy=Rank(cut="para", share=0.9), energy="none")
    table = module_table(cut).set_index("module")
    for name, module in cut.edit.modules.items():
        kept = int(module.gains.sum())
        assert table.loc[name, "kept"] == kept
        assert table.loc[name, "in the file"] == (f"rank {kept}" if kept else "left out")
        share = (module.sigma_after**2).sum() / (module.sigma**2).sum()
        assert table.loc[name, "kept of Σσ²"] == pytest.approx(share)
    assert (table["kept"] == 0).any()
    assert opened(below_the_board, cut).dataframe[1].value.set_index("module").equals(table)


def test_closed_it_computes_nothing(cut_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.editing.rank_table.kept_in_sum", pytest.fail)
    assert not opened(below_the_board, cut_workspace, shown=False).dataframe


def test_what_was_not_measured_is_said_and_the_rest_is_shown(cut_workspace: Workspace) -> None:
    test = opened(below_the_board, replace(cut_workspace, sensitivity=None).with_edit("none", policy=Rank()))
    names = set(test.dataframe[0].value["cut"])
    assert names == {NOW, *(name for name, picker in PICKERS.items() if picker.by == "sigma")}
    assert sum("none were given" in caption.value for caption in test.caption) == len(PICKERS) + len(
        TURNED
    ) + 1 - len(names)


def test_a_click_opens_a_cut_on_the_board(cut_workspace: Workspace) -> None:
    test = opened(below_the_board, cut_workspace)
    test.selectbox(key="rank-chosen").set_value("σ², the share of each module")
    test.slider(key="rank-share").set_value(0.9).run()
    test.button(key="rank-open").click().run()
    assert not test.exception
    now = test.session_state["workspace"]
    assert now.plan == EditPlan(Rank(cut="energy", share=0.9, keep=2), "all")
    assert now.history.steps[now.history.at].label == "cut σ², the share of each module"


def test_the_export_page_asks_for_a_form_only_where_something_is_left_out(cut_workspace: Workspace) -> None:
    assert not opened(on_the_export_page, cut_workspace).radio
    cut = cut_workspace.with_edit("cut", policy=Rank(keep=2), energy="none")
    test = opened(on_the_export_page, cut)
    (choice,) = test.radio
    assert test.session_state["form"] is None
    forms = []
    for option in choice.options:
        choice.set_value(option).run()
        forms.append(test.session_state["form"])
    assert forms == [None, Smaller(), Smaller(0), Smaller(8)]
    assert edited_layout(cut.adapter, cut.edit, Smaller()).saved == 0.5


def test_the_export_page_offers_adalora_its_own_smaller_form(tmp_path: Path) -> None:
    adapter = open_adapter(save_adalora(tiny_llama(), tmp_path / "ada", ["q_proj"]))
    whole = Workspace(adapter, decompose(adapter)).with_edit("all", scope="all")
    test = opened(on_the_export_page, whole.with_edit("cut", policy=Rank(keep=1), energy="none"))
    (choice,) = test.radio
    assert len(choice.options) == 2
    choice.set_value(choice.options[1]).run()
    assert test.session_state["form"] == Smaller()
