"""The filter of system calls, read by an interpreter of its own."""

import re
import struct
from pathlib import Path

import pytest

from surgery.sandbox import syscall_filter
from surgery.sandbox.seccomp import _ALLOWED, _ALLOWED_WITH, _KILL

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000


def answer(machine: str, architecture: int, number: int, *arguments: int, may_kill: int | None = None) -> int:
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    program = list(struct.iter_unpack("<HBBI", syscall_filter(machine, may_kill=may_kill)))
    accumulator = at = 0
    while True:
        code, yes, no, value = program[at]
        if code == 0x06:
            return value
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
            at += 1
        else:
            assert code == 0x15
            at += 1 + (yes if accumulator == value else no)


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_answers_by_machine_number_and_argument(machine):
    own = ARCHITECTURES[machine]
    column = list(ARCHITECTURES).index(machine)
    for numbers in _ALLOWED.values():
        if numbers[column] is not None:
            assert answer(machine, own, numbers[column]) == ALLOW
            assert answer(machine, 0x40000003, numbers[column]) == KILL
            assert answer(machine, own, numbers[column] | 0x40000000) == REFUSE
    ioctl, fcntl, prlimit = (_ALLOWED_WITH[name][0][column] for name in ("ioctl", "fcntl", "prlimit64"))
    assert answer(machine, own, ioctl, 0, 0x5401) == ALLOW
    assert answer(machine, own, ioctl, 0, 0x5412) == REFUSE
    assert answer(machine, own, fcntl, 0, 1) == ALLOW
    assert {answer(machine, own, fcntl, 0, command) for command in (8, 10, 15, 1031, 1024)} == {REFUSE}
    # the kernel reads the low half, so a high half cannot smuggle a command through
    assert answer(machine, own, fcntl, 0, 8 | 1 << 32) == REFUSE
    assert (answer(machine, own, prlimit, 0), answer(machine, own, prlimit, 7)) == (ALLOW, REFUSE)
    kill = _KILL[machine]
    assert (answer(machine, own, kill, 7), answer(machine, own, kill, 7, may_kill=7)) == (REFUSE, ALLOW)
    assert answer(machine, own, kill, 8, may_kill=7) == answer(machine, own, kill, 2**32 - 1, may_kill=7) == REFUSE


@pytest.mark.parametrize(
    ("column", "header"),
    [(0, "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), (1, "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_are_the_kernels(column, header):
    if not Path(header).exists():
        pytest.skip(f"no kernel header {header}")
    # the generic table names some calls by their form on 64 bits
    text = re.sub(r"__NR3264_(\w+) (\d+)", r"__NR_\1 \2", Path(header).read_text())
    known = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", text, re.MULTILINE)}
    known.setdefault("newfstatat", known.get("fstatat", -1))
    table = {**_ALLOWED, **{name: entry[0] for name, entry in _ALLOWED_WITH.items()}}
    wrong = {name: numbers[column] for name, numbers in table.items() if known.get(name) != numbers[column]}
    assert wrong == dict.fromkeys(wrong)
    assert not set(wrong) & set(known)
