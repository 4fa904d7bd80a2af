"""Measure, store and analyse the sensitivities gₖ = ∂loss/∂σₖ."""

from surgery.sensitivity.backward import measure_sensitivity, provenance_of
from surgery.sensitivity.calibration import calibrate, calibration_slice, stored_sensitivity_file
from surgery.sensitivity.checkpoint import PartFile, Partial
from surgery.sensitivity.component_verdicts import (
    KINDS,
    Component,
    Dichotomy,
    Standing,
    by_luck,
    dichotomy,
    layer_shares,
    ranked,
    standings,
)
from surgery.sensitivity.conflict import Conflict, Groups, conflict_of
from surgery.sensitivity.doubts import COMPARED, doubts, losses_without
from surgery.sensitivity.folds import FEWEST, FOLDS, SHUFFLES, Folds, folds_of, paired_folds, unfitted
from surgery.sensitivity.input_moments import PARTS, InputMoments
from surgery.sensitivity.input_pass import measure_inputs
from surgery.sensitivity.input_sums import InputSums
from surgery.sensitivity.joint_rows import JointRows, joint_training
from surgery.sensitivity.measured_rows import measured_rows
from surgery.sensitivity.moments import Moments, moments_of
from surgery.sensitivity.scope_rows import FoldStatistics, ScopeRows
from surgery.sensitivity.sensitivity import (
    Provenance,
    Sensitivity,
    load_sensitivity,
    save_sensitivity,
    sigma_identity,
)
from surgery.sensitivity.stability import Budget, budgets, rank_correlation
from surgery.sensitivity.store import (
    SHIPPED,
    Measurement,
    delete_measurement,
    measurement_header,
    measurement_in,
    shipped_measurements,
    stored_measurements,
)
from surgery.sensitivity.timing import (
    CalibrationPace,
    Spent,
    characters,
    known_pace,
    known_proof_pace,
    remember_pace,
    remember_proof_pace,
)

__all__ = [
    "COMPARED",
    "FEWEST",
    "FOLDS",
    "KINDS",
    "PARTS",
    "SHIPPED",
    "SHUFFLES",
    "Budget",
    "CalibrationPace",
    "Component",
    "Conflict",
    "Dichotomy",
    "FoldStatistics",
    "Folds",
    "Groups",
    "InputMoments",
    "InputSums",
    "JointRows",
    "Measurement",
    "Moments",
    "PartFile",
    "Partial",
    "Provenance",
    "ScopeRows",
    "Sensitivity",
    "Spent",
    "Standing",
    "budgets",
    "by_luck",
    "calibrate",
    "calibration_slice",
    "characters",
    "conflict_of",
    "delete_measurement",
    "dichotomy",
    "doubts",
    "folds_of",
    "joint_training",
    "known_pace",
    "known_proof_pace",
    "layer_shares",
    "load_sensitivity",
    "losses_without",
    "measure_inputs",
    "measure_sensitivity",
    "measured_rows",
    "measurement_header",
    "measurement_in",
    "moments_of",
    "paired_folds",
    "provenance_of",
    "rank_correlation",
    "ranked",
    "remember_pace",
    "remember_proof_pace",
    "save_sensitivity",
    "shipped_measurements",
    "sigma_identity",
    "standings",
    "stored_measurements",
    "stored_sensitivity_file",
    "unfitted",
]
