"""Entry of the app: navigation, the header strip, and results of background jobs."""

import streamlit as st

from app.frame import STYLE, keep_on_disk, plain, show_error, show_header
from app.running import show_running
from app.state import jobs
from app.state import saved as sessions
from surgery.errors import SurgeryError

st.set_page_config(page_title="Spectral Surgery Workbench", page_icon="🩺", layout="wide")

page = st.navigation(
    [
        st.Page("views/adapter.py", title="Adapter", icon=":material/deployed_code:", default=True),
        st.Page("views/geometry.py", title="Geometry", icon=":material/grid_on:"),
        st.Page("views/many.py", title="Many adapters", icon=":material/view_module:"),
        st.Page("views/spectra.py", title="Spectra", icon=":material/equalizer:"),
        st.Page("views/surgery.py", title="Surgery", icon=":material/tune:"),
        st.Page("views/evaluate.py", title="Evaluate", icon=":material/balance:"),
        st.Page("views/export.py", title="Export", icon=":material/ios_share:"),
        st.Page("views/paper.py", title="Paper", icon=":material/article:"),
    ],
    position="top",
)

copied = sessions.attach()
if copied is not None:
    jobs.follow(copied)
ended = jobs.collect_finished()
st.html(STYLE)
strip = st.container()  # filled last, so that it tells what the page has just changed
at_work = st.container(key="at-work")
for job in ended:
    if job.state == "failed":
        st.error(f"{job.title}: {plain(job.error)}", icon=":material/error:")
    else:
        st.info(f"{job.title}: stopped.")
try:
    page.run()
except SurgeryError as error:
    show_error(error)
with strip:
    show_header()
with at_work:
    show_running()
keep_on_disk()
