"""Sensitivities gₖ = ∂loss/∂σₖ, kept for every calibration example, and their files (paper §3.3, Eq. 4).

From the matrix (examples, components) of a module come the paper's magnitude (mean |g|), the signed mean, their
standard errors, sign agreement and any smaller calibration budget, without another pass.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from surgery.data import Encoding, encoding_record, parse_encoding
from surgery.errors import DataError
from surgery.files import digest, is_shipped, user_path, write_problem, write_whole
from surgery.sensitivity.folds import Folds, folds_of
from surgery.sensitivity.input_moments import InputMoments, moment_tensors, moments_header, moments_read
from surgery.sensitivity.moments import Moments, moments_of

FORMAT = "surgery-sensitivity-1"


@dataclass(frozen=True)
class Provenance:
    """What a measurement belongs to: digests of adapter, base and token ids, and the settings.

    `sigma` is the digest of the σ′ at which it was made, empty for the adapter's own σ. `sampled` is the seed of
    answers drawn from the model in place of those of the rows, None for theirs.
    """

    adapter: str
    base: str
    examples: str
    encoding: Encoding
    scope: tuple[str, ...]
    dtype: str
    sigma: str = ""
    sampled: int | None = None

    @property
    def key(self) -> str:
        """The name under which a measurement can be stored and found again."""
        return digest([json.dumps(self.record, sort_keys=True)])[:24]

    @property
    def record(self) -> dict[str, Any]:
        """What a stored file says of it; of the earlier rule of tokenising, as earlier versions wrote it."""
        record = {**asdict(self), "encoding": encoding_record(self.encoding)}
        # measurements of earlier versions keep their names
        if not self.sigma:
            del record["sigma"]
        if self.sampled is None:
            del record["sampled"]
        return record


def sigma_identity(sigma: Mapping[str, Float64[ndarray, " rank"]] | None) -> str:
    """Identity of σ′ by module; empty for the adapter's own σ."""
    if sigma is None:
        return ""
    return digest(part for name in sorted(sigma) for part in (name, np.ascontiguousarray(sigma[name]).tobytes()))


@dataclass(frozen=True)
class ComponentStatistics:
    """One number per component of a module, over calibration examples; `mean` is signed.

    `agreement` is the share of examples whose sign is that of the mean.
    """

    mean: Float64[ndarray, " rank"]
    mean_error: Float64[ndarray, " rank"]
    magnitude: Float64[ndarray, " rank"]
    magnitude_error: Float64[ndarray, " rank"]
    agreement: Float64[ndarray, " rank"]


@dataclass(frozen=True)
class Sensitivity:
    """Per-example gₖ for every measured module, rows in the order of the calibration slice.

    `losses` is the mean answer-token loss of each example, in nats, at the unedited σ. `left_out` counts by
    reason the rows that could not be measured, as `Calibration.left_out`; `rows` is the digest of the slice's
    text, empty where the slice was not read from a source, and `keys` are those of its rows, several each, as
    `data.seen_keys` gives them; files of earlier versions lack them. `shipped` tells that it came with a demo,
    measured elsewhere. `without` is the loss of the first examples with every σ at zero; it is empty in earlier
    files. `answer_tokens`, the number of tokens that each example's loss is the mean of, and `inputs`, the second
    moments of what enters the modules, are None there. `protected` are measurements of the same
    adapter on slices that an edit is not to hurt.
    """

    values: Mapping[str, Float64[ndarray, "example rank"]]
    losses: Float64[ndarray, " example"]
    provenance: Provenance
    left_out: Mapping[str, int] = field(default_factory=dict)
    rows: str = ""
    shipped: bool = False
    keys: tuple[tuple[str, ...], ...] = ()
    without: Float64[ndarray, " few"] = field(default_factory=lambda: np.zeros(0))
    answer_tokens: Int64[ndarray, " example"] | None = None
    inputs: InputMoments | None = None
    protected: tuple["Sensitivity", ...] = ()

    @property
    def examples(self) -> int:
        return int(self.losses.size)

    @property
    def label_free(self) -> bool:
        """Whether the answers were drawn from the model: its mean g is then zero but for the draw."""
        return self.provenance.sampled is not None

    @cached_property
    def moments(self) -> Moments:
        """What policies and previews read, for all modules at once; computed at the first use."""
        counts = self.answer_tokens
        return replace(
            moments_of(self.values, self.inputs),
            tokens=float("nan") if counts is None else float(counts.mean()),
            label_free=self.label_free,
            protected=tuple(beside.moments for beside in self.protected),
        )

    @cached_property
    def folds(self) -> Folds | None:
        """The folds of its examples; None where they are too few."""
        return folds_of(self.examples)

    def statistics(self, name: str) -> ComponentStatistics:
        g = self.values[name]
        mean, magnitude = g.mean(axis=0), np.abs(g)
        return ComponentStatistics(
            mean,
            _standard_error(g),
            magnitude.mean(axis=0),
            _standard_error(magnitude),
            (np.sign(g) == np.sign(mean)).mean(axis=0),
        )

    def head(self, count: int) -> "Sensitivity":
        """The same measurement on the first `count` examples of the slice."""
        if not 1 <= count <= self.examples:
            raise DataError(f"{count} examples were asked for of {self.examples}", "choose a smaller number")
        return self.of_rows(slice(count))

    def of_rows(self, rows: slice) -> "Sensitivity":
        """The same measurement on the examples of a slice without a step; the moments of the inputs stay those of all."""
        return replace(
            self,
            values={name: g[rows] for name, g in self.values.items()},
            losses=self.losses[rows],
            without=self.without[rows],
            answer_tokens=None if self.answer_tokens is None else self.answer_tokens[rows],
        )

    def of_modules(self, names: Iterable[str]) -> "Sensitivity":
        """The same measurement of some modules only, as far as they were measured."""
        wanted = set(names)
        return replace(self, values={name: g for name, g in self.values.items() if name in wanted})


def save_sensitivity(sensitivity: Sensitivity, path: Path | str, about: Mapping[str, str] | None = None) -> None:
    """Write a measurement as one safetensors file, whole or not at all.

    `about` adds entries to the header, for a list of measurements to read.
    """
    file = user_path(path, DataError)
    metadata = {
        **(about or {}),
        "format": FORMAT,
        "provenance": json.dumps(sensitivity.provenance.record, sort_keys=True),
        "names": json.dumps(list(sensitivity.values)),
        "left_out": json.dumps(dict(sensitivity.left_out)),
        "rows": sensitivity.rows,
        "keys": json.dumps(sensitivity.keys),
        "examples": str(sensitivity.examples),
        "loss": repr(float(sensitivity.losses.mean())) if sensitivity.examples else "nan",
    }
    tensors = {f"g.{i}": _as_stored(g) for i, g in enumerate(sensitivity.values.values())}
    tensors["losses"] = _as_stored(sensitivity.losses)
    if sensitivity.without.size:
        tensors["without"] = _as_stored(sensitivity.without)
    if sensitivity.answer_tokens is not None:
        tensors["answer_tokens"] = sensitivity.answer_tokens
    if sensitivity.inputs is not None:
        tensors |= moment_tensors(sensitivity.inputs, list(sensitivity.values))
        metadata["inputs"] = moments_header(sensitivity.inputs)
    content = save(tensors, metadata=metadata)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, content)
    except OSError as error:
        reason = write_problem(error, len(content))
        raise DataError(
            f"{str(path)!r} cannot be written ({reason})", "make room or choose another file"
        ) from error


def load_sensitivity(path: Path | str) -> Sensitivity:
    """Read a measurement; raises `DataError` for anything else."""
    file = Path(path) if is_shipped(Path(path)) else user_path(path, DataError)
    if not file.is_file():
        raise DataError(f"no sensitivity file at {str(path)!r}", "write one with: surgery calibrate")
    try:
        with safe_open(str(file), framework="np") as handle:
            metadata = handle.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError("not a sensitivity file")
            names = json.loads(metadata["names"])
            values = {name: handle.get_tensor(f"g.{i}").astype(np.float64) for i, name in enumerate(names)}
            losses = handle.get_tensor("losses").astype(np.float64)
            held = set(handle.keys())
            without = handle.get_tensor("without").astype(np.float64) if "without" in held else np.zeros(0)
            counts = handle.get_tensor("answer_tokens").astype(np.int64) if "answer_tokens" in held else None
            ranks = {name: g.shape[1] for name, g in values.items()}
            sums = {name: handle.get_tensor(name) for name in held if name.startswith("M.")}
        record = json.loads(metadata["provenance"])
        encoding, scope = parse_encoding(record.pop("encoding")), tuple(record.pop("scope"))
        # files of earlier versions say neither what was left out nor which rows it was
        left_out = {
            str(reason): int(count) for reason, count in json.loads(metadata.get("left_out", "{}")).items()
        }
        if type(record.get("sampled", 0)) is not int:
            raise ValueError("no seed of drawn answers")
        provenance = Provenance(encoding=encoding, scope=scope, **record)
        keys = tuple(tuple(map(str, row)) for row in json.loads(metadata.get("keys", "[]")))
        about = left_out, metadata.get("rows", ""), is_shipped(file)
        return Sensitivity(
            values,
            losses,
            provenance,
            *about,
            keys=keys,
            without=without,
            answer_tokens=counts,
            inputs=moments_read(metadata.get("inputs"), ranks, sums),
        )
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file.name!r} is no sensitivity file ({str(error)[:80]})", "write one with: surgery calibrate"
        ) from error


def _as_stored(values: ndarray) -> ndarray:
    """In float32 where that loses nothing, as of a model in float32: half the size, and the same bits once read."""
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return np.ascontiguousarray(narrow if np.array_equal(narrow, values, equal_nan=True) else values)


def _standard_error(values: Float64[ndarray, "example rank"]) -> Float64[ndarray, " rank"]:
    n = values.shape[0]
    return values.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(values.shape[1], np.nan)
