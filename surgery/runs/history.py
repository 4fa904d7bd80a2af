"""The history as it is shown: the runs of this machine, and the proofs that ship with the demos.

A shipped run answers no question: what is asked here is always computed here, and then stands in its place.
"""

from surgery.files import shipped_files
from surgery.runs.runs import Run, newest_first, stored_runs

_SHIPPED = "runs/*"  # beside a demo adapter


def known_runs(adapter_digest: str | None = None) -> list[Run]:
    """Runs of all adapters or of one: those of this machine, newest first, then the shipped.

    A shipped run gives way to one of this machine that asked the same and has ended.
    """
    own = stored_runs(adapter_digest)
    ended = {run.plan.key for run in own if run.finished}
    shipped = newest_first(shipped_files(_SHIPPED), adapter_digest)
    return [*own, *(run for run in shipped if run.finished and run.plan.key not in ended)]


def known_run(key: str) -> Run | None:
    """The run of that key, one that has ended before one that has not; None where there is none."""
    found = [run for run in known_runs() if run.plan.key == key]
    return next((run for run in found if run.finished), found[0] if found else None)
