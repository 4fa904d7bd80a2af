"""What is worth telling of an adapter that opens."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from numpy import ndarray

from surgery.adapter.adalora import is_adalora
from surgery.adapter.factors import Factors
from surgery.adapter.scope import scope_note
from surgery.adapter.task import TASKS, task_of
from surgery.adapter.tokenizer_files import TokenizerFiles
from surgery.adapter.weights import all_finite


def notes_of(
    config: Mapping[str, Any],
    modules: Mapping[str, Factors],
    tensors: Mapping[str, ndarray],
    extra: Sequence[str],
) -> Iterable[str]:
    """What is worth telling of an adapter's config, its modules and what else is in its file.

    config: as PEFT reads it.
    modules: the factors, by name.
    tensors: of the whole file, by name.
    extra: names of those that are no factors.
    """
    if extra:
        yield f"{len(extra)} tensors are not LoRA factors (biases or saved modules); they are copied untouched"
    broken = [key for key in extra if not all_finite(tensors[key])]
    if broken:
        yield f"{len(broken)} of them hold NaN or infinity, such as {broken[0]!r}: what PEFT loads from it will not work"
    if config.get("use_rslora") and not is_adalora(config):
        yield "rank-stabilised scaling (α/√r)"
    if len({factors.rank for factors in modules.values()}) > 1:
        yield "ranks differ between modules"
    zero = sum(_is_zero(factors) for factors in modules.values())
    if zero:
        yield f"{zero} modules have an all-zero factor and change nothing"
    if note := scope_note(modules):
        yield note
    if any(factors.mirror for factors in modules.values()):
        yield "MiCA freezes B, so edits are written into A"
    if any(name.endswith(".out_proj") and name.removesuffix(".out_proj") in modules for name in modules):
        yield "of nn.MultiheadAttention PEFT adds the update of out_proj twice; its σ here are of one"
    if config.get("layer_replication"):
        yield "layers of the base model are replicated; every copy has its own update"
    if (task := task_of(config)) not in TASKS:
        yield f"of the task {task[:60]!r}, which no model is run for here: it can be edited and exported, not calibrated"
    if config.get("alora_invocation_tokens"):
        yield "activated LoRA acts after its invocation tokens only: it can be edited, not calibrated"


def _is_zero(factors: Factors) -> bool:
    # most are told by their first row
    return not all(factor[:1].any() or factor.any() for factor in (factors.B, factors.right))


def kind_notes(modules: Mapping[str, Factors], pruned: Sequence[str]) -> Iterable[str]:
    """What is to be known of the kind of LoRA; `pruned` are modules of which AdaLoRA left nothing."""
    if any(factors.magnitude is not None for factors in modules.values()):
        yield (
            "DoRA: σ and directions are of the update before normalisation; PEFT scales every output of W + ΔW to "
            "its trained magnitude, which an edit leaves as it is"
        )
    if any(factors.diagonal is not None for factors in modules.values()):
        yield "AdaLoRA: σ and directions are of the whole update s·B·diag(E)·A, and edits are written into B"
    if pruned:
        which = "1 module" if len(pruned) == 1 else f"{len(pruned)} modules"
        yield f"AdaLoRA pruned {which} to rank 0, which change nothing"


def tokenizer_notes(tokenizer: TokenizerFiles) -> Iterable[str]:
    """What is to be known of the tokenizer in the adapter's folder."""
    if tokenizer.unread:
        yield f"the folder's tokenizer cannot be read ({tokenizer.unread}), so rows need the base model's"
    elif tokenizer.has_vocabulary:
        yield "the folder has a tokenizer of its own, which reads the rows"
