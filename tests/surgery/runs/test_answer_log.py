"""The log of answers under kills, full disks, damage and second writers; the logged engine against the plain one."""

import errno
import json
import math
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surgery.errors import Cancelled, DataError
from surgery.files import try_lock
from surgery.runs import AnswerLog, logged_answers, under_way
from tests.helpers.refusals import refusal
from tests.surgery.runs.conftest import FullDisk

ROOT = Path(__file__).resolve().parents[3]


def filled(file: Path, count: int) -> dict:
    """A log of so many requests, and what was put into it."""
    file.unlink(missing_ok=True)
    with AnswerLog(file) as log:
        for index in range(count):
            log.add((0, index, f"{index:016x}"), {"a": [index / 3, [index, 5]], "b": float("nan")})
        return dict(log.known)


def bits(answers: Any) -> str:
    return json.dumps(sorted((list(place), sorted(found.items())) for place, found in answers.items()))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_log_cut_off_anywhere_holds_every_whole_line_and_takes_more(file, data):
    put = filled(file, 6)
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    lines = whole[:cut].count(b"\n")
    assert bits(logged_answers(file)) == bits(dict(list(put.items())[:lines]))
    with AnswerLog(file) as log:
        assert bits(log.known) == bits(dict(list(put.items())[:lines]))
        log.add((1, 0, "new"), {"a": 1})
    assert len(logged_answers(file)) == lines + 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_damaged_byte_loses_its_line_alone_and_changes_no_answer(file, data):
    put = filled(file, 5)
    whole = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] = data.draw(st.integers(0, 255).filter(lambda byte: byte != whole[place]))
    file.write_bytes(whole)
    with AnswerLog(file) as log:
        known = dict(log.known)
    # a line feed that is lost joins two lines
    assert len(put) - 2 <= len(known) < len(put)
    assert bits(known) == bits({place: put[place] for place in known})


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 300,
        b"\xff\xfe\xfa\n",
        b"null\n",
        b"[]\n",
        b"{}\n",
        b"[0, 0, 5]\n",
        b"[" * 90_000 + b"\n",
        b'[0,1,"0000000000000001",{"a":[9.0,[9]]},5]\n',
        b'[0,1,"0000000000000001",[["a",9]],1]\n',
    ],
    ids=["nulls", "bytes", "null", "list", "object", "short", "deep", "checksum", "pairs"],
)
def test_garbage_is_passed_over_and_answers_behind_it_stay(file, garbage):
    put = filled(file, 4)
    lines = file.read_bytes().splitlines(keepends=True)
    whole = lines[0] + garbage + (b"" if garbage.endswith(b"\n") else b"\n") + b"".join(lines[2:])
    file.write_bytes(whole)
    with AnswerLog(file) as log:
        assert bits(log.known) == bits({place: found for place, found in put.items() if place[1] != 1})
    assert file.read_bytes() == whole, "nothing that was there is removed"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(width=64), max_size=8), st.lists(st.integers(0, 200_000)), st.text(min_size=1))
def test_numbers_come_back_bit_for_bit(file, numbers, tokens, name):
    file.unlink(missing_ok=True)
    with AnswerLog(file) as log:
        log.add((0, 0, "x"), {name: [*numbers, tokens]})
    ((*found, found_tokens),) = (answers[name] for answers in logged_answers(file).values())
    assert found_tokens == tokens
    plain = [math.nan if math.isnan(number) else number for number in numbers]
    assert [struct.pack("<d", a) for a in found if a == a] == [struct.pack("<d", b) for b in plain if b == b]
    assert [a != a for a in found] == [b != b for b in plain]


def test_a_finished_request_reaches_the_file_at_once(file):
    # a batch may take minutes: answers that waited for the next one would be lost to a kill
    with AnswerLog(file) as log:
        for index in range(20):
            log.add((0, index, "x"), {"a": index})
            assert len(logged_answers(file)) == index + 1


CHILD = """
import sys
from pathlib import Path
from surgery.runs import AnswerLog
with AnswerLog(Path(sys.argv[1])) as log:
    for index in range(4):
        log.add((0, index, "x"), {"a": index})
    print("open", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_has_gone(file):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
        before = file.read_bytes()
        assert "another process" in refusal(DataError, AnswerLog, file)
        assert under_way(file)
        assert len(logged_answers(file)) == 4, "reading is free"
        assert file.read_bytes() == before
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    assert not under_way(file)
    with AnswerLog(file) as log:
        assert len(log.known) == 4
        assert "another process" in refusal(DataError, AnswerLog, file), "nor is a second one in this process"


PROBE = """
import sys
from pathlib import Path
from surgery.runs import under_way
print("probing", flush=True)
while not Path(sys.argv[2]).exists():
    under_way(Path(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a probe holds a shared lock for a moment")
def test_a_probe_is_in_no_writer_s_way(file, tmp_path):
    filled(file, 1)
    over = tmp_path / "over"
    probes = [
        subprocess.Popen(
            [sys.executable, "-c", PROBE, str(file), str(over)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    try:
        for probe in probes:
            assert probe.stdout is not None
            assert probe.stdout.readline() == "probing\n"
        for _ in range(3000):
            with file.open("a+b") as writer:
                assert try_lock(writer), "a writer that starts while others probe is let in"
        over.touch()
        assert [probe.wait(timeout=60) for probe in probes] == [0, 0]
    finally:
        for probe in probes:
            probe.kill()
            probe.wait()


FULL = """
import resource, sys
from pathlib import Path
from surgery.runs import AnswerLog
from surgery.errors import DataError
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
with AnswerLog(Path(sys.argv[1])) as log:
    try:
        for index in range(1000):
            log.add((0, index, "x"), {"a": [0.125, [1, 2, 3]]})
            print(index, flush=True)
    except DataError as error:
        print(error, flush=True)
        raise
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="the system has no limit on files")
def test_a_file_that_may_grow_no_further_keeps_its_answers(file):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(file)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    *kept, told = done.stdout.splitlines()
    assert os.strerror(errno.EFBIG) in told
    assert "finished requests are kept" in told
    assert done.stderr.strip().splitlines()[-1].startswith("surgery.errors.DataError")
    assert len(kept) > 10
    assert sorted(place[1] for place in logged_answers(file)) == list(range(len(kept)))
    with AnswerLog(file) as log:
        log.add((0, len(kept), "x"), {"a": 1})
    assert len(logged_answers(file)) == len(kept) + 1


def test_a_full_disk_is_told_with_the_room_for_all_that_is_to_come(file, tmp_path):
    answers = {"a": [0.125, list(range(300))], "b": [0.25, list(range(300))]}
    with AnswerLog(tmp_path / "other") as other:
        other.add((0, 0, "x"), answers)
    line = (tmp_path / "other").stat().st_size
    log = AnswerLog(file)
    log.expect(80)
    log.add((0, 0, "x"), answers)
    log._file = FullDisk(log._file, 0)
    told = refusal(DataError, log.add, (0, 0, "x"), answers)
    log.close()
    assert f"{os.strerror(errno.ENOSPC)}: {-(-39 * line // 1024)} KiB are needed" in told


@pytest.mark.parametrize("name", ["adding", "closing"])
def test_a_disk_that_refuses_to_sync_is_told(file, monkeypatch, name):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    log = AnswerLog(file)
    with monkeypatch.context() as patch:
        patch.setattr("surgery.runs.answer_log._SECONDS", 0.0 if name == "adding" else 1e9)
        patch.setattr("surgery.runs.answer_log.os.fsync", full)
        if name == "adding":
            assert os.strerror(errno.ENOSPC) in refusal(DataError, log.add, (0, 0, "x"), {"a": 1})
        assert os.strerror(errno.ENOSPC) in refusal(DataError, log.close)
    with AnswerLog(file):
        pass


@pytest.mark.parametrize("gone", ["deleted", "moved", "replaced"])
def test_a_log_that_is_taken_away_is_noticed(file, monkeypatch, gone):
    monkeypatch.setattr("surgery.runs.answer_log._SECONDS", 0.0)
    log = AnswerLog(file)
    log.add((0, 0, "x"), {"a": 1})
    if gone == "deleted":
        shutil.rmtree(file.parent)
    else:
        file.parent.rename(file.parent.with_name("elsewhere"))
    if gone == "replaced":
        filled(file, 1)
    # the open file would take answers all the same, and nobody would find them
    told = refusal(DataError, log.add, (0, 1, "x"), {"a": 1})
    assert os.strerror(errno.ENOENT) in told
    assert "finished" not in told
    refusal(DataError, log.close)


def test_what_ended_the_work_is_not_hidden_by_a_log_that_cannot_close(file):
    def lose_the_folder(reason: Exception | None) -> None:
        with AnswerLog(file):
            shutil.rmtree(file.parent)
            if reason is not None:
                raise reason

    with pytest.raises(Cancelled):
        lose_the_folder(Cancelled())
    refusal(DataError, lose_the_folder, None)


def test_a_place_that_cannot_be_written_is_refused_with_its_reason(file, monkeypatch):
    file.parent.parent.joinpath("text").write_text("")
    told = refusal(DataError, AnswerLog, file.parent.parent / "text" / "run" / "answers.jsonl")
    assert os.strerror(errno.ENOTDIR) in told
    filled(file, 2)

    def read_only(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", read_only)
        assert os.strerror(errno.EACCES) in refusal(DataError, AnswerLog, file)
    assert len(logged_answers(file)) == 2


def test_nothing_is_known_where_there_is_no_log(tmp_path):
    assert logged_answers(tmp_path / "none") == {}
    assert logged_answers(tmp_path) == {}
    assert not under_way(tmp_path / "none")
