"""Streamed answers against peft's own models decoding by hand, and differences of texts as a puzzle put together."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models
from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast

from surgery.adapter import open_adapter
from surgery.data import Calibration, Encoding, Example
from surgery.edits import Edit, ModuleEdit
from surgery.errors import BaseModelError, Cancelled, DataError, PolicyError, RowsMixedError
from surgery.export import export
from surgery.model import LiveModel, VariantEngine, Way, difference, stream_answers
from surgery.progress import Control
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.models import (
    ASSISTANT,
    BOS,
    EOS,
    GPT2_TARGETS,
    USER,
    characters,
    greedy_tokens,
    loaded_base,
    often_ending,
    save_adapter,
    tiny_gpt2,
    tiny_llama,
    tiny_tokenizer,
    with_peft,
)

LIMIT = 14
# every token of these models is a character or a special token, so equal texts are equal tokens
LETTERS = 49
PROMPTS = ["1+1=", "abc", "what is it?", "z", "the cat, the dog.", "0", "five", "hello"]
MAKERS = {
    "llama": lambda: often_ending(tiny_llama(vocab_size=LETTERS), 3.0),
    "gpt2": lambda: tiny_gpt2(seed=3, vocab_size=LETTERS, n_positions=64),
}
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


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """A mixture of experts whose adapter updates raw parameters and the attention."""

    def make():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_local_experts": 4}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64}
        ends = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": 3, "initializer_range": 0.2}
        model = MixtralForCausalLM(MixtralConfig(vocab_size=LETTERS, **sizes, **heads, **ends))
        return often_ending(model.requires_grad_(False).eval(), 3.0)

    folder = save_adapter(
        make(),
        tmp_path_factory.mktemp("experts"),
        targets=["q_proj", "o_proj"],
        r=2,
        target_parameters=["mlp.experts.gate_up_proj", "mlp.experts.down_proj"],
        lora_dropout=0.0,
    )
    return make, folder


def attach(model, folder) -> LiveModel:
    adapter = open_adapter(folder)
    return LiveModel(loaded_base(model), adapter, decompose(adapter))


def variant(live, seed: int, within: str = "") -> dict[str, np.ndarray]:
    """Other σ for the modules whose name holds `within`."""
    rng = np.random.default_rng(seed)
    return {n: s.sigma * rng.choice([0.0, 0.4, 2.5], size=s.rank) for n, s in live.spectra.items() if within in n}


def several(live) -> dict:
    """Variants of everything and of different modules, with the unedited adapter among them."""
    writers = variant(live, 2, "o_proj") or variant(live, 2, "c_proj")
    return {"all": variant(live, 1), "unedited": None, "writers": writers, "nothing": {}}


def last(steps) -> dict[str, str]:
    *_, end = steps
    return end


def collect(stream, into: list) -> None:
    """Keep every step as it comes, also those before a stream fails."""
    for step in stream:
        into.append(step)


def chat_ids(prompt: str) -> list[int]:
    return [USER, *characters(prompt), ASSISTANT]


def text(tokens) -> str:
    return tiny_tokenizer().decode(tokens, skip_special_tokens=True).strip()


def exported(live, sigma, folder):
    """The adapter with these σ as peft would load it."""
    changed = {n: (live.spectra[n].sigma, s) for n, s in (sigma or {}).items()}
    edit = Edit({n: ModuleEdit(s / own, own, s) for n, (own, s) in changed.items()})
    return export(live.adapter, live.spectra, edit, folder).folder


def forwards(live, monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of what goes into the model from now on."""
    assert live.way  # found before, so that its passes are not among them
    seen = []
    forward = live.model.forward

    def spy(*args, **kwargs):
        seen.append(tuple(kwargs["input_ids"].shape))
        return forward(*args, **kwargs)

    monkeypatch.setattr(live.model, "forward", spy)
    return seen


def mix_rows(live, when=lambda x: True):
    """Make every MLP run its tokens as one flat list, as a layer of experts does, when `when` says so."""
    for layer in live.model.model.layers:
        inner = layer.mlp.forward
        layer.mlp.forward = lambda x, inner=inner: inner(x.flatten(0, 1)).view_as(x) if when(x) else inner(x)


# ---- answers ----


def test_every_row_answers_what_peft_answers_with_that_edit_written_out(case, tmp_path):
    make, folder = case
    lengths = set()
    with attach(make(), folder) as attached:
        variants = several(attached)
        references = {n: with_peft(make(), exported(attached, s, tmp_path / n)) for n, s in variants.items()}
        for prompt in PROMPTS:
            found = last(stream_answers(attached, prompt, variants, Encoding(), limit=LIMIT))
            tokens = {n: greedy_tokens(m, chat_ids(prompt), LIMIT) for n, m in references.items()}
            assert found == {name: text(row) for name, row in tokens.items()}
            assert len({*found.values()}) > 1, "variants that all say the same would show nothing"
            lengths |= {len(row) for row in tokens.values()}
    assert LIMIT in lengths, "some answers must run to the limit"


def test_answers_together_equal_each_variants_answer_alone(case):
    make, folder = case
    with attach(make(), folder) as attached:
        variants = several(attached)
        for prompt in PROMPTS:
            together = last(stream_answers(attached, prompt, variants, Encoding(), limit=LIMIT))
            for name, sigma in variants.items():
                alone = last(stream_answers(attached, prompt, {name: sigma}, Encoding(), limit=LIMIT))
                assert alone == {name: together[name]}


def test_the_unedited_answer_is_the_one_that_evaluation_scores(case):
    make, folder = case
    with attach(make(), folder) as attached:
        for prompt in PROMPTS:
            found = last(stream_answers(attached, prompt, several(attached), Encoding(), limit=LIMIT))
            tokens = VariantEngine(attached, {"a": None}).generate([chat_ids(prompt)], max_new_tokens=LIMIT)
            assert found["unedited"] == text(tokens["a"][0])
            assert found["nothing"] == found["unedited"]


def test_the_plain_template_continues_the_prompt_as_it_stands(llama):
    make, folder = llama
    reference = with_peft(make(), folder)
    with attach(make(), folder) as attached:
        found = last(stream_answers(attached, "1+1=", {"a": None}, Encoding("plain"), limit=LIMIT))
    assert found == {"a": text(greedy_tokens(reference, [BOS, *characters("1+1=")], LIMIT))}


def test_all_variants_share_one_prompt_pass_and_one_pass_a_token(live, monkeypatch):
    seen = forwards(live, monkeypatch)
    steps = list(stream_answers(live, "abc", several(live), Encoding(), limit=LIMIT))
    assert seen == [(4, 5), *[(4, 1)] * (len(steps) - 1)]


def test_every_step_extends_the_last_and_keeps_the_order_of_the_variants(live):
    steps = list(stream_answers(live, "abc", several(live), Encoding(), limit=LIMIT))
    assert 1 < len(steps) <= LIMIT
    assert all(list(step) == ["all", "unedited", "writers", "nothing"] for step in steps)
    for before, after in pairwise(steps):
        for name in before:
            assert after[name].startswith(before[name])
    # a step in hand is not changed by the next one
    assert len({step["all"] for step in steps}) > 1


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_an_answer_stops_at_the_limit(live, limit):
    live.model.lm_head.weight[EOS] = 0
    steps = list(stream_answers(live, "abc", several(live), Encoding(), limit=limit))
    assert len(steps) == limit
    assert all(len(answer) <= limit for answer in steps[-1].values())


def test_an_answer_that_ends_at_once_is_empty():
    always = often_ending(tiny_llama(vocab_size=LETTERS), 0.0)
    always.lm_head.weight[:] = 0
    live = SimpleNamespace(
        model=always,
        base=loaded_base(always),
        device=torch.device("cpu"),
        spectra={},
        positions=None,
        set_sigma=lambda s: None,
        tokenizer_for=lambda encoding: tiny_tokenizer(),
        way=Way(),
    )
    # all logits are equal and the first of equals is chosen
    always.generation_config.eos_token_id = 0
    assert list(stream_answers(live, "abc", {"a": None, "b": {}}, Encoding())) == [{"a": "", "b": ""}]


def test_the_stream_ends_with_its_last_row_while_others_have_ended(live, monkeypatch):
    for prompt in PROMPTS:
        seen = forwards(live, monkeypatch)
        steps = list(stream_answers(live, prompt, several(live), Encoding(), limit=40))
        alone = [
            len(list(stream_answers(live, prompt, {n: s}, Encoding(), limit=40))) for n, s in several(live).items()
        ]
        monkeypatch.undo()
        assert len(steps) == max(alone)
        assert len(seen) == len(steps) + sum(alone)
        if min(alone) < max(alone):
            return
    pytest.fail("some answers must end before others")


# ---- refusals ----


def refusal(*arguments, error=DataError, **options) -> str:
    """The one-line message with which a call is refused, before any step."""
    with pytest.raises(error) as caught:
        stream_answers(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("prompt", ["", " \n\t"])
@pytest.mark.parametrize("template", ["chat", "plain"])
def test_an_empty_prompt_is_refused(live, prompt, template):
    assert "empty" in refusal(live, prompt, {"a": None}, Encoding(template))


def test_a_prompt_without_tokens_is_refused(live):
    live.base.tokenizer.chat_template = "{{ '' }}"
    assert "empty" in refusal(live, "abc", {"a": None}, Encoding())


def test_a_prompt_above_the_length_limit_is_refused_and_one_at_it_is_not(live):
    assert "5 tokens" in refusal(live, "abc", {"a": None}, Encoding(max_length=4))
    assert last(stream_answers(live, "abc", {"a": None}, Encoding(max_length=5), limit=3))


def test_no_variants_and_no_tokens_are_refused(live):
    refusal(live, "abc", {}, Encoding())
    refusal(live, "abc", {"a": None}, Encoding(), limit=0)


def test_a_template_that_cannot_be_used_is_refused(live):
    assert "alpaca" in refusal(live, "abc", {"a": None}, Encoding("alpaca"))
    live.base.tokenizer.chat_template = None
    assert "plain" in refusal(live, "abc", {"a": None}, Encoding())


def test_answers_stay_within_the_positions_of_the_model(tmp_path):
    # GPT-2 looks positions up in a table of 64
    folder = save_adapter(MAKERS["gpt2"](), tmp_path, **OPTIONS["gpt2"])
    with attach(MAKERS["gpt2"](), folder) as attached:
        attached.model.transformer.wte.weight[EOS] = 0
        assert len(list(stream_answers(attached, "a" * 58, several(attached), Encoding()))) == 5
        assert len(list(stream_answers(attached, "a" * 62, several(attached), Encoding()))) == 1
        assert "65 tokens, more than 64" in refusal(attached, "a" * 63, {"a": None}, Encoding())


@pytest.mark.parametrize("bad", [{"elsewhere": np.ones(4)}, {"model.layers.0.self_attn.q_proj": np.ones(3)}])
def test_sigma_of_another_adapter_is_refused(live, bad):
    before = own_logits(live)
    with pytest.raises(PolicyError):
        next(stream_answers(live, "abc", {"good": variant(live, 1), "bad": bad}, Encoding()))
    assert torch.equal(own_logits(live), before)


# ---- the model afterwards ----


def own_logits(live) -> torch.Tensor:
    with torch.no_grad():
        return live.model(input_ids=torch.tensor([[7, 8, 9]])).logits


@pytest.mark.parametrize("allowed", [0, 1, 2, 5])
def test_cancelling_stops_and_leaves_the_unedited_adapter_in_place(live, allowed):
    before = own_logits(live)
    asked, steps = [], []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > allowed

    with pytest.raises(Cancelled):
        collect(
            stream_answers(live, "abc", several(live), Encoding(), control=Control(cancelled=cancelled)), steps
        )
    # once before the prompt and once before each text is shown
    assert len(steps) == max(0, allowed - 1)
    assert torch.equal(own_logits(live), before)


@pytest.mark.parametrize("taken", [0, 1, 3, None], ids=["none", "one", "three", "all"])
def test_a_stream_that_is_left_leaves_the_unedited_adapter_in_place(live, taken):
    before = own_logits(live)
    stream = stream_answers(live, "abc", several(live), Encoding(), limit=LIMIT)
    for _ in range(taken or 0):
        next(stream)
    if taken is None:
        list(stream)
    stream.close()
    assert torch.equal(own_logits(live), before)


def test_a_calibration_after_or_between_steps_is_not_in_inference_mode(live):
    examples = Calibration((Example("k", (7, 8), (9, EOS), ""),), Encoding())
    before = measure_sensitivity(live, examples, list(live.spectra))
    stream = stream_answers(live, "abc", several(live), Encoding(), limit=LIMIT)
    next(stream)
    assert not torch.is_inference_mode_enabled()
    stream.close()
    after = measure_sensitivity(live, examples, list(live.spectra))
    for name in live.spectra:
        np.testing.assert_array_equal(after.values[name], before.values[name])


# ---- one variant after the other ----


def test_experts_answer_one_variant_after_the_other(experts, tmp_path, monkeypatch):
    make, folder = experts
    with attach(make(), folder) as attached:
        variants = {"all": variant(attached, 1), "unedited": None, "experts": variant(attached, 4, "experts")}
        references = {n: with_peft(make(), exported(attached, s, tmp_path / n)) for n, s in variants.items()}
        seen = forwards(attached, monkeypatch)
        for prompt in PROMPTS[:4]:
            steps = list(stream_answers(attached, prompt, variants, Encoding(), limit=LIMIT))
            expected = {n: text(greedy_tokens(m, chat_ids(prompt), LIMIT)) for n, m in references.items()}
            assert steps[-1] == expected
            assert steps[0].keys() == variants.keys()
            assert steps[0]["unedited"] == steps[0]["experts"] == ""
            assert all(b[n].startswith(a[n]) for a, b in pairwise(steps) for n in variants)
    assert {rows for rows, _ in seen} == {1, 3}, "together was tried first"


def test_variants_that_leave_the_experts_alone_answer_together(experts, monkeypatch):
    make, folder = experts
    with attach(make(), folder) as attached:
        variants = {"attention": variant(attached, 1, "self_attn"), "unedited": None}
        alone = {
            name: last(stream_answers(attached, "abc", {name: sigma}, Encoding(), limit=LIMIT))[name]
            for name, sigma in variants.items()
        }
        seen = forwards(attached, monkeypatch)
        assert last(stream_answers(attached, "abc", variants, Encoding(), limit=LIMIT)) == alone
        assert {rows for rows, _ in seen} == {2}


@pytest.mark.parametrize("width", [5, 1], ids=["in the prompt", "after the first token"])
def test_layers_that_mix_rows_give_the_same_answers(live, width):
    variants = several(live)
    expected = list(stream_answers(live, "abc", variants, Encoding(), limit=LIMIT))[-1]
    mix_rows(live, when=lambda x: x.shape[1] == width)
    steps = list(stream_answers(live, "abc", variants, Encoding(), limit=LIMIT))
    assert steps[-1] == expected
    assert all(b[n].startswith(a[n]) for a, b in pairwise(steps) for n in variants)


def test_falling_back_can_be_cancelled(live):
    before = own_logits(live)
    mix_rows(live, when=lambda x: x.shape[0] > 1)
    steps = []
    stream = stream_answers(
        live, "abc", several(live), Encoding(), control=Control(cancelled=lambda: len(steps) == 2)
    )
    with pytest.raises(Cancelled):
        collect(stream, steps)
    assert len(steps) == 2
    assert torch.equal(own_logits(live), before)


def test_a_layer_that_fails_for_one_row_too_is_no_endless_fall_back(live):
    def refuse(x):
        raise RowsMixedError("one row", "none")

    live.model.model.layers[0].mlp.forward = refuse
    with pytest.raises(BaseModelError, match="one row"):
        next(stream_answers(live, "abc", several(live), Encoding()))


# ---- characters of several tokens ----

BYTES = [f"<0x{value:02X}>" for value in range(256)]
END = 256


def byte_tokenizer(decoder, words) -> PreTrainedTokenizerFast:
    """One token per byte, `END` ends a sequence; any prompt is one unknown token."""
    ids = {word: i for i, word in enumerate([*words, "</s>"])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="</s>"))
    tokenizer.decoder = decoder
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
    fast.chat_template = "x"
    return fast


def byte_level_words() -> list[str]:
    """GPT-2's printable stand-ins for bytes."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(value if value in printable else next(others)) for value in range(256)]


TOKENIZERS = {
    "byte fallback": byte_tokenizer(decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()]), BYTES),
    "byte level": byte_tokenizer(decoders.ByteLevel(), byte_level_words()),
}


def scripted(tokenizer, scripts) -> SimpleNamespace:
    """A live model of which row i says the tokens of script i."""

    def model(*, input_ids, attention_mask, **_):
        said = torch.zeros(len(scripts), input_ids.shape[1], END + 1)
        position = attention_mask.shape[1] - 1
        for row, script in enumerate(scripts):
            said[row, -1, script[position] if position < len(script) else END] = 1
        return SimpleNamespace(logits=said)

    model.generation_config = SimpleNamespace()
    base = SimpleNamespace(tokenizer=tokenizer, task="CAUSAL_LM")
    return SimpleNamespace(
        model=model,
        base=base,
        device=torch.device("cpu"),
        spectra={},
        positions=None,
        set_sigma=lambda sigma: None,
        tokenizer_for=lambda encoding: tokenizer,
        way=Way(cached=False),
    )


answers = st.text("aé 😀\n漢", max_size=6)


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@given(first=answers, second=answers)
def test_only_complete_characters_are_shown_and_all_of_them_at_the_end(tokenizer, first, second):
    live = scripted(tokenizer, [list(first.encode()), list(second.encode())])
    steps = list(stream_answers(live, "x", {"a": None, "b": None}, Encoding()))
    assert steps[-1] == {"a": first.strip(), "b": second.strip()}
    assert len(steps) == max(len(first.encode()), len(second.encode())) + 1
    for step in steps:
        assert first.strip().startswith(step["a"])
        assert second.strip().startswith(step["b"])


@pytest.mark.parametrize("tokenizer", TOKENIZERS.values(), ids=TOKENIZERS)
@pytest.mark.parametrize("cut", [3, 4, 5])
def test_a_character_cut_by_the_limit_is_not_shown(tokenizer, cut):
    live = scripted(tokenizer, [list("é😀".encode())])
    assert last(stream_answers(live, "x", {"a": None}, Encoding(), limit=cut)) == {"a": "é"}


# ---- differences ----

sentences = st.lists(st.sampled_from(["the", "cat", "sat", "é.", " ", "\n", "  "]), max_size=14).map("".join)
texts = sentences | st.text(max_size=20)


@given(texts, texts)
def test_same_and_gone_make_the_first_text_and_same_and_new_the_second(before, after):
    runs = difference(before, after)
    assert "".join(text for kind, text in runs if kind != "new") == before
    assert "".join(text for kind, text in runs if kind != "gone") == after
    assert {kind for kind, _ in runs} <= {"same", "gone", "new"}
    assert all(text for _, text in runs)
    assert all(first[0] != second[0] for first, second in pairwise(runs))


@given(texts)
def test_a_text_does_not_differ_from_itself_and_wholly_from_nothing(text):
    assert difference(text, text) == ([("same", text)] if text else [])
    assert difference(text, "") == ([("gone", text)] if text else [])
    assert difference("", text) == ([("new", text)] if text else [])


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1), st.lists(st.sampled_from(["x", "y"]), min_size=1))
def test_texts_without_a_common_word_do_not_meet_in_the_white_space_between(before, after):
    assert difference(" ".join(before), " ".join(after)) == [("gone", " ".join(before)), ("new", " ".join(after))]


def test_words_are_compared_whole():
    assert difference("the cat sat on a mat", "the car sat on a mat, alone") == [
        ("same", "the "),
        ("gone", "cat"),
        ("new", "car"),
        ("same", " sat on a "),
        ("gone", "mat"),
        ("new", "mat, alone"),
    ]


def test_a_word_that_is_frequent_in_a_long_answer_is_still_compared():
    # difflib would treat it as noise above 200 words and spaces
    before = " ".join(["a"] * 110)
    assert difference(before, f"{before} b") == [("same", before), ("new", " b")]
