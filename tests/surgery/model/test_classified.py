"""What a classifier says in batches: rows whose end is looked for, several variants at once, and pairs of texts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from surgery.adapter import open_adapter
from surgery.data import Encoding, Example, Row
from surgery.model import BaseChoice, VariantEngine, attach
from surgery.spectra import decompose
from tests.helpers.classifiers import KINDS, LABELS, save_classifier
from tests.helpers.rounding import assert_losses


@pytest.fixture(scope="module", params=["gpt2", "gpt2 that names its padding", "bert"])
def case(request, tmp_path_factory):
    trained, base, folder = save_classifier(KINDS[request.param], tmp_path_factory.mktemp("classifier"))
    adapter = open_adapter(folder)
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        yield trained, live


def labelled(ids, label=0):
    return Example(str(ids), tuple(ids), (label,), "", task="SEQ_CLS")


def loss_alone(model, example):
    with torch.no_grad():
        logs = model(input_ids=torch.tensor([example.prompt_ids])).logits[0].double().log_softmax(-1)
    return -float(logs[example.answer_ids[0]])


def test_rows_that_end_in_any_token_are_pooled_where_they_are_alone(case):
    """A decoder looks for the last token that is no padding, and its vocabulary has none to spare."""
    trained, live = case
    examples = [
        labelled([*range(5, 5 + length), end], (length + end) % LABELS)
        for end in (0, 1, 2, 3, 4, 7)
        for length in (1, 3, 8)
    ]
    found = VariantEngine(live, {"unedited": None}).classify(examples)["unedited"]
    assert_losses([each.loss for each in found], [loss_alone(trained, each) for each in examples], trained)


def test_several_variants_in_one_batch_say_what_each_says_by_itself(case):
    _, live = case
    examples = [labelled(range(5, 6 + n % 7), n % LABELS) for n in range(9)]
    rng = np.random.default_rng(0)
    variants = {
        f"{n}": {name: own.sigma * rng.uniform(0.2, 2, own.rank) for name, own in live.spectra.items()}
        for n in range(3)
    }
    engine = VariantEngine(live, {"unedited": None, **variants})
    together, losses = engine.classify(examples), engine.answer_losses(examples)
    assert len({tuple(each.loss for each in said) for said in together.values()}) == 4
    for name, variant in {"unedited": None, **variants}.items():
        single = VariantEngine(live, {name: variant}, rows=1).classify(examples)[name]
        assert_losses([each.loss for each in together[name]], [each.loss for each in single], live.model)
        assert_losses(losses[name], [each.loss for each in single], live.model)
        assert [each.labels for each in together[name]] == [each.labels for each in single]


def test_the_model_names_its_padding_after_a_pass_as_before(case):
    _, live = case
    before = live.model.config.pad_token_id
    VariantEngine(live, {"unedited": None}).classify([labelled([5, 6]), labelled([5, 6, 7])])
    assert live.model.config.pad_token_id == before


def test_two_texts_are_told_apart_as_alone(tmp_path):
    trained, base, folder = save_classifier(KINDS["bert"], tmp_path)
    adapter = open_adapter(folder)
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        rows = [Row.labelled(("a fine film", "the plot is dull"), ("1",)), Row.labelled(("dull", "fine"), ("0",))]
        rows += [Row.labelled(("fine",), ("2",))]
        examples = live.encode(rows, Encoding()).examples
        found = VariantEngine(live, {"unedited": None}).classify(examples)["unedited"]
    expected = []
    for example in examples:
        types = torch.tensor([example.segments or (0,) * example.length])
        with torch.no_grad():
            logits = trained(input_ids=torch.tensor([example.prompt_ids]), token_type_ids=types).logits[0]
        expected.append(-float(logits.double().log_softmax(-1)[example.answer_ids[0]]))
    assert_losses([each.loss for each in found], expected, trained)
    without = [loss_alone(trained, example) for example in examples[:2]]
    assert not np.allclose(without, expected[:2], atol=1e-3)


def test_an_adapted_layer_above_the_tokens_is_read_row_by_row(tmp_path):
    """It sees one vector of each text, so the σ of a batch's rows cannot be told apart in it."""
    kind = replace(KINDS["bert"], targets=("query", "pooler.dense"))
    trained, base, folder = save_classifier(kind, tmp_path)
    adapter = open_adapter(folder)
    examples = [labelled(range(5, 6 + n), n % LABELS) for n in range(4)]
    with attach(adapter, decompose(adapter), BaseChoice(str(base))) as live:
        zero = {name: 0 * own.sigma for name, own in live.spectra.items()}
        found = VariantEngine(live, {"unedited": None, "without": zero}).classify(examples)
        alone = VariantEngine(live, {"without": zero}, rows=1).classify(examples)["without"]
    plain = [loss_alone(trained, example) for example in examples]
    assert_losses([each.loss for each in found["unedited"]], plain, trained)
    assert_losses([each.loss for each in found["without"]], [each.loss for each in alone], trained)
