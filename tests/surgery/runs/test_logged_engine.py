"""An engine that asks for nothing twice: the log answers first."""

import errno
import os
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from surgery.adapter import open_adapter
from surgery.errors import Cancelled, DataError
from surgery.model import Answered, Divergence, LiveModel, Scored, VariantEngine
from surgery.progress import Control
from surgery.runs import AnswerLog, LoggedEngine, logged_answers
from surgery.spectra import decompose
from tests.helpers.models import characters, loaded_base, often_ending, random_examples, save_adapter, tiny_llama
from tests.helpers.refusals import refusal
from tests.helpers.rounding import losses_apart
from tests.surgery.runs.conftest import FullDisk

EXAMPLES = random_examples(9, seed=4, vocabulary=49)
KINDS = ("log_likelihoods", "answer_losses", "divergences", "generate", "answer")


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    model = often_ending(tiny_llama(), 3.0)
    adapter = open_adapter(save_adapter(model, tmp_path_factory.mktemp("adapter")))
    with LiveModel(loaded_base(model), adapter, decompose(adapter)) as attached:
        yield attached


@pytest.fixture
def variants(live) -> dict[str, Any]:
    rng = np.random.default_rng(2)
    changed = {
        f"variant {i}": {name: s.sigma * rng.choice([0.3, 1.0, 1.6], s.rank) for name, s in live.spectra.items()}
        for i in range(2)
    }
    return {"unedited": None, **changed}


def ask(engine, kind: str, examples=EXAMPLES, **hooks) -> dict[str, list]:
    """One call of each kind. Requests repeat, limits differ, and where a text stops depends on its place."""
    prompts = [example.prompt_ids for example in examples]
    if kind == "log_likelihoods":
        pairs = [(e.prompt_ids, [*e.answer_ids[:-1], last]) for e in examples for last in (7, 8)]
        return engine.log_likelihoods([*pairs, pairs[0]], **hooks)
    if kind == "answer_losses":
        return {name: list(losses) for name, losses in engine.answer_losses(examples, **hooks).items()}
    if kind == "divergences":
        return engine.divergences(examples, ("unedited",), **hooks)
    if kind == "generate":
        limits = [3 + place % 4 for place in range(len(prompts))]
        return engine.generate(
            [*prompts, prompts[0]],
            max_new_tokens=[*limits, 5],
            stop=lambda place, tokens: len(tokens) >= 2 + place % 3,
            **hooks,
        )
    return engine.answer(examples, max_new_tokens=6, **hooks)


def same(found: dict[str, list], expected: dict[str, list], model: Any = None) -> bool:
    """Equal names, tokens and truths; numbers as near as two evaluations by `model` are, or the same bits."""

    def near(one: float, other: float) -> bool:
        return abs(one - other) <= (0 if model is None else losses_apart(model, other))

    def parts(response: Any) -> tuple[Any, ...]:
        if isinstance(response, Scored):
            return response.greedy, float(response.log_likelihood)
        if isinstance(response, Answered):
            return tuple(response.tokens), float(response.loss)
        if isinstance(response, Divergence):
            return float(response.cross_entropy), *map(float, response.kl)
        return tuple(response) if isinstance(response, list) else (float(response),)

    if list(found) != list(expected):
        return False
    pairs = [(a, b) for name in found for a, b in zip(found[name], expected[name], strict=True)]
    numbers = [pair for a, b in pairs for pair in zip(parts(a), parts(b), strict=True)]
    return all(near(a, b) if isinstance(a, float) else (type(a), a) == (type(b), b) for a, b in numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_logged_engine_answers_as_the_plain_one(live, variants, file, kind):
    expected = ask(VariantEngine(live, variants, rows=12), kind)
    with AnswerLog(file) as log:
        found = ask(LoggedEngine(live, variants, log, batch_size=4), kind)
    assert same(found, expected)
    if kind == "generate":
        assert len({len(tokens) for tokens in expected["unedited"]}) > 2, "texts must stop at different lengths"
    with AnswerLog(file) as log:
        again = ask(LoggedEngine(live, variants, log), kind)
    assert same(again, expected), "answers read from the log keep every bit"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0, 1, 5])
def test_what_the_log_holds_is_not_asked_again(live, variants, file, engine_calls, kind, kept):
    with AnswerLog(file) as log:
        expected = ask(LoggedEngine(live, variants, log, batch_size=2), kind)
    (whole,) = engine_calls
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == whole.requests
    file.write_bytes(b"".join(lines[:kept]))
    engine_calls.clear()
    with AnswerLog(file) as log:
        found = ask(LoggedEngine(live, variants, log, batch_size=2), kind)
    assert same(found, expected, live.model)
    assert [call.requests for call in engine_calls] == [whole.requests - kept]


def test_each_variant_is_asked_for_what_it_lacks_and_those_alike_together(live, variants, file, engine_calls):
    with AnswerLog(file) as log:
        ask(LoggedEngine(live, {"unedited": None}, log), "answer", EXAMPLES)
    with AnswerLog(file) as log:
        ask(LoggedEngine(live, {"variant 0": variants["variant 0"]}, log), "answer", EXAMPLES[:4])
    engine_calls.clear()
    seen = []
    with AnswerLog(file) as log:
        engine = LoggedEngine(live, {**variants, "other": None}, log, batch_size=3)
        found = ask(engine, "answer", control=Control(progress=lambda *counts: seen.append(counts)))
    assert [(call.variants, call.requests, call.rows) for call in engine_calls] == [
        (("variant 0",), 5, 3),
        (("variant 1", "other"), 9, 6),
    ], "a batch has at most three requests, however many variants share it"
    expected = ask(VariantEngine(live, {**variants, "other": None}), "answer")
    assert same(found, expected, live.model)
    assert seen[0] == (13, 36)
    assert seen[-1] == (36, 36)
    assert seen == sorted(seen)


def test_several_calls_are_told_apart_by_their_order(live, variants, file, engine_calls):
    def both() -> list:
        with AnswerLog(file) as log:
            engine = LoggedEngine(live, variants, log)
            return [ask(engine, "answer", EXAMPLES[:4]), ask(engine, "answer", EXAMPLES[4:8])]

    first = both()
    engine_calls.clear()
    assert both() == first
    assert engine_calls == []


@pytest.mark.parametrize(
    "change",
    [
        lambda e: replace(e, prompt_ids=(*e.prompt_ids, 9)),
        lambda e: replace(e, answer_ids=(*e.answer_ids[:-1], 9)),
        lambda e: replace(e, prompt_ids=(*e.prompt_ids, e.answer_ids[0]), answer_ids=e.answer_ids[1:]),
    ],
    ids=["prompt", "answer", "boundary"],
)
@pytest.mark.parametrize("kind", ["answer_losses", "answer"])
def test_an_answer_is_never_taken_for_that_to_another_request(live, variants, file, engine_calls, kind, change):
    with AnswerLog(file) as log:
        ask(LoggedEngine(live, variants, log), kind)
    others = [change(example) if place % 2 else example for place, example in enumerate(EXAMPLES)]
    engine_calls.clear()
    with AnswerLog(file) as log:
        found = ask(LoggedEngine(live, variants, log), kind, others)
    assert [call.requests for call in engine_calls] == [4]
    assert same(found, ask(VariantEngine(live, variants), kind, others), live.model)


def test_the_kind_of_a_call_and_its_limit_are_part_of_the_request(live, file, engine_calls):
    prompts = [e.prompt_ids for e in EXAMPLES]
    for limit in (2, 5):
        with AnswerLog(file) as log:
            found = LoggedEngine(live, {"a": None}, log).generate(prompts, max_new_tokens=limit)
        assert found == VariantEngine(live, {"a": None}).generate(prompts, max_new_tokens=limit)
    pairs = [(e.prompt_ids, e.answer_ids) for e in EXAMPLES]
    with AnswerLog(file) as log:
        LoggedEngine(live, {"a": None}, log).log_likelihoods(pairs)
    with AnswerLog(file) as log:
        found = LoggedEngine(live, {"a": None}, log).answer_losses(EXAMPLES)
    np.testing.assert_array_equal(found["a"], VariantEngine(live, {"a": None}).answer_losses(EXAMPLES)["a"])
    assert [call.requests for call in engine_calls] == [9, 9, 9, 9]


def test_requests_that_the_engine_refuses_are_refused_here_too(live, file):
    with AnswerLog(file) as log:
        engine = LoggedEngine(live, {"a": None}, log)
        refusal(DataError, engine.generate, [characters("1+1=")], max_new_tokens=[2, 2])
        refusal(DataError, engine.generate, [characters("1+1=")], max_new_tokens=0)
        refusal(DataError, engine.log_likelihoods, [([], [7])])
        refusal(DataError, LoggedEngine(live, {"a": None}, log, batch_size=0).answer_losses, EXAMPLES)


def test_a_cancel_keeps_what_was_finished(live, variants, file, engine_calls):
    seen = []

    def cancelled() -> bool:
        return bool(seen) and seen[-1][0] >= 12

    with AnswerLog(file) as log:
        engine = LoggedEngine(live, variants, log, batch_size=2)
        with pytest.raises(Cancelled):
            ask(
                engine,
                "answer",
                control=Control(progress=lambda *counts: seen.append(counts), cancelled=cancelled),
            )
    assert 12 <= sum(map(len, logged_answers(file).values())) < 27
    engine_calls.clear()
    with AnswerLog(file) as log:
        found = ask(LoggedEngine(live, variants, log), "answer")
    assert engine_calls[0].answers == 27 - seen[-1][0]
    assert same(found, ask(VariantEngine(live, variants), "answer"), live.model)


def test_a_full_disk_is_told_and_the_answers_before_it_go_on(live, variants, file, engine_calls):
    log = AnswerLog(file)
    log._file = FullDisk(log._file, 700)
    told = refusal(DataError, ask, LoggedEngine(live, variants, log, batch_size=1), "answer")
    log.close()
    assert f"{os.strerror(errno.ENOSPC)}: 1 KiB are needed" in told
    assert "make room" in told
    kept = len(logged_answers(file))
    assert 0 < kept < 9
    assert not file.read_bytes().endswith(b"\n"), "the last write went through in part"
    engine_calls.clear()
    with AnswerLog(file) as log:
        found = ask(LoggedEngine(live, variants, log), "answer")
    assert [call.requests for call in engine_calls] == [9 - kept]
    assert same(found, ask(VariantEngine(live, variants), "answer"), live.model)


def test_a_variant_is_measured_from_one_beside_it_that_is_asked_for_nothing(live, variants, file):
    with AnswerLog(file) as log:
        whole = ask(LoggedEngine(live, variants, log), "divergences")
    lines = file.read_bytes()
    told = []
    with AnswerLog(file.with_name("other.jsonl")) as log:
        control = Control(progress=lambda done, total: told.append((done, total)))
        engine = LoggedEngine(live, {"variant 1": variants["variant 1"]}, log, beside={"unedited": None})
        assert engine.references == ("unedited", "variant 1")
        alone = ask(engine, "divergences", control=control)
    assert same(alone, {"variant 1": whole["variant 1"]}, live.model)
    assert told[-1] == (len(EXAMPLES), len(EXAMPLES))
    assert all(done <= total == len(EXAMPLES) for done, total in told)
    assert {name for each in logged_answers(file.with_name("other.jsonl")).values() for name in each} == {
        "variant 1"
    }
    with AnswerLog(file) as log:
        other = {**variants, "unedited": variants["variant 0"]}
        ask(LoggedEngine(live, other, log), "divergences")
    assert len(file.read_bytes()) > len(lines), "what is measured from another reference is asked anew"
