"""What `streamlit run` serves: the pages behind the guard.

At any other address than the loopback it says so loudly, and confines the paths that a page may name.
"""

import os
import sys
from pathlib import Path

from starlette.middleware import Middleware
from streamlit import config
from streamlit.starlette import App

from app.guard import Guard, GuardMiddleware, is_loopback
from surgery.home import FOLDERS

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


app = App(Path(__file__).with_name("main.py"), middleware=[_middleware()])
