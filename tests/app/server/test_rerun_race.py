"""What a run has told reaches the browser, however soon a part of the page asks for more."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.runtime import Runtime, RuntimeConfig, SessionClient
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from app.server.rerun_race import wait_for_the_run_before

PAGE = """
import streamlit as st

@st.fragment
def part():
    st.write("in the part")

part()
st.write("below the part")
"""


class Tab(SessionClient):
    """What a browser would be sent."""

    def __init__(self) -> None:
        self.messages: list[ForwardMsg] = []

    def write_forward_msg(self, msg: ForwardMsg) -> None:
        self.messages.append(msg)

    def texts(self) -> set[str]:
        """What stands on the page: one text sent again, as it is where a flush comes between, stands there once."""
        bodies = (message.delta.new_element.markdown.body for message in self.messages)
        return {body for body in bodies if body}


async def shown(page: Path) -> tuple[set[str], set[str]]:
    """What a tab shows of a first run, and of a second at whose very end a part of the page asks."""
    runtime = Runtime(
        RuntimeConfig(str(page), MemoryMediaFileStorage("/media"), MemoryUploadedFileManager("/upload"))
    )
    await runtime.start()
    tab = Tab()
    name = runtime.connect_session(tab, {})
    session = runtime._session_mgr.get_active_session_info(name).session
    runtime.handle_backmsg(name, BackMsg(rerun_script=ClientState()))
    await until(lambda: session._scriptrunner is None and "below the part" in tab.texts())
    first, tab.messages = tab.texts(), []
    [part] = session._fragment_storage._fragments

    runtime.handle_backmsg(name, BackMsg(rerun_script=ClientState()))
    runner = session._scriptrunner._script_thread
    runner.join(20)  # while this waits, nothing that the run tells goes out
    runtime.handle_backmsg(name, BackMsg(rerun_script=ClientState(fragment_id=part)))
    await until(lambda: session._scriptrunner is None and "in the part" in tab.texts())
    await asyncio.sleep(0.2)
    runtime.stop()
    await runtime.stopped
    return first, tab.texts()


async def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.02)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A page with a part that asks for itself, in a process without a server."""
    monkeypatch.setattr(Runtime, "_instance", None)
    file = tmp_path / "page.py"
    file.write_text(PAGE, encoding="utf-8")
    return file


def test_what_a_run_told_last_is_not_lost_to_a_part_that_asks_at_its_end(
    page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AppSession, "request_rerun", AppSession.request_rerun)
    wait_for_the_run_before()
    first, second = asyncio.run(shown(page))
    assert first == second == {"below the part", "in the part"}


@pytest.mark.xfail(reason="Streamlit 1.67 loses it; once this passes, app.server.rerun_race can go")
def test_streamlit_alone_loses_nothing(page: Path) -> None:
    first, second = asyncio.run(shown(page))
    assert first == second
