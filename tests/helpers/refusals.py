"""How a call is refused: by an error that is told in one line."""

from typing import Any

import pytest


def refusal(kind: type[Exception], function: Any, *arguments: Any, **options: Any) -> str:
    """The one line of the error that a call raises."""
    with pytest.raises(kind) as caught:
        function(*arguments, **options)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
