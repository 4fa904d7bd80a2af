"""What `streamlit run` serves: the pages behind the guard. A job that runs when it is to stop ends at its next batch.

At any other address than the loopback it says so loudly, and confines the paths that a page may name.
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.middleware import Middleware
from streamlit import config
from streamlit.starlette import App

from app.server.guard import Guard, GuardMiddleware, is_loopback
from app.server.rerun_race import wait_for_the_run_before
from app.state.jobs import jobs
from surgery.files import FOLDERS

_WARNING = """
  ! This server listens on {address}, not on this machine alone.
  ! There is no password: whoever reaches it works as you, reads and writes in
  ! {folders},
  ! and uses this machine's processor and memory. Put it behind a proxy that asks who is there.
"""


def _middleware() -> Middleware:
    address = config.get_option("server.address")
    if not is_loopback(address):
        named = os.environ.setdefault(FOLDERS, "")
        folders = ", ".join(filter(None, ["the workbench's own folder", *named.split(os.pathsep)]))
        print(_WARNING.format(address=address or "every address", folders=folders), file=sys.stderr, flush=True)
    guard = Guard(
        address, config.get_option("server.allowedHosts"), config.get_option("server.corsAllowedOrigins")
    )
    return Middleware(GuardMiddleware, guard=guard)


@asynccontextmanager
async def _until_stopped(_: App) -> AsyncIterator[None]:
    yield
    # the process would wait for the worker, which keeps what is finished and goes on at the next start
    jobs().cancel_all()


wait_for_the_run_before()
app = App(Path(__file__).with_name("main.py"), middleware=[_middleware()], lifespan=_until_stopped)
