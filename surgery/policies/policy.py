"""Policies: rules that turn sensitivities into gains (paper §3.4, Eq. 5–7).

A policy sees modules of equal rank as a stack and treats every row alone. Step sizes, gates and
fractions default to those of the authors' released code, because the paper's text does not give
them. A new policy is one frozen dataclass in `gates`, `gradient`, `protected`, `transforms`, `rank` or `controls`, listed
at the end of that file; its fields are its knobs, and the app, the command line and the recipe pick them up.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64
from numpy import ndarray

from surgery.errors import PolicyError
from surgery.policies.controls import CONTROLS
from surgery.policies.evidence import Evidence, normalise, pooled
from surgery.policies.gates import GATES
from surgery.policies.gradient import STEPS
from surgery.policies.knobs import refuse_unknown
from surgery.policies.protected import SPARING
from surgery.policies.rank import RANKS
from surgery.policies.transforms import TRANSFORMS
from surgery.sensitivity import Folds, Moments, ScopeRows


class Policy(Protocol):
    """A rule from sensitivities to gains; its dataclass fields are its knobs."""

    name: ClassVar[str]
    title: ClassVar[str]
    usual_energy: ClassVar[str]
    needs_protected: ClassVar[bool]

    @property
    def needs_gradient(self) -> bool:
        """Whether it works from sensitivities."""
        ...

    @property
    def needs_q(self) -> bool:
        """Whether it works from the second moments of what enters a module."""
        ...

    @property
    def pools(self) -> bool:
        """Whether `gains` is to see all modules in scope as one row."""
        ...

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        """αₖ for every component, before manual gains, clamp and energy rule.

        A row may depend on nothing but its own row of the evidence. A row of ones from a policy that
        needs a gradient says that it finds nothing to edit there.
        """
        ...


@runtime_checkable
class ScopePolicy(Protocol):
    """A policy whose gains in one module depend on the other modules in scope."""

    def gains_in_scope(
        self, sigma: Float64[ndarray, " component"], rows: ScopeRows, folds: Folds | None = None
    ) -> Float64[ndarray, "fold component"]:
        """αₖ of all components in scope, module after module, from σ and the training examples of every fold.

        Without folds there is one row, from all examples.
        """
        ...


@dataclass(frozen=True)
class Given:
    """Gains that are already known, by module: what a policy that looks at a whole scope comes to for it."""

    by_module: Mapping[str, Float64[ndarray, " rank"]]
    needs_gradient: bool = True
    needs_q: bool = False

    name: ClassVar[str] = "given"
    title: ClassVar[str] = "Gains computed for the whole scope"
    pools: ClassVar[bool] = False
    needs_protected: ClassVar[bool] = False
    usual_energy: ClassVar[str] = "l1"

    def gains(self, evidence: Evidence) -> Float64[ndarray, "module rank"]:
        return np.stack([self.by_module[name] for name in evidence.names])


def for_scope(policy: Policy, names: Sequence[str], stacks: Sequence[Evidence], moments: Moments | None) -> Policy:
    """The policy as it acts on these modules: itself, or the gains that it gives them together.

    policy: one that may look at a whole scope, as a `ScopePolicy` does and one that `pools`.
    names: the modules in scope, in order.
    stacks: the evidence of all of them.
    moments: of the measurement, where there is one.
    """
    sigmas = {name: sigma for stack in stacks for name, sigma in zip(stack.names, stack.sigma, strict=True)}
    if isinstance(policy, ScopePolicy) and moments is not None and sigmas:
        sigmas = {name: sigmas[name] for name in names}
        gains = policy.gains_in_scope(np.concatenate(list(sigmas.values())), moments.of_scope(names))[0]
    elif policy.pools and sigmas:
        gains = policy.gains(pooled(stacks))[0]
    else:
        return policy
    ends = np.cumsum([sigma.size for sigma in sigmas.values()])[:-1]
    return Given(dict(zip(sigmas, np.split(gains, ends), strict=True)), policy.needs_gradient, policy.needs_q)


POLICIES: dict[str, type[Any]] = {
    policy.name: policy for policy in (*STEPS, *SPARING, *GATES, *TRANSFORMS, *RANKS, *CONTROLS)
}
# what files of earlier versions call a policy; their knobs mean the same
FORMER_NAMES = {"truncate": "rank"}


def make_policy(name: str, knobs: Mapping[str, Any] | None = None) -> Policy:
    """Build a policy by name; raises `PolicyError` for an unknown name or knob, or a value out of range.

    Names of earlier versions are known too.
    """
    name = FORMER_NAMES.get(name, name)
    if name not in POLICIES:
        raise PolicyError(f"no policy called {name!r}", f"use one of {', '.join(POLICIES)}")
    kind = POLICIES[name]
    refuse_unknown(kind, knobs or {})
    policy: Policy = kind(**(knobs or {}))
    return policy


def position_of(policy: Policy, evidence: Evidence) -> tuple[str, Float64[ndarray, "module rank"]]:
    """What the policy looks at, as an axis to draw its gains against: a label and one number per component.

    Normalised magnitude for the gates, the signed mean over its mean size for the steps, and the
    component's index for a policy that looks at no gradient.
    """
    if not policy.needs_gradient:
        index = np.arange(evidence.sigma.shape[1], dtype=np.float64)
        return "component, by falling σ", np.broadcast_to(index, evidence.sigma.shape)
    magnitude = getattr(policy, "magnitude", None)
    if magnitude is not None:
        return "sensitivity x, normalised in its module", normalise(
            evidence.sizes(magnitude), getattr(policy, "norm", "mean")
        )
    return "mean g over its mean size; right of 0 raises the loss", normalise(evidence.signed, "mean")
