"""An adapter attached to a freshly loaded base."""

from typing import TYPE_CHECKING

from surgery.adapter import Adapter
from surgery.model.choice import BaseChoice
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.model.live_model import LiveModel


def attach(adapter: Adapter, spectra: Spectra, choice: BaseChoice) -> "LiveModel":
    """Load the base of `choice` for the adapter's task and attach the adapter to it."""
    from surgery.model.base import load_base
    from surgery.model.live_model import LiveModel

    base = load_base(
        choice.location, revision=choice.revision, device=choice.device, dtype=choice.dtype, task=adapter.task
    )
    return LiveModel(base, adapter, spectra)
