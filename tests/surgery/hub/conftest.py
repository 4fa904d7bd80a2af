"""A repository of three files, and the fetching of some of them."""

from collections.abc import Sequence
from typing import Any

from surgery.errors import SurgeryError
from surgery.hub import Fetched, Repository, fetch_files

FILES = {"a.json": b"{}", "b.bin": b"0123456789", "deep/c.txt": b"c"}
NAME = Repository("owner/name")


def fetch(repository: Repository = NAME, names: tuple[str, ...] = ("a.json", "b.bin"), **options: Any) -> Fetched:
    """The named files; refused with a word of its own where one of them is lacking."""

    def chosen(found: Sequence[str], _: object) -> tuple[str, ...]:
        if not set(names) <= set(found):
            raise SurgeryError("something is lacking", "another repository")
        return names

    return fetch_files(repository, chosen, refusal=SurgeryError, **options)
