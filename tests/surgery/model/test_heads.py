"""What of a classifier's head comes from where: the base, the adapter, or nowhere."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import BertForMaskedLM

from surgery.adapter import open_adapter
from surgery.errors import BaseModelError
from surgery.model import BaseChoice, LiveModel, attach, base_for, saved_head
from surgery.spectra import decompose
from tests.helpers.classifiers import KINDS, save_classifier, word_tokenizer
from tests.helpers.refusals import refusal

IDS = torch.tensor([[2, 6, 8, 3]])


def attached(folder, base):
    adapter = open_adapter(folder)
    return attach(adapter, decompose(adapter), BaseChoice(str(base)))


def assert_same_logits(live, trained):
    with torch.no_grad():
        torch.testing.assert_close(live.model(input_ids=IDS).logits, trained(input_ids=IDS).logits)


def test_the_saved_head_says_how_many_labels_there_are(tmp_path):
    trained, base, folder = save_classifier(KINDS["bert"], tmp_path)
    assert "num_labels" not in json.loads((base / "config.json").read_text())
    assert saved_head(open_adapter(folder)) == {"classifier.weight": (3, 32), "classifier.bias": (3,)}
    with attached(folder, base) as live:
        assert live.base.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
        assert_same_logits(live, trained)


def test_a_base_with_a_head_of_another_size_gives_way_to_the_one_of_the_adapter(tmp_path):
    """As in training on other labels than those that the base was published with."""
    trained, _, folder = save_classifier(KINDS["bert"], tmp_path)
    own = KINDS["bert"].model(labels=2, id2label={0: "no", 1: "yes"})
    _plain(trained, own.bert)
    own.save_pretrained(tmp_path / "published")
    word_tokenizer().save_pretrained(tmp_path / "published")
    with attached(folder, tmp_path / "published") as live:
        assert len(live.base.labels) == 3
        assert_same_logits(live, trained)


def _plain(trained, bert):
    """Give a plain model the weights below the adapter of a trained one."""
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in trained.base_model.model.bert.state_dict().items()
        if "lora_" not in name
    }
    bert.load_state_dict({name: tensor for name, tensor in state.items() if name in bert.state_dict()})


def test_labels_have_the_names_of_the_base_where_its_head_is_of_the_same_size(tmp_path):
    _, base, folder = save_classifier(KINDS["bert"], tmp_path)
    config = json.loads((base / "config.json").read_text())
    names = {"0": "negative", "1": "neutral", "2": "positive"}
    config |= {"id2label": names, "label2id": {name: int(number) for number, name in names.items()}}
    (base / "config.json").write_text(json.dumps(config))
    with attached(folder, base) as live:
        assert live.base.labels == ("negative", "neutral", "positive")


def test_weights_that_neither_base_nor_adapter_has_are_refused_with_two_ways_that_work(tmp_path):
    """DeBERTa has a pooler below its classifier, which PEFT does not save unless it is told to."""
    kind = KINDS["deberta"]
    trained, base, folder = save_classifier(kind, tmp_path / "lost", modules_to_save=None)
    assert not any("pooler" in name for name in saved_head(open_adapter(folder)))
    message = refusal(BaseModelError, attached, folder, base)
    assert "neither the base model" in message
    assert "'pooler.dense.bias'" in message
    assert "PEFT fills in at random" in message

    # the model that training began with, as it was saved then
    assert "name the model that training began with" in message
    whole = kind.model()
    whole.save_pretrained(tmp_path / "whole")
    word_tokenizer().save_pretrained(tmp_path / "whole")
    with attached(folder, tmp_path / "whole") as live:
        assert_same_logits(live, trained)

    assert "train with 'pooler.dense' among modules_to_save" in message
    again, base, folder = save_classifier(kind, tmp_path / "kept", modules_to_save=["pooler.dense"])
    with attached(folder, base) as live:
        assert_same_logits(live, again)


def test_a_base_without_a_head_for_an_adapter_without_one_is_refused(tmp_path):
    model = KINDS["bert"].model()
    _, base, folder = save_classifier(KINDS["bert"], tmp_path, task_type=None)
    assert saved_head(open_adapter(folder)) == {}
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "task_type": "SEQ_CLS"}))
    message = refusal(BaseModelError, attached, folder, base)
    assert "lacks 2 weights such as 'classifier.bias'" in message
    assert "use a whole checkpoint" in message
    model.save_pretrained(tmp_path / "whole")
    word_tokenizer().save_pretrained(tmp_path / "whole")
    with attached(folder, tmp_path / "whole") as live:
        assert live.base.labels


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"labels": 1}, "says a number"),
        ({"problem_type": "regression"}, "says a number"),
        ({"problem_type": "multi_label_classification"}, "says several labels"),
    ],
)
def test_a_head_that_says_no_label_of_several_is_refused_when_it_is_to_run(change, said, tmp_path):
    _, _, folder = save_classifier(KINDS["bert"], tmp_path, task_type=None)
    KINDS["bert"].model(**change).save_pretrained(tmp_path / "base")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "task_type": "SEQ_CLS"}))
    message = refusal(BaseModelError, attached, folder, tmp_path / "base")
    assert said in message
    assert "work without a run" in message
    assert decompose(open_adapter(folder))


def test_a_base_that_was_loaded_for_one_head_takes_no_other_adapter(tmp_path):
    _, base, folder = save_classifier(KINDS["bert"], tmp_path / "one")
    _, _, other = save_classifier(KINDS["bert"], tmp_path / "other", task_type=None)
    config = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps({**config, "task_type": "SEQ_CLS"}))
    loaded = base_for(open_adapter(folder), BaseChoice(str(base)))
    headless = open_adapter(other)
    message = refusal(BaseModelError, LiveModel, loaded, headless, decompose(headless))
    assert "the head of another adapter" in message


def test_loading_says_nothing_of_a_head_that_the_adapter_brings(tmp_path, capfd):
    _, base, folder = save_classifier(KINDS["bert"], tmp_path)
    capfd.readouterr()
    with attached(folder, base):
        pass
    assert "MISSING" not in "".join(capfd.readouterr())


def test_a_target_that_the_head_has_too_is_none_there_whether_the_config_names_the_head_or_not(tmp_path):
    """PEFT trains the head whole for these tasks; its earlier versions did not write that into the config."""
    trained, base, folder = save_classifier(replace(KINDS["roberta"], targets=("query", "dense")), tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert set(config["modules_to_save"]) == {"classifier", "score"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "modules_to_save": None}))
    adapter = open_adapter(folder)
    assert not [name for name in adapter.modules if name.startswith("classifier")]
    with attached(folder, base) as live:
        assert_same_logits(live, trained)


def test_a_base_saved_with_another_head_and_without_a_pooler_is_refused_with_the_pooler_named(tmp_path):
    """BERT for masked words has none, so the one that training filled in has to be in the adapter."""
    _, _, folder = save_classifier(KINDS["bert"], tmp_path)
    BertForMaskedLM(KINDS["bert"].model().config).save_pretrained(tmp_path / "words")
    word_tokenizer().save_pretrained(tmp_path / "words")
    message = refusal(BaseModelError, attached, folder, tmp_path / "words")
    assert "train with 'bert.pooler.dense' among modules_to_save" in message
    trained, _, again = save_classifier(KINDS["bert"], tmp_path / "kept", modules_to_save=["bert.pooler.dense"])
    model = BertForMaskedLM(trained.base_model.model.config)
    _plain(trained, model.bert)
    model.save_pretrained(tmp_path / "words")
    with attached(again, tmp_path / "words") as live:
        assert_same_logits(live, trained)


def test_a_head_whose_tensors_are_of_two_sizes_is_refused(tmp_path):
    _, base, folder = save_classifier(KINDS["bert"], tmp_path)
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({**tensors, "base_model.model.classifier.bias": np.zeros(2, np.float32)}, file)
    message = refusal(BaseModelError, attached, folder, base)
    assert "tensors of 2 and 3 labels" in message
    assert "use an intact copy" in message
    save_file(tensors, file)
    with attached(folder, base) as live:
        assert len(live.base.labels) == 3
