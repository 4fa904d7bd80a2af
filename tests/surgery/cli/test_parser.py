"""The command line: numbers of every policy, one JSON object, and one line for every mistake."""

import contextlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.cli import main
from surgery.data import Encoding
from surgery.files import demo_folder
from surgery.policies import POLICIES
from surgery.sensitivity import Provenance, Sensitivity, load_sensitivity, save_sensitivity
from tests.helpers.models import save_adapter, save_model, tiny_llama

ROOT = Path(__file__).resolve().parents[3]
SIGMA, G = [4.0, 3.0, 2.0, 1.0], [-0.4, 0.1, 0.2, 0.3]
NUMBERS = ["--sigma", "4,3,2,1", "--sensitivity", "-0.4,0.1,0.2,0.3"]
COMMANDS = ["inspect", "gains", "calibrate", "edit", "evaluate", "run"]


def strict(text: str):
    """JSON as every reader takes it: NaN and infinity are no JSON."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def ok(capsys):
    """Run a command that must succeed; its JSON object with --json, its text without."""

    def run(*words):
        assert main(list(words)) == 0
        out, err = capsys.readouterr()
        assert err == ""
        if "--json" not in words:
            return out
        assert len(out.splitlines()) == 1
        record = strict(out)
        assert isinstance(record, dict)
        return record

    return run


@pytest.fixture
def fails(capsys):
    """Run a command that must be refused: exit code 2, one line on standard error, nothing else."""

    def run(*words) -> str:
        assert main(list(words)) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("surgery: ")
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1
        assert "Traceback" not in err
        return err

    return run


# ---- gains ----


def rescaled(gains, order=1):
    """Gains after the energy rule of the given norm."""
    before = sum(s**order for s in SIGMA) ** (1 / order)
    after = sum((a * s) ** order for a, s in zip(gains, SIGMA, strict=True)) ** (1 / order)
    return [a * before / after for a in gains]


# |g| over its mean of 0.25 is 1.6, 0.4, 0.8, 1.2; its quantiles at 0.2, 0.5 and 0.8 are 0.64, 1 and 1.36
TAU = 0.35 * 0.72
MU = 1 - TAU * math.log(0.2 / 0.25)
SMOOTH = [0.8 + 0.45 / (1 + math.exp(-(x - MU) / TAU)) for x in (1.6, 0.4, 0.8, 1.2)]
UNALIGNED = [0.8 + 0.45 / (1 + math.exp(-(x - 1) / TAU)) for x in (1.6, 0.4, 0.8, 1.2)]


def two_sided(below, above):
    """The gates of double_smooth, z_score and robust_z at their default gains."""
    return [1 - 0.2 / (1 + math.exp(-b)) + 0.25 / (1 + math.exp(-a)) for b, a in zip(below, above, strict=True)]


X = (1.6, 0.4, 0.8, 1.2)
DOUBLE = two_sided([(0.64 - x) / 0.42 for x in X], [(x - 1.36) / 0.42 for x in X])
# x has mean and median 1, standard deviation √0.2 and a median distance of 0.4 from its median
Z, ROBUST = ([(x - 1) / deviation for x in X] for deviation in (math.sqrt(0.2), 1.4826 * 0.4))
TABLE = [
    (["identity"], [1, 1, 1, 1]),
    (["abs_select"], rescaled([1.25, 0.8, 1, 1])),
    (["abs_select", "--energy", "l2"], rescaled([1.25, 0.8, 1, 1], 2)),
    (["abs_select", "--energy", "none", "--amp", "2", "--core-frac", "0.5"], [2, 0.8, 1, 2]),
    (["abs_select", "--energy", "none", "--min-core-k", "4"], [1.25, 1.25, 1.25, 1.25]),
    (["abs_select", "--energy", "none", "--norm", "l2", "--noise-frac", "0"], [1.25, 1, 1, 1]),
    (["smooth_abs", "--energy", "none"], SMOOTH),
    (["smooth_abs"], rescaled(SMOOTH)),
    (["smooth_abs", "--energy", "none", "--no-align-mid"], UNALIGNED),
    (["double_smooth", "--energy", "none"], DOUBLE),
    (["double_smooth"], rescaled(DOUBLE)),
    (["z_score", "--energy", "none"], two_sided([(-0.5 - z) / 0.2 for z in Z], [(z - 1) / 0.2 for z in Z])),
    (
        ["z_score", "--energy", "none", "--core-z", "0.5", "--noise-z", "-1.5", "--softness", "1"],
        two_sided([-1.5 - z for z in Z], [z - 0.5 for z in Z]),
    ),
    (
        ["robust_z", "--energy", "none"],
        two_sided([(-0.5 - z) / 0.2 for z in ROBUST], [(z - 1) / 0.2 for z in ROBUST]),
    ),
    # numbers given by hand are one example, in which both magnitudes agree
    (["abs_select", "--magnitude", "abs_mean"], rescaled([1.25, 0.8, 1, 1])),
    (["grad_direction", "--energy", "none"], [math.exp(v) for v in (0.32, -0.8, -1.6, -2.4)]),
    (["grad_direction"], rescaled([math.exp(v) for v in (0.32, -0.8, -1.6, -2.4)])),
    (
        ["grad_direction", "--energy", "none", "--no-asymmetric", "--eta", "1"],
        [math.exp(v) for v in (1.6, -0.4, -0.8, -1.2)],
    ),
    (
        ["grad_direction", "--energy", "none", "--eta-suppress", "1", "--power", "2"],
        [math.exp(v) for v in (0.32, -0.16, -0.64, -1.44)],
    ),
    # one example with |g|² = 0.3: the step is g / (0.3 + 0.3·0.3)
    (
        ["natural_gradient", "--energy", "none"],
        [1 - 0.1 * g / (0.39 * s) for g, s in zip((-0.4, 0.1, 0.2, 0.3), (4, 3, 2, 1), strict=True)],
    ),
    (["scale", "--energy", "none", "--gamma", "0.5"], [0.5, 0.5, 0.5, 0.5]),
    (["truncate", "--keep", "2"], rescaled([1, 1, 0, 0])),
    (["truncate", "--keep", "2", "--by", "sensitivity", "--energy", "none"], [1, 0, 0, 1]),
    (["scale", "--energy", "none", "--gamma", "0.5", "--sigma-min", "1.2"], [0.5, 0.5, 0.6, 1.2]),
]


@pytest.mark.parametrize(("options", "expected"), TABLE, ids=lambda value: " ".join(map(str, value)))
def test_gains_prints_the_numbers_of_every_policy(options, expected, ok):
    record = ok("gains", *NUMBERS, "--json", "--policy", *options)
    assert set(record) == {"gains", "sigma"}
    assert record["gains"] == pytest.approx(expected, rel=1e-12)
    assert record["sigma"] == pytest.approx([a * s for a, s in zip(expected, SIGMA, strict=True)], rel=1e-12)


def test_the_table_above_covers_every_policy_but_the_random_one():
    assert {options[0] for options, _ in TABLE} == set(POLICIES) - {"random_index"}


def test_gains_of_a_random_control_depend_on_seed_and_module_name_alone(ok):
    def draw(*words, numbers=NUMBERS):
        record = ok("gains", *numbers, "--json", "--policy", "random_index", "--energy", "none", *words)
        return tuple(round(gain, 12) for gain in record["gains"])

    assert sorted(draw()) == [0.8, 1.0, 1.0, 1.25]
    assert draw() == draw("--seed", "0") == draw("--module", "module")
    assert draw() == draw(numbers=["--sigma", "9,8,7,6", "--sensitivity", "1,1,1,1"])
    assert len({draw("--seed", str(seed)) for seed in range(12)}) > 1
    assert len({draw("--module", f"layers.{i}.o_proj") for i in range(12)}) > 1


@pytest.mark.parametrize(
    "numbers",
    [
        ["--sigma", "4,3,2,1", "--sensitivity", "-0.4,0.1,0.2,0.3"],
        ["--sensitivity=-0.4,0.1,0.2,0.3", "--sigma=4,3,2,1"],
        ["--sensitivity", " -0.4, .1,2e-1 ,+0.3", "--sigma", "4.0,3,2,1e0"],
    ],
)
def test_a_list_may_begin_with_a_minus_sign(numbers, ok):
    record = ok("gains", "--json", "--policy", "abs_select", *numbers)
    assert record["gains"] == pytest.approx(rescaled([1.25, 0.8, 1, 1]), rel=1e-12)


def test_the_text_shows_the_same_numbers_in_a_table(ok):
    lines = ok("gains", *NUMBERS, "--policy", "abs_select", "--energy", "none").splitlines()
    assert [[float(cell) for cell in line.split()] for line in lines[1:]] == [
        [0, 4, 1.25, 5],
        [1, 3, 0.8, 2.4],
        [2, 2, 1, 2],
        [3, 1, 1, 1],
    ]


def test_a_module_left_alone_says_why_in_both_forms(ok):
    words = ["gains", "--sigma", "2,1", "--sensitivity", "0,0", "--policy", "abs_select"]
    assert "gradient" in ok(*words, "--json")["skipped"]
    assert "left alone: " in ok(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "gradient"], "gradient"),
        (["--policy", "identity", "--amp", "2"], "amp"),
        (["--policy", "scale", "--amp", "2"], "gamma"),
        (["--policy", "abs_select", "--align-mid"], "align_mid"),
        (["--policy", "abs_select", "--strength", "2"], "--strength"),
        (["--policy", "abs_select", "--am", "2"], "--am"),
        (["--policy", "abs_select", "--amp"], "--amp"),
        (["--policy", "abs_select", "--amp", "big"], "--amp"),
        (["--policy", "abs_select", "--amp", "nan"], "--amp"),
        (["--policy", "abs_select", "--amp", "inf"], "--amp"),
        (["--policy", "abs_select", "--amp", "99"], "amp"),
        (["--policy", "abs_select", "--amp", "-1"], "amp"),
        (["--policy", "scale", "--gamma", "-1e-3"], "gamma"),
        (["--policy", "abs_select", "--norm", "max"], "norm"),
        (["--policy", "abs_select", "--magnitude", "max"], "mean_abs, abs_mean"),
        (["--policy", "z_score", "--core-frac", "0.2"], "core_frac"),
        (["--policy", "abs_select", "--min-core-k", "1.5"], "min_core_k"),
        (["--policy", "abs_select", "--energy", "l3"], "l3"),
        (["--policy", "abs_select", "--sigma-min", "-1"], "sigma_min"),
        (["--policy", "abs_select", "--sigma-min", "x"], "--sigma-min"),
        (["--policy", "smooth_abs", "--mid", "2"], "align_mid"),
        (["--policy"], "--policy"),
        ([], "--policy"),
        (["--policy", "identity", "stray"], "stray"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_policy_knob_or_value_is_one_line_and_exit_code_2(words, said, fails):
    assert said in fails("gains", *NUMBERS, "--json", *words)


@pytest.mark.parametrize(
    ("sigma", "g", "said"),
    [
        ("3,2", "1", "2 singular values"),
        ("3,x", "1,2", "--sigma"),
        ("", "1", "--sigma"),
        ("3,,2", "1,2,3", "--sigma"),
        ("3,2", "1,nan", "--sensitivity"),
        ("inf,2", "1,2", "--sigma"),
        ("3,-2", "1,2", "negative"),
        ("3;2", "1,2", "--sigma"),
        ("-3,2\nx", "1,2", "--sigma"),
    ],
)
def test_a_list_that_is_no_list_of_numbers_is_one_line(sigma, g, said, fails):
    assert said in fails("gains", "--policy", "identity", "--sigma", sigma, "--sensitivity", g)


# ---- inspect ----


def test_inspect_counts_what_is_in_the_adapter(small_adapter, ok):
    record = ok("inspect", str(small_adapter), "--json")
    assert record["modules"] == 6
    assert record["layers"] == 2
    assert record["families"] == {"down_proj": 2, "o_proj": 2, "q_proj": 2}
    assert record["ranks"] == [4]
    assert record["scalings"] == [2.0]
    assert record["dtypes"] == ["float32"]
    # (12 + 10)·4 for q_proj and o_proj, (10 + 20)·4 for down_proj, in two layers
    assert record["parameters"] == 2 * (88 + 88 + 120)
    assert record["edited_scalars"] == {"residual": 16, "attention-inputs": 8, "gate-up": 0, "all": 24}
    assert record["base"] == "some/base"
    assert record["extra_tensors"] == record["notes"] == []
    assert len(record["digest"]) == 64
    total = 0.0
    for facts, factors in zip(record["details"], open_adapter(small_adapter).modules.values(), strict=True):
        sigma = np.linalg.svd(2.0 * factors.B.astype(np.float64) @ factors.A, compute_uv=False)[:4]
        share = sigma / sigma.sum()
        assert facts["name"] == factors.name
        assert facts["shape"] == [factors.B.shape[0], factors.A.shape[1]]
        assert facts["top"] == pytest.approx(sigma[0], rel=1e-12)
        assert facts["norm"] == pytest.approx(math.sqrt((sigma**2).sum()), rel=1e-12)
        assert facts["effective_rank"] == pytest.approx(math.exp(-(share * np.log(share)).sum()), rel=1e-9)
        assert facts["stable_rank"] == pytest.approx((sigma**2).sum() / sigma[0] ** 2, rel=1e-9)
        total += (sigma**2).sum()
    assert record["norm"] == pytest.approx(math.sqrt(total), rel=1e-12)


def test_inspect_prints_one_line_for_every_module(small_adapter, ok):
    text = ok("inspect", str(small_adapter))
    for name in open_adapter(small_adapter).modules:
        assert sum(line.startswith(name) for line in text.splitlines()) == 1
    assert "6 modules in 2 layers" in text


def test_inspect_shows_bfloat16_zero_updates_and_extra_tensors(lora_tensors, write_adapter, ok):
    tensors = lora_tensors({"layers.0.o_proj": (6, 4, 5)}, "bfloat16", scale=0.0)
    folder = write_adapter({**tensors, "bias": np.ones(2, np.float32)}, use_rslora=True)
    record = ok("inspect", str(folder), "--json")
    assert record["dtypes"] == ["bfloat16"]
    assert record["extra_tensors"] == ["bias"]
    assert record["scalings"] == [4.0]
    assert record["norm"] == 0
    assert record["details"][0]["effective_rank"] == 0
    assert len(record["notes"]) == 3


def test_words_from_a_file_cannot_drive_the_terminal(lora_tensors, write_adapter, ok, fails):
    tensors = lora_tensors({"layers.0.o_proj": (6, 4, 5)})
    text = ok("inspect", str(write_adapter(tensors, base_model_name_or_path="x\x1b]0;y\x07\nz")))
    assert all(character.isprintable() for character in text.replace("\n", ""))
    tensors = lora_tensors({"layers.0.\x1b[2J\rx.o_proj": (6, 4, 5)})
    assert fails("inspect", str(write_adapter(tensors))).strip().isprintable()


# ---- edit ----


@pytest.fixture
def measured(small_adapter, tmp_path):
    """A sensitivity file for every module of the small adapter."""
    adapter = open_adapter(small_adapter)
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal((3, 4)) for name in adapter.modules}
    provenance = Provenance(adapter.digest, "base", "examples", Encoding(), tuple(values), "float32")
    file = tmp_path / "measured.safetensors"
    save_sensitivity(Sensitivity(values, np.ones(3), provenance), file)
    return file


def test_edit_writes_a_folder_and_says_what_it_wrote(small_adapter, tmp_path, ok):
    out = tmp_path / "out"
    words = ["--policy", "random_index", "--seed", "4", "--json"]
    record = ok("edit", str(small_adapter), "--out", str(out), *words)
    assert sorted(file.name for file in out.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert record["out"] == str(out)
    assert (record["modules"], record["edited_scalars"]) == (4, 16)
    assert (record["edited_tensors"], record["untouched_tensors"]) == (4, 8)
    # one amplified and one suppressed of four, rescaled: nothing keeps its exact place
    assert record["raised"] + record["lowered"] == 16
    assert record["silenced"] == 0
    assert record["predicted"] is None
    assert record["standard_error"] is None
    assert record["energy_kept"] == pytest.approx(1, rel=1e-12)
    assert 0 < record["rounding"] < 1e-6
    assert record["skipped"] == {}
    assert open_adapter(out).config == open_adapter(small_adapter).config


def test_edit_with_a_scope_and_sensitivities_predicts_the_change(small_adapter, measured, tmp_path, ok):
    words = ["--sensitivities", str(measured), "--policy", "grad_direction", "--energy", "none"]
    scope = r"layers\.1\..*q_proj"
    record = ok("edit", str(small_adapter), "--out", str(tmp_path / "out"), "--scope", scope, "--json", *words)
    assert (record["modules"], record["edited_tensors"]) == (1, 1)
    assert record["predicted"] < 0
    assert record["standard_error"] > 0
    text = ok("edit", str(small_adapter), "--out", str(tmp_path / "text"), "--scope", scope, *words)
    assert "predicted change" in text
    assert str(tmp_path / "text") in text


def test_edit_with_identity_gives_an_adapter_of_the_same_content(small_adapter, tmp_path, ok):
    record = ok("edit", str(small_adapter), "--out", str(tmp_path / "out"), "--policy", "identity", "--json")
    assert (record["edited_tensors"], record["rounding"]) == (0, 0)
    assert open_adapter(tmp_path / "out").digest == open_adapter(small_adapter).digest


def test_edit_of_a_demo_takes_the_sensitivities_that_ship_with_it_and_says_so(tmp_path, capsys, ok):
    words = ["edit", "demo:kinship", "--policy", "grad_direction", "--json", "--out"]
    assert main([*words, str(tmp_path / "shipped")]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "without --sensitivities: taking those that ship with the demo, measured on 128 examples"
    ]
    assert strict(out)["predicted"] < 0
    named = str(demo_folder("demo:kinship") / "sensitivity.safetensors")
    ok(*words, str(tmp_path / "named"), "--sensitivities", named)
    for file in (tmp_path / "named").iterdir():
        assert (tmp_path / "shipped" / file.name).read_bytes() == file.read_bytes(), file.name
    # a policy that needs none takes none
    ok("edit", "demo:kinship", "--policy", "scale", "--json", "--out", str(tmp_path / "scaled"))


def test_runs_lists_what_ships_with_the_demos_and_tells_it(ok):
    shipped = ok("runs", "--adapter", "demo:kinship", "--json")["runs"]
    assert [(run["adapter"], run["shipped"], run["finished"]) for run in shipped] == [("demo:kinship", True, True)]
    assert "; shipped with the demo; edit (grad_direction)" in ok("runs", "--adapter", "demo:kinship")
    (key,) = [run["run"] for run in shipped]
    assert f"kept as run {key}" in ok("runs", key)


# ---- every mistake is one line, and nothing is written ----


def test_a_refused_edit_writes_nothing(small_adapter, measured, tmp_path, write_adapter, lora_tensors, fails):
    other = write_adapter(lora_tensors({"layers.0.o_proj": (6, 4, 5)}))
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("keep")
    (tmp_path / "text").write_text("no sensitivities")
    before = sorted(tmp_path.rglob("*"))
    adapter, out = str(small_adapter), ["--out", str(tmp_path / "out")]
    random, direction = ["--policy", "random_index"], ["--policy", "grad_direction"]
    for words, said in [
        (["edit", str(tmp_path / "nowhere"), *out, *random], "no folder"),
        (["edit", str(tmp_path), *out, *random], "adapter_config.json"),
        (["edit", "demo:nothing", *out, *random], "demo"),
        (["edit", adapter, *random], "--out"),
        (["edit", *out, *random], "adapter"),
        (["edit", adapter, *out], "--policy"),
        (["edit", adapter, *out, *direction], "calibrate"),
        (["edit", adapter, *out, *direction, "--sensitivities", str(tmp_path / "nowhere")], "sensitivity"),
        (["edit", adapter, *out, *direction, "--sensitivities", str(tmp_path / "text")], "sensitivity"),
        (["edit", str(other), *out, *direction, "--sensitivities", str(measured)], "another adapter"),
        (["edit", adapter, *out, *random, "--scope", "nothing"], "scope"),
        (["edit", adapter, *out, *random, "--scope", "("], "scope"),
        (["edit", adapter, *out, *random, "--energy", "l3"], "l3"),
        (["edit", adapter, *out, *random, "--eta", "1"], "eta"),
        (["edit", adapter, "--out", str(full), *random], "exists"),
        (["edit", adapter, "--out", str(full / "mine"), *random], "exists"),
        (["edit", adapter, "--out", str(full / "mine" / "below"), *random], "written"),
        (["edit", adapter, "--out", adapter, *random], "exists"),
        (["edit", adapter, "--out", str(tmp_path / ("x" * 300)), *random], "xxx"),
    ]:
        assert said in fails(*words, "--json"), words
    assert sorted(tmp_path.rglob("*")) == before
    assert (full / "mine").read_text() == "keep"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["inspect"],
        ["inspect", "a", "b"],
        ["inspect", "nowhere\nat all"],
        ["inspect", "x" * 5000],
        ["inspect", "~no-such-user-here/adapter"],
        ["inspect", ""],
        ["--json", "inspect", "."],
        ["run"],
        ["run", "nowhere.yaml"],
        ["run", "~no-such-user-here/recipe.yaml"],
        ["evaluate", "nowhere"],
        ["calibrate", "nowhere"],
        ["calibrate", "nowhere", "--out", "x", "--examples", "-1"],
        ["calibrate", "nowhere", "--out", "x", "--batch-size", "0"],
        ["calibrate", "nowhere", "--out", "x", "--examples", "many"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_mistake_on_the_command_line_is_one_line(words, fails, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fails(*words)
    assert list(tmp_path.iterdir()) == []


def test_an_installation_without_its_demos_says_so(fails, tmp_path, monkeypatch):
    monkeypatch.setattr("surgery.files.demo.DEMO_FOLDER", tmp_path)
    assert "install the project again" in fails("inspect", "demo:kinship")


@pytest.mark.parametrize("content", ["{", "[]", "recipe: 2", "recipe: 1\nadapter: {source: a, digest: b}"])
def test_a_recipe_that_cannot_be_read_is_one_line(content, tmp_path, fails):
    (tmp_path / "recipe.yaml").write_text(content)
    assert "recipe" in fails("run", str(tmp_path / "recipe.yaml"), "--json")
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"]


BAD_ROWS = {
    "empty": ("", "no rows"),
    "blank": ("\n\n", "no rows"),
    "answerless": ('{"prompt": "a", "answer": "b"}\n{"prompt": "a"}\n', "line 2"),
    "empty answer": ('{"prompt": "a", "answer": " "}\n', "'answer'"),
    "no JSON": ("a,b\n", "line 1"),
    "too few": ('{"prompt": "a", "answer": "b"}\n', "128 rows"),
}


@pytest.mark.parametrize(("content", "said"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_calibration_rows_that_cannot_be_used_are_one_line(
    content, said, small_adapter, tmp_path, monkeypatch, fails
):
    # rows are refused with or without a base model, so a stand-in serves for it
    live = SimpleNamespace(spectra={}, base=SimpleNamespace(tokenizer=None))
    for command in ("calibrate", "evaluate"):
        monkeypatch.setattr(f"surgery.cli.{command}.attach", lambda *_: contextlib.nullcontext(live))
    data, out = tmp_path / "rows.jsonl", tmp_path / "measured.safetensors"
    data.write_text(content)
    words = ["calibrate", str(small_adapter), "--base", "some/base", "--data", str(data), "--out", str(out)]
    assert said in fails(*words, "--json")
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
    words = ["evaluate", str(small_adapter), "--base", "some/base", "--data", str(data)]
    if said != "128 rows":
        assert said in fails(*words, "--json")


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_rows_are_read_before_minutes_are_spent_on_the_base_model(
    command, small_adapter, tmp_path, monkeypatch, fails
):
    def attach(*_):
        raise AssertionError("the base model was loaded although there are no rows")

    monkeypatch.setattr(f"surgery.cli.{command}.attach", attach)
    words = [command, str(small_adapter), "--base", "some/base", "--data", str(tmp_path / "nowhere.jsonl")]
    assert "nowhere.jsonl" in fails(*words, *(["--out", str(tmp_path / "x")] if command == "calibrate" else []))


@pytest.mark.parametrize("command", ["calibrate", "evaluate"])
def test_an_adapter_that_is_no_demo_needs_a_base_and_rows(command, small_adapter, tmp_path, fails):
    out = ["--out", str(tmp_path / "x")] if command == "calibrate" else []
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "a", "answer": "b"}\n' * 128)
    assert "--base" in fails(command, str(small_adapter), "--data", str(data), *out)
    assert "--data" in fails(command, str(small_adapter), "--base", "some/base", *out)
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]


def test_stopping_with_the_keyboard_is_one_line_and_exit_code_130(monkeypatch, capsys, small_adapter):
    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("surgery.cli.inspect.open_adapter", stopped)
    assert main(["inspect", str(small_adapter), "--json"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as caught:
        main([*([command] if command else []), "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "usage: surgery" in text
    if not command:
        assert all(name in text for name in COMMANDS)


def test_calibrate_takes_other_fields_and_says_what_was_left_out_and_why(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    save_model(tiny_llama(), tmp_path / "base")
    save_adapter(tiny_llama(), tmp_path / "adapter")
    records = [{"question": f"{i}+{i}=" + "." * i, "sum": 2 * i} for i in range(8)]
    lines = [*map(json.dumps, records), "{", '{"question": "1"}']
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    words = ["calibrate", str(tmp_path / "adapter"), "--base", str(tmp_path / "base")]
    words += ["--data", str(tmp_path / "rows.jsonl"), "--examples", "8", "--max-length", "17"]
    words += [
        "--prompt-field",
        "Q: {question}",
        "--answer-field",
        "{sum}",
        "--out",
        str(tmp_path / "g.safetensors"),
    ]
    # <u>, "Q: ", i+i=, dots, <a>, a space, the sum and </s>
    lengths = [1 + 3 + 4 + i + 1 + 1 + len(str(2 * i)) + 1 for i in range(8)]
    long = sum(length > 17 for length in lengths)
    for _ in range(2):  # measured, and found again in the store
        assert main([*words, "--json"]) == 0
        record = strict(capsys.readouterr().out)
        assert record["examples"] == 8 - long > 0
        assert record["dropped"] == long + 2
        assert record["dropped_by_reason"] == {"too long": long, "unreadable": 1, "missing field": 1}
    assert main(words) == 0
    assert f"{long + 2} rows left out: 1 unreadable, 1 missing field, {long} too long" in capsys.readouterr().out
    assert load_sensitivity(tmp_path / "g.safetensors").examples == 8 - long


# ---- as a program ----


def program(*words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "surgery", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        timeout=300,
        check=False,
    )


def test_the_program_prints_one_json_object_and_returns_zero():
    done = program("gains", *NUMBERS, "--policy", "abs_select", "--json")
    assert (done.returncode, done.stderr) == (0, b"")
    assert strict(done.stdout.decode())["gains"] == pytest.approx(rescaled([1.25, 0.8, 1, 1]), rel=1e-12)


def test_the_program_writes_to_a_terminal_that_knows_ascii_only(lora_tensors, write_adapter):
    # the note on rank-stabilised scaling and the arrow before every remedy are no ASCII
    folder = write_adapter(lora_tensors({"layers.0.o_proj": (6, 4, 5)}), use_rslora=True)
    done = program("inspect", str(folder), PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert done.returncode == 0, done.stderr.decode()
    refused = program("inspect", "nowhere", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert len(refused.stderr.splitlines()) == 1
