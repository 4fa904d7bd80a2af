"""Runs to report: of any size, and with texts that would break out of a page."""

import json
from dataclasses import replace

import numpy as np

from app.state.workspace import Workspace
from surgery.edits import EditPlan, edit_record
from surgery.evaluation import AGAIN, BASELINE, Evaluation, Sample, Scores, row_scores
from surgery.experiments import EDIT
from surgery.policies import Scale
from surgery.runs import Run
from tests.helpers.proofs import kept_proof

WORDS = ("the", "child", "of", "a", "sister", "is", "niece", "and", "so", "forty", "two", "more", "than", "before")
HOSTILE = (
    "</script><script>document.title = 'taken'</script>",
    "<img src=x onerror=\"document.title = 'taken'\">",
    "' onmouseover='alert(1)",
    "]]><!-- \u2028\u2029 \u202e \x00 \x1b[2J &lt;b&gt; &amp;",
    "%{customdata} ${alert(1)} {{x}} javascript:alert(1)",
)


def synthetic(rows: int, variants: int, words: int, *, seed: int = 0) -> Evaluation:
    """An evaluation of that size with answers of so many words, of which each variant gives a quarter otherwise."""
    rng = np.random.default_rng(seed)

    def texts(count: int, length: int) -> list[str]:
        return [" ".join(words_) for words_ in np.array(WORDS)[rng.integers(len(WORDS), size=(count, length))]]

    names = [BASELINE, EDIT, *(f"random {n}" for n in range(variants - 3)), AGAIN]
    loss, before = rng.gamma(2, 0.3, rows), rng.integers(2, size=rows).astype(float)
    usual = texts(rows, words)
    scores = {}
    for place, name in enumerate(names):
        other = (rng.random(rows) < 0.25) & (name not in (BASELINE, AGAIN))
        answers = [
            own if changed else old for own, old, changed in zip(texts(rows, words), usual, other, strict=True)
        ]
        right = np.where(other, rng.integers(2, size=rows), before).astype(float)
        scores[name] = row_scores(loss + 0.01 * place * rng.normal(size=rows), right, answers)
    samples = tuple(
        Sample(f"key {n}", f"question {n}: {text}", text[:20]) for n, text in enumerate(texts(rows, 60))
    )
    return Evaluation(scores, samples)


def with_a_second_edit(run: Run) -> Run:
    """The run as if it had proven its edit and one other, which halves every component."""
    second = edit_record(EditPlan(Scale(0.5), "residual", "none"))
    return replace(run, plan=replace(run.plan, edits={EDIT: run.plan.edits[EDIT], "halved": second}))


def hostile(evaluation: Evaluation) -> Evaluation:
    """The evaluation with such texts wherever a file may bring them."""
    names = dict(zip([n for n in evaluation.scores if n.startswith("random")], HOSTILE, strict=False))
    scores = {
        names.get(name, name): Scores(found.values, (*HOSTILE, *found.answers[len(HOSTILE) :]))
        if name == EDIT
        else found
        for name, found in evaluation.scores.items()
    }
    samples = [
        Sample(s.key, f"{HOSTILE[n % 5]} {s.prompt}", HOSTILE[n % 5]) for n, s in enumerate(evaluation.samples)
    ]
    metrics = (replace(evaluation.metrics[0], title=HOSTILE[1]), *evaluation.metrics[1:])
    return replace(evaluation, scores=scores, samples=tuple(samples), metrics=metrics, notes=HOSTILE)


def hostile_run(kinship: Workspace) -> Run:
    """A run of the demo with such texts in its answers, names, recipe and environment."""
    found = kept_proof(kinship, HOSTILE[0], hostile(synthetic(16, 9, 5)))
    (found.folder / "recipe.yaml").write_text(f"{found.recipe}\norigin: |\n  {HOSTILE[0]}\n", encoding="utf-8")
    record = {"python": HOSTILE[1], "packages": {HOSTILE[2]: HOSTILE[0]}}
    (found.folder / "environment.json").write_text(json.dumps(record), encoding="utf-8")
    return found
