"""Spectral Surgery: see, edit and prove the singular values of trained LoRA adapters.

The numeric core (adapter, spectrum, alignment, policy, edit, export) needs numpy only; whatever
runs a model (live, sensitivity, evaluate) imports torch when it is first used.
"""

from surgery.adapter import Adapter, Factors, in_scope, open_adapter
from surgery.data import Calibration, Encoding, Row, choose, encode, read_rows
from surgery.edits import Edit, ModuleEdit, Preview, make_edit, preview
from surgery.errors import SurgeryError
from surgery.export import Verification, export, write_back
from surgery.model import base_weight
from surgery.policies import POLICIES, Evidence, make_policy
from surgery.recipes import Recipe, dump_recipe, parse_recipe, read_recipe
from surgery.sensitivity import Sensitivity, budgets, load_sensitivity, measure_sensitivity, save_sensitivity
from surgery.spectra import (
    Alignment,
    OverlapTable,
    Spectrum,
    align,
    between_adapters,
    capture,
    chance_level,
    decompose,
    expected_level,
    find_intruders,
    layer_invariance,
    module_synergy,
    overlap_table,
    pair_detail,
)
from surgery.spectra import (
    ModulePair as Pair,
)

__version__ = "0.1.0"

__all__ = [
    "POLICIES",
    "Adapter",
    "Alignment",
    "Calibration",
    "Edit",
    "Encoding",
    "Evidence",
    "Factors",
    "ModuleEdit",
    "OverlapTable",
    "Pair",
    "Preview",
    "Recipe",
    "Row",
    "Sensitivity",
    "Spectrum",
    "SurgeryError",
    "Verification",
    "align",
    "base_weight",
    "between_adapters",
    "budgets",
    "capture",
    "chance_level",
    "choose",
    "decompose",
    "dump_recipe",
    "encode",
    "expected_level",
    "export",
    "find_intruders",
    "in_scope",
    "layer_invariance",
    "load_sensitivity",
    "make_edit",
    "make_policy",
    "measure_sensitivity",
    "module_synergy",
    "open_adapter",
    "overlap_table",
    "pair_detail",
    "parse_recipe",
    "preview",
    "read_recipe",
    "read_rows",
    "save_sensitivity",
    "write_back",
]
