"""`python -m surgery COMMAND`: the method from the command line."""

import os
import sys

from surgery.cli import main

_NOBODY_READS = 141  # what a shell gives a program that the signal of a closed pipe ended


def run() -> None:
    """Entry point of the installed `surgery` script; it ends without a word where nobody reads on, as before `| head`."""
    try:
        try:
            code = main(sys.argv[1:])
        finally:
            sys.stdout.flush()  # also of what --help printed; at the end of the interpreter it is too late to catch
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _NOBODY_READS
    sys.exit(code)


if __name__ == "__main__":
    run()
