"""What names of base models tell: which one a quantised model was made of, and whether two names are of one model."""

import re
from typing import TYPE_CHECKING

from surgery.adapter import Adapter
from surgery.model.model_class import pictures_note

if TYPE_CHECKING:
    from surgery.model.base import LoadedBase

# what names of models that bitsandbytes quantised end in
_QUANTISED = re.compile(r"([-_.](unsloth[-_.])?bnb)?[-_.][48][-_.]?bits?$", re.IGNORECASE)
# a name without a size, such as `base` or `checkpoint-300`, tells nothing
_SIZED = re.compile(r"\d[bm](?![a-z])")


def unquantised(name: str) -> str | None:
    """The name of the model that a quantised one was made of, where its own name says so; None where it does not.

    name: a hub id or the name of a folder, such as `owner/name-bnb-4bit`.
    """
    found = _QUANTISED.sub("", name)
    return found if found not in ("", name) and not found.endswith("/") else None


def base_notes(base: "LoadedBase", adapter: Adapter) -> tuple[str, ...]:
    """What is to be told of a base that an adapter is attached to: another name than it asks for, pictures."""
    own = str(getattr(base.model.config, "_name_or_path", ""))
    told = other_base_note(adapter.base_name, base.location, own), pictures_note(base.model)
    return tuple(filter(None, told))


def other_base_note(named: str | None, location: str, model: str) -> str | None:
    """What is to be told where an adapter names another base model than the one at hand; None where it does not.

    named: by the adapter's config.
    location: where the base model was loaded from.
    model: what its own config calls it.
    """
    asked = _plain(named or "")
    found = [name for name in map(_plain, (location, model)) if _SIZED.search(name)]
    if not _SIZED.search(asked) or not found or any(asked in name or name in asked for name in found):
        return None
    return (
        f"the adapter names {named!r} as its base model, and this one is {location!r}: if its loss here is high, or "
        "lower without the adapter, that is why"
    )


def _plain(name: str) -> str:
    """The last part of a name or a path, in one case and with one kind of dash, as the unquantised model has it."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    return re.sub(r"[-_. ]+", "-", (unquantised(last) or last).casefold())
