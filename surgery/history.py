"""The history as it is shown: the runs of this machine, and the proofs that ship with the demos.

A shipped run answers no question: what is asked here is always computed here, and then stands in its place.
"""

from surgery.demo import shipped_files
from surgery.runs import Run, newest_first, runs_folder

_SHIPPED = "runs/*"  # beside a demo adapter


def known_runs(adapter_digest: str | None = None) -> list[Run]:
    """Runs of all adapters or of one, newest first.

    A shipped run gives way to one of this machine that asked the same and has ended.
    """
    found = newest_first([*runs_folder().glob("*"), *shipped_files(_SHIPPED)], adapter_digest)
    ended = {run.plan.key for run in found if run.finished and not run.shipped}
    return [run for run in found if not run.shipped or (run.finished and run.plan.key not in ended)]


def known_run(key: str) -> Run | None:
    """The run of that key, one that has ended before one that has not; None where there is none."""
    found = [run for run in known_runs() if run.plan.key == key]
    return next((run for run in found if run.finished), found[0] if found else None)
