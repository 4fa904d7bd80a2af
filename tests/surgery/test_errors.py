"""What other libraries raise is told on one line."""

import pytest

from surgery.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("bad size\nat line 3"), "bad size"),
        (OSError("\n  late\n"), "late"),
        (KeyError(), "KeyError"),
        (RuntimeError("x" * 500), "x" * 160),
    ],
)
def test_an_error_of_another_library_is_its_first_line_or_its_class(error: Exception, said: str) -> None:
    assert first_line(error) == said
    name = type(error).__name__
    assert first_line(error, kind=True) == (name if said == name else f"{name}: {said}")
