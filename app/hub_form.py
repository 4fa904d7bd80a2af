"""Open an adapter of the hub: it is fetched in the background, with its progress and a way to stop, and then opened."""

from collections.abc import Callable
from typing import NoReturn

import streamlit as st

from app.base_proposal import look_up_size, remember_size
from app.found_adapters import keep_found, offer_found, opened_or_offered
from app.frame import plain, short_commit
from app.running import waits_for
from app.state import jobs
from app.state.workspace import Workspace, current, open_source, take_up, workspace_on
from surgery.adapter import Adapter, open_adapter
from surgery.errors import AdapterError, ChoiceError
from surgery.hub import hub_name
from surgery.model import BaseSize

HUB = "Hub"
_READY = "fetched-adapter"  # in the session: one that came while something else was begun


def hub_form() -> None:
    """Ask for a name on the hub, tell what is under way, and offer what came in the meantime."""
    with st.form("open-hub", border=False):
        name = st.text_input(
            "Name on the hub",
            placeholder="owner/name",
            key="open-hub-name",
            help="owner/name, owner/name@revision or owner/name/folder. The adapter's own files and its tokenizer are "
            "fetched, with the token and into the cache of the hub's client. A folder here of that name has precedence.",
        )
        asked = st.form_submit_button("Open", type="primary")
    if asked and name.strip():
        if hub_name(name.strip(), AdapterError) is None and "/" not in name:
            raise AdapterError(f"{name.strip()[:80]!r} is no name on the hub", "write owner/name")
        opened_or_offered(HUB, lambda: open_or_fetch(name.strip(), HUB))
    offer_found(HUB, lambda chosen: open_or_fetch(chosen, HUB))
    ready = st.session_state.get(_READY)
    if ready is not None and st.button(f"Open {plain(short_commit(ready))}", icon=":material/download_done:"):
        del st.session_state[_READY]
        open_source(ready)
        st.rerun()
    waits_for(jobs.FETCHING, "It opens by itself when it is here.")


def open_or_fetch(source: str, way: str) -> None:
    """Open what lies here; fetch what is on the hub, and open it then. Of several, `offer_found` gives the choice this `way`."""
    if hub_name(source, AdapterError) is None:
        open_source(source)
        return
    began = current()

    def collect(adapter: Adapter) -> None:
        # what was begun meanwhile is not to be lost
        if _untouched(began, current()):
            take_up(workspace_on(adapter))
        else:
            st.session_state[_READY] = adapter.source

    fetch(source, collect, lambda error: keep_found(way, error))


def fetch(
    source: str, collect: Callable[[Adapter], None], several: Callable[[ChoiceError], None] | None = None
) -> NoReturn:
    """Fetch an adapter of the hub in the background.

    collect: is given it in a page run once it is here.
    several: is given what was found where it is not one adapter; a message of failure says so otherwise.
    """

    def work(job: jobs.Job, _: jobs.Models) -> tuple[Adapter, BaseSize | str | None] | ChoiceError:
        try:
            adapter = open_adapter(source, control=job.control)
        except ChoiceError as error:
            if several is None:
                raise
            return error
        job.begin("looking up its base model")
        return adapter, look_up_size(adapter)

    def came(result: tuple[Adapter, BaseSize | str | None] | ChoiceError) -> None:
        if isinstance(result, ChoiceError):
            if several is not None:
                several(result)
            return
        remember_size(*result)
        collect(result[0])

    jobs.start(jobs.FETCHING, f"Fetching {short_commit(source)}", work, came, needs_model=False)
    st.rerun()


def _untouched(began: Workspace, now: Workspace) -> bool:
    return now.adapter.digest == began.adapter.digest and now.history == began.history
