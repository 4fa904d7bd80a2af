"""Imports go one way, and the numeric core starts without the heavy libraries."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "transformers", "peft", "streamlit", "plotly", "accelerate")
FORBIDDEN = {
    "surgery": {"app", "viz", "streamlit", "plotly"},
    "viz": {"app", "surgery", "streamlit", "torch", "transformers"},
    "app": set(),
}
# the rooms of the method in the order that data flows: each imports only what stands before it
ROOMS = (
    "errors",
    "progress",
    "files",
    "hub",
    "paper",
    "sandbox",
    "adapter",
    "spectra",
    "adapter_sets",
    "data",
    "model",
    "sensitivity",
    "microscope",
    "policies",
    "edits",
    "recipes",
    "export",
    "conversion",
    "evaluation",
    "evaluation.lm_eval",
    "runs",
    "experiments",
    "experiments.search",
    "experiments.sweeps",
    "cli",
)
# rooms that open, look, edit and write, which takes no model
CORE = ("files", "hub", "adapter", "spectra", "adapter_sets", "policies", "edits", "recipes", "export", "cli")
# helpers that no room shows, and that a test asks for all the same
PRIVATE = {"_ALLOWED", "_ALLOWED_WITH", "_KILL", "_free_host_bytes", "_other_batch"}


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


def room_of(name: str) -> str | None:
    """The innermost room that a dotted name below `surgery` lies in."""
    fitting = [room for room in ROOMS if name == room or name.startswith(f"{room}.")]
    return max(fitting, key=len, default=None)


def statements(file: Path) -> list[tuple[str, str]]:
    """(module, name) of every `from surgery… import name`, in functions and for type checkers too; and (module, "")."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names if alias.name.partition(".")[0] == "surgery"]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative imports hide the room"
            if (node.module or "").partition(".")[0] == "surgery":
                found += [(node.module or "", alias.name) for alias in node.names]
    return found


def test_every_file_of_the_method_lies_in_a_room():
    for file in sources("surgery"):
        name = ".".join(file.relative_to(ROOT / "surgery").with_suffix("").parts)
        assert name in ("__init__", "__main__") or room_of(name.removesuffix(".__init__")), name


def test_rooms_of_the_method_import_only_the_rooms_before_them():
    wrong = []
    for file in sources("surgery"):
        name = ".".join(file.relative_to(ROOT / "surgery").with_suffix("").parts).removesuffix(".__init__")
        mine = room_of(name)
        if mine is None:
            continue
        for module, imported_name in statements(file):
            theirs = room_of(module.removeprefix("surgery").removeprefix(".")) or room_of(imported_name)
            assert theirs is not None, f"{name} imports {module}.{imported_name}"
            if ROOMS.index(theirs) > ROOMS.index(mine):
                wrong.append(f"{name} → {module}.{imported_name}")
    assert wrong == []


def test_a_room_is_entered_by_its_door():
    """Another room, the pages and the tests import from the package, never from a file inside it."""
    wrong = []
    for package in ("surgery", "app", "tests"):
        for file in sources(package):
            inside = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for module, name in statements(file):
                inner = module.removeprefix("surgery").removeprefix(".")
                room = room_of(inner)
                # a test that replaces a part of a file names the file as a module
                whole = (ROOT / module.replace(".", "/") / f"{name}.py").exists() and package == "tests"
                own = room is not None and room_of(inside.removeprefix("surgery.")) == room
                if room in (None, inner) or own or whole or (package == "tests" and name in PRIVATE):
                    continue
                wrong.append(f"{inside} → {module}.{name}")
    assert wrong == []


def test_files_of_a_room_do_not_import_each_other_in_a_circle():
    graph = {}
    for file in sources("surgery"):
        if file.name in ("__init__.py", "__main__.py"):
            continue
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        graph[name] = imported(file, top_level_only=True) - {name}
    settled: set[str] = set()
    while ready := {
        name for name, needs in graph.items() if name not in settled and needs & set(graph) <= settled
    }:
        settled |= ready
    assert set(graph) - settled == set()


def test_a_room_shows_public_names_only_and_says_in_one_sentence_what_it_is():
    for room in ROOMS:
        module = import_module(f"surgery.{room}")
        assert (module.__doc__ or "").strip()
        if (ROOT / "surgery" / room.replace(".", "/")).is_dir():
            assert module.__all__
            assert not [name for name in module.__all__ if name.startswith("_")]
            assert len((module.__doc__ or "").strip().splitlines()) == 1, room


def test_the_map_of_the_method_is_complete():
    """surgery/README.md names every room with its sentence, in their order, and every file."""
    text = (ROOT / "surgery" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| (.*?) \| (.*?) \|$", text, re.MULTILINE)
    assert [room for room, _, _ in rows] == list(ROOMS)
    for room, sentence, files in rows:
        folder = ROOT / "surgery" / room.replace(".", "/")
        if folder.is_dir():
            assert sentence == (import_module(f"surgery.{room}").__doc__ or "").strip()
            present = {file.stem for file in folder.glob("*.py")} - {"__init__"}
            assert set(re.findall(r"`(\w+)`", files)) == present, room


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
from surgery.policies import RandomIndex
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


def test_a_report_is_made_without_the_pages_and_without_a_model():
    """`surgery report` starts the part of the app that needs no Streamlit."""
    assert loaded_after("import app.report") <= {"plotly"}


# files without a test file at their own path: the file whose tests run them, what it names of them, and why
TESTED_ELSEWHERE = {
    "adapter/notes": (
        "tests/surgery/adapter/test_adapter.py",
        "notes",
        "notes are read where adapters are opened",
    ),
    "cli/progress": (
        "tests/surgery/cli/test_text.py",
        "progress_reporter",
        "lines of progress beside those of results",
    ),
    "experiments/sweeps/resources": (
        "tests/surgery/experiments/sweeps/test_spec.py",
        '"resources"',
        "a section of the sweep file",
    ),
    "experiments/sweeps/table_files": (
        "tests/surgery/experiments/sweeps/test_tables.py",
        "write_tables",
        "writes what the tables, the evidence and the guards of a sweep hold",
    ),
    "cli/app_process": ("tests/test_wheel.py", '"app"|app_command', "starts the pages of an installed wheel"),
    "cli/benchmark": (
        "tests/surgery/evaluation/lm_eval/test_task_run.py",
        '"benchmark"',
        "a task from its command to its scores",
    ),
    "cli/evaluate": ("tests/surgery/cli/test_calibrate.py", '"evaluate"', "shares its refusals with calibrate"),
    "cli/options": ("tests/surgery/cli/test_parser.py", "main", "options are read by every command"),
    "cli/run": ("tests/scenarios/test_files_of_an_earlier_version.py", '"run"', "redoes a recipe that is on disk"),
    "model/base_fit": (
        "tests/surgery/model/test_live_model.py",
        "BaseModelError|replicat",
        "an adapter that does not fit is refused when it is attached",
    ),
    "conversion/agreement": (
        "tests/surgery/conversion/test_of_peft_types.py",
        "logits.error",
        "logits are compared with every conversion on a base",
    ),
    "conversion/lora_folder": (
        "tests/surgery/conversion/test_convert.py",
        "convert",
        "what is written opens, or nothing is there",
    ),
    "conversion/plan": (
        "tests/surgery/conversion/test_convert.py",
        "ConversionPlan",
        "plain values, refused where they are out of range",
    ),
    "conversion/with_peft": (
        "tests/surgery/conversion/test_of_peft_types.py",
        "no place|PeftModel",
        "adapters are loaded by PEFT in every conversion of its types",
    ),
    "evaluation/summary": ("tests/surgery/runs/test_runs.py", "summarise", "the summary is what a run keeps"),
    "export/staging": (
        "tests/surgery/export/test_folder.py",
        "leaves_nothing_behind",
        "exports that stop half way",
    ),
    "model/architecture": (
        "tests/surgery/export/test_peft_loading.py",
        "hubs_cache|code_of_its_own",
        "empty models are what PEFT's loading is tried on",
    ),
    "model/attachment": ("tests/surgery/experiments/test_recipe_run.py", "attach", "attaches to a base on disk"),
    "model/dense_weight": (
        "tests/surgery/spectra/test_intruders.py",
        "base_weight",
        "weights are read to compare directions",
    ),
    "model/extra_tensors": (
        "tests/scenarios/test_model_families.py",
        "modules_to_save|trainable_token",
        "tensors of real families against peft",
    ),
    "model/spectral_layers": (
        "tests/surgery/model/test_live_model.py",
        "set_sigma",
        "layers run inside a live model",
    ),
    "spectra/pairing": (
        "tests/app/geometry/test_page.py",
        "layer_invariance|module_synergy",
        "the pairs of the library and of the page are the same",
    ),
}


def test_every_file_of_the_method_has_its_tests_at_its_own_path():
    missing = set()
    for file in sources("surgery"):
        if not file.stem.startswith("__"):
            inside = file.relative_to(ROOT)
            if not (ROOT / "tests" / inside.parent / f"test_{file.name}").exists():
                missing.add(inside.relative_to("surgery").with_suffix("").as_posix())
    assert missing == set(TESTED_ELSEWHERE)


@pytest.mark.parametrize("name", TESTED_ELSEWHERE)
def test_a_file_that_is_tested_elsewhere_is_named_there(name):
    file, word, reason = TESTED_ELSEWHERE[name]
    assert reason
    assert re.search(word, (ROOT / file).read_text(encoding="utf-8"))
