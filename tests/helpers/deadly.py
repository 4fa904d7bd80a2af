"""A stand-in for `inspect_one` that processes import quickly: one folder brings the process down."""

import os
import signal
from pathlib import Path

from surgery.spectra import AdapterRow

DEADLY = "deadly"


def deadly(folder: Path, root: Path) -> AdapterRow:
    """A row of nothing but its name; for `DEADLY` the end of the process, as the kernel does where memory ends."""
    if folder.name == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
    return AdapterRow(folder.relative_to(root).as_posix())
