"""A small hub on 127.0.0.1: repositories of files at commits, spoken to by the hub's own client, with the faults
that a real one and the network before it have.
"""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

TOKEN = "hf_a-token-of-this-test"
_LARGE = (".jsonl", ".safetensors", ".bin", ".gguf", ".parquet", ".model")
_API = re.compile(r"/api/(models|datasets)/([^/]+(?:/[^/]+)?)(?:/(revision|tree|refs)(?:/([^/]+))?)?$")
_FILE = re.compile(r"/(datasets/)?([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)$")


@dataclass
class HubFiles:
    """A repository: files by path for each commit, and what its branches and tags stand for.

    private: who may know of it has a token. gated: everyone may know of it; who may read it has a token, if
    it is `admitted`.
    faults: by file, `cut` (half of it, always), `cut once`, `longer` than was said, `other bytes` of that length,
    `no end` of it, or an address that its readers are sent to.
    """

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str]
    private: bool = False
    gated: bool = False
    admitted: bool = True
    parameters: int | None = None
    faults: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], ref: str = "main") -> str:
        """Put other files on a branch; returns their commit."""
        name = _commit_of(files)
        self.commits[name], self.refs[ref] = dict(files), name
        return name


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    token: str | None
    range: str | None = None


class HubServer:
    """The server and what it was asked.

    fails: a status that it answers everything with. moved: the address that it sends all who ask about a repository to.
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], HubFiles] = {}
        self.asked: list[Asked] = []
        self.fails: int | None = None
        self.moved = ""
        self.sent = 0  # bytes of files without an end
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, files: Mapping[str, bytes] | Path, kind: str = "model", **settings: Any) -> HubFiles:
        """A repository of these files, or of all that lie below a folder, on `main`."""
        if isinstance(files, Path):
            files = {
                file.relative_to(files).as_posix(): file.read_bytes()
                for file in sorted(files.rglob("*"))
                if file.is_file()
            }
        added = HubFiles({}, {}, **settings)
        added.commit(files)
        self.repositories[kind, name] = added
        return added

    def told(self, asked: Asked) -> None:
        """Hears of a request before it is answered."""
        self.asked.append(asked)

    def fetched(self, ending: str = "") -> list[str]:
        """Paths that were read, whole or in part, and end so."""
        found = [asked.path for asked in self.asked if asked.method == "GET" and "/resolve/" in asked.path]
        return [path for path in found if path.endswith(ending)]

    @contextmanager
    def running(self) -> Iterator["HubServer"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        url = urlsplit(self.path)
        path = url.path
        api, file = _API.match(path), _FILE.match(path)
        if api is not None or file is not None:  # the client asks for other things of its own, too
            self.hub.told(Asked(self.command, unquote(path), token, self.headers.get("Range")))
        if self.hub.fails is not None:
            self._refuse(self.hub.fails, "", "out of order")
        elif token not in (None, TOKEN):
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif api is not None and self.hub.moved:
            self._send(307, b"", {"Location": self.hub.moved + self.path})
        elif api is not None:
            kind, name, what, revision = api.groups()
            found = self._repository(kind.removesuffix("s"), unquote(name), revision, token)
            if found is not None:
                self._list(*found, unquote(name), what, parse_qs(url.query))
        elif file is not None:
            prefix, name, revision, inside = file.groups()
            found = self._repository("dataset" if prefix else "model", unquote(name), revision, token)
            if found is not None:
                self._file(*found, unquote(inside), token)
        else:
            self._refuse(404, "", "Not Found")

    def _repository(
        self, kind: str, name: str, revision: str | None, token: str | None
    ) -> tuple[HubFiles, str] | None:
        """The repository and the commit that is meant, where this reader may know of them."""
        found = self.hub.repositories.get((kind, name))
        if found is None or (found.private and token is None):
            # who may not know whether it exists is told so, with or without the code that newer hubs send
            if token is None:
                self._refuse(401, "", "Invalid username or password.")
            else:
                self._refuse(404, "RepoNotFound", "Repository not found")
            return None
        asked = unquote(revision or "main")
        commit = found.refs.get(asked, asked)
        if commit not in found.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {asked}")
            return None
        return found, commit

    def _list(self, found: HubFiles, commit: str, name: str, what: str | None, query: Mapping[str, Any]) -> None:
        files = found.commits[commit]
        if what == "tree":
            self._send_json(
                [{"type": "file", "path": path, **_about(path, files[path])} for path in sorted(files)]
            )
            return
        siblings = [{"rfilename": path} for path in sorted(files)]
        if "blobs" in query:
            for each in siblings:
                about = _about(each["rfilename"], files[each["rfilename"]])
                each.update(size=about["size"], blobId=about["oid"])
                if "lfs" in about:
                    lfs = about["lfs"]
                    each["lfs"] = {"size": lfs["size"], "sha256": lfs["oid"], "pointerSize": lfs["pointerSize"]}
        record = {"id": name, "sha": commit, "private": found.private, "siblings": siblings, "tags": []}
        if found.parameters is not None:
            record["safetensors"] = {"parameters": {"F32": found.parameters}, "total": found.parameters}
        self._send_json(record)

    def _file(self, found: HubFiles, commit: str, path: str, token: str | None) -> None:
        if found.gated and token is None:
            self._refuse(401, "GatedRepo", "Access to this model is restricted.")
            return
        if found.gated and not found.admitted:
            self._refuse(403, "GatedRepo", "Access to this model is restricted.")
            return
        content = found.commits[commit].get(path)
        if content is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": commit})
            return
        fault = found.faults.get(path, "")
        headers = {"ETag": f'"{_etag(path, content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if fault.startswith("http"):
            linked = {"X-Linked-Etag": headers["ETag"], "X-Linked-Size": str(len(content)), "Location": fault}
            self._send(302, b"", {**headers, **linked})
            return
        if fault == "no end" and self.command == "GET":
            self._send_without_end(headers)
        else:
            self._send_content(found, path, content, fault, headers)

    def _send_without_end(self, headers: Mapping[str, str]) -> None:
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        block = b"x" * (1 << 20)
        try:
            while self.hub.sent < 200 << 20:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(block), block))
                self.hub.sent += len(block)
        except OSError:  # whoever read it has gone
            pass
        self.close_connection = True

    def _send_content(
        self, found: HubFiles, path: str, content: bytes, fault: str, headers: Mapping[str, str]
    ) -> None:
        status = 200
        if fault == "other bytes":
            content = bytes(byte ^ 1 for byte in content)
        if fault == "longer" and self.command == "GET":
            content += b"and more"
        start = int((re.match(r"bytes=(\d+)-", self.headers.get("Range") or "") or [0, "0"])[1])
        if start:
            status, headers = 206, {**headers, "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        body = content[start:]
        cut = fault.startswith("cut") and self.command == "GET"
        if fault == "cut once" and self.command == "GET":
            del found.faults[path]
        # the second half of what is always cut never comes
        self._send(status, body, headers, most=max(0, len(content) // 2 - start) if cut else None)

    def _send_json(self, record: object) -> None:
        self._send(200, json.dumps(record).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        told = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {}), **(headers or {})}
        self._send(status, json.dumps({"error": message}).encode(), {"Content-Type": "application/json", **told})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], most: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            if self.command == "GET":
                self.wfile.write(body if most is None else body[:most])
                self.wfile.flush()
        except ConnectionError:  # whoever asked has gone
            self.close_connection = True
        if most is not None:
            self.close_connection = True


def _commit_of(files: Mapping[str, bytes]) -> str:
    sha = hashlib.sha1(usedforsecurity=False)
    for path in sorted(files):
        sha.update(path.encode() + hashlib.sha256(files[path]).digest())
    return sha.hexdigest()


def _etag(path: str, content: bytes) -> str:
    """The SHA-256 of a large file and the name that git gives to a small one."""
    if path.endswith(_LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _about(path: str, content: bytes) -> dict[str, Any]:
    about: dict[str, Any] = {"size": len(content), "oid": _etag(path, content)[:40]}
    if path.endswith(_LARGE):
        about["lfs"] = {"size": len(content), "oid": _etag(path, content), "pointerSize": 134}
    return about


def use_hub(monkeypatch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Have the client of this process speak to that hub, with a cache below `home` and no token."""
    from huggingface_hub import constants
    from huggingface_hub.utils import close_session

    close_session()
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the client of this process speaks to, with a cache of its own."""
    server = HubServer()
    with server.running():
        use_hub(monkeypatch, server.url, tmp_path / "hf")
        yield server


@pytest.fixture
def elsewhere() -> Iterator[HubServer]:
    """Another server, of which the hub's client knows nothing."""
    server = HubServer()
    with server.running():
        server.url = server.url.replace("127.0.0.1", "localhost")
        yield server


def hub_environment(url: str, home: Path) -> dict[str, str]:
    """The variables by which a new process speaks to that hub."""
    return {"HF_ENDPOINT": url, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_TELEMETRY": "1"}
