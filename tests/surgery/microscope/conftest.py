"""The attached Llama of the sensitivities' tests."""

from tests.surgery.sensitivity.conftest import files, live, llama, loaded, plan, store

__all__ = ["files", "live", "llama", "loaded", "plan", "store"]
