"""The server as `python -m app` starts it, asked by real requests: whom it answers, and what it never hands out."""

import socket
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.server.conftest import ROOT, Server
from tests.helpers.attacks import zipped


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
