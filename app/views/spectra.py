"""Spectra: the singular values of each module, and what the calibration loss says about them."""

from app.experts import expert_picker
from app.frame import show_title
from app.spectra import spectra_board, wanted_module
from app.spectra.calibration import calibration_panel
from app.state.workspace import current

show_title(
    "Spectra",
    "Where the squared Frobenius norm of each update sits, its energy Σσ², and which components raise or lower the calibration loss.",
)
calibration_panel(current())
expert_picker(current().spectra, wanted_module())
spectra_board()
