"""The proof of an edit: held-out rows, its controls, and runs that go on after kills and are never mistaken."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surgery.adapter import open_adapter
from surgery.data import (
    CalibrationPlan,
    Encoding,
    EvaluationPlan,
    Row,
    TaskPlan,
    calibration_rows,
    encode,
    read_slices,
)
from surgery.edits import Edit, EditPlan, make_edit
from surgery.errors import Cancelled, DataError
from surgery.evaluation import AGAIN, BASE, BASELINE, evaluate
from surgery.evaluation.lm_eval import LoadedTask, benchmark, load_task
from surgery.experiments import (
    Proof,
    prove,
    random_controls,
    sigma_digest,
)
from surgery.files import digest
from surgery.model import BaseChoice, LiveModel, attach, end_ids
from surgery.policies import Identity, RandomIndex
from surgery.progress import Control
from surgery.runs import ABOUT, LOG, METRICS, SAMPLES, Run, stored_run, stored_runs
from surgery.spectra import decompose
from tests.helpers.models import example_loss, save_adapter, save_model, tiny_llama, tiny_tokenizer
from tests.helpers.refusals import refusal
from tests.helpers.rounding import assert_losses, losses_apart
from tests.helpers.workplace import ROWS, Workplace, write_rows

ROOT = Path(__file__).resolve().parents[3]


def test_evaluation_rows_that_calibrated_are_refused(place, tmp_path):
    mixed = write_rows(tmp_path / "mixed.jsonl", [*ROWS[30:33], *ROWS[:30]])
    with place.attach() as live:
        message = refusal(
            DataError,
            prove,
            live,
            Proof(EvaluationPlan(mixed), {}, [place.calibration]),
            control=Control(progress=pytest.fail),
        )
        assert "10 of 33 evaluation rows were used for calibration" in message


def test_any_of_several_calibrations_is_looked_at(place, tmp_path):
    other = write_rows(tmp_path / "other.jsonl", ROWS[33:36])
    plans = [place.calibration, CalibrationPlan(other, examples=3)]
    with place.attach() as live:
        assert "3 of 6" in refusal(DataError, prove, live, Proof(place.evaluation, {}, plans))


def test_content_decides_whether_a_row_is_shared_not_file_or_white_space(place, tmp_path):
    spaced = [Row(f"  {row.prompt}\n", f" {row.answer} ") for row in ROWS[:30]]
    plan = EvaluationPlan(write_rows(tmp_path / "spaced.jsonl", spaced))
    with place.attach() as live:
        assert "10 of 30" in refusal(DataError, prove, live, Proof(plan, {}, [place.calibration]))


def test_rows_that_the_calibration_left_out_may_be_evaluated(place):
    kept = {row.key for row in calibration_rows(place.calibration)}
    unused = [row for row in ROWS[:30] if row.key not in kept]
    plan = EvaluationPlan(write_rows(place.home.parent / "unused.jsonl", unused), limit=3)
    with place.attach() as live:
        found = prove(live, Proof(plan, {}, [place.calibration])).evaluation
    assert [sample.key for sample in found.samples] == [row.key for row in unused[:3]]


def test_rows_that_cannot_be_asked_refuse_a_proof_or_are_left_out_and_counted_by_one_rule(place, tmp_path):
    rows = [ROWS[30], Row("1" * 40, "2"), ROWS[31], Row("3" * 50, "4")]
    file = write_rows(tmp_path / "rows.jsonl", rows)
    plan = EvaluationPlan(file, random=0, again=False, encoding=Encoding(max_length=30))
    with place.attach() as live:
        message = refusal(DataError, prove, live, Proof(plan, {}))
        assert "2 of 4 held-out rows cannot be asked: a row is 44 tokens long, and the limit is 30" in message
        assert "--leave-out" in message
        found = prove(live, Proof(replace(plan, leave_out=True), {})).evaluation
        assert [sample.key for sample in found.samples] == [ROWS[30].key, ROWS[31].key]
        assert found.notes == ("2 rows left out: 2 too long",)
        with open(file, "a") as blank:
            blank.write('{"prompt": " ", "answer": "4"}\n')
        assert "--leave-out" in refusal(DataError, prove, live, Proof(plan, {}))
        found = prove(live, Proof(replace(plan, leave_out=True, limit=3), {})).evaluation
        assert found.notes == ("2 rows left out: 1 empty prompt, 1 too long",)


def test_the_proof_scores_every_edit_on_rows_in_file_order(place):
    with place.attach() as live:
        edits = {"same": make_edit(live.spectra, Identity()), **random_controls(live.spectra, 2, scope="all")}
        found = prove(live, Proof(place.evaluation, edits, [place.calibration])).evaluation
    assert list(found.scores) == [BASELINE, "same", "random 0", "random 1"]
    assert [sample.key for sample in found.samples] == [row.key for row in ROWS[30:36]]
    assert (found.effect("same").mean, found.effect("same").low, found.effect("same").high) == (0, 0, 0)
    assert found.effect("random 0").mean != 0


def test_cancelling_the_proof_raises_and_leaves_the_adapter_as_it_was(place):
    with place.attach() as live:
        edits = random_controls(live.spectra, 1, scope="all")
        expected = prove(live, Proof(place.evaluation, {})).evaluation.scores[BASELINE].loss
        with pytest.raises(Cancelled):
            prove(live, Proof(place.evaluation, edits), control=Control(cancelled=lambda: True))
        rows = read_slices([], place.evaluation).held_out
        slice_ = encode(rows, live.base.tokenizer, place.evaluation.encoding)
        again = evaluate(live, slice_, {}, batch_size=place.evaluation.batch_size).scores[BASELINE].loss
        np.testing.assert_array_equal(again, expected)


def test_a_digest_of_sigma_tells_variants_apart_by_what_they_do(place):
    spectra = decompose(open_adapter(place.adapter))
    edit = make_edit(spectra, RandomIndex(), scope="all")
    backwards = Edit(dict(reversed(edit.modules.items())))
    assert sigma_digest(backwards) == sigma_digest(edit)
    name = next(iter(edit.modules))
    module = edit.modules[name]
    nudged = replace(module, sigma_after=np.nextafter(module.sigma_after, 9))
    assert sigma_digest(Edit({**edit.modules, name: nudged})) != sigma_digest(edit)
    others = {k: v for k, v in edit.modules.items() if k != name}
    assert len({sigma_digest(each) for each in (None, Edit({}), edit, Edit(others))}) == 4


def scores(run: Run) -> dict[str, tuple]:
    return {name: (found.loss, found.answers) for name, found in run.evaluation.scores.items()}


def same_scores(found: Run, expected: Run) -> bool:
    """Equal texts, and losses as near as two evaluations are."""
    first, second = scores(found), scores(expected)
    return list(first) == list(second) and all(
        first[name][1] == second[name][1]
        and (np.abs(first[name][0] - second[name][0]) <= losses_apart(tiny_llama(), second[name][0])).all()
        for name in first
    )


def afresh(history: Path, live: LiveModel, proof: Proof) -> Run:
    """A proof without a history."""
    kept = history.rename(history.with_name("kept"))
    try:
        run = prove(live, proof)
        _ = run.evaluation
        return run
    finally:
        shutil.rmtree(history, ignore_errors=True)
        kept.rename(history)


CHILD = """
import sys, time
from pathlib import Path
from surgery.progress import Control
from surgery.experiments import Proof
from surgery.experiments import prove
from surgery.experiments import random_controls
from tests.helpers.workplace import workplace
place = workplace(Path(sys.argv[1]), Path(sys.argv[2]))
stop = int(sys.argv[3])
def progress(done, total):
    if done >= stop:
        print(done, total, flush=True)
        time.sleep(60)
with place.attach() as live:
    edits = random_controls(live.spectra, 2, scope="all")
    proof = Proof(place.evaluation, edits, again=True, batch_size=2)
    prove(live, proof, control=Control(progress=progress))
"""


def test_a_killed_proof_goes_on_and_asks_for_no_finished_request_again(
    place, workplace_files, history, engine_calls
):
    stop = 9
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(workplace_files), str(place.home), str(stop)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "SURGERY_HOME": str(history.parent), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with place.attach() as live:
        edits = random_controls(live.spectra, 2, scope="all")

        def proof(**options: Any) -> Run:
            return prove(live, Proof(place.evaluation, edits, again=True, batch_size=2), **options)

        try:
            assert child.stdout is not None
            done, total = map(int, child.stdout.readline().split())
            assert (stop, total) == (done, 24)
            assert "another process" in refusal(DataError, proof)
            assert engine_calls == []
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
        assert child.returncode == -signal.SIGKILL
        (cut,) = stored_runs()
        # progress is told of a request once it is in the log
        assert (cut.finished, cut.done) == (False, done)
        with (cut.folder / LOG).open("ab") as log:
            log.write(b'[0,5,"half a li')
        seen = []
        run = proof(control=Control(progress=lambda *counts: seen.append(counts)))
        assert sum(call.answers for call in engine_calls) == total - done
        assert seen[0] == (done, total)
        assert seen[-1] == (total, total)
        assert seen == sorted(seen)
        assert (run.finished, run.plan.key, run.started) == (True, cut.plan.key, cut.started)
        assert same_scores(run, afresh(history, live, Proof(place.evaluation, edits, again=True, batch_size=2)))


@pytest.fixture
def edits(live) -> dict[str, Edit]:
    return random_controls(live.spectra, 2, scope="all")


@pytest.mark.parametrize("stop", [0, 6, 17, 18, 20])
def test_a_cancelled_proof_goes_on_among_its_variants_and_in_the_rerun(
    live, place, edits, history, engine_calls, stop
):
    done = []

    def progress(count: int, _: int) -> None:
        done.append(count)
        if count >= stop:
            raise Cancelled

    with pytest.raises(Cancelled):
        prove(live, Proof(place.evaluation, edits, again=True, batch_size=1), control=Control(progress=progress))
    assert stored_runs()[0].done == done[-1]
    engine_calls.clear()
    run = prove(live, Proof(place.evaluation, edits, again=True, batch_size=1))
    assert sum(call.answers for call in engine_calls) == 24 - done[-1]
    assert same_scores(run, afresh(history, live, Proof(place.evaluation, edits, again=True, batch_size=1)))


def test_a_finished_proof_is_answered_from_the_history(live, place, edits, engine_calls):
    first = prove(live, Proof(place.evaluation, edits, again=True))
    engine_calls.clear()
    seen = []
    again = prove(
        live,
        Proof(place.evaluation, edits, again=True),
        control=Control(progress=lambda *counts: seen.append(counts)),
    )
    assert again == first
    assert engine_calls == []
    assert seen == [(24, 24)]
    assert stored_runs() == [first]


def test_scores_are_those_of_a_plain_evaluation(live, place, edits):
    run = prove(live, Proof(place.evaluation, edits))
    slice_ = encode(read_slices([], place.evaluation).held_out, live.base.tokenizer, place.evaluation.encoding)
    plain = evaluate(live, slice_, {name: edit.sigma_after for name, edit in edits.items()})
    for name in plain.scores:
        assert_losses(run.evaluation.scores[name].loss, plain.scores[name].loss, live.model)
        assert run.evaluation.scores[name].answers == plain.scores[name].answers
        np.testing.assert_array_equal(run.evaluation.scores[name].exact, plain.scores[name].exact)
    assert run.evaluation.samples == plain.samples


@pytest.mark.parametrize(("batch_size", "count"), [(1, 0), (7, 0), (2, 2), (32, 2)])
def test_progress_rises_to_the_total(live, place, batch_size, count):
    edits = random_controls(live.spectra, count, scope="all")
    for again in (True, False):
        seen = []
        prove(live, Proof(place.evaluation, edits, batch_size=batch_size, again=again), control=Control(progress=lambda *counts, seen=seen: seen.append(counts)))  # fmt: skip
        total = 6 * (1 + count + again)
        assert {of for _, of in seen} == {total}
        assert [done for done, _ in seen] == sorted(done for done, _ in seen)
        assert seen[-1] == (total, total)


@pytest.mark.parametrize(
    ("batch_size", "count"), [(1, 0), (3, 0), (5, 0), (6, 0), (7, 0), (32, 0), (1, 2), (1, 6), (7, 1)]
)
def test_the_rerun_is_batched_otherwise_and_asked_for_itself(live, place, engine_calls, batch_size, count):
    edits = random_controls(live.spectra, count, scope="all")
    rows: list[list[int]] = []
    widths: list[int] = []

    def forward(_: Any, __: Any, options: dict[str, Any]) -> None:
        widths.append(options["input_ids"].shape[0])

    def progress(done: int, total: int) -> None:
        # the first word of each of the two engines
        if done in (0, total * (1 + count) // (2 + count)) and len(rows) < 2 and not (rows and not widths):
            rows.append(list(widths))
            widths.clear()

    hook = live.model.register_forward_pre_hook(forward, with_kwargs=True)
    try:
        prove(
            live,
            Proof(replace(place.evaluation, batch_size=batch_size), edits, again=True),
            control=Control(progress=progress),
        )
    finally:
        hook.remove()
    first, second = rows[1], widths
    assert max(first) != max(second), "the largest batch has another number of rows"
    assert [(call.variants, call.answers) for call in engine_calls] == [
        ((BASELINE, *edits), 6 * (1 + count)),
        ((AGAIN,), 6),
    ]


@given(st.one_of(st.none(), st.integers(1, 40)), st.integers(1, 20), st.integers(2, 40))
def test_no_rerun_has_the_batches_of_the_first_run(batch_size, variants, examples):
    from surgery.experiments.proof import _other_batch

    other = _other_batch(batch_size, variants, examples)
    rows = min(batch_size or examples, examples) * variants
    assert min(other, examples) != rows


def test_names_that_the_proof_needs_itself_are_refused(place, edits):
    for name in (BASELINE, BASE, AGAIN):
        assert "rename" in refusal(DataError, Proof, place.evaluation, {name: edits["random 0"]})
    assert stored_runs() == []


def test_the_unedited_adapter_is_asked_once_however_many_edits_follow(live, place, edits, history, engine_calls):
    prove(live, Proof(place.evaluation, {"first": edits["random 0"]}, again=True))
    engine_calls.clear()
    run = prove(
        live, Proof(place.evaluation, {"the same": edits["random 0"], "second": edits["random 1"]}, again=True)
    )
    assert [(call.variants, call.requests) for call in engine_calls] == [(("second",), 6)]
    expected = afresh(
        history,
        live,
        Proof(place.evaluation, {"the same": edits["random 0"], "second": edits["random 1"]}, again=True),
    )
    assert same_scores(run, expected)


def test_another_sigma_under_a_known_name_is_asked(live, place, edits, history, engine_calls):
    first = prove(live, Proof(place.evaluation, {"edit": edits["random 0"]}))
    engine_calls.clear()
    run = prove(live, Proof(place.evaluation, {"edit": edits["random 1"]}))
    assert [(call.variants, call.requests) for call in engine_calls] == [(("edit",), 6)]
    assert (scores(run)["edit"][0] != scores(first)["edit"][0]).any()
    assert same_scores(run, afresh(history, live, Proof(place.evaluation, {"edit": edits["random 1"]})))


def test_the_rerun_alone_is_asked_when_it_is_wanted_later(live, place, edits, engine_calls):
    prove(live, Proof(place.evaluation, edits))
    engine_calls.clear()
    prove(live, Proof(place.evaluation, edits, again=True))
    assert [(call.variants, call.requests) for call in engine_calls] == [((AGAIN,), 6)]


@pytest.mark.parametrize("limit", [5, 4])
def test_a_shorter_slice_is_another_question(live, place, engine_calls, limit):
    first = prove(live, Proof(place.evaluation, {}))
    engine_calls.clear()
    run = prove(live, Proof(replace(place.evaluation, limit=limit), {}))
    assert run.plan.context != first.plan.context
    assert [call.answers for call in engine_calls] == [limit]


def other_answer(place: Workplace, folder: Path) -> Workplace:
    rows = [replace(ROWS[30], answer="77"), *ROWS[31:]]
    return replace(place, evaluation=replace(place.evaluation, data=write_rows(folder / "rows.jsonl", rows)))


def other_prompt(place: Workplace, folder: Path) -> Workplace:
    rows = [Row("9+9=", ROWS[30].answer), *ROWS[31:]]
    return replace(place, evaluation=replace(place.evaluation, data=write_rows(folder / "rows.jsonl", rows)))


def other_order(place: Workplace, folder: Path) -> Workplace:
    rows = [ROWS[31], ROWS[30], *ROWS[32:]]
    return replace(place, evaluation=replace(place.evaluation, data=write_rows(folder / "rows.jsonl", rows)))


def other_encoding(place: Workplace, folder: Path) -> Workplace:
    return replace(place, evaluation=replace(place.evaluation, encoding=Encoding(separator=True)))


def other_base(place: Workplace, folder: Path) -> Workplace:
    return replace(place, base=BaseChoice(str(save_model(tiny_llama(seed=9), folder / "base"))))


def other_adapter(place: Workplace, folder: Path) -> Workplace:
    return replace(place, adapter=str(save_adapter(tiny_llama(), folder / "adapter", seed=9)))


def other_dtype(place: Workplace, folder: Path) -> Workplace:
    return replace(place, base=replace(place.base, dtype="bfloat16"))


def other_ending(place: Workplace, folder: Path) -> Workplace:
    """The same weights with generation settings by which answers end elsewhere: no weight file tells."""
    shutil.copytree(place.base.location, folder / "base")
    settings = folder / "base" / "generation_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "eos_token_id": [2, 9]}))
    return replace(place, base=BaseChoice(str(folder / "base")))


OTHERS = [
    other_answer, other_prompt, other_order, other_encoding, other_base, other_adapter, other_dtype,
    other_ending,
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_is_taken_over_from_another_model_question_or_precision(place, tmp_path, engine_calls, other):
    with place.attach() as live:
        first = prove(live, Proof(place.evaluation, {}))
    engine_calls.clear()
    changed = other(place, tmp_path)
    with changed.attach() as live:
        run = prove(live, Proof(changed.evaluation, {}))
    assert run.plan.context != first.plan.context
    assert [call.answers for call in engine_calls] == [6]


@pytest.mark.parametrize("side", ["prompt", "answer"])
def test_texts_that_read_alike_as_tokens_are_other_questions(live, place, tmp_path, side):
    # to this tokenizer both letters are the same unknown one
    first, second = (
        prove(
            live,
            Proof(
                replace(
                    place.evaluation,
                    data=write_rows(
                        tmp_path / f"{letter}.jsonl", [replace(ROWS[30], **{side: letter}), *ROWS[31:]]
                    ),
                ),
                {},
            ),
        )
        for letter in "ÄÖ"
    )
    assert first.plan.context != second.plan.context
    assert [
        getattr(run.evaluation.samples[0], "reference" if side == "answer" else "prompt")
        for run in (first, second)
    ] == ["Ä", "Ö"]


def test_other_versions_are_another_run(live, place, monkeypatch, engine_calls):
    first = prove(live, Proof(place.evaluation, {}))
    for package in ("torch", "transformers"):
        engine_calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(
                "surgery.experiments.proof.version",
                lambda name, package=package: "0" if name == package else first.plan.settings[name],
            )
            run = prove(live, Proof(place.evaluation, {}))
        assert run.plan.settings[package] == "0"
        assert [call.answers for call in engine_calls] == [6]


def test_files_that_were_moved_are_the_same_run(place, tmp_path, engine_calls):
    with place.attach() as live:
        first = prove(live, Proof(place.evaluation, random_controls(live.spectra, 1)))
    engine_calls.clear()
    for name, source in (("base", place.base.location), ("adapter", place.adapter)):
        shutil.copytree(source, tmp_path / "moved" / name)
    shutil.copy(place.evaluation.data, tmp_path / "moved" / "rows.jsonl")
    moved = replace(
        place,
        base=BaseChoice(str(tmp_path / "moved" / "base")),
        adapter=str(tmp_path / "moved" / "adapter"),
        evaluation=replace(place.evaluation, data=str(tmp_path / "moved" / "rows.jsonl")),
    )
    with moved.attach() as live:
        edits = random_controls(live.spectra, 1)
        assert prove(live, Proof(moved.evaluation, edits)).plan.key == first.plan.key
        prove(live, Proof(moved.evaluation, edits, recipe=moved.recipe()))
    assert engine_calls == [], "the recipe makes another run of it, which asks nothing again"


def test_what_was_asked_of_whom_is_kept(live, place, edits):
    plans = {"random 0": EditPlan(RandomIndex(), manual={"m": {2: 0.5}}), "nobody": EditPlan(Identity())}
    recipe = place.recipe()
    run = prove(live, Proof(place.evaluation, edits, base=place.base, plans=plans, recipe=recipe, purpose="dose"))
    (found,) = stored_runs(live.adapter.digest)
    assert found == run
    assert list(found.plan.edits) == ["random 0"]
    assert found.plan.edits["random 0"]["manual"] == {"m": {2: 0.5}}
    assert found.plan.question["rows"]["data"] == place.evaluation.data
    assert (found.plan.adapter, found.plan.base["location"]) == (place.adapter, place.base.location)
    assert (found.plan.examples, found.plan.purpose) == (6, "dose")
    assert place.calibration.data in found.recipe


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def deleted(file: Path) -> None:
    file.unlink()


def flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize("name", [SAMPLES, METRICS, ABOUT])
@pytest.mark.parametrize("damage", [emptied, deleted, flipped])
def test_a_finished_run_with_damaged_files_is_put_together_from_its_answers(
    live, place, edits, engine_calls, name, damage
):
    first = prove(live, Proof(place.evaluation, edits))
    expected = scores(first)
    damage(first.folder / name)
    engine_calls.clear()
    again = prove(live, Proof(place.evaluation, edits))
    assert engine_calls == []
    assert stored_run(again.plan.key) == again
    for variant, (loss, answers) in scores(again).items():
        np.testing.assert_array_equal(loss, expected[variant][0])
        assert answers == expected[variant][1]


def test_a_damaged_answer_is_asked_again_and_the_others_are_not(live, place, edits, history, engine_calls):
    first = prove(live, Proof(place.evaluation, edits))
    (first.folder / METRICS).unlink()
    flipped(first.folder / LOG)
    engine_calls.clear()
    again = prove(live, Proof(place.evaluation, edits))
    assert sum(call.requests for call in engine_calls) in (1, 2)
    assert same_scores(again, afresh(history, live, Proof(place.evaluation, edits)))


def test_a_disk_that_fills_up_stops_the_proof_with_its_reason_and_loses_nothing(
    live, place, edits, history, engine_calls, monkeypatch
):
    calls = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("surgery.runs.answer_log._SECONDS", 0.0)
        patch.setattr("surgery.runs.answer_log.os.fsync", full)
        told = refusal(DataError, prove, live, Proof(place.evaluation, edits, batch_size=1))
    assert os.strerror(errno.ENOSPC) in told
    (cut,) = stored_runs()
    assert not cut.finished
    kept = cut.done
    assert kept >= 3 * 3
    engine_calls.clear()
    run = prove(live, Proof(place.evaluation, edits, batch_size=1))
    assert sum(call.answers for call in engine_calls) == 18 - kept
    assert same_scores(run, afresh(history, live, Proof(place.evaluation, edits, batch_size=1)))


def test_results_that_do_not_fit_on_the_disk_are_written_later_from_the_answers(
    live, place, edits, engine_calls, monkeypatch
):
    write = Path.write_bytes

    def full(file: Path, data: bytes) -> int:
        if file.name.startswith(SAMPLES):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data)

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.write_bytes", full)
        assert os.strerror(errno.ENOSPC) in refusal(DataError, prove, live, Proof(place.evaluation, edits))
    engine_calls.clear()
    assert prove(live, Proof(place.evaluation, edits)).finished
    assert engine_calls == []


def test_a_history_that_is_removed_meanwhile_is_noticed_before_the_end(live, place, edits, history, monkeypatch):
    monkeypatch.setattr("surgery.runs.answer_log._SECONDS", 0.0)
    seen = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        if done == 6:
            shutil.rmtree(history)

    told = refusal(
        DataError, prove, live, Proof(place.evaluation, edits, batch_size=1), control=Control(progress=progress)
    )
    assert "anew" in told
    assert max(seen) == 6, "no further request is asked for nothing"
    assert stored_runs() == []
    assert prove(live, Proof(place.evaluation, edits)).finished


def test_a_history_that_cannot_be_written_is_refused_before_the_model_runs(live, place, history, engine_calls):
    history.rmdir()
    history.write_text("")
    assert os.strerror(errno.ENOTDIR) in refusal(DataError, prove, live, Proof(place.evaluation, {}))
    assert engine_calls == []


@pytest.fixture(scope="module")
def task_files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    save_model(tiny_llama(max_position_embeddings=2048), folder / "base", tiny_tokenizer())
    save_adapter(tiny_llama(max_position_embeddings=2048), folder / "adapter", scale=0.6)
    write_questions(folder / "questions.jsonl", "ABCDE")
    return folder


def write_questions(file: Path, right: str, words: str = "red blue green one two") -> Path:
    rng = np.random.default_rng(0)
    questions = [
        {
            "id": str(number),
            "question": f"which word is number {number} of this list of words?",
            "question_concept": "word",
            "choices": {"label": list("ABCDE"), "text": rng.permutation(words.split()).tolist()},
            "answerKey": right[number % 5],
        }
        for number in range(5)
    ]
    file.write_text("".join(json.dumps(question) + "\n" for question in questions))
    return file


def questions(file: Path, **changes: Any) -> LoadedTask:
    return load_task(TaskPlan("commonsense_qa", data_files={"validation": str(file)}, **changes))


@pytest.fixture(scope="module")
def loaded(task_files) -> LoadedTask:
    return questions(task_files / "questions.jsonl")


@pytest.fixture
def task_live(task_files):
    adapter = open_adapter(task_files / "adapter")
    with attach(adapter, decompose(adapter), BaseChoice(str(task_files / "base"))) as attached:
        yield attached


def test_a_task_is_scored_as_without_a_history_and_kept(task_live, loaded, engine_calls):
    edits = random_controls(task_live.spectra, 2, scope="all")
    seen = []
    run = prove(
        task_live, Proof(loaded, edits, again=True), control=Control(progress=lambda *counts: seen.append(counts))
    )
    plain = benchmark(task_live, loaded, edits)
    assert list(run.evaluation.scores) == [*plain.scores, AGAIN]
    assert (run.evaluation.metrics, run.evaluation.samples) == (plain.metrics, plain.samples)
    for name in plain.scores:
        for measure in plain.metrics:
            np.testing.assert_array_equal(
                run.evaluation.numbers(name, measure.name), plain.numbers(name, measure.name)
            )
        assert run.evaluation.scores[name].answers == plain.scores[name].answers
        assert run.evaluation.aggregates[name] == pytest.approx(plain.aggregates[name])
    assert [(call.kind, call.variants) for call in engine_calls] == [
        ("log_likelihoods", (BASELINE, *edits)),
        ("log_likelihoods", (AGAIN,)),
    ]
    assert seen == sorted(seen)
    assert seen[-1] == (5 * 5 * 4, 5 * 5 * 4)
    assert run.plan.question == {"task": loaded.plan.values()}
    assert run.plan.settings["lm-eval"]
    engine_calls.clear()
    assert prove(task_live, Proof(loaded, edits, again=True)) == run
    assert engine_calls == []


def test_a_cancelled_task_goes_on(task_live, loaded, history, engine_calls):
    edits = random_controls(task_live.spectra, 1, scope="all")
    done = []
    with pytest.raises(Cancelled):
        prove(task_live, Proof(loaded, edits, batch_size=1), control=Control(progress=lambda count, _: done.append(count), cancelled=lambda: bool(done) and done[-1] >= 20))  # fmt: skip
    assert 20 <= done[-1] < 50
    engine_calls.clear()
    run = prove(task_live, Proof(loaded, edits, batch_size=1))
    assert sum(call.answers for call in engine_calls) == 50 - done[-1]
    expected = afresh(history, task_live, Proof(loaded, edits, batch_size=1))
    assert run.evaluation.aggregates == expected.evaluation.aggregates
    for name, found in expected.evaluation.scores.items():
        assert run.evaluation.scores[name].answers == found.answers


def test_other_right_answers_are_another_question(task_live, task_files, loaded, tmp_path):
    # a label of one letter is no text that tells an example from others, and it decides every score
    other = questions(write_questions(tmp_path / "questions.jsonl", "BCDEA"))
    assert [sample.hash for sample in other.documents] == [sample.hash for sample in loaded.documents]
    first, second = (prove(task_live, Proof(task, {})) for task in (loaded, other))
    assert first.plan.context != second.plan.context
    found, plain = second.evaluation, benchmark(task_live, other, {})
    np.testing.assert_array_equal(found.numbers(BASELINE, "acc,none"), plain.numbers(BASELINE, "acc,none"))
    moved = questions(write_questions(tmp_path / "moved.jsonl", "ABCDE"))
    assert prove(task_live, Proof(moved, {})) == first


def test_a_task_asked_as_before_is_the_question_of_before_and_a_thought_s_end_makes_it_another(task_live, loaded):
    # what earlier versions digested, written out: their runs are found again
    requests, tokenizer = loaded.tasks["commonsense_qa"].instances, task_live.base.tokenizer
    texts = list(dict.fromkeys(part for request in requests for part in request.args))
    documents = {request.doc_id: repr(request.doc) for request in requests}
    parts = [digest(repr(request.args) for request in requests), repr(tokenizer(texts).input_ids)]
    parts += [str(tokenizer.model_max_length), *documents.values(), repr(sorted(end_ids(task_live)))]
    asked = prove(task_live, Proof(loaded, {})).plan.asked
    assert asked == digest(["task", "commonsense_qa", *parts])
    thoughtful = replace(loaded, plan=replace(loaded.plan, think_end="</think>"))
    assert prove(task_live, Proof(thoughtful, {})).plan.asked != asked


def test_a_tokenizer_that_reads_otherwise_is_another_question(task_live, loaded, engine_calls):
    first = prove(task_live, Proof(loaded, {}))
    engine_calls.clear()
    tokenizer = tiny_tokenizer()
    vocabulary = tokenizer.get_vocab()
    swapped = json.loads(tokenizer.backend_tokenizer.to_str())
    swapped["model"]["vocab"] |= {"a": vocabulary["b"], "b": vocabulary["a"]}
    other = replace(task_live.base, tokenizer=type(tokenizer)(
        tokenizer_object=type(tokenizer.backend_tokenizer).from_str(json.dumps(swapped)),
        bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>",
    ))  # fmt: skip
    task_live.base = other
    vars(task_live).pop("tokenizer", None)
    run = prove(task_live, Proof(loaded, {}))
    assert run.plan.context != first.plan.context
    assert [call.requests for call in engine_calls] == [25]


def test_a_task_that_shares_an_example_with_the_edits_slices_is_refused(task_live, loaded, tmp_path):
    rows = [Row("which word is number 3 of this list of words?", "red")]
    seen = CalibrationPlan(write_rows(tmp_path / "seen.jsonl", rows), examples=1)
    assert "share an example" in refusal(DataError, prove, task_live, Proof(loaded, {}, [seen]))
    assert stored_runs() == []


def base_losses(place: Workplace, slice_: Any) -> list[float]:
    """Of the plain model that nothing was ever attached to."""
    return [example_loss(tiny_llama(), example).item() for example in slice_.examples]


def test_the_base_rides_in_the_batches_of_the_others_and_scores_as_the_plain_model(
    live, place, edits, engine_calls
):
    proof = Proof(place.evaluation, edits, again=True, base_arm=True)
    run = prove(live, proof)
    assert [call.variants for call in engine_calls] == [(BASELINE, *edits, BASE), (AGAIN,)]
    assert list(run.evaluation.scores) == [BASELINE, *edits, BASE, AGAIN]
    slice_ = encode(read_slices([], place.evaluation).held_out, live.base.tokenizer, place.evaluation.encoding)
    assert_losses(run.evaluation.scores[BASE].loss, base_losses(place, slice_), live.model)
    assert not any(BASE in note for note in run.evaluation.notes)
    assert prove(live, proof).plan == run.plan
    assert len(engine_calls) == 2


def test_the_base_alone_is_asked_when_it_is_wanted_later(live, place, edits, engine_calls):
    without = prove(live, Proof(place.evaluation, edits))
    engine_calls.clear()
    run = prove(live, Proof(place.evaluation, edits, base_arm=True))
    assert [(call.variants, call.requests) for call in engine_calls] == [((BASE,), 6)]
    assert run.plan.key != without.plan.key
    assert run.plan.context == without.plan.context


@pytest.fixture
def biased(place, tmp_path) -> Workplace:
    """The place with an adapter that has biases of its own."""
    folder = save_adapter(tiny_llama(), tmp_path / "biased", lora_bias=True)
    return replace(place, adapter=str(folder))


def test_a_base_that_no_sigma_gives_is_asked_alone_and_first_and_that_is_told(biased, engine_calls, history):
    seen = []
    with biased.attach() as live:
        proof = Proof(biased.evaluation, random_controls(live.spectra, 1, scope="all"), again=True, base_arm=True)
        run = prove(live, proof, control=Control(progress=lambda *counts: seen.append(counts)))
        slice_ = encode(
            read_slices([], biased.evaluation).held_out, live.base.tokenizer, biased.evaluation.encoding
        )
        assert_losses(run.evaluation.scores[BASE].loss, base_losses(biased, slice_), live.model)
        assert [call.variants for call in engine_calls] == [(BASE,), (BASELINE, "random 0"), (AGAIN,)]
        assert list(run.evaluation.scores) == [BASELINE, "random 0", BASE, AGAIN]
        (note,) = [note for note in run.evaluation.notes if note.startswith(BASE)]
        assert "holds LoRA biases beside" in note
        assert seen == sorted(seen)
        assert seen[-1] == (24, 24)
        assert same_scores(run, afresh(history, live, proof)), "the adapter was put back as it was"


@pytest.mark.parametrize("stop", [3, 9])
def test_a_cancelled_proof_with_a_base_of_its_own_goes_on(biased, engine_calls, stop):
    def progress(count: int, _: int) -> None:
        if count >= stop:
            raise Cancelled

    with biased.attach() as live:
        proof = Proof(biased.evaluation, {}, batch_size=1, base_arm=True)
        with pytest.raises(Cancelled):
            prove(live, proof, control=Control(progress=progress))
        done = stored_runs()[0].done
        assert 0 < done < 12
        engine_calls.clear()
        assert prove(live, proof).finished
        assert sum(call.answers for call in engine_calls) == 12 - done
