"""Values of arrow's columns as plain Python, with a bound on what one record unpacks to.

In columns a text that repeats is kept once, so a few bytes can stand for a record of any length.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surgery.errors import DataError, first_line

_MOST_UNPACKED = 64 << 20  # of one record: bytes of texts, and one for every other value


@contextmanager
def arrow_errors(file: Path, kind: str) -> Iterator[None]:
    """Read a file of a kind with arrow; raises `DataError` for whatever arrow has against it, and without a file."""
    if not file.is_file():
        raise DataError(f"no file at {str(file)!r}", f"check the path of the {kind} file")
    try:
        yield
    except DataError:
        raise
    except ImportError:
        raise DataError(f"{kind} files need pyarrow, which is not installed", "run: pip install pyarrow") from None
    except (OSError, ArithmeticError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        # arrow's own are among these
        raise DataError(
            f"{file.name!r} could not be read as {kind} ({first_line(error)})", "use an intact copy"
        ) from error


def arrow_record(batch: Any, at: int, read: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """One record of an arrow batch, by the names in `columns`; those that are not among `read` are None.

    Raises `DataError` for a record that unpacks to more than fits.
    """
    budget = _Budget(_MOST_UNPACKED)
    values = {name: budget.unpacked(batch.column(name)[at]) for name in read}
    return {name: values.get(name) for name in columns}


class _Budget:
    """How much may still be unpacked."""

    def __init__(self, left: int) -> None:
        self.left = left

    def unpacked(self, scalar: Any) -> Any:
        """What an arrow scalar holds, however deep."""
        import pyarrow as pa

        if not scalar.is_valid:
            self._spend(1)
            return None
        if isinstance(scalar, pa.DictionaryScalar):
            return self.unpacked(scalar.value)
        if isinstance(scalar, pa.StructScalar):
            return {name: self.unpacked(scalar[at]) for at, name in enumerate(scalar)}
        if isinstance(scalar, (pa.ListScalar, pa.LargeListScalar, pa.FixedSizeListScalar)):
            return [self.unpacked(value) for value in scalar.values]
        is_text = pa.types.is_string(scalar.type) or pa.types.is_large_string(scalar.type)
        self._spend(scalar.as_buffer().size if is_text else 1)
        return scalar.as_py()

    def _spend(self, cost: int) -> None:
        self.left -= cost
        if self.left < 0:
            raise DataError(f"a record unpacks to more than {_MOST_UNPACKED >> 20} MiB", "leave that record out")
