"""One pass over the modules of many adapters, a module of all of them at a time.

An adapter's file is read from its beginning to its end, so it is opened once for as many modules as there is room
for: their factors are copied out of it, in the type they are stored in, and the rest is let go.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from surgery.adapter import Adapter, Factors
from surgery.errors import DataError
from surgery.spectra import Spectrum, decompose_factors


@dataclass(frozen=True)
class Portion:
    """Modules whose factors are in memory together, and the bytes that takes with all that is made of them."""

    modules: tuple[str, ...]
    size: int


def portions(
    factors: Mapping[str, int], spectra: Mapping[str, int], largest_file: int, room: int
) -> list[Portion]:
    """The modules in their order, as many at a time as fit.

    factors: bytes of each module's factors, of all adapters together.
    spectra: bytes of U and V of each module, of all adapters together.
    largest_file: bytes of the largest adapter, which is read whole.
    room: bytes there are.

    Raises `DataError` where not even one module fits.
    """
    # whoever asks for the next module still holds the one before, or computes from one with arrays of its size
    beside = largest_file + 3 * max(spectra.values(), default=0)
    least = beside + max(factors.values(), default=0)
    if least > room:
        raise DataError(
            f"one module of all these adapters takes {_mib(least)} of memory where {_mib(room)} are set",
            "compare fewer adapters at a time, or set more memory",
        )
    found: list[Portion] = []
    taken: list[str] = []
    size = 0
    for module, more in factors.items():
        if size + more > room - beside:
            found.append(Portion(tuple(taken), size + beside))
            taken, size = [], 0
        taken.append(module)
        size += more
    return [*found, Portion(tuple(taken), size + beside)] if taken else found


def copied(adapter: Adapter, modules: Sequence[str]) -> dict[str, Factors]:
    """The factors of those modules that the adapter has, apart from its file."""
    wanted = (adapter.modules[name] for name in modules if name in adapter.modules)
    return {
        each.name: replace(
            each,
            B=each.B.copy(),
            A=each.A.copy(),
            diagonal=None if each.diagonal is None else each.diagonal.copy(),
            magnitude=None,
        )
        for each in wanted
    }


def whole_spectrum(factors: Factors) -> Spectrum:
    """The spectrum with its U and V as arrays: what holds it knows its size."""
    found = decompose_factors(factors)
    return Spectrum(found.name, found.layer, found.family, found.U, found.sigma, found.V, found.precision)


def size_of(spectrum: Spectrum) -> int:
    return spectrum.U.nbytes + spectrum.sigma.nbytes + spectrum.V.nbytes


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"
