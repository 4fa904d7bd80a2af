"""Hostile files: each is refused or opened within a second and half a GiB, and nothing in it is run.

The attacks stand in `attacks.py`; a group of them runs in a process of its own with a limit on memory.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from surgery.adapter import unpack_adapter
from surgery.data import read_source
from surgery.errors import AdapterError, BaseModelError, DataError, SurgeryError
from surgery.files import compile_pattern, load_yaml, named_folders, user_path
from surgery.model import load_base, resolve_base
from surgery.recipes import read_recipe
from tests.helpers.attacks import ATTACKS, CONFIG, GOOD, WEIGHTS, zipped

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")
SECONDS, LONG = 1.0, 300
# they are large, and what they claim they hold
MAY_OPEN = (
    *("as many patterns as modules", "as many paths as modules", "as many paths of one length as modules"),
    *("as many exceptions as modules", "as many parameters as modules", "a thousand kinds of module"),
    *("three thousand embeddings", "a layers_pattern that backtracks"),
)


def apart(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: "subprocess.Popen[str]") -> str:
    """What a process prints; one that ends in another way than well fails the test with its last words."""
    try:
        output, errors = process.communicate(timeout=LONG)
    finally:
        process.kill()
    assert process.returncode == 0, errors[-2000:]
    return output


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, float]]:
    folder = str(tmp_path_factory.mktemp("attacks"))
    # a process of its own for pickles: torch takes more address space than the others may have
    others = [group for group in ATTACKS if group != "pickle"]
    running = [apart("-m", "tests.helpers.attacks", folder, *groups) for groups in (others, ["pickle"])]
    first, second = [json.loads(told(process)) for process in running]
    return {**first, **second}


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and read as Linux has it")
@pytest.mark.parametrize("name", [f"{group}/{name}" for group, found in ATTACKS.items() for name in found])
def test_an_attack_is_refused_within_a_second_and_bounded_memory(name, results):
    outcome, seconds = results[name]
    # a limit of half a GiB stood while it ran
    may_open = name.partition("/")[2] in MAY_OPEN
    assert outcome.startswith("refused: ") or (may_open and outcome == "opened"), outcome
    # of the processor: a busy machine makes any clock run
    assert seconds < SECONDS
    assert len(outcome) < 3000
    assert len(outcome.splitlines()) == 1


# ---- uploaded zips ----


def test_a_zip_unpacks_to_the_adapters_own_files(tmp_path):
    packed = zipped({**GOOD, "mine/README.md": b"# read me", "__MACOSX/mine/._adapter_config.json": b"x"})
    folder = unpack_adapter(packed, tmp_path)
    assert sorted(file.name for file in folder.iterdir()) == [CONFIG, WEIGHTS]
    assert (folder / WEIGHTS).read_bytes() == GOOD[f"mine/{WEIGHTS}"]
    assert [file.name for file in tmp_path.iterdir()] == [folder.name]


@pytest.mark.parametrize("prefix", ["", "a/b/c/", "my adapter é/"])
def test_the_adapter_may_lie_anywhere_in_the_zip(prefix, tmp_path):
    packed = tmp_path / "any name.zip"
    packed.write_bytes(zipped({f"{prefix}{CONFIG}": b"{}", f"{prefix}{WEIGHTS}": b"w"}))
    assert (unpack_adapter(packed, tmp_path / "into") / CONFIG).read_bytes() == b"{}"


def test_the_same_zip_gives_the_same_folder_and_a_changed_folder_is_left_alone(tmp_path):
    packed = zipped(GOOD)
    first = unpack_adapter(packed, tmp_path)
    assert unpack_adapter(packed, tmp_path) == first
    (first / CONFIG).write_text("mine now")
    second = unpack_adapter(packed, tmp_path)
    assert second != first
    assert (first / CONFIG).read_text() == "mine now"
    assert (second / CONFIG).read_bytes() == b"{}"


def test_a_zip_that_is_refused_leaves_nothing_behind(tmp_path):
    for packed in (zipped({**GOOD, "../x": b"x"}), zipped(GOOD, 0).replace(b"w" * 500, b"v" * 500)):
        with pytest.raises(AdapterError):
            unpack_adapter(packed, tmp_path / "into")
        assert not (tmp_path / "into").exists() or not list((tmp_path / "into").iterdir())


# ---- pickles, remote code ----


def test_a_torch_that_is_not_safe_reads_no_pickle(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from surgery.adapter import read_weights

    torch.save({"a.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "adapter_model.bin")
    assert read_weights(tmp_path, "x").tensors["a.lora_A.weight"].shape == (1, 1)
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    with pytest.raises(AdapterError, match=r"not safe.*install torch 2\.10 or newer"):
        read_weights(tmp_path, "x")


def calls() -> list[tuple[str, ast.Call, str]]:
    """Every call in the product: where, the call, the last part of what is called."""
    found = []
    for package in ("surgery", "app", "viz"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    called = (
                        node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                    )
                    found.append((f"{file.relative_to(ROOT)}:{node.lineno}", node, called))
    return found


def keyword(call: ast.Call, name: str) -> object:
    return next((getattr(k.value, "value", None) for k in call.keywords if k.arg == name), None)


def test_no_pickle_is_read_but_with_weights_only_and_no_model_with_remote_code():
    loaders = 0
    for where, call, called in calls():
        owner = ast.unparse(call.func)
        if owner == "torch.load":
            assert keyword(call, "weights_only") is True, where
        if called == "from_pretrained" and owner.startswith("Auto"):
            assert keyword(call, "trust_remote_code") is False, where
            loaders += 1
        assert owner not in ("pickle.load", "pickle.loads", "np.load", "yaml.unsafe_load", "yaml.full_load"), where
        assert keyword(call, "allow_pickle") is not True, where
        if called in ("eval", "exec") and isinstance(call.func, ast.Name):
            assert where.startswith("surgery/sandbox/child.py"), where
    assert loaders >= 4


def test_an_adapter_is_no_base_and_the_base_that_it_names_is_only_shown(tmp_path, write_adapter, lora_tensors):
    from surgery.adapter import open_adapter

    folder = write_adapter(
        lora_tensors({"model.layers.0.o_proj": (4, 2, 4)}), r=2, base_model_name_or_path="../../etc/<b>"
    )
    assert open_adapter(folder).base_name == "../../etc/<b>"
    with pytest.raises(BaseModelError):
        load_base(str(folder))


# ---- folders ----


@pytest.fixture
def confined(tmp_path, monkeypatch):
    """A home and one more folder; everything else is outside."""
    for name in ("home", "named", "outside"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SURGERY_FOLDERS", str(tmp_path / "named"))
    monkeypatch.chdir(tmp_path / "outside")
    return tmp_path


def test_paths_inside_the_named_folders_are_taken(confined):
    assert named_folders() == (confined / "home", confined / "named")
    for name in ("home/exports/x", "named", "named/a/../b"):
        assert user_path(confined / name) == confined / name


@pytest.mark.parametrize(
    "path",
    ["outside/x", "named/../outside", "named2", "", ".", "x", "../named/../outside", "/", "~", "/etc/passwd"],
)
def test_paths_outside_the_named_folders_are_refused(path, confined):
    full = str(confined / path) if path and path[0] not in "/~.x" else path
    with pytest.raises(DataError, match="outside the folders"):
        user_path(full, DataError)


def test_a_link_out_of_the_named_folders_is_followed_before_it_is_judged(confined):
    (confined / "named" / "link").symlink_to(confined / "outside")
    with pytest.raises(SurgeryError, match="outside"):
        user_path(confined / "named" / "link" / "x")


def test_every_reader_and_writer_keeps_to_the_named_folders(confined, small_adapter):
    from surgery import decompose, export, make_edit, make_policy, open_adapter

    (confined / "outside" / "rows.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    outside = str(confined / "outside" / "rows.jsonl")
    for read in (open_adapter, read_recipe, read_source, resolve_base):
        with pytest.raises(SurgeryError, match="outside"):
            read(outside)
    with pytest.raises(SurgeryError, match="outside"):
        read_source(f"hub:{confined / 'outside'}:train")
    adapter = open_adapter("demo:kinship")
    spectra = decompose(adapter)
    edit = make_edit(spectra, make_policy("scale", {"gamma": 1.1}))
    with pytest.raises(SurgeryError, match="outside"):
        export(adapter, spectra, edit, confined / "outside" / "edited")
    assert export(adapter, spectra, edit, confined / "named" / "edited").folder


def test_without_a_list_every_path_of_the_account_is_taken(tmp_path, monkeypatch):
    monkeypatch.delenv("SURGERY_FOLDERS", raising=False)
    assert named_folders() is None
    assert user_path(tmp_path) == tmp_path


def test_a_hub_id_is_no_path(confined):
    assert resolve_base("owner/name") == "owner/name"
    (confined / "outside" / "owner" / "name").mkdir(parents=True)
    with pytest.raises(BaseModelError, match="outside"):
        resolve_base("owner/name")


# ---- what is usual goes on working ----


@pytest.mark.parametrize(
    "pattern", [r"layers\.(1|2)\.", r"\d{1,3}", r"(?:a{2}){3}", r".*\.o_proj", "^(a|b)$", r"\{9{2}"]
)
def test_usual_patterns_compile(pattern):
    assert compile_pattern(pattern).pattern == pattern


@pytest.mark.parametrize("pattern", [None, 5, "(", "a{99999}", "(?:a{200}){200}", "(?:a{,200}){200,}"])
def test_what_is_no_usable_pattern_says_why(pattern):
    with pytest.raises(ValueError, match=r".+"):
        compile_pattern(pattern)


def test_a_recipe_with_a_gain_for_every_component_is_read():
    text = "manual:\n" + "".join(
        f"  model.layers.{layer}.mlp.down_proj:\n" + "".join(f"    {k}: 1.25\n" for k in range(64))
        for layer in range(448)
    )
    assert len(load_yaml(text)["manual"]) == 448


# ---- findings of the fuzzer ----

REPLAY = """
import sys, tempfile
from pathlib import Path
from tests.helpers.fuzzing import finding, seeds
for folder in sorted(Path(sys.argv[1]).iterdir()):
    for seed in seeds(folder.name):
        finding(folder.name, seed, Path(tempfile.mkdtemp()))
    for file in sorted(folder.iterdir()):
        found = finding(folder.name, file.read_bytes(), Path(tempfile.mkdtemp()))
        print(f"{folder.name}/{file.name}: {found}" if found else "", end="")
"""


def test_what_the_fuzzer_found_is_found_no_more():
    assert list(CORPUS.glob("*/*"))
    assert told(apart("-c", REPLAY, str(CORPUS))) == ""


def test_the_fuzzers_seeds_are_inputs_that_the_parsers_take(tmp_path):
    from tests.helpers.fuzzing import PARSERS, seeds

    for parser in PARSERS:
        taken = 0
        for number, seed in enumerate(seeds(parser)):
            folder = tmp_path / f"{parser}-{number}"
            folder.mkdir()
            try:
                PARSERS[parser](seed, folder)
                taken += 1
            except SurgeryError:
                continue
        assert taken >= 2, parser
