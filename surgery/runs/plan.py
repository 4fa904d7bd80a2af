"""What a run asks and all that its results depend on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surgery.data import Margins
from surgery.files import digest
from surgery.runs.controls import ControlGroup, unlike_controls

# to be raised when the same question may be answered or scored otherwise than by an earlier version
SCHEMA = 1
PROOF = "proof"


@dataclass(frozen=True)
class RunPlan:
    """What a run asks, and all that its results depend on.

    `question` is a record of the slice: `{"rows": ...}`, `{"task": ...}` or `{"text": ...}`; `asked` is the digest of what the
    model reads. `variants` are digests of σ′ by name, in order; `edits` are the plans of those that have one.
    `settings` are precision, device and versions. `edit` is the digest of the recipe that the run is about, its
    evaluation left out, and `purpose` what it asks of that edit, a proof unless it says otherwise. `controls` are
    told by the name of their edit; runs of earlier versions say nothing of them. `marking` is the digest of what is
    read from the answers in a way of its own, and of what was allowed; empty where nothing is. `margins` are those that
    were named before it began.
    """

    adapter: str
    adapter_digest: str
    base: Mapping[str, Any]
    fingerprint: str
    question: Mapping[str, Any]
    asked: str
    examples: int
    variants: Mapping[str, str]
    edits: Mapping[str, Any]
    settings: Mapping[str, Any]
    edit: str = ""
    purpose: str = PROOF
    controls: Mapping[str, ControlGroup] = field(default_factory=dict)
    marking: str = ""
    margins: Margins | None = None

    @property
    def unlike_controls(self) -> tuple[str, ...]:
        """Edits whose random controls here are of another scope or rule than their own."""
        return unlike_controls(self.variants, self.edits, self.controls)

    @property
    def context(self) -> str:
        """Digest of all that an answer depends on but the variant: runs that share it share answers."""
        parts = [self.adapter_digest, self.fingerprint, self.asked, json.dumps(self.settings, sort_keys=True)]
        return digest([str(SCHEMA), *parts])

    @property
    def key(self) -> str:
        """The name of the run's folder."""
        variants = [part for pair in self.variants.items() for part in pair]
        marking = [self.marking] if self.marking else []
        margins = self.margins.texts if self.margins else ()
        return digest([self.context, self.edit, self.purpose, *marking, *margins, *variants])[:24]

    @property
    def slice_name(self) -> str:
        """The slice in a few words."""
        rows, task, text = (self.question.get(kind) or {} for kind in ("rows", "task", "text"))
        named = rows.get("data") or task.get("name") or text.get("text") or "a slice"
        offset = task.get("offset") or 0
        return f"{named} from {offset}" if offset else str(named)
