"""`surgery sweep`."""

import json
import shutil

import yaml

from surgery.cli import main
from surgery.policies import GradDirection
from surgery.recipes import dump_recipe
from surgery.runs import stored_runs
from tests.surgery.experiments.sweeps.conftest import record


def test_the_command_tells_the_cost_first_and_gives_cells_tables_and_json(place, tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(record(place)))
    assert main(["sweep", str(file), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["cost"]
    assert (told["cells"], told["variants"], told["groups"], told["requests"]) == (8, 6, 3, 4 * (6 + 3))
    assert not stored_runs()
    arguments = [
        "sweep",
        str(file),
        "--in-process",
        "--limit",
        "3",
        "--examples",
        "4",
        "--tables",
        str(tmp_path / "t"),
    ]
    assert main([*arguments, "--json"]) == 0
    output = capsys.readouterr()
    swept = json.loads(output.out)
    assert len(swept["cells"]) == 4
    assert {cell["examples"] for cell in swept["cells"]} == {3}
    assert swept["tables"]["loss"]["2"][0]["model"] == "tiny"
    assert "answers" in output.err.splitlines()[0]
    assert main(arguments) == 0
    assert "Table 5, loss" in capsys.readouterr().out


def test_recipes_on_a_folder_give_methods_against_members_and_what_has_ended_is_told_again(
    place, tmp_path, capsys
):
    for name in ("a", "b"):
        shutil.copytree(place.adapter, tmp_path / "run" / name)
    (tmp_path / "run" / "torn").mkdir()
    (tmp_path / "run" / "torn" / "adapter_config.json").write_text("{")
    recipe = tmp_path / "gentle.yaml"
    recipe.write_text(dump_recipe(place.recipe(policy=GradDirection(eta_suppress=0.2))))
    command = ["sweep", "--set", str(tmp_path / "run"), "--recipe", str(recipe), "--limit", "3", "--examples", "4"]
    assert main([*command, "--so-far"]) == 0
    assert "wins / ties / losses" not in capsys.readouterr().out
    assert not stored_runs()
    assert main([*command, "--in-process"]) == 0
    output = capsys.readouterr()
    assert "left out: run/torn: " in output.err
    assert "| run/b | " in output.out
    assert "- run/torn: " in output.out
    assert main([*command, "--so-far", "--json", "--tables", str(tmp_path / "t")]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {row["adapter"] for row in told["evidence"]["adapters"]} == {"run/a", "run/b"}
    assert told["evidence"]["over_adapters"][0]["adapters"] == 2
    assert [each["name"] for each in told["refused"]] == ["run/torn"]
    assert (tmp_path / "t" / "evidence.md").is_file()


def test_mistakes_at_the_command_line_are_one_line_and_exit_code_2(place, tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(record(place, base={"location": str(tmp_path)})))
    assert main(["sweep", str(tmp_path / "none.yaml")]) == 2
    assert main(["sweep", str(file), "--in-process"]) == 2
    assert main(["sweep", "--set", str(tmp_path)]) == 2
    assert main(["sweep", str(file), "--recipe", "x.yaml"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("surgery: ") for line in errors) == 4
