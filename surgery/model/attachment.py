"""An adapter attached to a freshly loaded base."""

from typing import TYPE_CHECKING

from surgery.adapter import Adapter
from surgery.model.choice import BaseChoice
from surgery.model.heads import saved_head
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.model.base import LoadedBase
    from surgery.model.live_model import LiveModel


def attach(adapter: Adapter, spectra: Spectra, choice: BaseChoice) -> "LiveModel":
    """Load the base of `choice` for the adapter's task and attach the adapter to it."""
    from surgery.model.live_model import LiveModel

    return LiveModel(load_for(adapter, choice), adapter, spectra)


def load_for(adapter: Adapter, choice: BaseChoice) -> "LoadedBase":
    """The base of `choice` as this adapter needs it: loaded for its task, with a head as large as the one it brings."""
    from surgery.model.base import load_base

    return load_base(
        choice.location,
        revision=choice.revision,
        device=choice.device,
        dtype=choice.dtype,
        task=adapter.task,
        head=saved_head(adapter),
    )
