"""Who is answered: by name, origin and token."""

import socket

import pytest

from app.server.guard import Guard, is_loopback
from tests.app.server.conftest import Server


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


def test_beyond_the_loopback_numbers_and_the_machines_name_are_its_own(everywhere: Server) -> None:
    for host in ("192.0.2.7:80", "[2001:db8::1]", socket.gethostname(), "localhost"):
        assert everywhere.ask("/", Host=host)[0] == 200, host
    for host in ("evil.example", f"{socket.gethostname()}.evil.example"):
        assert everywhere.ask("/", Host=host)[0] == 403, host


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
