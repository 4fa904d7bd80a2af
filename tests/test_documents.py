"""What the documents and the lists of tests name is there."""

import re
from importlib import import_module, util
from pathlib import Path

import pytest

from tests.benchmarks import cpu_settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("surgery/*.md"), *ROOT.glob("tests/benchmarks/*.md"), ROOT / "Makefile"]
)
FILE = re.compile(r"(?<![\w./-])((?:app|assets|surgery|tests|viz)/[\w./-]+\.(?:py|md|mjs|yaml))\b")
TEST = re.compile(r"(?<![\w/])test_\w+\.py\b")
COMMAND = re.compile(r"python -m ((?:app|assets|surgery|tests|viz)[\w.]*)")
NAME = re.compile(r"`(surgery(?:\.\w+)+)(?<!\.json)\b")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_command_and_name_in_a_document_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    tests = {file.name for file in ROOT.glob("tests/**/test_*.py")}
    gone = [name for name in FILE.findall(text) if not (ROOT / name).is_file()]
    gone += [name for name in TEST.findall(text) if name not in tests]
    gone += [name for name in COMMAND.findall(text) if util.find_spec(name) is None]
    gone += [name for name in NAME.findall(text) if not known(name)]
    assert not gone


def known(name: str) -> bool:
    """Whether a dotted name is a module, or something that a module shows."""
    module, _, last = name.rpartition(".")
    return util.find_spec(name) is not None or hasattr(import_module(module), last)


def test_the_tests_of_other_processors_exist() -> None:
    assert not [
        name for name in cpu_settings.MODEL + cpu_settings.ARITHMETIC if not (ROOT / "tests" / name).exists()
    ]
