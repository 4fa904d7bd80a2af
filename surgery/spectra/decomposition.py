"""Singular value decomposition of every update through its factors (paper §3.1, Eq. 1–2).

ΔW = s·B·A is never formed: B = Q_B·R_B and Aᵀ = Q_A·R_A, then the thin SVD of the small matrix
s·R_B·R_Aᵀ gives σ, and U = Q_B·U', V = Q_A·V'. All in float64. Householder reflectors in blocks
(LAPACK's geqrt): matrix products for a tall factor, and as accurate as the unblocked kind, which a
Gram matrix would not be. U and V are made when they are asked for: of a model with thousands of
experts they are several times as large as the adapter's file.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Lock, local

import ml_dtypes
import numpy as np
import scipy.linalg
from jaxtyping import Float64, Shaped
from numpy import ndarray
from scipy.linalg import lapack
from threadpoolctl import ThreadpoolController

from surgery.adapter import Adapter, Factors, float64
from surgery.spectra.spectrum import Spectrum

_REFLECTORS = 32
_AT_ONCE = 2048  # modules whose small matrices are decomposed together
# bytes of U and V that stay in memory: of all modules where they fit, else of those that were used last
_ALL_KEPT, _SOME_KEPT = 2 << 30, 128 << 20
_LOCK, _HELD = Lock(), local()


class FactoredSpectrum(Spectrum):
    """A spectrum that makes U and V from the factors when they are asked for.

    factors: of the module.
    small: U', σ and V', the decomposition of the small matrix.
    kept: where U and V that were made stay for a while.
    """

    _factors: Factors
    _small: tuple[ndarray, ndarray]
    _kept: "_Kept"
    _signs: ndarray | None

    def __init__(self, factors: Factors, small: tuple[ndarray, ndarray, ndarray], kept: "_Kept") -> None:
        left, sigma, right = small
        precision = max(_epsilon(factors.B.dtype), _epsilon(factors.A.dtype))
        told = {"name": factors.name, "layer": factors.layer, "family": factors.family, "sigma": sigma}
        own = {"precision": precision, "_factors": factors, "_small": (left, right), "_kept": kept, "_signs": None}
        for field, value in {**told, **own}.items():
            object.__setattr__(self, field, value)

    @property
    def U(self) -> Float64[ndarray, "out rank"]:  # noqa: N802
        found = self._kept.get((self.name, "U"))
        if found is None:
            found = _turned(self._factors.B, self._small[0])
            signs = np.sign(found[np.abs(found).argmax(axis=0), np.arange(found.shape[1])])
            found *= signs
            object.__setattr__(self, "_signs", signs)
            self._kept.put((self.name, "U"), found)
        return found

    @property
    def V(self) -> Float64[ndarray, "in rank"]:  # noqa: N802
        found = self._kept.get((self.name, "V"))
        if found is None:
            if self._signs is None:
                _ = self.U  # its largest entries decide
            found = _turned(self._factors.right.T, self._small[1])
            found *= self._signs
            self._kept.put((self.name, "V"), found)
        return found

    @property
    def shape(self) -> tuple[int, int]:
        return self._factors.B.shape[0], self._factors.A.shape[1]

    def is_of(self, factors: Factors) -> bool:
        return self._factors is factors


class _Kept:
    """U and V of the modules that were used last, up to a number of bytes."""

    def __init__(self, factors: Sequence[Factors]) -> None:
        total = sum(8 * min(f.B.shape[0], f.rank, f.A.shape[1]) * (f.B.shape[0] + f.A.shape[1]) for f in factors)
        self._most = _ALL_KEPT if total <= _ALL_KEPT else _SOME_KEPT
        self._bytes = 0
        self._sides: OrderedDict[tuple[str, str], ndarray] = OrderedDict()

    def get(self, key: tuple[str, str]) -> ndarray | None:
        with _LOCK:
            if key not in self._sides:
                return None
            self._sides.move_to_end(key)
            return self._sides[key]

    def put(self, key: tuple[str, str], side: ndarray) -> None:
        with _LOCK:
            if key in self._sides:
                return
            self._sides[key] = side
            self._bytes += side.nbytes
            while self._bytes > self._most and len(self._sides) > 2:
                _, old = self._sides.popitem(last=False)
                self._bytes -= old.nbytes


def decompose(adapter: Adapter) -> dict[str, Spectrum]:
    """The spectrum of every module, in the adapter's order."""
    return _decomposed(list(adapter.modules.values()))


def decompose_factors(factors: Factors) -> Spectrum:
    """Thin SVD of scaling·B·A, or scaling·B·diag(E)·A; min(out, in, rank) components. The same bits whatever else is decomposed."""
    return _decomposed([factors])[factors.name]


def _decomposed(modules: Sequence[Factors]) -> dict[str, Spectrum]:
    kept = _Kept(modules)
    found: dict[str, Spectrum] = {}
    # factors are tall and thin: several threads on one of them wait for each other more than they compute
    with one_thread():
        for start in range(0, len(modules), _AT_ONCE):
            some = modules[start : start + _AT_ONCE]
            for factors, small in zip(some, _small_svds(some), strict=True):
                found[factors.name] = FactoredSpectrum(factors, small, kept)
    return found


def _small_svds(modules: Sequence[Factors]) -> list[tuple[ndarray, ndarray, ndarray]]:
    """U', σ and V' of s·R_B·R_Aᵀ of every module; matrices of one shape are stacked."""
    groups: dict[tuple[int, ...], list[int]] = {}
    triangles = []
    for i, factors in enumerate(modules):
        # columns have to be contiguous; what is below the diagonal is cut off in the stack
        R_B, R_A = (_triangle(float64(side).T) for side in (factors.B.T, factors.right))
        triangles.append((R_B, R_A))
        groups.setdefault((*R_B.shape, *R_A.shape), []).append(i)
    found: dict[int, tuple[ndarray, ndarray, ndarray]] = {}
    for members in groups.values():
        R_B, R_A = (np.triu(np.stack([triangles[i][side] for i in members])) for side in (0, 1))
        scalings = np.array([modules[i].scaling for i in members])[:, None, None]
        cores = scalings * (R_B @ R_A.transpose(0, 2, 1))
        left, sigma, right_t = _robust_svd(cores)
        for row, i in enumerate(members):
            found[i] = left[row], sigma[row], right_t[row].T
    return [found[i] for i in range(len(modules))]


def _triangle(factor: Float64[ndarray, "row rank"]) -> Float64[ndarray, "k rank"]:
    """R of a column-major matrix, which is overwritten, with the reflectors below its diagonal."""
    packed, _ = _reflected(factor)
    return packed[: packed.shape[1]].copy()


def _reflected(factor: Float64[ndarray, "row rank"]) -> tuple[ndarray, ndarray]:
    """QR of a column-major matrix, which is overwritten, as blocks of reflectors: products with Q need no Q."""
    packed, blocks, _ = lapack.dgeqrt(min(_REFLECTORS, *factor.shape), factor, overwrite_a=True)
    return packed, blocks


def _turned(
    factor: Shaped[ndarray, "row rank"], small: Float64[ndarray, "k column"]
) -> Float64[ndarray, "row column"]:
    """Q of a factor times a small matrix."""
    with one_thread():
        packed, blocks = _reflected(float64(factor.T).T)
        k = min(packed.shape)
        padded = np.zeros((packed.shape[0], small.shape[1]), order="F")
        padded[:k] = small
        product, _ = lapack.dgemqrt(packed[:, :k], blocks, padded, overwrite_c=True)
    return np.asarray(product)


def _robust_svd(cores: Float64[ndarray, "module m n"]) -> tuple[ndarray, ndarray, ndarray]:
    try:
        return np.linalg.svd(cores, full_matrices=False)
    except np.linalg.LinAlgError:
        if len(cores) > 1:
            parts = [_robust_svd(core[None]) for core in cores]
            left, sigma, right_t = (np.concatenate(each) for each in zip(*parts, strict=True))
            return left, sigma, right_t
        # divide and conquer can fail on a finite, rank-deficient matrix; plain QR iteration does not
        found = scipy.linalg.svd(cores[0], full_matrices=False, lapack_driver="gesvd")
        return found[0][None], found[1][None], found[2][None]


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS to one thread; inside of it another one costs nothing."""
    if getattr(_HELD, "held", False):
        yield
        return
    with _threads().limit(limits=1, user_api="blas"):
        _HELD.held = True
        try:
            yield
        finally:
            _HELD.held = False


@cache
def _threads() -> ThreadpoolController:
    """What limits BLAS; to look for its libraries takes longer than a decomposition."""
    return ThreadpoolController()


def _epsilon(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).eps)
