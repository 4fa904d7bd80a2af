"""Reading ends: at a size, and never begins at what is no regular file."""

import os

import pytest

from surgery.files import read_limited


def test_a_file_up_to_the_limit_is_read_and_one_byte_more_is_refused(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"x" * 2048)
    assert read_limited(file, 2048) == b"x" * 2048
    with pytest.raises(OSError, match="larger than 1 KiB"):
        read_limited(file, 2047)


def test_a_device_a_pipe_and_a_folder_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, type(tmp_path)("/dev/zero")):
        with pytest.raises(OSError, match="no regular file"):
            read_limited(path, 10)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_limited(tmp_path / "none", 10)
