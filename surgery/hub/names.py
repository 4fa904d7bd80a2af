"""What a person writes for something on the hub: `owner/name`, with a revision and a folder inside it."""

import os
import re
from dataclasses import dataclass, replace

from surgery.errors import SurgeryError

_PART = r"[A-Za-z0-9](?:[\w\-]|\.(?!\.))*"
# the hub's own names of a revision may hold slashes in two cases; in all others %2F stands for one
_REVISION = r"refs/pr/\d+|refs/convert/[\w.\-]+|[\w.\-%]+"
_NAMED = re.compile(
    rf"(?P<repository>{_PART}/{_PART})(?:@(?P<revision>{_REVISION}))?(?P<folder>(?:/[^/@]+)*)(?:@(?P<last>{_REVISION}))?",
    re.ASCII,
)
# a dataset may have no owner
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})?", re.ASCII)
_SEGMENT = re.compile(r"[\w\-](?:[\w\-+]|\.(?!\.))*", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_LONGEST, _LONGEST_REPOSITORY = 400, 96
_ADDRESSES = ("https://", "http://", "hf://")
# a text that ends so is the path of a file
_FILES = (".zip", ".gguf", ".safetensors", ".bin", ".pt", ".pth", ".json", ".jsonl", ".yaml", ".yml", ".npz")


@dataclass(frozen=True)
class Repository:
    """A repository of the hub: `kind` is `model` or `dataset`; an empty revision is the newest."""

    name: str
    revision: str = ""
    kind: str = "model"

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, whose files never change."""
        return is_commit(self.revision)

    @property
    def is_sound(self) -> bool:
        """Whether name and revision could be such on the hub, and so could be parts of paths in its client's cache."""
        parts = self.revision.split("/") if self.revision else []
        return _REPOSITORY.fullmatch(self.name) is not None and all(map(_SEGMENT.fullmatch, parts))

    def at(self, commit: str) -> "Repository":
        return replace(self, revision=commit)


@dataclass(frozen=True)
class HubName:
    """`owner/name[@revision][/folder]`: a folder of a repository with a model's files."""

    repository: Repository
    folder: str = ""

    def __str__(self) -> str:
        revision = self.repository.revision
        written = revision if revision.startswith("refs/") else revision.replace("/", "%2F")
        return (
            self.repository.name + (f"@{written}" if written else "") + (f"/{self.folder}" if self.folder else "")
        )

    def inside(self, file: str) -> str:
        """The path of a file of the folder in its repository."""
        return f"{self.folder}/{file}" if self.folder else file

    def at(self, commit: str) -> "HubName":
        return replace(self, repository=self.repository.at(commit))


def is_commit(revision: str | None) -> bool:
    """Whether a revision is a commit and no name that may move."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def hub_name(source: str, refusal: type[SurgeryError]) -> HubName | None:
    """The name on the hub that a source is; None where it is written otherwise, or names what lies on this machine.

    The address of its page is such a name too. A path here has precedence, and so has one below a folder `owner/name`
    here. Raises `refusal` for a folder that leads out of its repository.
    """
    source = _from_address(source, refusal) if source.lower().startswith(_ADDRESSES) else source
    match = _NAMED.fullmatch(source) if len(source) <= _LONGEST else None
    if match is None or source.lower().endswith(_FILES):
        return None
    if "--" in match["repository"] or len(match["repository"]) > _LONGEST_REPOSITORY:
        return None
    if os.path.exists(source) or os.path.exists(match["repository"]):
        return None
    revision, last = match["revision"] or "", match["last"] or ""
    folder = match["folder"].removeprefix("/")
    if any(part in (".", "..") or not part.isprintable() or "\\" in part for part in folder.split("/")):
        raise refusal(
            f"the folder {folder[:80]!r} leads out of {match['repository']!r}",
            "name a folder inside the repository, as owner/name/folder",
        )
    if revision and last:
        raise refusal(f"{source[:80]!r} names two revisions", "write owner/name@revision/folder")
    return HubName(Repository(match["repository"], (revision or last).replace("%2F", "/")), folder)


def _from_address(address: str, refusal: type[SurgeryError]) -> str:
    """The name behind the address of a page on the hub, as its client reads one: of a file, that of its folder."""
    from huggingface_hub import constants, parse_hf_uri

    try:
        found = parse_hf_uri(address, endpoint=constants.ENDPOINT)
    except ValueError as error:
        raise refusal(
            f"{address[:120]!r} is no address of a model on the hub", "write owner/name[@revision][/folder]"
        ) from error
    if found.type != "model":
        raise refusal(f"{address[:120]!r} is the address of a {found.type}", "write the owner/name of a model")
    folder, _, last = found.path_in_repo.rpartition("/")
    inside = folder if last.lower().endswith(_FILES) else found.path_in_repo
    return str(HubName(Repository(found.id, found.revision or ""), inside))
