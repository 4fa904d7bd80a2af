"""`python -m surgery COMMAND`: the method from the command line."""

import os
import sys

from surgery.cli import main

_NOBODY_READS = 141  # what a shell gives a program that the signal of a closed pipe ended


def run() -> None:
    """Entry point of the installed `surgery` script; it ends without a word where nobody reads on, as before `| head`."""
    try:
        code = main(sys.argv[1:])
    except BrokenPipeError:
        code = _NOBODY_READS
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # caught here, as the interpreter's own flush at its end would complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            code = code or _NOBODY_READS * (stream is sys.stdout)
    sys.exit(code)


if __name__ == "__main__":
    run()
