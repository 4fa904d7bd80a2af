"""Bytes that come from the hub are told, can be stopped, and are no more than was announced."""

import json
import math
import signal
import threading
import time

import pytest
from huggingface_hub import constants

from surgery.adapter import open_adapter
from surgery.errors import AdapterError, Cancelled
from surgery.progress import Control
from tests.helpers.refusals import refusal


def test_what_is_fetched_is_told_up_to_the_last_byte(hub, small_adapter):
    hub.add("owner/name", small_adapter)
    told, steps = [], []
    open_adapter("owner/name", control=Control(begin=steps.append, progress=lambda *pair: told.append(pair)))
    total = math.ceil(sum(file.stat().st_size for file in small_adapter.iterdir()) / 1000)
    assert steps == ["fetching owner/name, kB"]
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    told.clear()
    open_adapter("owner/name", control=Control(begin=steps.append, progress=lambda *pair: told.append(pair)))
    assert (steps, told) == (["fetching owner/name, kB"], [])


def test_fetching_is_stopped_when_asked_and_begins_anew(hub, small_adapter):
    hub.add("owner/name", small_adapter)
    asked = threading.Event()
    control = Control(progress=lambda *_: asked.set(), cancelled=asked.is_set)
    with pytest.raises(Cancelled):
        open_adapter("owner/name", control=control)
    assert len(open_adapter("owner/name").modules) == 6


def test_more_bytes_than_were_announced_are_not_waited_for(hub, small_adapter):
    files = {file.name: file.read_bytes() for file in small_adapter.iterdir()}
    repository = hub.add("owner/name", {**files, "tokenizer.json": json.dumps("x" * (3 << 20)).encode()})
    repository.faults["tokenizer.json"] = "no end"
    message = refusal(AdapterError, open_adapter, "owner/name")
    assert "another length" in message
    sent = hub.sent
    assert sent < 40 << 20, "it went on reading"
    repository.faults.clear()
    assert open_adapter("owner/name").tokenizer.has_vocabulary


def test_the_keyboard_stops_a_download_that_is_under_way(hub, small_adapter, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1 << 20)
    files = {file.name: file.read_bytes() for file in small_adapter.iterdir()}
    hub.add("owner/name", {**files, "tokenizer.json": b"x" * (20 << 20)})
    told = []
    # processes that run tests for another one do not listen to the keyboard
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def press(done, _):
        told.append(done)
        if len(told) == 1:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.5)  # the rest would come in less

    try:
        with pytest.raises(KeyboardInterrupt):
            open_adapter("owner/name", control=Control(progress=press))
    finally:
        signal.signal(signal.SIGINT, before)
    assert told[-1] < 20_000, "it went on to the end"
