"""`surgery sweep`."""

import json

import yaml

from surgery.cli import main
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


def test_mistakes_at_the_command_line_are_one_line_and_exit_code_2(place, tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(record(place, base={"location": str(tmp_path)})))
    assert main(["sweep", str(tmp_path / "none.yaml")]) == 2
    assert main(["sweep", str(file), "--in-process"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("surgery: ") for line in errors) == 2
