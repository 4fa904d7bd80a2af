"""Which requests the server answers: those of its own pages, under a name that is its own.

A page on the web can make a browser send requests to this machine. If the name of that page's own
server is bound to 127.0.0.1 after it was loaded, they even count as same-origin; only their Host
header tells. Streamlit looks at it for the websocket alone, and lets a page of any other port in.
"""

import ipaddress
import socket
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


def is_loopback(address: str | None) -> bool:
    """Whether a server at this address can be reached from its own machine only; None stands for every address."""
    if not address:
        return False
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


@dataclass(frozen=True)
class Guard:
    """Judges a request by its Host and Origin headers.

    `address` is what the server listens on. Its own names are those of the loopback, `hosts`, and beyond
    the loopback every numeric address and the machine's name: a foreign page has a name of its own, so a
    number cannot be one that was bound anew. `origins` are the other pages that may send requests.
    """

    address: str | None
    hosts: Collection[str] = ()
    origins: Collection[str] = ()

    def refusal(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Why a request is not answered, None for one that is."""
        found: dict[bytes, list[str]] = {b"host": [], b"origin": []}
        for name, value in headers:
            if name.lower() in found:
                found[name.lower()].append(value.decode("latin-1").strip().lower())
        hosts, origins = found[b"host"], found[b"origin"]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return "This name is not one of the server's own; server.allowedHosts can add it."
        trusted = {origin.strip().lower().rstrip("/") for origin in self.origins}
        if any(origin not in (f"http://{hosts[0]}", f"https://{hosts[0]}", *trusted) for origin in origins):
            return "This page is not one of the server's own; server.corsAllowedOrigins can add it."
        return None

    def _is_own(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, _ = parts.hostname, parts.port
        except ValueError:
            return False
        # a user's name, a path or anything else that is not host:port
        if not name or parts.netloc != host or "@" in host:
            return False
        name = name.rstrip(".")
        if is_loopback(name) or name == (self.address or "").lower() or _is_among(name, self.hosts):
            return True
        return not is_loopback(self.address) and (_is_number(name) or name in _machine())


class GuardMiddleware:
    """An ASGI application that hands on to another what the guard lets pass: HTTP and websockets alike."""

    def __init__(self, app: Any, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        reason = self._guard.refusal(scope["headers"]) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            kind = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": kind})
            await send({"type": "http.response.body", "body": reason.encode()})


def _is_number(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_among(name: str, hosts: Collection[str]) -> bool:
    """Names match themselves; `*.name` stands for every name below one, `*` for all."""
    patterns = [host.strip().lower().rstrip(".") for host in hosts]
    return any(
        pattern in ("*", name) or (pattern.startswith("*.") and name.endswith(pattern[1:])) for pattern in patterns
    )


def _machine() -> tuple[str, ...]:
    name = socket.gethostname().lower()
    return name, f"{name}.local"
