"""Every adapter below a folder as one row each: what it holds, how large its update is, or why it is refused.

Geometry needs no base model, so thousands of adapters are read side by side in processes of their own; one that
brings its process down costs its row and no other.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from surgery.adapter import Adapter, in_order, open_adapter
from surgery.errors import DataError, SurgeryError, first_line
from surgery.files import set_path, write_named
from surgery.progress import SILENT, Control
from surgery.spectra.decomposition import decompose
from surgery.spectra.facts import module_facts
from surgery.spectra.spectrum import Spectra

_MARKS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_AHEAD = 4  # tasks in flight for each process: enough to keep it busy, few to look through when one dies


@dataclass(frozen=True)
class AdapterRow:
    """One adapter; a refused one has its `refusal` and no numbers.

    `norm` is ‖ΔW‖_F over all modules, `effective_rank` (exp of the entropy of σ/Σσ) and `stable_rank` (Σσ²/σ₁²) the
    means over modules that are not zero, `top` the largest σ of all. `energy_shares` holds for k = 1 … the largest rank
    the share of Σσ² that the first k components of every module have. NaN and empty for an update of zero.
    """

    folder: str
    digest: str = ""
    base: str = ""
    modules: int = 0
    ranks: tuple[int, ...] = ()
    parameters: int = 0
    norm: float = float("nan")
    effective_rank: float = float("nan")
    stable_rank: float = float("nan")
    top: float = float("nan")
    energy_shares: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    refusal: str = ""


def adapter_folders(root: Path | str) -> dict[str, Path]:
    """Folders with a file of a PEFT adapter, by their paths at or below `root`, in the order of `in_order`.

    root: a folder, in which links are not followed, or `demo:NAME` of a set that ships.

    Raises `DataError` where there are none.
    """
    top = set_path(root)
    if not top.is_dir():
        raise DataError(f"no folder at {str(root)!r}", "name the folder above the adapters")
    found = {
        Path(folder).relative_to(top).as_posix(): Path(folder)
        for folder, _, files in os.walk(top)
        if any(mark in files for mark in _MARKS)
    }
    if not found:
        raise DataError(f"no adapter below {str(root)!r}", f"name a folder above files called {_MARKS[0]}")
    return {name: found[name] for name in in_order(found)}


def inspect_many(root: Path | str, *, workers: int = 1, control: Control = SILENT) -> list[AdapterRow]:
    """A row for every adapter below `root`: by base, the largest norm first, refused ones last.

    One worker reads in this process; several have a process each. `control` hears of adapters; raises `Cancelled`.
    """
    top = set_path(root)
    folders = list(adapter_folders(top).values())
    rows = []
    for row in _rows(folders, top, min(workers, len(folders))):
        rows.append(row)
        control.progress(len(rows), len(folders))
        control.heed()
    return ordered_rows(rows)


def ordered_rows(rows: Iterable[AdapterRow]) -> list[AdapterRow]:
    """By base, the largest norm first, refused ones last."""
    return sorted(rows, key=lambda row: (bool(row.refusal), row.base, -np.nan_to_num(row.norm), row.folder))


def inspect_one(folder: Path, root: Path) -> AdapterRow:
    """The row of one adapter, named by its path below `root`."""
    return look_at(folder, root).row


@dataclass(frozen=True)
class Look:
    """An adapter's row beside the adapter and its spectra: None and empty for one that is refused."""

    row: AdapterRow
    adapter: Adapter | None = None
    spectra: Spectra = field(default_factory=dict)


def look_at(folder: Path, root: Path) -> Look:
    """One adapter opened and decomposed, named by its path below `root`; whatever it refuses with stands in its row."""
    name = folder.relative_to(root).as_posix()
    try:
        adapter = open_adapter(str(folder))
        spectra = decompose(adapter)
        return Look(_row(name, adapter, spectra), adapter, spectra)
    except SurgeryError as error:
        return Look(AdapterRow(name, refusal=str(error)))
    except (Exception, MemoryError) as error:  # one file among thousands must not end the others
        return Look(AdapterRow(name, refusal=first_line(error, kind=True)))


def _row(name: str, adapter: Adapter, spectra: Spectra) -> AdapterRow:
    facts = module_facts(adapter, spectra)
    changed = [fact for fact in facts if fact.norm]
    return AdapterRow(
        folder=name,
        digest=adapter.digest,
        base=adapter.base_name or "",
        modules=len(facts),
        ranks=tuple(sorted({fact.rank for fact in facts})),
        parameters=sum(factors.parameters for factors in adapter.modules.values()),
        norm=float(np.sqrt(sum(fact.norm**2 for fact in facts))),
        effective_rank=float(np.mean([fact.effective_rank for fact in changed])) if changed else np.nan,
        stable_rank=float(np.mean([fact.stable_rank for fact in changed])) if changed else np.nan,
        top=max((fact.top for fact in facts), default=np.nan),
        energy_shares=_energy_shares(spectra),
        notes=tuple(adapter.notes),
    )


def _energy_shares(spectra: Spectra) -> tuple[float, ...]:
    """The share of Σσ² that the first k components of every module have, for k = 1 … the largest rank."""
    sigma = np.zeros((len(spectra), max((spectrum.rank for spectrum in spectra.values()), default=0)))
    for row, spectrum in enumerate(spectra.values()):
        sigma[row, : spectrum.rank] = spectrum.sigma
    if not (top := sigma.max(initial=0.0)):
        return ()
    upto = ((sigma / top) ** 2).sum(axis=0).cumsum()  # squares of the σ themselves may overflow
    return tuple((upto / upto[-1]).tolist())


def _rows(folders: Sequence[Path], root: Path, workers: int) -> Iterator[AdapterRow]:
    if workers <= 1:
        yield from (inspect_one(folder, root) for folder in folders)
        return
    left = list(reversed(folders))
    while left:
        flying: dict[Future[AdapterRow], Path] = {}
        with _processes(workers) as pool:
            try:
                while left or flying:
                    while left and len(flying) < _AHEAD * workers:
                        flying[pool.submit(inspect_one, left[-1], root)] = left[-1]
                        left.pop()
                    for future in wait(flying, return_when=FIRST_COMPLETED).done:
                        row = future.result()
                        del flying[future]
                        yield row
            except BrokenProcessPool:
                pass
        # a process died under one of these, and none tells which: each is looked at in a process of its own
        for folder in flying.values():
            yield _alone(folder, root)


def _alone(folder: Path, root: Path) -> AdapterRow:
    try:
        with _processes(1) as pool:
            return pool.submit(inspect_one, folder, root).result()
    except BrokenProcessPool:
        name = folder.relative_to(root).as_posix()
        return AdapterRow(name, refusal="the process that read it died → look at it by itself, with more memory")


def _processes(count: int) -> ProcessPoolExecutor:
    # started afresh: a fork would copy whatever threads and locks the caller has
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_one_thread)


def _one_thread() -> None:
    """Processes share the cores already."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(1)


def many_record(rows: Sequence[AdapterRow]) -> dict[str, Any]:
    """The rows as one JSON-ready object."""
    return {
        "adapters": len(rows),
        "refused": sum(bool(row.refusal) for row in rows),
        "rows": [_listed(asdict(row)) for row in rows],
    }


def _listed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in row.items()}


def many_text(record: Mapping[str, Any]) -> str:
    """A `many_record` as a table."""
    rows = record["rows"]
    width = min(60, max([len(row["folder"]) for row in rows], default=6))
    lines = [
        f"{record['adapters']} adapters, {record['refused']} refused",
        f"{'folder':<{width}} {'modules':>7} {'ranks':>9} {'parameters':>12} {'norm':>9} {'eff. rank':>9} "
        f"{'stable':>7} {'sigma 1':>8} {'first':>6} {'four':>6}  base",
    ]
    for row in rows:
        if row["refusal"]:
            lines.append(f"{row['folder']:<{width}} refused: {row['refusal']}")
            continue
        ranks = ",".join(map(str, row["ranks"]))
        first, four = (energy_at(row["energy_shares"], k) for k in (1, 4))
        lines.append(
            f"{row['folder']:<{width}} {row['modules']:>7} {ranks:>9} {row['parameters']:>12,} {row['norm']:>9.3f} "
            f"{row['effective_rank']:>9.2f} {row['stable_rank']:>7.2f} {row['top']:>8.3f} {first:>6.1%} {four:>6.1%}  "
            f"{row['base']}"
        )
    return "\n".join(lines)


def energy_at(shares: Sequence[float], k: int) -> float:
    """What the first k components hold of Σσ², by a row's `energy_shares`: 1 beyond them, NaN for an update of zero."""
    return (shares[k - 1] if k <= len(shares) else 1.0) if shares else float("nan")


def write_parquet(rows: Sequence[AdapterRow], file: Path | str) -> Path:
    """Write the rows as a Parquet file, whole or not at all; raises `DataError` where that cannot be done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    lists = {
        "ranks": pa.list_(pa.int64()),
        "energy_shares": pa.list_(pa.float64()),
        "notes": pa.list_(pa.string()),
    }
    schema = pa.schema([(f.name, lists.get(f.name) or kinds[f.type]) for f in fields(AdapterRow)])  # type: ignore[index]
    table = pa.Table.from_pylist([asdict(row) for row in rows], schema=schema)
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    return write_named(file, content.getvalue().to_pybytes())
