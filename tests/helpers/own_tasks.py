"""A folder of task definitions as a person writes them, with the files of their examples."""

import json
from pathlib import Path
from typing import Any

import numpy as np

WORDS = [
    "blue",
    "pink",
    "gold",
    "grey",
    "four",
    "five",
    "nine",
    "zero",
]  # of one length: none is likelier for that
CHOICE = """
task: {name}
tag: {tag}
dataset_path: json
dataset_kwargs: {{data_files: {{train: {folder}/{name}-train.jsonl, test: {folder}/{name}.jsonl}}}}
output_type: multiple_choice
training_split: train
test_split: test
num_fewshot: {shots}
description: "Choose a word.\\n\\n"
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: acc_norm, aggregation: mean, higher_is_better: true}}
"""
GENERATED = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/{name}.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "Q: {{{{question}}}}\\nA:"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 5, do_sample: false}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
filter_list:
  - {{name: letter, filter: [{{function: regex, regex_pattern: "([a-zA-Z])"}}, {{function: take_first}}]}}
"""
GROUP = """
group: {name}
task: {tasks}
aggregate_metric_list:
  - {{metric: acc, weight_by_size: {sized}}}
"""


def own_tasks(folder: Path, **counts: int) -> Path:
    """Tasks of choices by name with so many examples, tagged `choosing`, and `spoken`, which generates text.

    `equal`, `sized` and `nested` are groups of them: the first counts its tasks alike, the others by their sizes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for shots, (name, count) in enumerate(counts.items()):
        questions(folder / f"{name}.jsonl", name, count, rng)
        questions(folder / f"{name}-train.jsonl", f"{name} shown", 4, rng)
        (folder / f"{name}.yaml").write_text(CHOICE.format(name=name, tag="choosing", folder=folder, shots=shots))
    rows = [{"question": f"say {word}", "answer": word[0]} for word in WORDS[:3]]
    (folder / "spoken.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "spoken.yaml").write_text(GENERATED.format(name="spoken", folder=folder))
    first, *others = counts
    inner = [first, {"group": "inner", "task": others, "aggregate_metric_list": [{"metric": "acc"}]}]
    for name, tasks, sized in [
        ("equal", ["choosing"], False),
        ("sized", list(counts), True),
        ("nested", inner, True),
    ]:
        (folder / f"{name}.yaml").write_text(
            GROUP.format(name=name, tasks=json.dumps(tasks), sized=json.dumps(sized))
        )
    return folder


def questions(file: Path, name: str, count: int, rng: np.random.Generator) -> None:
    rows: list[dict[str, Any]] = [
        {
            "question": f"{name} number {number}",
            "choices": rng.permutation(WORDS)[:3].tolist(),
            "answer": int(rng.integers(3)),
        }
        for number in range(count)
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
