"""Locks between processes."""

import os

from surgery.files import is_locked, try_lock


def test_a_lock_is_seen_on_files_and_folders_until_it_is_closed(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for path, mode in ((tmp_path / "file", os.O_RDWR), (tmp_path, os.O_RDONLY)):
        holder, other = os.open(path, mode), os.open(path, os.O_RDONLY)
        assert not is_locked(other), "a probe leaves nothing behind"
        assert try_lock(holder)
        assert is_locked(other)
        assert not is_locked(holder), "whoever holds it has nothing in the way"
        assert not try_lock(other)
        os.close(holder)
        assert not is_locked(other)
        assert try_lock(other)
        os.close(other)
