"""Foreign code against the walls and the verdict; right and wrong programs against HumanEval's own tests.

What the walls must hold runs behind each kind of walls that this machine has. SURGERY_ALL_PROGRAMS=1
runs all 164 programs of HumanEval instead of a part.
"""

import json
import math
import os
import sys

import pytest

from surgery.sandbox import Limits, Sandbox, SandboxError, Verdict, open_sandbox
from tests.surgery.sandbox.conftest import ROOT, WALLS, linux, run, sabotage

HUMANEVAL = ROOT.parent / "shared" / "data" / "datasets" / "humaneval" / "HumanEval.jsonl"


def test_a_right_program_passes_and_shows_what_it_printed(sandbox):
    verdict = run(sandbox, "print('begun')\ndef f(x):\n    print('called', x)\n    return 'the answer is 4711'")
    assert verdict == Verdict(True, "passed", "", "begun\ncalled 3\n")


def test_a_wrong_program_fails_with_the_line_of_the_check(sandbox):
    verdict = run(sandbox, "def f(x):\n    return x")
    assert (verdict.passed, verdict.reason) == (False, "failed")
    assert verdict.detail == "AssertionError at: assert candidate(3) == 'the answer is 4711'"


@pytest.mark.parametrize(
    "limits", [{"seconds": 0}, {"seconds": math.nan}, {"seconds": math.inf}, {"memory_bytes": 1}]
)
def test_limits_without_sense_are_refused(limits):
    with pytest.raises(SandboxError):
        Limits(**limits)


@linux
def test_a_program_without_measure_is_not_run(any_sandbox):
    assert not run(any_sandbox, "#" * 10**6).passed


@linux
def test_the_next_walls_are_taken_where_the_first_are_refused(any_sandbox, monkeypatch):
    sabotage(monkeypatch, "s.enter_namespaces = lambda *a: 1 / 0")
    try:
        Sandbox("landlock").run("def f(): pass", "f()", "f")
    except SandboxError as error:
        pytest.skip(error.problem)
    assert open_sandbox().walls == "landlock"


@linux
def test_a_run_whose_walls_cannot_be_raised_is_an_error_and_no_verdict(any_sandbox, monkeypatch, tmp_path):
    sabotage(monkeypatch, "s.restrict_calls = lambda *a: 1 / 0")
    with pytest.raises(SandboxError, match="could not be raised"):
        run(any_sandbox, f"open({str(tmp_path / 'made')!r}, 'w')")
    assert not list(tmp_path.iterdir())


def test_other_systems_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(SandboxError, match="darwin"):
        open_sandbox()


def test_guarantees_are_sentences_that_name_the_walls():
    assert all(len(Sandbox(walls).guarantees) >= 8 for walls in WALLS)
    assert Sandbox("namespaces").guarantees != Sandbox("landlock").guarantees


def humaneval() -> list[dict[str, str]]:
    if not HUMANEVAL.exists():
        return []
    rows = [json.loads(line) for line in HUMANEVAL.read_text().splitlines()]
    if os.environ.get("SURGERY_ALL_PROGRAMS"):
        return rows
    # those that need helpers, randomness, the program's own name or a hash, and every twentieth
    always = {32, 33, 38, 50, 53, 129, 151, 162}
    return [row for number, row in enumerate(rows) if number in always or number % 20 == 0]


@linux
@pytest.mark.skipif(not HUMANEVAL.exists(), reason=f"no HumanEval at {HUMANEVAL}")
def test_canonical_solutions_pass_and_wrong_ones_fail(sandbox):
    for row in humaneval():
        task = {"check": row["test"], "entry_point": row["entry_point"], "helpers": row["prompt"]}
        right = sandbox.run(row["prompt"] + row["canonical_solution"], **task)
        assert right.passed, (row["task_id"], right)
        wrong = sandbox.run(row["prompt"] + "    return None\n", **task)
        assert (wrong.passed, wrong.reason) == (False, "failed"), row["task_id"]
