"""The self-test finds every wall that is missing."""

import pytest

from surgery.sandbox import SandboxError, open_sandbox
from tests.surgery.sandbox.conftest import linux, sabotage


@linux
@pytest.mark.parametrize(
    ("walls", "code", "found"),
    [
        ("namespaces", "s.restrict_calls = nothing", "attack was not held off"),
        ("namespaces", "s.set_limits = nothing", "too much memory"),
        ("namespaces", "s.enter_namespaces = nothing", "/scratch"),
        ("landlock", "s.restrict_files = nothing", "reading .*secret"),
        ("landlock", "s.restrict_calls = nothing", "attack was not held off"),
        ("landlock", "s.landlock_version = lambda: 2", "version 2"),
        ("landlock", "s._judge = lambda *a: {'passed': True, 'reason': 'passed'}", "forge"),
    ],
)
def test_a_missing_wall_is_found_and_refused(sandbox, monkeypatch, walls, code, found):
    if sandbox.walls != walls:
        pytest.skip("for the other walls")
    sabotage(monkeypatch, code)
    with pytest.raises(SandboxError, match=found) as caught:
        open_sandbox([walls])
    assert "never run without walls" in caught.value.remedy
