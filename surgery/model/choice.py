"""The choice of a base model: where it is, on which device and in which precision."""

from dataclasses import dataclass

from surgery.errors import BaseModelError
from surgery.hub import hub_name


@dataclass(frozen=True)
class BaseChoice:
    """Which base model, and how it is held.

    location: a folder, a `.gguf` file, `owner/name` on the hub or `demo:smollm2`. The revision may stand in it, as
        `owner/name@revision`, where it is taken from; raises `BaseModelError` for two of them.
    revision: of a hub id.
    device: one device, or `auto` for a base that exceeds it, as `parse_device_map` reads it.
    dtype: precision of the weights.
    """

    location: str
    revision: str | None = None
    device: str = "cpu"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        named = hub_name(self.location, BaseModelError) if "@" in self.location else None
        if named is None or named.folder:
            return
        revision = named.repository.revision
        if self.revision not in (None, "", revision):
            raise BaseModelError(
                f"{self.location!r} names another revision than {self.revision!r}", "name the revision once"
            )
        object.__setattr__(self, "location", named.repository.name)
        object.__setattr__(self, "revision", revision)
