"""What a result was computed with: versions of packages, kind of machine."""

import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("torch", "transformers", "peft", "numpy", "scipy", "lm-eval", "spectral-surgery-workbench")


def environment() -> dict[str, Any]:
    """Versions and machine, without names of hosts or people."""
    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "packages": versions,
    }
