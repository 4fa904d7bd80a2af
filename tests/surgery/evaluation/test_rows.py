"""Losses, greedy answers and paired effects against one plain example at a time and plain numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import Calibration, Encoding, Example
from surgery.edits import Edit, ModuleEdit
from surgery.errors import Cancelled, DataError
from surgery.evaluation import BASELINE, Marking, evaluate, paired_effect
from surgery.export import export
from surgery.model import LiveModel, VariantEngine
from surgery.progress import Control
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import (
    EOS,
    GPT2_TARGETS,
    PAD,
    USER,
    double,
    example_loss,
    greedy_tokens,
    loaded_base,
    merged,
    often_ending,
    random_examples,
    save_adapter,
    tiny_gpt2,
    tiny_llama,
    tiny_tokenizer,
    with_peft,
)
from tests.helpers.rounding import assert_losses

LIMIT = 14
EXAMPLES = tuple(random_examples(10, seed=11, vocabulary=49))
MAKERS = {"llama": lambda: often_ending(tiny_llama(), 3.0), "gpt2": lambda: tiny_gpt2(seed=3)}
OPTIONS = {"llama": {}, "gpt2": {"targets": GPT2_TARGETS, "fan_in_fan_out": True}}


@pytest.fixture(scope="module", params=MAKERS)
def case(request, tmp_path_factory):
    """A maker of the base model and the folder of an adapter for it."""
    make = MAKERS[request.param]
    return make, save_adapter(make(), tmp_path_factory.mktemp("adapter"), **OPTIONS[request.param])


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return MAKERS["llama"], save_adapter(MAKERS["llama"](), tmp_path_factory.mktemp("adapter"))


@pytest.fixture
def live(llama):
    make, folder = llama
    with attach(make(), folder) as attached:
        yield attached


def attach(model, folder, tokenizer=None) -> LiveModel:
    adapter = open_adapter(folder)
    return LiveModel(loaded_base(model, tokenizer), adapter, decompose(adapter))


def slice_of(examples=EXAMPLES) -> Calibration:
    return Calibration(tuple(examples), Encoding())


def variant(live, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: s.sigma * rng.choice([0.0, 0.5, 1.7], size=s.rank) for name, s in live.spectra.items()}


def text(tokens) -> str:
    return tiny_tokenizer().decode(tokens, skip_special_tokens=True).strip()


def greedy_answers(live, examples=EXAMPLES) -> list[str]:
    """What the unedited adapter answers, all examples together."""
    prompts = [example.prompt_ids for example in examples]
    return [
        text(tokens) for tokens in VariantEngine(live, {"a": None}).generate(prompts, max_new_tokens=LIMIT)["a"]
    ]


def transformers_loss(model, example) -> float:
    """The loss that transformers itself computes from labels."""
    ids = torch.tensor([[*example.prompt_ids, *example.answer_ids]])
    labels = ids.clone()
    labels[:, : len(example.prompt_ids)] = -100
    with torch.no_grad():
        return float(model(input_ids=ids, labels=labels).loss)


@pytest.mark.parametrize("generate", [False, True], ids=["losses only", "with answers"])
def test_losses_equal_transformers_own_loss_one_example_at_a_time(case, tmp_path, generate):
    make, folder = case
    with attach(make(), folder) as attached:
        sigma = variant(attached, seed=2)
        edit = Edit(
            {n: ModuleEdit(sigma[n] / s.sigma, s.sigma, sigma[n]) for n, s in attached.spectra.items()},
        )
        exported = export(attached.adapter, attached.spectra, edit, tmp_path / "out").folder
        found = evaluate(attached, slice_of(), {"edited": sigma}, batch_size=4, marking=Marking(generate=generate))
    for name, adapter in ((BASELINE, folder), ("edited", exported)):
        reference = with_peft(make(), adapter)
        expected = [transformers_loss(reference, example) for example in EXAMPLES]
        assert_losses(found.scores[name].loss, expected, reference)


@pytest.mark.parametrize("generate", [False, True], ids=["losses only", "with answers"])
def test_losses_of_answers_of_a_single_token_equal_transformers_own_loss(llama, generate):
    make, folder = llama
    reference = with_peft(make(), folder)
    short = [replace(example, answer_ids=example.answer_ids[:1]) for example in EXAMPLES]
    with attach(make(), folder) as attached:
        found = evaluate(attached, slice_of(short), {}, batch_size=4, marking=Marking(generate=generate)).scores[
            BASELINE
        ]
    assert_losses(found.loss, [transformers_loss(reference, e) for e in short], reference)


def test_scoring_keeps_the_precision_of_a_float64_model(llama):
    make, folder = llama
    reference = merged(double(make()), folder)
    with attach(double(make()), folder) as attached:
        for generate in (False, True):
            found = evaluate(attached, slice_of(), {}, marking=Marking(generate=generate)).scores[BASELINE].loss
            with torch.no_grad():
                expected = [example_loss(reference, example).item() for example in EXAMPLES]
            assert_losses(found, expected, attached.model)


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_losses_and_answers_do_not_depend_on_batch_size_or_order(live, batch_size):
    expected = evaluate(live, slice_of(), {}, batch_size=4).scores[BASELINE]
    order = np.random.default_rng(batch_size).permutation(len(EXAMPLES))
    found = evaluate(live, slice_of([EXAMPLES[i] for i in order]), {}, batch_size=batch_size).scores[BASELINE]
    assert_losses(found.loss, expected.loss[order], live.model)
    assert found.answers == tuple(expected.answers[i] for i in order)


def test_greedy_answers_equal_generating_each_prompt_alone(case):
    make, folder = case
    reference = with_peft(make(), folder)
    with attach(make(), folder) as attached:
        answers = greedy_answers(attached)
    for answer, example in zip(answers, EXAMPLES, strict=True):
        ids = torch.tensor([example.prompt_ids])
        with torch.no_grad():
            output = reference.generate(input_ids=ids, max_new_tokens=LIMIT, do_sample=False, pad_token_id=PAD)
        assert answer == text(output[0, ids.shape[1] :])


def test_greedy_answers_equal_arg_max_decoding_without_cache_or_padding(case):
    make, folder = case
    reference = with_peft(make(), folder)
    with attach(make(), folder) as attached:
        answers = greedy_answers(attached)
    assert answers == [text(greedy_tokens(reference, example.prompt_ids, LIMIT)) for example in EXAMPLES]


def test_greedy_answers_stop_at_the_end_of_sequence_at_different_lengths(llama):
    make, folder = llama
    reference = with_peft(make(), folder)
    lengths = {len(greedy_tokens(reference, example.prompt_ids, LIMIT)) for example in EXAMPLES}
    assert LIMIT in lengths, "some answers must run to the limit"
    assert len(lengths) > 2, "and others must end before, or the tests above show less than they say"


@pytest.mark.parametrize("configured", [None, USER], ids=["none", "another"])
def test_greedy_answers_end_where_the_tokenizers_sequence_ends(llama, configured):
    # a chat tokenizer often ends turns with a token that the model's generation settings do not name
    make, folder = llama
    reference = with_peft(make(), folder)
    stops = [EOS] if configured is None else [EOS, configured]
    expected = [text(greedy_tokens(reference, example.prompt_ids, LIMIT, stops)) for example in EXAMPLES]
    with attach(make(), folder) as attached:
        attached.model.generation_config.eos_token_id = configured
        assert greedy_answers(attached) == expected


def test_greedy_answers_without_a_padding_token_are_the_same(llama):
    make, folder = llama
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with attach(make(), folder) as attached, attach(make(), folder, tokenizer) as unpadded:
        assert greedy_answers(unpadded) == greedy_answers(attached)


def test_greedy_answers_are_arg_max_whatever_the_checkpoints_generation_settings(llama):
    # a repetition penalty also counts padding that is written as </s>: answers would depend on the batch
    make, folder = llama
    with attach(make(), folder) as attached:
        expected = greedy_answers(attached)
        settings = attached.model.generation_config
        settings.do_sample, settings.temperature, settings.top_k, settings.top_p = True, 1.7, 5, 0.6
        settings.repetition_penalty, settings.no_repeat_ngram_size = 1.5, 2
        assert greedy_answers(attached) == expected


def test_exact_match_compares_stripped_text_with_the_answer(live):
    said = evaluate(live, slice_of(), {}).scores[BASELINE].answers
    assert len(set(said)) > 5
    rows = [
        replace(e, answer=f" {a}\n" if i % 3 else f"{a}x")
        for i, (e, a) in enumerate(zip(EXAMPLES, said, strict=True))
    ]
    found = evaluate(live, slice_of(rows), {}).scores[BASELINE]
    np.testing.assert_array_equal(found.exact, [float(i % 3 != 0) for i in range(len(rows))])


def test_answers_are_long_enough_for_the_longest_reference(live):
    longest = max(len(example.answer_ids) for example in EXAMPLES)
    said = evaluate(live, slice_of(), {}).scores[BASELINE].answers
    assert max(len(answer) for answer in said) >= longest


def test_without_generation_exact_match_is_unknown_and_losses_are_the_same(live):
    full = evaluate(live, slice_of(), {}).scores[BASELINE]
    quick = evaluate(live, slice_of(), {}, marking=Marking(generate=False)).scores[BASELINE]
    assert_losses(quick.loss, full.loss, live.model)
    assert np.isnan(quick.exact).all()
    assert quick.answers == ("",) * len(EXAMPLES)


def test_effects_equal_a_direct_recomputation_from_the_scores(live):
    variants = {"a": variant(live, 1), "b": variant(live, 2)}
    said = evaluate(live, slice_of(), {}).scores[BASELINE].answers
    rows = [replace(e, answer=a) for e, a in zip(EXAMPLES, said, strict=True)]
    found = evaluate(live, slice_of(rows), variants)
    assert list(found.scores) == [BASELINE, "a", "b"]
    assert [(s.key, s.reference) for s in found.samples] == [(row.key, row.answer) for row in rows]
    for name in variants:
        for metric in ("loss", "exact"):
            difference = np.subtract(
                getattr(found.scores[name], metric), getattr(found.scores[BASELINE], metric)
            ).tolist()
            mean = sum(difference) / len(difference)
            spread = sum((d - mean) ** 2 for d in difference) / (len(difference) - 1)
            effect = found.effect(name, metric)
            assert effect.mean == pytest.approx(mean)
            assert effect.standard_error == pytest.approx((spread / len(difference)) ** 0.5)
            assert effect.low <= effect.mean <= effect.high
    assert found.effect("a").mean != 0
    assert found.effect("a", "exact").mean < 0, "only the unedited adapter says what it says"


def test_the_effect_of_an_identical_variant_is_exactly_nothing(live, one_thread):
    same = {name: spectrum.sigma.copy() for name, spectrum in live.spectra.items()}
    found = evaluate(live, slice_of(), {"same": same})
    for metric in ("loss", "exact"):
        effect = found.effect("same", metric)
        assert (effect.mean, effect.standard_error, effect.low, effect.high) == (0, 0, 0, 0)
        assert not effect.certain


def test_the_interval_of_a_large_normal_sample_is_the_normal_one():
    rng = np.random.default_rng(5)
    baseline = rng.normal(2.0, 1.0, size=2000)
    changed = baseline + rng.normal(0.1, 0.5, size=2000)
    effect = paired_effect(baseline, changed)
    d = changed - baseline
    error = float(np.sqrt(((d - d.mean()) ** 2).sum() / 1999 / 2000))
    assert effect.standard_error == pytest.approx(error)
    assert effect.low == pytest.approx(d.mean() - 1.96 * error, abs=0.1 * error)
    assert effect.high == pytest.approx(d.mean() + 1.96 * error, abs=0.1 * error)


def test_the_interval_covers_the_truth_nineteen_times_in_twenty():
    rng = np.random.default_rng(6)
    covered = 0
    for _ in range(200):
        d = rng.exponential(1.0, size=60)
        effect = paired_effect(np.zeros(60), d)
        covered += effect.low <= 1.0 <= effect.high
    # percentile intervals of a skewed sample of 60 fall a little short of 190
    assert 178 <= covered <= 198


def test_the_interval_is_seeded():
    rng = np.random.default_rng(7)
    baseline, changed = rng.normal(size=30), rng.normal(size=30)
    assert paired_effect(baseline, changed) == paired_effect(baseline, changed)
    other = paired_effect(baseline, changed, seed=1)
    assert other.mean == paired_effect(baseline, changed).mean
    assert other.low != paired_effect(baseline, changed).low


def test_pairing_removes_what_examples_have_in_common():
    rng = np.random.default_rng(8)
    hard = rng.normal(size=50) * 100
    effect = paired_effect(hard, hard + 0.5 + rng.normal(size=50) * 0.01)
    assert effect.certain
    assert effect.high - effect.low < 0.01


def test_a_single_example_has_a_difference_but_no_interval():
    effect = paired_effect(np.array([1.0]), np.array([1.5]))
    assert effect.mean == 0.5
    assert np.isnan([effect.standard_error, effect.low, effect.high]).all()
    assert not effect.certain


@pytest.mark.parametrize("direction", [1, -1])
def test_an_effect_is_certain_when_its_interval_leaves_zero_out(direction):
    baseline = np.zeros(20)
    assert paired_effect(baseline, direction * np.linspace(1, 2, 20)).certain
    assert not paired_effect(baseline, direction * np.linspace(-1, 1.1, 20)).certain


def test_a_variant_cannot_take_the_baselines_name(live):
    with pytest.raises(DataError, match="unedited") as caught:
        evaluate(live, slice_of(), {BASELINE: {}})
    assert len(str(caught.value).splitlines()) == 1


def test_progress_counts_examples_over_all_variants(live):
    seen = []
    evaluate(
        live,
        slice_of(),
        {"a": {}},
        batch_size=4,
        control=Control(progress=lambda done, total: seen.append((done, total))),
    )
    assert {total for _, total in seen} == {2 * len(EXAMPLES)}
    counts = [done for done, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == 2 * len(EXAMPLES)
    assert {0, 4, 8, 10, 14, 18, 20} <= set(counts)


@pytest.mark.parametrize("allowed", [0, 2, 5])
def test_cancelling_stops_and_leaves_the_unedited_adapter_in_place(live, allowed):
    expected = evaluate(live, slice_of(), {}).scores[BASELINE]
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > allowed

    with pytest.raises(Cancelled):
        evaluate(
            live, slice_of(), {"edited": variant(live, 3)}, batch_size=4, control=Control(cancelled=cancelled)
        )
    assert len(asked) == allowed + 1
    found = evaluate(live, slice_of(), {}).scores[BASELINE]
    np.testing.assert_array_equal(found.loss, expected.loss)
    assert found.answers == expected.answers


def test_evaluating_ends_with_the_adapters_own_sigma(live):
    with torch.no_grad():
        before = live.model(input_ids=torch.tensor([[7, 8, 9]])).logits
        evaluate(live, slice_of(), {"edited": variant(live, 3)})
        assert torch.equal(live.model(input_ids=torch.tensor([[7, 8, 9]])).logits, before)


def test_a_calibration_after_an_evaluation_is_the_same_as_before(live):
    # the evaluation runs in inference mode, whose tensors no backward pass may touch
    names = list(live.spectra)
    before = measure_sensitivity(live, slice_of(), names)
    evaluate(live, slice_of(), {"edited": variant(live, 3)})
    after = measure_sensitivity(live, slice_of(), names)
    for name in names:
        np.testing.assert_array_equal(after.values[name], before.values[name])


def test_answers_of_an_example_do_not_depend_on_its_company(live):
    long = Example("long", tuple(range(6, 46)) * 2, (7, EOS), "x")
    alone = greedy_answers(live, EXAMPLES[:3])
    assert greedy_answers(live, [*EXAMPLES[:3], long])[:3] == alone
