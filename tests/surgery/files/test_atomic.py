"""Files are whole or as they were, whatever ends the writing."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from surgery.files import write_problem, write_whole
from tests.helpers.limited_system import files_of_at_most

KILLED = """
import os, signal, sys
from pathlib import Path
from surgery.files import write_whole
Path.write_bytes = lambda file, data: (file.open("wb").write(data[:5]), os.kill(os.getpid(), signal.SIGKILL))
write_whole(Path(sys.argv[1]), b"the new content")
"""


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    file = tmp_path / "kept.json"
    for content in (b"first", b"", b"second" * 100_000):
        write_whole(file, content)
        assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_is_killed_half_way_leaves_the_file_as_it_was(tmp_path):
    file = tmp_path / "kept.json"
    file.write_bytes(b"the old content")
    done = subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert file.read_bytes() == b"the old content"


def test_a_disk_that_gives_out_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path):
    file = tmp_path / "kept.json"
    file.write_bytes(b"old")
    with files_of_at_most(1000), pytest.raises(OSError, match="File too large"):
        write_whole(file, b"x" * 5000)
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("needed", "room"), [(0, "1 KiB"), (1024, "1 KiB"), (1025, "2 KiB"), (5 << 20, "5,120 KiB")]
)
def test_a_full_disk_is_told_with_the_room_that_is_needed(needed, room):
    full = os.strerror(errno.ENOSPC)
    for error in (OSError(errno.ENOSPC, full), RuntimeError(f"I/O error: {full} (os error 28)")):
        assert f"{room} are needed" in write_problem(error, needed)


def test_another_error_is_told_in_its_own_words():
    assert write_problem(PermissionError(errno.EACCES, "Permission denied"), 5000) == "Permission denied"
