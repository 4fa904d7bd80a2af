"""Servers on this machine, and requests to them."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[3]
START_S = 120.0
STREAM = "/_stcore/stream"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol": "streamlit",
}


class Server(NamedTuple):
    port: int
    log: Path

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        """Status and body; header names have underscores for dashes, and a Host of our own replaces the client's."""
        sent = {
            "Host": f"127.0.0.1:{self.port}",
            **{name.replace("_", "-"): text for name, text in headers.items()},
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, text in sent.items():
                connection.putheader(name, text)
            connection.endheaders()
            answer = connection.getresponse()
            # a websocket that was let in stays open
            return answer.status, b"" if answer.status == 101 else answer.read()
        finally:
            connection.close()

    def websocket(self, **headers: str) -> int:
        return self.ask(STREAM, **{name.replace("-", "_"): text for name, text in UPGRADE.items()}, **headers)[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Server]]:
    """The server as it comes, and one told to listen everywhere; both started away from the checkout."""
    folder = tmp_path_factory.mktemp("server")
    # nothing in the environment may tell the address
    environment = {
        name: text for name, text in os.environ.items() if not name.startswith(("STREAMLIT_", "SURGERY_"))
    }
    environment |= {"SURGERY_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    started, processes = {}, []
    try:
        for name, options in {"plain": [], "open": ["--server.address", "0.0.0.0"]}.items():
            server = Server(free_port(), folder / f"{name}.log")
            command = [sys.executable, "-m", "app", "--server.port", str(server.port), *options]
            with server.log.open("wb") as log:
                processes.append(
                    subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
                )
            started[name] = server
        for server, process in zip(started.values(), processes, strict=True):
            deadline = time.monotonic() + START_S
            while not healthy(server):
                assert process.poll() is None, server.log.read_text()
                assert time.monotonic() < deadline, server.log.read_text()
                time.sleep(0.1)
        yield started
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def healthy(server: Server) -> bool:
    try:
        return server.ask("/_stcore/health")[0] == 200
    except OSError:
        return False


@pytest.fixture
def plain(servers: dict[str, Server]) -> Server:
    return servers["plain"]


@pytest.fixture
def everywhere(servers: dict[str, Server]) -> Server:
    return servers["open"]
