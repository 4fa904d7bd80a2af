"""A part of a page that asks just as the page's run has ended: Streamlit then forgets what the run told last.

A run tells the browser what to show through the server's event loop. When a fragment asks after the run's thread has
ended, but before the loop has come to the last of what it told, Streamlit starts another runner at once and ignores the
rest of the former one's messages: the page stays without what they held until it is loaded again. Such a request is
put behind those messages here; all others go on as they are.
"""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any

from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.runtime.app_session import AppSession
from streamlit.runtime.scriptrunner_utils.script_requests import ScriptRequestType


def wait_for_the_run_before() -> None:
    """Have every session of this server do so; to be called once."""
    AppSession.request_rerun = _behind_what_is_told(AppSession.request_rerun)  # type: ignore[method-assign]


def _behind_what_is_told(request: Callable[..., None]) -> Callable[..., None]:
    @wraps(request)
    def request_rerun(session: Any, client_state: ClientState | None) -> None:
        if client_state is not None and client_state.fragment_id and _has_ended(session):
            # its messages stand in the loop's queue already
            asyncio.get_running_loop().call_soon(request, session, client_state)
        else:
            request(session, client_state)

    return request_rerun


def _has_ended(session: Any) -> bool:
    """Whether the session has a runner that takes no request any more."""
    requests = getattr(getattr(session, "_scriptrunner", None), "_requests", None)
    return getattr(requests, "_state", None) is ScriptRequestType.STOP
