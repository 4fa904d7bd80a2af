"""What the hub's client raises, told as a refusal with a way out that works for this very case.

The client's errors come wrapped in each other; the innermost one that says something is taken. Its transport
library is told by the names of its errors, which are the same in each of the two that it has used.
"""

import errno
import os
from collections.abc import Iterator

from surgery.errors import SurgeryError, first_line
from surgery.hub.names import Repository

_SILENT = ("OfflineModeIsEnabled", "ConnectError", "TimeoutException", "ProxyError", "ReadError", "NetworkError")
_CUT = ("RemoteProtocolError", "ReadError", "IncompleteRead")
_WRONG_LENGTH = "Consistency check failed"
_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_COPY = "name a folder with a copy of its files"


def hub_refusal(error: BaseException, repository: Repository, refusal: type[SurgeryError]) -> SurgeryError:
    """The refusal that tells of an error of the hub's client."""
    if isinstance(error, SurgeryError):
        return error
    return refusal(*_told(error, repository))


def is_unreachable(error: BaseException) -> bool:
    """Whether the hub gave no answer: no network, no network wanted, or a fault of its own."""
    return _has(error, *_SILENT) or (_status(error) or 0) >= 500


def _told(error: BaseException, repository: Repository) -> tuple[str, str]:
    """Problem and remedy."""
    name, kind = repository.name, repository.kind
    if _has(error, "GatedRepoError"):
        return f"{name!r} on the hub is gated, and this account has no access to it", _ask_access(repository)
    if _has(error, "DisabledRepoError"):
        return f"{name!r} is disabled on the hub", _COPY
    if _has(error, "RevisionNotFoundError"):
        return (
            f"{name!r} has no revision {repository.revision!r} on the hub",
            "leave the revision out for the newest, or name a branch, a tag or a commit of it",
        )
    status = _status(error)
    if status == 401 and "Invalid credentials" in _text(error):
        return "the hub does not accept this machine's token", (
            "log in again (hf auth login) or set HF_TOKEN anew; what is public needs none"
        )
    if status in (401, 404) or _has(error, "RepositoryNotFoundError"):
        here = f"no folder {name!r} here and " if kind == "model" else ""
        return f"there is {here}no {kind} {name!r} on the hub, or it is private", _log_in()
    if status == 403:
        return f"the token of this machine may not read {name!r}", (
            "use a token with the right to read it (HF_TOKEN, or hf auth login)"
        )
    return _transport(error, repository, status)


def _transport(error: BaseException, repository: Repository, status: int | None) -> tuple[str, str]:
    name, reason = repository.name, _reason(error)
    if _has(error, "OfflineModeIsEnabled"):
        named = next((variable for variable in _OFFLINE if os.environ.get(variable)), _OFFLINE[0])
        return f"{str(repository)!r} is not in the cache, and {named} forbids fetching it", (
            f"unset {named} and try again, or {_COPY}"
        )
    if _WRONG_LENGTH in _text(error) or _has(error, "TooLongError"):
        return f"a file of {name!r} came with another length than the hub says", (
            f"try again; if it stays so, {_COPY}"
        )
    if status is not None:
        return f"the hub answers for {name!r} with an error ({reason})", f"try again later, or {_COPY}"
    if _has(error, *_CUT):
        return f"the connection was cut while {name!r} was fetched ({reason})", (
            f"try again: files that came whole are kept; or {_COPY}"
        )
    if _has(error, *_SILENT):
        return f"{str(repository)!r} is not in the cache, and the hub cannot be reached ({reason})", (
            f"check the network and try again, or {_COPY}"
        )
    if _has(
        error, "FileMetadataError", "UnsupportedProtocol", "TooManyRedirects", "JSONDecodeError", "NoHubError"
    ):
        return f"what answers for {name!r} does not speak as the hub does ({reason})", (
            f"check HF_ENDPOINT and the proxy, or {_COPY}"
        )
    if any(isinstance(each, OSError) and each.errno in _NO_PLACE for each in _chain(error)):
        return f"{name!r} cannot be kept in the hub's cache ({reason})", (
            "make room there, or set HF_HOME to a folder that can be written"
        )
    if _has(error, "LocalEntryNotFoundError"):
        return f"{str(repository)!r} is not whole in the cache, and the hub cannot be reached", (
            f"check the network and try again, or {_COPY}"
        )
    return f"{str(repository)!r} cannot be fetched from the hub ({reason})", (
        f"check the name and the network, or {_COPY}"
    )


def _ask_access(repository: Repository) -> str:
    from huggingface_hub import constants

    page = f"{constants.ENDPOINT}/{'datasets/' if repository.kind == 'dataset' else ''}{repository.name}"
    return f"ask for access on {page}, then use that account's token (hf auth login, or HF_TOKEN)"


def _log_in() -> str:
    from huggingface_hub import get_token

    if get_token():
        return "check the name; a private one needs a token that may read it (HF_TOKEN, or hf auth login)"
    return "check the name; for a private one log in (hf auth login) or set HF_TOKEN"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _has(error: BaseException, *names: str) -> bool:
    return any(kind.__name__ in names for each in _chain(error) for kind in type(each).__mro__)


def _status(error: BaseException) -> int | None:
    """The status that the hub answered with."""
    for each in _chain(error):
        status = getattr(getattr(each, "response", None), "status_code", None)
        if isinstance(status, int):
            return status
    return None


def _text(error: BaseException) -> str:
    return " ".join(str(each) for each in _chain(error))


def _reason(error: BaseException) -> str:
    return first_line(list(_chain(error))[-1])
