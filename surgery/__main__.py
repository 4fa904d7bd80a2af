"""`python -m surgery COMMAND`: the method from the command line."""

import sys

from surgery.cli import main


def run() -> None:
    """Entry point of the installed `surgery` script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
