"""The command line: one file a command, and their text."""

from surgery.cli.parser import main
from surgery.cli.progress import progress_reporter
from surgery.cli.text import evaluation_text, run_record, runs_text

__all__ = ["evaluation_text", "main", "progress_reporter", "run_record", "runs_text"]
