"""The adapters of a sweep, opened and pinned to commits; members of a set that take no part are told."""

from dataclasses import replace

from surgery.adapter import open_adapter
from surgery.errors import SurgeryError, SweepError
from surgery.experiments.sweeps.spec import Refused, Sweep
from surgery.experiments.sweeps.swept_edit import refuse_unfit
from surgery.model import BaseChoice, latest_base
from surgery.progress import SILENT, Control


def pinned_sweep(sweep: Sweep, control: Control = SILENT) -> Sweep:
    """A sweep with commits for adapters and bases on the hub, which are the same for all its work, however long it takes.

    Members of a set that cannot be opened, or that an edit does not fit, are taken out and told in `refused`. Adapters
    are fetched, bases are not; `control` hears of the bytes. Raises `AdapterError` and `BaseModelError` for adapters
    that are named, and `SweepError` where no adapter is left.
    """
    bases: dict[BaseChoice, BaseChoice] = {}
    found, refused = [], list(sweep.refused)
    for adapter in sweep.adapters:
        try:
            opened = open_adapter(adapter.source, control=control)
            if adapter.of_set:
                refuse_unfit(sweep.edits, opened.modules)
        except SurgeryError as error:
            if not adapter.of_set:
                raise
            refused.append(Refused(adapter.name, str(error)))
            continue
        if adapter.base not in bases:
            bases[adapter.base] = latest_base(adapter.base)
        found.append(replace(adapter, source=opened.source, base=bases[adapter.base]))
    if not found:
        first = refused[0]
        raise SweepError(
            f"none of {len(refused)} adapters can take part, first {first.name}: {first.reason}",
            "name a folder with others",
        )
    return replace(sweep, adapters=tuple(found), refused=tuple(refused))


def refused_text(sweep: Sweep) -> str:
    """A line for each member that takes no part, with the reason; empty for none."""
    return "\n".join(f"left out: {each.name}: {each.reason}" for each in sweep.refused)
