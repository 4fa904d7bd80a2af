"""How a call is refused: by an error that is told in one line."""

from typing import Any

import pytest

from surgery.errors import SurgeryError


def refusal(kind: type[Exception], function: Any, *arguments: Any, **options: Any) -> str:
    """The one line of the error that a call raises."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    if isinstance(caught.value, SurgeryError):
        assert caught.value.problem
        assert caught.value.remedy
    return str(caught.value)
