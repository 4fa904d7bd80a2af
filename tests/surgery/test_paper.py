"""The paper's numbers as typed, what follows from them, and every number that our notes state."""

import csv
import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest

from surgery import paper
from surgery.data import CalibrationPlan, Encoding, EvaluationPlan
from surgery.edits import EditPlan
from surgery.errors import DataError
from surgery.policies import POLICIES

LLAMA, QWEN = "Llama-3.1-8B", "Qwen3-8B"
TASKS = ("GSM8K", "HumanEval", "IFEval", "CSQA")
SIGNAL = ("smooth_abs", "abs_select", "grad_direction")


def typed(number: int) -> list[dict[str, str]]:
    """A table's file, read without the reader under test."""
    with (paper.PAPER_FOLDER / f"table{number}.csv").open(encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def milli(number: int, **place: str) -> dict[str, int]:
    """One row's numbers in thousandths, so that differences are exact."""
    (row,) = (row for row in typed(number) if all(row[key] == value for key, value in place.items()))
    return {name: round(1000 * float(text)) for name, text in row.items() if text.replace(".", "").isdigit()}


def ifeval_values() -> set[int]:
    found = set()
    for number in (2, 3, 4, 5):
        for row in typed(number):
            if row["task"] == "IFEval":
                found |= {round(1000 * float(text)) for text in row.values() if text.startswith("0.")}
    return found


def gain(model: str, task: str, policy: str) -> int:
    row = milli(2, model=model, task=task)
    return row[policy] - row["baseline"]


def test_five_tables_hold_what_their_files_hold() -> None:
    assert list(paper.tables()) == [1, 2, 3, 4, 5]
    for number, table in paper.tables().items():
        rows = [{key: str(value) for key, value in row.items()} for row in table.records()]
        for row, line in zip(rows, typed(number), strict=True):
            assert list(row) == list(line)
            for name, text in line.items():
                assert row[name] == text if name in table.keys else float(row[name]) == float(text)
        assert table.title
        assert all(table.columns.values())
    assert [len(table.cells) for table in paper.tables().values()] == [6, 40, 6, 16, 16]


def test_no_cell_of_the_five_tables_is_lost_and_shares_lie_between_0_and_1() -> None:
    for number, table in paper.tables().items():
        values = [cell.value for cell in table.cells]
        assert None not in values
        if number > 1:
            assert all(0 < value < 1 for value in values)


def test_edited_scalars_are_two_modules_a_layer_times_rank() -> None:
    for row in typed(1):
        assert int(row["edited_scalars"]) == 2 * int(row["layers"]) * int(row["rank"])


def test_the_ablations_repeat_the_cells_of_table_2() -> None:
    for row in typed(3):
        main = milli(2, model=row["model"], task=row["task"])
        mine = milli(3, model=row["model"], task=row["task"])
        assert (mine["baseline"], mine["l1"]) == (main["baseline"], main["grad_direction"])
    for row in typed(4):
        mine = milli(4, model=row["model"], task=row["task"], policy=row["policy"])
        assert mine["128"] == milli(2, model=row["model"], task=row["task"])[row["policy"]]
    for row in typed(5):
        main = milli(2, model=row["model"], task=row["task"])
        mine = milli(5, model=row["model"], task=row["task"])
        assert (mine["baseline"], mine["residual"]) == (main["baseline"], main["grad_direction"])


def test_the_gains_of_the_abstract_follow_from_table_2() -> None:
    gains = {(m, t, p): gain(m, t, p) for m in (LLAMA, QWEN) for t in TASKS for p in SIGNAL}
    assert max(gains, key=gains.__getitem__) == (LLAMA, "CSQA", "grad_direction")
    assert gains[LLAMA, "CSQA", "grad_direction"] == 44
    assert max(value for (_, task, _), value in gains.items() if task == "HumanEval") == 24


def test_seven_of_eight_improve_only_with_the_random_control_among_the_edits() -> None:
    pairs = [(model, task) for model in (LLAMA, QWEN) for task in TASKS]
    best = {pair: max(gain(*pair, policy) for policy in SIGNAL) for pair in pairs}
    with_control = {pair: max(best[pair], gain(*pair, "random_index")) for pair in pairs}
    assert sum(value > 0 for value in with_control.values()) == 7
    assert sum(value > 0 for value in best.values()) == 6
    assert [pair for pair in pairs if best[pair] <= 0 < with_control[pair]] == [(QWEN, "IFEval")]
    assert gain(QWEN, "IFEval", "random_index") == 7
    signs = [np.sign(gain(*pair, policy)) for pair in pairs for policy in SIGNAL]
    assert [signs.count(sign) for sign in (1, 0, -1)] == [10, 1, 13]


def test_the_ifeval_values_are_shares_of_instructions_not_of_prompts() -> None:
    def shares(items: int, digits: str) -> set[int]:
        whole = [divmod(1000 * right, items) for right in range(items + 1)]
        return {down + (2 * rest >= items if digits == "rounded" else 0) for down, rest in whole}

    values = ifeval_values()
    unrounded = values - shares(541, "rounded")
    assert (len(values), len(unrounded)) == (19, 9)
    assert unrounded - shares(541, "cut") == {535, 169, 71}
    assert values <= shares(834, "rounded")


def test_four_problems_of_164_are_the_gain_on_humaneval() -> None:
    row = milli(2, model=QWEN, task="HumanEval")
    assert [round(1000 * right / 164) for right in (80, 84)] == [row["baseline"], row["grad_direction"]]


def test_a_random_edit_moves_with_a_budget_that_it_does_not_read() -> None:
    spans = {}
    for row in typed(4):
        values = milli(4, model=row["model"], task=row["task"], policy=row["policy"])
        spans[row["task"], row["policy"]] = max(values.values()) - min(values.values())
    assert spans["CSQA", "random_index"] == spans["CSQA", "grad_direction"] == 3
    assert spans["IFEval", "random_index"] == gain(QWEN, "IFEval", "random_index") == 7


def test_the_residual_writers_beat_the_attention_inputs_in_one_row_of_four() -> None:
    ahead = {
        (row["model"], row["task"]): milli(5, model=row["model"], task=row["task"])["residual"]
        - milli(5, model=row["model"], task=row["task"])["attention_inputs"]
        for row in typed(5)
    }
    assert ahead == {
        (LLAMA, "CSQA"): 40,
        (LLAMA, "GSM8K"): -23,
        (QWEN, "HumanEval"): 0,
        (QWEN, "IFEval"): -326,
    }


@pytest.mark.parametrize("policy", SIGNAL)
def test_figure_3_is_gain_over_baseline(policy: str) -> None:
    points = paper.signal_points(paper.tables()[2], policy)
    assert [(point.model, point.task) for point in points] == [(m, t) for m in (LLAMA, QWEN) for t in TASKS]
    for point in points:
        assert 1000 * point.gain == pytest.approx(gain(point.model, point.task, policy), abs=1e-9)
        expected = gain(point.model, point.task, "random_index")
        assert 1000 * point.random_gain == pytest.approx(expected, abs=1e-9)


def test_four_points_of_figure_3_lie_above_the_diagonal() -> None:
    above = {
        (m, t): gain(m, t, "grad_direction") - gain(m, t, "random_index") for m in (LLAMA, QWEN) for t in TASKS
    }
    assert sum(value > 0 for value in above.values()) == 4
    assert {pair: value for pair, value in above.items() if value > 10} == {
        (LLAMA, "CSQA"): 41,
        (QWEN, "HumanEval"): 18,
    }


def test_figure_4_by_hand() -> None:
    points = {(point.model, point.policy): point for point in paper.trade_offs(paper.tables()[2])}
    rewards = {key: round(3000 * point.reward) for key, point in points.items()}
    risks = {key: round(1000 * point.risk) for key, point in points.items()}
    assert rewards == {
        (LLAMA, "random_index"): 4 + 0 + 3,
        (LLAMA, "grad_direction"): -43 - 12 + 44,
        (LLAMA, "smooth_abs"): 11 + 6 - 5,
        (LLAMA, "abs_select"): 2 + 0 - 4,
        (QWEN, "random_index"): -5 + 6 - 3,
        (QWEN, "grad_direction"): 1 + 24 - 2,
        (QWEN, "smooth_abs"): -13 + 18 - 4,
        (QWEN, "abs_select"): -10 + 18 - 3,
    }
    # 0.42 and 0.08 stand in the text; a gain is no risk
    assert (risks[QWEN, "grad_direction"], risks[LLAMA, "grad_direction"]) == (417, 82)
    assert (risks[QWEN, "smooth_abs"], risks[QWEN, "abs_select"]) == (38, 55)
    assert all(risks[key] == 0 for key in [*[(LLAMA, p) for p in SIGNAL[:2]], (QWEN, "random_index")])


def test_changes_are_points_over_the_unedited_adapter() -> None:
    changed = paper.changes(paper.tables()[4], paper.tables()[2])
    found = changed.value("256", model=QWEN, task="IFEval", policy="random_index")
    assert found == pytest.approx(100 * (0.604 - 0.590))
    assert "baseline" not in paper.changes(paper.tables()[5], paper.tables()[2]).columns


def test_what_the_text_leaves_open_has_the_defaults_of_the_workbench() -> None:
    _, settings = paper.unstated()
    homes = {"every edit": EditPlan(), "evaluation": EvaluationPlan("")}
    for entry in settings:
        if entry.knob is None:
            continue
        if entry.of == "calibration":
            owners = [owner for owner in (Encoding(), CalibrationPlan("")) if hasattr(owner, entry.knob)]
        elif entry.of in homes:
            owners = [homes[entry.of]]
        else:
            names = POLICIES if entry.of.startswith("policies") else entry.of.split(", ")
            owners = [POLICIES[name]() for name in names if hasattr(POLICIES[name], entry.knob)]
            assert entry.of.startswith("policies") or len(owners) == len(names)
        assert owners, entry
        assert {getattr(owner, entry.knob) for owner in owners} == {entry.ours}, entry


@pytest.fixture
def own_copy(tmp_path: Path) -> Path:
    return Path(copytree(paper.PAPER_FOLDER, tmp_path / "paper"))


def test_a_lost_cell_is_none_and_gives_no_point(own_copy: Path) -> None:
    file = own_copy / "table2.csv"
    text = file.read_text()
    assert "0.614" in text
    file.write_text(text.replace("0.614", ""))
    table = paper.tables(own_copy)[2]
    assert table.value("grad_direction", model=LLAMA, task="GSM8K") is None
    assert len(paper.signal_points(table, "grad_direction")) == 7
    assert len(paper.signal_points(table, "smooth_abs")) == 8
    assert {(p.model, p.policy) for p in paper.trade_offs(table)} == {
        (m, p) for m in (LLAMA, QWEN) for p in (*SIGNAL, "random_index")
    } - {(LLAMA, "grad_direction")}
    assert paper.changes(table, table).value("grad_direction", model=LLAMA, task="GSM8K") is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("0.614", "about 0.6", "about 0.6"),
        ("0.614", "nan", "nan"),
        (",0.614", "", "None"),
        ("smooth_abs", "smooth", "columns"),
        ("HumanEval", "GSM8K", "twice"),
    ],
)
def test_a_file_that_was_changed_is_refused(own_copy: Path, old: str, new: str, said: str) -> None:
    file = own_copy / "table2.csv"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=said):
        paper.tables(own_copy)


def test_a_missing_file_is_refused(own_copy: Path) -> None:
    (own_copy / "table3.csv").unlink()
    with pytest.raises(DataError, match=r"table3\.csv"):
        paper.tables(own_copy)
    (own_copy / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="manifest"):
        paper.reference(own_copy)


def test_a_cell_that_is_not_there_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        paper.tables()[2].value("grad_direction", model=LLAMA, task="MMLU")


def test_the_manifest_names_every_file_and_every_task() -> None:
    manifest = json.loads((paper.PAPER_FOLDER / "manifest.json").read_text(encoding="utf-8"))
    named = {entry["file"] for entry in manifest["tables"].values()}
    assert named == {file.name for file in paper.PAPER_FOLDER.glob("*.csv")}
    assert {cell.task for cell in paper.tables()[2].cells} == set(manifest["tasks"])
    assert paper.reference().authors[0] == "Zailong Tian"
    assert list(paper.figures()) == [3, 4]


# typed once more from the follow-up: target, off, forgetting gap
FOLLOW_UP = """66.47 69.99 0, 68.00 69.55 2.71, 68.76 68.28 3.72, 68.78 70.01 2.37, 68.58 69.64 2.70, 68.44 69.78 2.56,
72.08 72.79 0.34, 72.27 72.57 0.40, 72.70 72.47 0.52, 70.64 71.56 1.11, 72.11 72.59 0.25, 71.60 72.28 0.29"""


def test_the_follow_up_holds_its_twelve_rows_and_what_our_notes_say_of_them() -> None:
    found = paper.follow_up()
    rows = [[row[name] for name in found.columns] for row in found.rows]
    assert rows == [[float(text) for text in line.split()] for line in FOLLOW_UP.split(",")]
    by_name = {str(row["method"]).partition(":")[0].partition(",")[0]: row for row in found.rows}
    trained, edited = by_name["the trained LoRA"], by_name["grad_direction 2/0.2"]
    assert f"{edited['target'] - trained['target']:.2f}" == "0.76"
    assert f"{edited['forgetting'] - trained['forgetting']:.2f}" == "1.01"
    assert any("0.76" in note and "1.01" in note for note in found.notes)
    for each in found.paired:
        assert each.low < each.mean < each.high
        difference = by_name[f"{each.of} 4+1"]["target"] - by_name[each.against]["target"]
        # the rows are rounded to hundredths
        assert each.mean == pytest.approx(difference, abs=0.011)
    # on the target plain scaling at equal functional energy does as well, at equal norm it does not
    assert [each.low < 0 < each.high for each in found.paired] == [True, False]
    assert "peft-sft-lab" in found.reference


def test_a_follow_up_without_a_number_is_refused(own_copy: Path) -> None:
    file = own_copy / "follow_up.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"target": 68.00, ', ""), encoding="utf-8")
    with pytest.raises(DataError, match="the trained LoRA"):
        paper.follow_up(own_copy)
