"""What one person has open: a frozen record, replaced as the work goes on.

Setting a stage clears the stages that follow from it: new sensitivities void the proof, a new edit
voids the proof and the export, a new adapter voids everything.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import streamlit as st

from surgery.adapter import Adapter, open_adapter
from surgery.demo import demo_names, is_demo
from surgery.edit import Edit, Manual, make_edit
from surgery.evaluate import Evaluation
from surgery.export import Verification
from surgery.policy import GradDirection, Policy
from surgery.recipe import BaseChoice, CalibrationPlan, EvaluationPlan, Recipe, demo_plans
from surgery.sensitivity import Sensitivity
from surgery.spectrum import Spectrum, decompose

_KEY = "workspace"


@dataclass(frozen=True)
class Workspace:
    """Adapter → base and plans → sensitivities → edit → proof → export."""

    adapter: Adapter
    spectra: dict[str, Spectrum]
    base: BaseChoice | None = None
    calibration: CalibrationPlan | None = None
    evaluation: EvaluationPlan | None = None
    sensitivity: Sensitivity | None = None
    policy: Policy = field(default_factory=GradDirection)
    scope: str = "residual"
    energy: str = "l1"
    sigma_min: float = 0.0
    manual: Manual = field(default_factory=dict)
    proof: Evaluation | None = None
    exported: Verification | None = None

    def with_base(self, base: BaseChoice | None) -> "Workspace":
        return replace(self, base=base, sensitivity=None, proof=None, exported=None)

    def with_sensitivity(self, plan: CalibrationPlan, sensitivity: Sensitivity) -> "Workspace":
        return replace(self, calibration=plan, sensitivity=sensitivity, proof=None, exported=None)

    def with_edit(self, **changes: Any) -> "Workspace":
        """Change policy, scope, energy, sigma_min or manual gains; nothing is voided if nothing changed."""
        if all(getattr(self, name) == value for name, value in changes.items()):
            return self
        return replace(self, **changes, proof=None, exported=None)

    def with_proof(self, plan: EvaluationPlan, proof: Evaluation) -> "Workspace":
        return replace(self, evaluation=plan, proof=proof)

    def with_export(self, verification: Verification) -> "Workspace":
        return replace(self, exported=verification)

    @property
    def recipe(self) -> Recipe | None:
        """The recipe of the present edit, once base and calibration are known."""
        if self.base is None or self.calibration is None:
            return None
        return Recipe(
            adapter=self.adapter.source,
            adapter_digest=self.adapter.digest,
            base=self.base,
            calibration=self.calibration,
            policy=self.policy,
            scope=self.scope,
            energy=self.energy,
            sigma_min=self.sigma_min,
            manual=self.manual,
            evaluation=self.evaluation,
        )

    @property
    def lacks_sensitivities(self) -> bool:
        """Whether the policy cannot be applied before a calibration."""
        return self.sensitivity is None and self.policy.needs_gradient

    def edit(self) -> Edit:
        """The present edit; raises `PolicyError` when it needs sensitivities that are not there."""
        return make_edit(
            self.spectra,
            self.policy,
            sensitivity=self.sensitivity,
            scope=self.scope,
            energy=self.energy,
            sigma_min=self.sigma_min,
            manual=self.manual,
        )


def current() -> Workspace:
    """The open workspace; a first visit opens the first demo."""
    if _KEY not in st.session_state:
        open_source(f"demo:{demo_names()[0]}")
    workspace: Workspace = st.session_state[_KEY]
    return workspace


def keep(workspace: Workspace) -> Workspace:
    """Make `workspace` the open one."""
    st.session_state[_KEY] = workspace
    return workspace


def open_source(source: str) -> Workspace:
    """Open an adapter folder or `demo:NAME`; demos bring their base and slices.

    The policy, its scope and its rules stay as they are; what was measured or set by hand on the
    adapter before does not.
    """
    adapter = open_adapter(source)
    fresh = Workspace(adapter, _decomposed(adapter.digest, adapter))
    if is_demo(source):
        base, calibration, evaluation = demo_plans(source)
        fresh = replace(fresh, base=base, calibration=calibration, evaluation=evaluation)
    before: Workspace | None = st.session_state.get(_KEY)
    if before is not None:
        fresh = replace(
            fresh, policy=before.policy, scope=before.scope, energy=before.energy, sigma_min=before.sigma_min
        )
    return keep(fresh)


@st.cache_resource(max_entries=4, show_spinner=False)
def _decomposed(digest: str, _adapter: Adapter) -> dict[str, Spectrum]:
    """Spectra are never changed, so sessions may share them; the digest is the cache key."""
    return decompose(_adapter)
