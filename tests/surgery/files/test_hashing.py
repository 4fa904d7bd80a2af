"""Digests belong to lists of parts, and stamps to the state of a file."""

import hashlib
import os

from hypothesis import given
from hypothesis import strategies as st

from surgery.files import digest, file_stamp

PARTS = st.lists(st.text(max_size=3), max_size=4)


def test_the_digest_is_sha_256_of_the_parts_with_their_lengths_before_them():
    expected = hashlib.sha256(
        b"\x02" + bytes(7) + b"ab" + bytes(8) + b"\x02" + bytes(7) + "ö".encode()
    ).hexdigest()
    assert digest(["ab", b"", "ö"]) == expected


@given(PARTS, PARTS)
def test_other_parts_have_another_digest_even_where_they_join_to_the_same_text(first, second):
    assert (digest(first) == digest(second)) == (first == second)


def test_a_stamp_changes_with_content_time_and_replacement(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"1")
    stamps = [file_stamp(file)]
    assert file_stamp(file) == stamps[0]
    file.write_bytes(b"12")
    stamps.append(file_stamp(file))
    os.utime(file, ns=(0, 5))
    stamps.append(file_stamp(file))
    (tmp_path / "other").write_bytes(b"ab")
    os.utime(tmp_path / "other", ns=(0, 5))
    (tmp_path / "other").replace(file)
    stamps.append(file_stamp(file))
    assert len(set(stamps)) == 4
