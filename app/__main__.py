"""`python -m app`: start the server with what every page imports already loaded.

The first visitor would otherwise wait for these imports. torch is not among them: it is loaded when
a model runs. Further arguments are Streamlit's own, such as `--server.port 8601`.
"""

import sys
from importlib import import_module
from pathlib import Path

WARM = (
    "pandas",
    "plotly.graph_objects",
    "streamlit.elements.plotly_chart",
    "surgery.measure",
    "viz",
    "app.workspace",
)


def main() -> None:
    """Load, then hand over to Streamlit's own command line; never returns."""
    from streamlit.web.cli import main as streamlit

    # a thread that computes may hold the interpreter this long before an answer goes out
    sys.setswitchinterval(0.0005)
    for name in WARM:
        import_module(name)
    script = str(Path(__file__).with_name("main.py"))
    sys.exit(streamlit(["run", script, *sys.argv[1:]], prog_name="streamlit"))


if __name__ == "__main__":
    main()
