"""From a folder that no LoRA opens from to one that does: which conversion, what it needs, and how exact it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from surgery.adapter import (
    CONVERTIBLE,
    FROM_BASE,
    FROM_INITIAL,
    FROM_RESIDUAL,
    fetched_adapter,
    initialisation,
    open_adapter,
    read_config,
    read_weights,
    refuse_unsupported,
    ways_from,
)
from surgery.conversion.agreement import Probe, logit_error, logits_on, probe_ids
from surgery.conversion.changed_base import on_residual_base, refuse_trained, without_initial
from surgery.conversion.lora_folder import Judge, Lora, write_lora
from surgery.conversion.mlx import is_mlx, lora_of_mlx, read_mlx, weight_with_mlx
from surgery.conversion.of_peft_types import lora_of_model
from surgery.conversion.plan import ENERGY, Conversion, ConversionPlan, LogitError
from surgery.errors import AdapterError, SurgeryError, first_line
from surgery.export import new_folder
from surgery.files import demo_folder, is_demo, user_path
from surgery.hub import hub_name
from surgery.model import BaseChoice, LoadedBase
from surgery.progress import SILENT, Control

MLX = "MLX"
_NAMES = {FROM_BASE: "--base", FROM_INITIAL: "--initial", FROM_RESIDUAL: "--residual-base"}


@dataclass(frozen=True)
class Source:
    """A folder that a conversion can make a LoRA of.

    `kind` is MLX, a type of PEFT such as LOHA, or an initialisation such as pissa; `ways` are the fields of a
    `ConversionPlan` of which one has to be given, none of them where the folder alone is enough; `base_name` is
    the base that its config names.
    """

    folder: Path
    kind: str
    ways: tuple[str, ...]
    base_name: str | None
    config: Mapping[str, Any]


def convertible(source: str, *, control: Control = SILENT) -> Source | None:
    """What a conversion can make of `source`; None for what opens as it is and for what nothing converts.

    Of a name on the hub its files are fetched; `control` hears of the bytes. Raises `AdapterError` for what cannot be,
    and for a folder without a config that can be read.
    """
    on_hub = hub_name(source, AdapterError)
    if on_hub is not None:
        folder, _ = fetched_adapter(on_hub, control=control)
    else:
        folder = demo_folder(source) if is_demo(source) else user_path(source, AdapterError)
    config = read_config(folder, source).settings
    named = config.get("model" if is_mlx(config) else "base_model_name_or_path")
    found = Source(folder, "", (), named if isinstance(named, str) and named else None, config)
    if is_mlx(config):
        return replace(found, kind=MLX)
    if config.get("peft_type") in CONVERTIBLE:
        return replace(found, kind=config["peft_type"], ways=(FROM_BASE,))
    if config.get("peft_type") == "LORA" and (ways := ways_from(initialisation(config))):
        return replace(found, kind=initialisation(config), ways=ways)
    return None


def convert(plan: ConversionPlan, out: Path | str, *, control: Control = SILENT) -> Conversion:
    """A PEFT LoRA folder of what `plan` names, opened and compared after writing.

    plan: what is converted, and with what.
    out: the new folder.
    control: told of the steps, and of every module that takes long.

    Raises `AdapterError` for what opens as it is, for what nothing converts and where something is missing that
    the source does not say, `BaseModelError` for a base that does not fit, and as `export` does; nothing is left
    behind.
    """
    plan.check()
    new_folder(out)
    try:
        source = convertible(plan.source, control=control)
        if source is None:
            raise _not_convertible(plan.source)
        _check_ways(plan, source)
        _check_numbers(plan, source)
        lora, judge = _converted(plan, source, control)
        control.begin("writing and reading back")
        folder, logits = write_lora(lora, source.folder, out, judge)
    except SurgeryError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
        # whatever else a hostile or damaged file can provoke
        raise AdapterError(
            f"{plan.source!r} cannot be converted ({first_line(error, kind=True)})",
            "use an intact copy of the adapter",
        ) from error
    return Conversion(folder, source.kind, lora.modules, logits, lora.notes)


def _converted(plan: ConversionPlan, source: Source, control: Control) -> tuple[Lora, Judge]:
    if source.kind != MLX:
        # what else of PEFT's no conversion carries over, and what would import a module that the config names
        refuse_unsupported({**source.config, "peft_type": "LORA", "init_lora_weights": True})
    if source.kind == MLX:
        return _of_mlx(plan, source, control)
    if source.kind in CONVERTIBLE:
        return _of_peft_type(plan, source, control)
    if plan.residual_base is not None:
        return _on_residual_base(plan.residual_base, plan, source, control)
    return _without_initial(plan, source, control)


def _not_convertible(source: str) -> AdapterError:
    open_adapter(source)  # which says why it does not open, where it does not
    return AdapterError(f"{source!r} is a LoRA already", "open it as it is")


def _check_ways(plan: ConversionPlan, source: Source) -> None:
    """Raise `AdapterError` where what is given is not what this kind starts from; a base beside it is checked."""
    given = [way for way in (FROM_BASE, FROM_INITIAL, FROM_RESIDUAL) if getattr(plan, way)]
    first = [way for way in given if way != FROM_BASE] or given
    if len(first) > 1 or (FROM_RESIDUAL in given and FROM_BASE in given):
        raise AdapterError(
            f"{' and '.join(_NAMES[way] for way in given)} are ways of their own", "name one of them"
        )
    if set(first) <= set(source.ways or (FROM_BASE,)) and (first or not source.ways):
        return
    if not source.ways:
        raise AdapterError(f"a conversion of {source.kind} has no use for {_NAMES[first[0]]}", "leave it out")
    options = " or ".join(_NAMES[way] for way in source.ways)
    named = f" (its config names {source.base_name[:120]!r})" if source.base_name else ""
    problem = f"a conversion of {source.kind} needs more than the adapter's folder"
    if wrong := [way for way in given if way not in source.ways]:
        problem = f"a conversion of {source.kind} cannot start from {' and '.join(_NAMES[way] for way in wrong)}"
    raise AdapterError(problem, f"give {options}{named if FROM_BASE in source.ways else ''}")


def _check_numbers(plan: ConversionPlan, source: Source) -> None:
    """Raise `AdapterError` for numbers that this kind has no use for."""
    idle = []
    if source.kind not in CONVERTIBLE:
        idle += ["--rank"] * (plan.rank is not None) + ["--energy"] * (plan.energy != ENERGY)
    if source.kind != MLX:
        idle += ["--scale"] * (plan.scale is not None)
    if idle:
        raise AdapterError(f"a conversion of {source.kind} has no use for {' and '.join(idle)}", "leave it out")


def _of_mlx(plan: ConversionPlan, source: Source, control: Control) -> tuple[Lora, Judge]:
    mlx = read_mlx(source.folder, source.config, plan.scale)
    lora = lora_of_mlx(mlx, plan.base.location if plan.base else None)
    if plan.base is None:
        return lora, _no_judge
    from surgery.conversion.with_peft import weight_to_fit, weights_replaced

    base = _loaded(plan.base, source, "loading the base model", control)
    rows = probe_ids(base, plan.data)
    control.begin("comparing logits")
    weights = (
        (name, weight_with_mlx(weight_to_fit(base, name, mlx.shape(name)), parts, mlx.scale))
        for name, parts in mlx.modules.items()
    )
    with weights_replaced(base, weights):
        expected = logits_on(base.model, rows)
    return lora, _judge(base, lora, rows, expected)


def _loaded(choice: BaseChoice, source: Source, step: str, control: Control) -> LoadedBase:
    from surgery.conversion.with_peft import load_choice

    control.heed()
    control.begin(step)
    return load_choice(choice, source.config)


def _of_peft_type(plan: ConversionPlan, source: Source, control: Control) -> tuple[Lora, Judge]:
    from surgery.conversion.with_peft import attach_with_peft, refuse_not_finite

    tensors = read_weights(source.folder, plan.source).tensors
    refuse_not_finite(tensors)
    if (source.config.get("bias") or "none") != "none":
        raise AdapterError("the adapter trained biases too, which PEFT cannot convert", "train it with bias none")
    base = _loaded(_given(plan.base), source, "loading the base model", control)
    rows = probe_ids(base, plan.data)
    model = attach_with_peft(base, source.folder, source.config, tensors)
    lora = lora_of_model(model, source.config, tensors, plan.rank or float(plan.energy), control)
    control.begin("comparing logits")
    expected = logits_on(model, rows)
    model.unload()
    return lora, _judge(base, lora, rows, expected)


def _on_residual_base(
    residual: BaseChoice, plan: ConversionPlan, source: Source, control: Control
) -> tuple[Lora, Judge]:
    from surgery.conversion.with_peft import unchanged_base_note

    if residual.location == source.base_name:
        raise AdapterError(
            f"{residual.location!r} is the base that training started from, as the config names it",
            "name the folder of the model as the initialisation had changed it",
        )
    lora = on_residual_base(read_weights(source.folder, plan.source).tensors, source.config, residual.location)
    base = _loaded(residual, source, "loading the residual base", control)
    if source.kind.startswith("pissa"):
        lora = replace(lora, notes=tuple(unchanged_base_note(lora, base)))
    return lora, _judge(base, lora, Probe((), ""), ())


def _without_initial(plan: ConversionPlan, source: Source, control: Control) -> tuple[Lora, Judge]:
    tensors = read_weights(source.folder, plan.source).tensors
    if plan.initial:
        initial = read_weights(user_path(plan.initial, AdapterError), plan.initial).tensors
        refuse_trained(tensors, initial)
        lora = without_initial(tensors, initial, source.config)
        if plan.base is None:
            return lora, _no_judge
        base = _loaded(plan.base, source, "loading the base model", control)
        return lora, _judge(base, lora, Probe((), ""), ())
    from surgery.conversion.with_peft import attach_anew

    base = _loaded(_given(plan.base), source, "loading the base model", control)
    rows = probe_ids(base, plan.data)
    control.begin("initialising as the training did")
    model, first = attach_anew(base, source.folder, source.config, tensors)
    lora = without_initial(tensors, first, source.config)
    control.begin("comparing logits")
    expected = logits_on(model, rows)
    del base, model  # whose weights the initialisation has changed
    base = _loaded(_given(plan.base), source, "loading the base model again", control)
    return lora, _judge(base, lora, rows, expected)


def _given(base: BaseChoice | None) -> BaseChoice:
    if base is None:
        raise AdapterError("the conversion needs the base model", "give --base")
    return base


def _no_judge(_: Path) -> LogitError | None:
    return None


def _judge(base: LoadedBase, lora: Lora, rows: Probe, expected: Sequence[Any]) -> Judge:
    """Loads the written folder with PEFT on `base`, where all of it has to fit, and compares its logits."""

    def judge(folder: Path) -> LogitError | None:
        from surgery.conversion.with_peft import attach_with_peft

        model = attach_with_peft(base, folder, lora.config, lora.tensors)
        return logit_error(expected, logits_on(model, rows), rows) if rows.ids else None

    return judge
