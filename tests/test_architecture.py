"""Imports go one way, and the numeric core starts without the heavy libraries."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "peft", "streamlit", "plotly", "accelerate")
FORBIDDEN = {
    "surgery": {"app", "viz", "streamlit", "plotly"},
    "viz": {"app", "surgery", "streamlit", "torch", "transformers"},
    "app": set(),
}
CORE = ["adapter", "spectrum", "alignment", "policy", "edit", "export", "recipe", "card", "inspection", "cli"]


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(file: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names that a file imports, relative ones resolved; those in functions too unless told."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    nodes = tree.body if top_level_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [above, node.module]))
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def packages(file: Path) -> set[str]:
    return {name.partition(".")[0] for name in imported(file)}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_go_one_way(package):
    files = sources(package)
    assert files
    for file in files:
        assert not packages(file) & FORBIDDEN[package], file.relative_to(ROOT)


def test_streamlit_is_imported_in_the_app_only():
    folders = {folder.name for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")}
    found = {name for name in folders for file in sources(name) if "streamlit" in packages(file)}
    assert found <= {"app", "tests"}


def test_nothing_in_the_method_or_the_figures_imports_the_tests():
    for package in FORBIDDEN:
        for file in sources(package):
            assert "tests" not in packages(file), file.relative_to(ROOT)


def test_no_file_of_the_app_hides_a_package():
    # the folder of its entry file comes first on the import path
    for name in ("app", "surgery", "viz"):
        assert not (ROOT / "app" / f"{name}.py").exists()


def test_modules_of_the_method_do_not_import_each_other_in_a_circle():
    graph = {}
    for file in sources("surgery"):
        if file.name in ("__init__.py", "__main__.py"):
            continue
        names = imported(file, top_level_only=True)
        graph[file.stem] = {name.split(".")[1] for name in names if name.startswith("surgery.")} - {file.stem}
    settled: set[str] = set()
    while ready := {
        name for name, needs in graph.items() if name not in settled and needs & set(graph) <= settled
    }:
        settled |= ready
    assert set(graph) - settled == set()


def loaded_after(code: str) -> set[str]:
    """Which heavy packages a fresh interpreter holds after `code`."""
    report = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{report}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1])) & set(HEAVY)


def test_opening_and_decomposing_an_adapter_loads_no_model_library(small_adapter, tmp_path):
    modules = "\n".join(f"import surgery.{name}" for name in CORE)
    code = f"""
import surgery
{modules}
from surgery.policy import RandomIndex
adapter = surgery.open_adapter({str(small_adapter)!r})
spectra = surgery.decompose(adapter)
surgery.layer_invariance(spectra, "o_proj")
surgery.export(adapter, spectra, surgery.make_edit(spectra, RandomIndex()), {str(tmp_path / "out")!r})
assert surgery.cli.main(["inspect", {str(small_adapter)!r}, "--json"]) == 0
"""
    assert loaded_after(code) == set()


def test_figures_load_neither_the_app_nor_a_model_library():
    names = [file.stem for file in sources("viz") if file.stem != "__init__"]
    code = "\n".join(["import viz", *(f"import viz.{name}" for name in names)])
    assert loaded_after(code) <= {"plotly"}
