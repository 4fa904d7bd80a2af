"""`surgery benchmark`: variants on one of lm-eval's tasks."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from surgery.adapter import open_adapter
from surgery.cli.answer_options import add_near_option
from surgery.cli.guards import add_guard_option, group_result, joined
from surgery.cli.options import (
    ADAPTER_HELP,
    Command,
    Result,
    add_base_options,
    add_tokenizer_options,
    add_variant_options,
    base_from,
    count,
    kept_run,
    margin_from,
    positive,
)
from surgery.cli.progress import progress_reporter
from surgery.cli.variants import proof_of, refuse_unscoped, variants_from
from surgery.data import Row, Slices, read_slices
from surgery.errors import DataError
from surgery.experiments import check_guards, load_guards, parse_guard, prove_with_guards
from surgery.model import attach
from surgery.recipes import Recipe
from surgery.spectra import decompose


def benchmark_command(options: argparse.Namespace) -> Result:
    from surgery.data import TaskPlan
    from surgery.evaluation.lm_eval import load_task, refuse_other_models, refuse_seen, sandboxed
    from surgery.sandbox import open_sandbox

    adapter = open_adapter(options.adapter, control=progress_reporter())
    refuse_other_models(adapter.task)
    spectra = decompose(adapter)
    plan = TaskPlan(**_plan_values(options))
    guards = [parse_guard(each) for each in options.guard]
    variants = variants_from(options.variant or [], adapter, spectra)
    refuse_unscoped(spectra, variants, random=options.random, scope=options.scope)
    base = base_from(options)
    margin_from(options)
    slices = read_slices(variants.seen)
    check_guards(guards, variants.seen)
    # a chat needs the tokenizer; what else can be refused is refused before the base model is loaded
    loaded = None if options.chat else load_task(plan, trust_code=options.trust_task_code)
    judge = sandboxed(open_sandbox()) if options.run_programs else None
    if loaded is not None:
        refuse_seen(loaded, _named(slices, variants.recipes), allow=options.allow_near_duplicates)
        variants.refuse_seen(loaded.documents)
        if loaded.needs_judge and judge is None:
            raise DataError(
                f"the answers to {plan.name} are programs, which are not run unasked",
                "add --run-programs: each runs in a sandbox of its own",
            )
    with attach(adapter, spectra, base, control=progress_reporter()) as live:
        if loaded is None:
            loaded = load_task(plan, live.tokenizer_named(plan.tokenizer), trust_code=options.trust_task_code)
            refuse_seen(loaded, _named(slices, variants.recipes), allow=options.allow_near_duplicates)
            variants.refuse_seen(loaded.documents)
        proof = proof_of(live, loaded, variants, options, base, slices)
        asked = load_guards(live, guards)
        control = progress_reporter(plan.name)
        run, group = prove_with_guards(live, proof, asked, slices=slices, judge=judge, control=control)
    found = kept_run(run.evaluation, run, f"{plan.name}, ")
    return found if group is None else joined(found, group_result(group))


def _plan_values(options: argparse.Namespace) -> dict[str, Any]:
    """The settings of the task as `TaskPlan` takes them."""
    return {
        "name": options.task,
        "limit": options.limit,
        "offset": options.offset,
        "seed": options.seed,
        "fewshot": options.fewshot,
        "data_files": dict(_assigned(pair) for pair in options.data_files or []) or None,
        "chat_template": options.chat,
        "include_path": options.include_path,
        "system": options.system,
        "template_args": options.template_args,
        "think_end": options.think_end,
        "tokenizer": options.tokenizer,
    }


def _named(slices: Slices, recipes: Mapping[str, Recipe]) -> dict[str, Sequence[Row]]:
    """The rows that each recipe was made or chosen on."""
    return {
        f"slice {number} of {name}": slices.seen[plan].rows
        for name, recipe in recipes.items()
        for number, plan in enumerate(recipe.seen)
    }


def _assigned(pair: str) -> tuple[str, str]:
    split, equals, file = pair.partition("=")
    if not equals or not split or not file:
        raise DataError(f"--data-files {pair!r} is no SPLIT=FILE", "write test=questions.jsonl")
    return split, file


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("adapter", help=ADAPTER_HELP)
    add_base_options(parser)
    parser.add_argument(
        "--task",
        required=True,
        help="commonsense_qa, gsm8k, humaneval, ifeval, or another task or group of lm-eval's",
    )
    parser.add_argument(
        "--data-files",
        nargs="+",
        action="extend",
        metavar="SPLIT=FILE",
        help="local files instead of the hub; in a group TASK:SPLIT=FILE",
    )
    _definition_options(parser)
    parser.add_argument("--limit", type=positive, help="how many examples (default: all)")
    parser.add_argument("--offset", type=count, default=0, help="where the slice begins")
    parser.add_argument("--seed", type=count, help="shuffle before the slice is taken")
    parser.add_argument("--fewshot", type=count, help="examples shown (default: the task's own number)")
    _prompt_options(parser)
    add_variant_options(parser)
    add_guard_option(parser)
    parser.add_argument("--batch-size", type=positive, help="examples at a time (default: what fits)")
    add_near_option(parser)
    parser.add_argument(
        "--run-programs",
        action="store_true",
        help="run programs that the model writes, each in a sandbox of its own",
    )


def _definition_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--include-path", metavar="FOLDER", help="task definitions of your own, beside lm-eval's")
    parser.add_argument(
        "--trust-task-code",
        action="store_true",
        help="let the definitions in that folder run the Python that they name",
    )


def _prompt_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--chat", action="store_true", help="put prompts into the chat template")
    parser.add_argument(
        "--system", default="", metavar="TEXT", help="lm-eval's system instruction, before every prompt"
    )
    add_tokenizer_options(parser)
    parser.add_argument(
        "--think-end", metavar="TOKEN", help="the answer begins after the last of it, as </think>, or a token's id"
    )


COMMAND = Command(
    "benchmark",
    "a task of lm-eval: edits and random controls, paired with the unedited adapter",
    _options,
    benchmark_command,
)
