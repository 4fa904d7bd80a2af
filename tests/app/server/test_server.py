"""The server as `python -m app` starts it, asked by real requests: whom it answers, and what it never hands out."""

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
from streamlit.testing.v1 import AppTest

from app.server.guard import Guard, is_loopback
from tests.helpers.attacks import zipped

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


# another address of the same machine tells whether a server listens on all of them
def reaches(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform != "linux", reason="other systems give the loopback one address")
def test_the_server_listens_on_the_loopback_unless_told_otherwise(plain: Server, everywhere: Server) -> None:
    assert reaches("127.0.0.1", plain.port)
    assert not reaches("127.0.0.2", plain.port)
    assert reaches("127.0.0.2", everywhere.port)


def test_it_says_loudly_when_others_can_reach_it(plain: Server, everywhere: Server) -> None:
    assert "There is no password" in everywhere.log.read_text()
    assert "0.0.0.0" in everywhere.log.read_text()
    assert "password" not in plain.log.read_text()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:{port}", "localhost:{port}", "LocalHost", "[::1]:{port}"]
)
def test_its_own_names_are_answered(host: str, plain: Server) -> None:
    host = host.format(port=plain.port)
    assert plain.ask("/", Host=host)[0] == 200
    assert plain.websocket(Host=host, Origin=f"http://{host.lower()}") == 101


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "127.0.0.1.evil.example",
        "localhost.evil.example:{port}",
        "192.0.2.7",
        "127.0.0.1@evil.example",
        "evil.example@127.0.0.1",
        "127.0.0.1/x",
        "[::1",
        "127.0.0.1:99999",
        "",
    ],
)
@pytest.mark.parametrize(
    "path", ["/", "/_stcore/health", "/static/js/x.js", "/media/x.png", "/_stcore/host-config"]
)
def test_a_name_that_is_not_its_own_is_refused_on_every_route(host: str, path: str, plain: Server) -> None:
    status, body = plain.ask(path, Host=host.format(port=plain.port))
    assert status in (400, 403)
    assert b"<script" not in body


def test_a_foreign_name_gets_no_websocket_even_with_its_own_origin(plain: Server, everywhere: Server) -> None:
    # what a browser sends after the name of a page's server was bound to this machine
    for server in (plain, everywhere):
        rebound = f"evil.example:{server.port}"
        assert server.websocket(Host=rebound, Origin=f"http://{rebound}") == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "https://evil.example", "null", "http://localhost:1", "file://"]
)
def test_a_page_of_another_origin_gets_no_websocket_and_no_answer(origin: str, plain: Server) -> None:
    assert plain.websocket(Origin=origin) == 403
    assert plain.ask("/_stcore/health", Origin=origin)[0] == 403
    assert plain.ask("/_stcore/upload_file/a/b", "PUT", Origin=origin, Content_Length="0")[0] == 403


def test_a_program_without_an_origin_is_answered(plain: Server) -> None:
    assert plain.websocket() == 101


def test_an_upload_without_the_token_of_a_page_is_refused(plain: Server) -> None:
    own = f"http://127.0.0.1:{plain.port}"
    assert plain.ask("/_stcore/upload_file/a/b", "PUT", Origin=own, Content_Length="0")[0] == 403
    assert plain.ask("/_stcore/upload_file/a/b", "DELETE", Origin=own)[0] == 403


@pytest.mark.parametrize(
    "prefix", ["", "/static", "/media", "/component/x", "/app/static", "/_stcore/bidi-components/x"]
)
def test_no_route_hands_out_files_beside_its_own(prefix: str, plain: Server) -> None:
    up = ["../" * 12, "%2e%2e/" * 12, "..%2f" * 12, "%2e%2e%2f" * 12, "..%5c" * 12, "..\\" * 12, "//", "%2f"]
    for climb in [*up, "....//" * 12, "%252e%252e%252f" * 12]:
        for wanted in ("etc/passwd", str(ROOT / "app" / "main.py").lstrip("/")):
            status, body = plain.ask(f"{prefix}/{climb}{wanted}")
            assert b"root:" not in body
            assert b"set_page_config" not in body
            assert status != 500
    assert plain.ask(f"{prefix}/main.py")[1].find(b"set_page_config") == -1


def test_nothing_but_the_app_is_served(plain: Server) -> None:
    assert plain.ask("/_stcore/agent/interact", "POST", Content_Length="0")[0] in (403, 404)
    assert plain.ask("/app/static/main.py")[1].startswith(b"<!") or plain.ask("/app/static/main.py")[0] == 404


def test_beyond_the_loopback_numbers_and_the_machines_name_are_its_own(everywhere: Server) -> None:
    for host in ("192.0.2.7:80", "[2001:db8::1]", socket.gethostname(), "localhost"):
        assert everywhere.ask("/", Host=host)[0] == 200, host
    for host in ("evil.example", f"{socket.gethostname()}.evil.example"):
        assert everywhere.ask("/", Host=host)[0] == 403, host


# ---- the guard by itself ----


def judged(guard: Guard, **headers: str) -> bool:
    return guard.refusal([(name.encode(), text.encode("latin-1")) for name, text in headers.items()]) is None


def test_other_names_and_origins_are_answered_where_they_are_named() -> None:
    guard = Guard("127.0.0.1", ["lab.example", "*.inside.example"], ["https://portal.example/"])
    assert judged(guard, host="lab.example:443", origin="https://portal.example")
    assert judged(guard, host="a.inside.example")
    assert not judged(guard, host="inside.example.evil.example")
    assert not judged(guard, host="lab.example", origin="https://portal.example.evil.example")
    assert judged(Guard("127.0.0.1", ["*"]), host="anything.example")


def test_two_hosts_or_none_are_refused() -> None:
    guard = Guard("127.0.0.1")
    assert guard.refusal([(b"host", b"localhost"), (b"Host", b"evil.example")]) is not None
    assert guard.refusal([]) is not None


def test_only_the_loopback_is_this_machine_alone() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.3", "lab.example", None, "")))


# ---- folders ----


def test_a_page_opens_no_folder_outside_those_the_server_was_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURGERY_FOLDERS", str(tmp_path / "allowed"))
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).run()
    test.session_state["open-kind"] = "Folder"
    test.run()
    test.text_input(key="open-path").input(str(ROOT / "assets" / "demo" / "kinship"))
    next(button for button in test.button if button.label == "Open").click().run()
    assert not test.exception
    assert any("outside the folders" in error.value for error in test.error)


@pytest.mark.parametrize("options", [["--folder", "/no/such/folder"], ["--folder"]])
def test_a_folder_that_is_none_stops_the_start(options: list[str]) -> None:
    from app.__main__ import _parser

    with pytest.raises(SystemExit):
        _parser().parse_known_args(options)


def test_streamlits_own_options_pass_through(tmp_path: Path) -> None:
    from app.__main__ import _parser

    options, others = _parser().parse_known_args(["--server.port", "8601", "--folder", str(tmp_path)])
    assert options.folder == [str(tmp_path)]
    assert others == ["--server.port", "8601"]


def test_an_uploaded_zip_opens_and_a_hostile_one_is_refused(own_home: Path) -> None:
    demo = ROOT / "assets" / "demo" / "kinship"
    files = {
        f"mine/{name}": (demo / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")
    }
    test = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).run()
    test.session_state["open-kind"] = "Upload a zip"
    test.run()
    for content, opens in ((zipped({**files, "../evil": b"x"}), False), (zipped(files), True)):
        test.file_uploader(key="open-zip").set_value(("../../../evil.zip", content, "application/zip"))
        next(button for button in test.button if button.label == "Open").click().run()
        assert not test.exception
        assert bool(test.error) is not opens
    (folder,) = (own_home / "uploads").iterdir()
    assert test.session_state["workspace"].adapter.source == str(folder)
    assert not list(own_home.parent.rglob("*evil*"))
