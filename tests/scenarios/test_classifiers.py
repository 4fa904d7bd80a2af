"""Adapters of classifiers from a base without a head to a proven export, against PEFT's own forward row by row."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from surgery.adapter import open_adapter
from surgery.cli import main
from surgery.data import IGNORED, Encoding, read_source
from surgery.edits import make_edit
from surgery.evaluation import BASELINE, evaluate
from surgery.export import export
from surgery.model import BaseChoice, LiveModel, base_for
from surgery.policies import GradDirection
from surgery.sensitivity import measure_sensitivity
from surgery.spectra import decompose
from tests.helpers.classifiers import KINDS, LABELS, save_classifier, write_texts, write_words
from tests.helpers.models import is_transposed, relative
from tests.helpers.rounding import assert_losses

CASES = [
    *(("SEQ_CLS", kind) for kind in KINDS),
    *(("TOKEN_CLS", kind) for kind in ("bert", "roberta", "distilbert", "deberta", "gpt2")),
]
AUTO = {"SEQ_CLS": AutoModelForSequenceClassification, "TOKEN_CLS": AutoModelForTokenClassification}


class Case:
    """One adapter on disk, its trained model in memory, and the live model on the base from the disk."""

    def __init__(self, task, kind, folder):
        self.task = task
        self.trained, self.base, self.folder = save_classifier(KINDS[kind], folder, task)
        write = write_texts if task == "SEQ_CLS" else write_words
        self.rows = read_source(str(write(folder / "rows.jsonl"))).rows
        self.adapter = open_adapter(self.folder)
        self.spectra = decompose(self.adapter)
        self.loaded = base_for(self.adapter, BaseChoice(str(self.base)))

    def live(self):
        return LiveModel(self.loaded, self.adapter, self.spectra)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[1]} {case[0]}")
def case(request, tmp_path_factory):
    return Case(*request.param, tmp_path_factory.mktemp("classifier"))


@torch.no_grad()
def alone(model, example):
    """Loss and likeliest labels of one row with nothing but its ids, and segments where it has two texts."""
    given = {"input_ids": torch.tensor([example.prompt_ids])}
    if example.segments:
        given["token_type_ids"] = torch.tensor([example.segments])
    logits = model(**given).logits
    logits, labels = logits.reshape(-1, LABELS), torch.tensor(example.answer_ids)
    logs = logits.double().log_softmax(-1)[labels != IGNORED]
    labels = labels[labels != IGNORED]
    return -float(logs.gather(1, labels[:, None]).mean()), logs.argmax(-1).tolist(), labels.tolist()


def test_losses_in_batches_are_those_of_peft_row_by_row(case):
    with case.live() as live:
        slice_ = live.encode(case.rows, Encoding())
        found = measure_sensitivity(live, slice_, list(live.spectra), batch_size=5)
        assert live.scoring_notes == ()
    assert len(slice_.examples) == len(case.rows)
    assert len({example.length for example in slice_.examples}) > 3
    assert_losses(found.losses, [alone(case.trained, each)[0] for each in slice_.examples], case.trained)


def test_an_edit_beside_the_unedited_adapter_scores_what_peft_scores_of_its_export(case, tmp_path):
    with case.live() as live:
        slice_ = live.encode(case.rows, Encoding())
        found = measure_sensitivity(live, slice_, list(live.spectra))
        edit = make_edit(case.spectra, GradDirection(eta_suppress=0.5), sensitivity=found)
        scores = evaluate(live, slice_, {"edit": edit.sigma_after}, batch_size=5).scores
    export(case.adapter, case.spectra, edit, tmp_path / "edited")
    fresh = AUTO[case.task].from_pretrained(case.base, num_labels=LABELS)
    exported = PeftModel.from_pretrained(fresh, tmp_path / "edited").eval()
    for name, model in ((BASELINE, case.trained), ("edit", exported)):
        plain = [alone(model, example) for example in slice_.examples]
        assert_losses(scores[name].loss, [loss for loss, _, _ in plain], case.trained)
        right = [np.mean([mine == theirs for mine, theirs in zip(*each[1:], strict=True)]) for each in plain]
        np.testing.assert_allclose(scores[name].values["accuracy"], right)
        said = [" ".join(f"LABEL_{number}" for number in labels) for _, labels, _ in plain]
        assert list(scores[name].answers) == said
    assert not np.array_equal(scores[BASELINE].loss, scores["edit"].loss)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        ("SEQ_CLS", "bert"),
        ("SEQ_CLS", "roberta"),
        ("SEQ_CLS", "distilbert"),
        ("SEQ_CLS", "gpt2"),
        ("TOKEN_CLS", "bert"),
    ],
)
def test_sensitivities_are_the_finite_differences_of_pefts_loss_in_float64(task, kind, tmp_path):
    """Each component of ΔW is moved in the weight of the model that PEFT runs, one row at a time."""
    case = Case(task, kind, tmp_path)
    exact = replace(case.loaded, model=copy.deepcopy(case.loaded.model).double())
    with LiveModel(exact, case.adapter, case.spectra) as live:
        slice_ = live.encode(case.rows[:6], Encoding())
        found = measure_sensitivity(live, slice_, list(live.spectra), batch_size=4)
    trained, step = case.trained.double(), 1e-5
    for name, layer in trained.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        base = layer.get_base_layer()
        delta = layer.get_delta_weight("default").detach()
        U, _, Vh = torch.linalg.svd(delta.T if is_transposed(base) else delta, full_matrices=False)
        g = np.empty((len(slice_.examples), layer.r["default"]))
        for k in range(g.shape[1]):
            move = step * torch.outer(U[:, k], Vh[k])
            move = move.T if is_transposed(base) else move
            base.weight += move
            up = np.array([alone(trained, example)[0] for example in slice_.examples])
            base.weight -= 2 * move
            g[:, k] = (up - [alone(trained, example)[0] for example in slice_.examples]) / (2 * step)
            base.weight += move
        # central differences are off by step², and by the rounding of the losses over the step
        assert relative(found.values[name.removeprefix("base_model.model.")], g) < 1e-6


def test_the_command_line_goes_from_calibration_to_a_proof_and_refuses_what_labels_have_not(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SURGERY_HOME", str(tmp_path / "home"))
    _, base, folder = save_classifier(KINDS["bert"], tmp_path)
    write_texts(tmp_path / "calibration.jsonl", 8)
    write_texts(tmp_path / "test.jsonl", 26, start=100)

    def run(command, *options):
        capsys.readouterr()
        code = main([command, str(folder), "--base", str(base), "--json", *options])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else said.err

    calibration = ["--data", str(tmp_path / "calibration.jsonl"), "--examples", "8"]
    assert run("calibrate", *calibration, "--out", str(tmp_path / "g.npz"))[0] == 0
    edit = [
        "--policy",
        "grad_direction",
        "--sensitivities",
        str(tmp_path / "g.npz"),
        "--out",
        str(tmp_path / "new"),
    ]
    assert main(["edit", str(folder), *edit]) == 0

    asked = ["--data", str(tmp_path / "test.jsonl"), "--variant", str(tmp_path / "new"), "--random", "1"]
    asked.append("--allow-near-duplicates")
    code, error = run("evaluate", *asked, "--filter", "lower")
    assert code == 2
    assert "filters and stop texts are for written answers" in error
    assert "leave them out (--filter, --stop)" in error
    code, found = run("evaluate", *asked)
    assert code == 0
    assert [each["title"] for each in found["measures"]] == ["label loss", "accuracy"]
    assert found["format"] == "texts with labels"
    assert found["variants"]["new"]["mcnemar"]["accuracy"]["p"] <= 1

    code, error = run("benchmark", "--task", "gsm8k")
    assert code == 2
    assert "lm-eval's tasks are put to causal language models" in error
    assert "surgery evaluate" in error
