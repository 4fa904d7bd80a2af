"""An adapter attached to a freshly loaded base."""

from typing import TYPE_CHECKING

from surgery.adapter import Adapter
from surgery.model.choice import BaseChoice
from surgery.progress import SILENT, Control
from surgery.spectra import Spectra

if TYPE_CHECKING:
    from surgery.model.base import LoadedBase
    from surgery.model.live_model import LiveModel


def attach(adapter: Adapter, spectra: Spectra, choice: BaseChoice, *, control: Control = SILENT) -> "LiveModel":
    """Load the base of `choice` for the adapter's task and attach the adapter to it; `control` hears of what is fetched."""
    from surgery.model.live_model import LiveModel

    return LiveModel(base_for(adapter, choice, control=control), adapter, spectra)


def base_for(adapter: Adapter, choice: BaseChoice, *, control: Control = SILENT) -> "LoadedBase":
    """The base of `choice`, loaded for the adapter's task as the class that has its modules; see `load_base`."""
    from surgery.model.base import load_base

    return load_base(choice, adapter=adapter, control=control)
