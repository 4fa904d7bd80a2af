"""A sweep on Ray: each calibration pass and each group is a task with the memory and cards that its base asks for.

Ray places the tasks, tries them again and replaces lost workers; here they are only named and collected. A run
that was made on another machine comes back as the files of its folder.
"""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from surgery.data import CalibrationPlan
from surgery.errors import SweepError
from surgery.experiments.sweeps.attached import AttachedAdapter, Proved, measured_by, problem_of, proved_by
from surgery.experiments.sweeps.plan import Group
from surgery.experiments.sweeps.resources import Resources
from surgery.experiments.sweeps.run import Tried, ended
from surgery.experiments.sweeps.spec import SweptAdapter
from surgery.files import runs_folder, write_problem, write_whole
from surgery.model import BaseChoice, estimate_memory
from surgery.progress import SILENT, Control
from surgery.runs import METRICS, Run, stored_run
from surgery.sensitivity import Sensitivity

_STORE = 256 << 20  # bytes of Ray's object store on this machine: sensitivities are a few megabytes
_ROOM = 1.25  # what a base takes over its estimate: the allocator's slack and the batch's caches


def on_ray(resources: Resources, *, address: str | None = None, workers: int = 2) -> Any:
    """A runner for `run_sweep`: on the cluster at `address`, else on this machine with so many workers.

    Raises `SweepError` where Ray is not installed or not reached, and for what no machine of it can hold.
    """
    if find_spec("ray") is None:
        raise SweepError("Ray is not installed", "run: pip install 'ray>=2.50,<3', or add --in-process")
    return partial(_run, resources, address, workers)


def _run(
    resources: Resources,
    address: str | None,
    workers: int,
    groups: Sequence[Group],
    attempts: int,
    control: Control = SILENT,
) -> Iterator[Tried]:
    if not groups:
        return
    bases = list(dict.fromkeys(group.adapter.base for group in groups))
    requests = {base: request(base, resources) for base in bases}
    with _connected(address, workers * resources.cpus) as ray:
        for asked in requests.values():
            _refuse_unplaceable(ray, asked)
        # a worker keeps its base for the next task, unless another base may need the card that it holds
        calls = 0 if len(bases) == 1 else 1
        remote = ray.remote(max_retries=attempts - 1, retry_exceptions=True, max_calls=calls)
        measure, prove = remote(_measure_task), remote(_prove_task)
        passes: dict[tuple[str, CalibrationPlan], Any] = {}
        waiting: dict[Any, Group] = {}
        for group in groups:
            asked = requests[group.adapter.base]
            for plan in group.passes:
                place = group.adapter.name, plan
                if place not in passes:
                    passes[place] = measure.options(**asked).remote(group.adapter, plan)
            measured = [passes[group.adapter.name, plan] for plan in group.passes]
            waiting[prove.options(**asked).remote(group, *measured)] = group
        try:
            yield from _collected(ray, waiting, attempts, control)
        finally:
            for reference in [*waiting, *passes.values()]:
                with suppress(Exception):  # what has ended already cannot be cancelled
                    ray.cancel(reference, force=True)


def _collected(ray: Any, waiting: dict[Any, Group], attempts: int, control: Control) -> Iterator[Tried]:
    """Every group as it ends; `waiting` holds those that have not."""
    while waiting:
        control.heed()
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=0.5)
        for reference in ready:
            group = waiting.pop(reference)
            try:
                tried, files = ray.get(reference)
                for key, each in files.items():
                    _take_in(key, each)
                yield replace(tried, group=group)  # whoever asked knows its groups by themselves
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                yield Tried(group, None, problem_of(cause), attempts)


def request(base: BaseChoice, resources: Resources) -> dict[str, Any]:
    """What a task with this base reserves: `num_cpus`, `num_gpus` and, where its size is known, `memory` in bytes.

    Cards are reserved whole: the engine fills what is free on one, which two tasks would each count as theirs.
    """
    estimate = estimate_memory(base.location, dtype=base.dtype)
    size = _ROOM * estimate.total if estimate is not None else None
    gpus = resources.gpus
    if gpus is None:
        cards = 1 if size is None else max(1, math.ceil(size / (resources.gpu_memory_gib * 2**30)))
        gpus = {"cpu": 0, "auto": cards}.get(base.device.partition(":")[0], 1)
    if base.device.startswith("cuda:"):
        raise SweepError(f"{base.device!r} names one card", "write cuda: Ray gives every task a card of its own")
    memory = resources.memory_gib * 2**30 if resources.memory_gib is not None else size
    asked: dict[str, Any] = {"num_cpus": resources.cpus, "num_gpus": gpus}
    return asked if memory is None else asked | {"memory": int(memory)}


def _refuse_unplaceable(ray: Any, asked: Mapping[str, Any]) -> None:
    """Ray would wait for ever for a machine that is large enough."""
    wanted = {"CPU": asked["num_cpus"], "GPU": asked["num_gpus"], "memory": asked.get("memory", 0)}
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= need for name, need in wanted.items()) for node in nodes):
        return
    largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in wanted}
    told = [
        f"{numbers['CPU']:g} CPUs, {numbers['GPU']:g} GPUs and {numbers['memory'] / 2**30:.1f} GiB"
        for numbers in (wanted, largest)
    ]
    raise SweepError(
        f"a task asks for {told[0]}, and the machines have at most {told[1]}",
        "use a smaller dtype, set resources in the sweep, or add machines",
    )


@contextmanager
def _connected(address: str | None, cpus: int) -> Iterator[Any]:
    """Ray, started here on the loopback interface or reached at `address`; one that runs already is left alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address is None:
        # Ray's own switch for a cluster of one machine: it binds and connects to the loopback address alone
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    import ray

    if ray.is_initialized():
        yield ray
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": _STORE,
            "address": "local",
        }
    else:
        kept = {name: os.environ[name] for name in ("SURGERY_HOME",) if name in os.environ}
        options |= {"address": address, "runtime_env": {"env_vars": kept}}
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = address or "this machine"
        raise SweepError(f"Ray was not reached at {where} ({problem_of(error)})", "check the address") from error
    try:
        yield ray
    finally:
        ray.shutdown()


# The attached adapter of a worker: Ray calls functions, and between two calls nothing else can hold a model.
_attached: AttachedAdapter | None = None


def _own_adapter() -> AttachedAdapter:
    global _attached
    if _attached is None:
        _attached = AttachedAdapter()
    return _attached


def _measure_task(adapter: SweptAdapter, plan: CalibrationPlan) -> Sensitivity:
    return _cleared(lambda: measured_by(_own_adapter(), adapter, plan))


def _prove_task(group: Group, *measured: Sensitivity) -> tuple[Tried, dict[str, dict[str, bytes]]]:
    """How the group ended, and the files of its run and of those of its guards, by the keys of the runs."""
    found = dict(zip(group.passes, measured, strict=True))
    proved: Proved = _cleared(lambda: proved_by(_own_adapter(), group, found))
    runs = [proved.run, *(proved.beside.runs[1:] if proved.beside is not None else ())]
    return ended(group, proved, 1), {run.plan.key: _files(run) for run in runs}


def _files(run: Run) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(run.folder.iterdir()) if file.is_file()}


def _cleared(work: Callable[[], Any]) -> Any:
    """The work; a model that it failed in is not used again."""
    try:
        return work()
    except BaseException:
        _own_adapter().close()
        raise


def _take_in(key: str, files: Mapping[str, bytes]) -> None:
    """Put the files of a run into the history of this machine, unless the worker wrote to the same one."""
    known = stored_run(key)
    if known is not None and known.finished:
        return
    folder = runs_folder() / Path(key).name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # what says that the run has ended comes last
        for name in sorted(files, key=lambda name: name == METRICS):
            write_whole(folder / Path(name).name, files[name])
    except OSError as error:
        raise SweepError(
            f"the run {key!r} cannot be written ({write_problem(error, sum(map(len, files.values())))})",
            "make room, then start again",
        ) from error
