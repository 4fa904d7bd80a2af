"""The system calls that a confined process keeps, as a seccomp filter for this machine.

A list of what is allowed, not of what is forbidden: a call that a newer kernel adds stays closed.
What is missing on purpose: sockets, new processes and threads, starting programs, signals to others,
tracing, mounts, namespaces, keys, io_uring, shared and anonymous files, links, and every change of
owner, mode, time or attribute of a file (Landlock does not cover those).
"""

import struct
from collections.abc import Mapping, Sequence

# name: its number on x86_64 and on aarch64; None where that machine has no such call
_ALLOWED: dict[str, tuple[int, int | None]] = {
    "read": (0, 63),
    "write": (1, 64),
    "open": (2, None),
    "close": (3, 57),
    "stat": (4, None),
    "fstat": (5, 80),
    "lstat": (6, None),
    "poll": (7, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "readv": (19, 65),
    "writev": (20, 66),
    "access": (21, None),
    "pipe": (22, None),
    "select": (23, None),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "dup2": (33, None),
    "nanosleep": (35, 101),
    "getitimer": (36, 102),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getpid": (39, 172),
    "exit": (60, 93),
    "wait4": (61, 260),
    "uname": (63, 160),
    "fsync": (74, 82),
    "ftruncate": (77, 46),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "rename": (82, None),
    "mkdir": (83, None),
    "rmdir": (84, None),
    "unlink": (87, None),
    "gettimeofday": (96, 169),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "getppid": (110, 173),
    "sigaltstack": (131, 132),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "arch_prctl": (158, None),
    "gettid": (186, 178),
    "time": (201, None),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "getdents64": (217, 61),
    "restart_syscall": (219, 128),
    "fadvise64": (221, 223),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "openat": (257, 56),
    "mkdirat": (258, 34),
    "newfstatat": (262, 79),
    "unlinkat": (263, 35),
    "renameat": (264, 38),
    "faccessat": (269, 48),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "dup3": (292, 24),
    "pipe2": (293, 59),
    "renameat2": (316, 276),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "statx": (332, 291),
    "rseq": (334, 293),
    "faccessat2": (439, 439),
}
# name: its two numbers, the argument looked at, and the values of it that are allowed
_ALLOWED_WITH: dict[str, tuple[tuple[int, int], int, tuple[int, ...]]] = {
    # size and state of a terminal, bytes waiting, blocking, close on exec; not FIOSETOWN, not TIOCSTI
    "ioctl": ((16, 29), 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),
    # duplicates and flags; not F_SETOWN with F_SETSIG, which kills a stranger through a pipe, nor
    # locks and sizes of pipes, which use up the kernel's memory
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 1030)),
    # its own limits only
    "prlimit64": ((302, 261), 0, (0,)),
}
_KILL = {"x86_64": 62, "aarch64": 129}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# instructions of the classic packet filter and what the filter answers
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
_KILL_PROCESS, _NOT_PERMITTED, _ALLOW = 0x80000000, 0x00050001, 0x7FFF0000


def supported(machine: str) -> bool:
    """Whether the call numbers of `machine` (as `os.uname` names it) are known here."""
    return machine in _ARCHITECTURE


def syscall_filter(machine: str, *, may_kill: int | None = None) -> bytes:
    """The filter's instructions; the one process `may_kill` may be signalled. `KeyError` if not `supported`.

    A call of another architecture's table (32-bit code on x86_64) ends the process; one of the x32
    table has other numbers and is refused like every call that is not listed.
    """
    position = 0 if machine == "x86_64" else 1
    plain = [numbers[position] for numbers in _ALLOWED.values()]
    looked_at: dict[int, tuple[int, Sequence[int]]] = {
        numbers[position]: (argument, values) for numbers, argument, values in _ALLOWED_WITH.values()
    }
    if may_kill is not None:
        looked_at[_KILL[machine]] = (0, (may_kill,))
    return _assemble(_ARCHITECTURE[machine], [number for number in plain if number is not None], looked_at)


def _assemble(
    architecture: int, plain: Sequence[int], looked_at: Mapping[int, tuple[int, Sequence[int]]]
) -> bytes:
    """Both machines are little-endian: an argument's low half, all that the kernel reads of it, comes first."""
    number_at, architecture_at, arguments_at = 0, 4, 16
    program = [
        (_LOAD, 0, 0, architecture_at),
        (_JUMP_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD, 0, 0, number_at),
    ]
    for number in plain:
        program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for number, (argument, values) in looked_at.items():
        program += [
            (_JUMP_IF_EQUAL, 0, 2 + 2 * len(values), number),
            (_LOAD, 0, 0, arguments_at + 8 * argument),
        ]
        for value in values:
            program += [(_JUMP_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        program += [(_RETURN, 0, 0, _NOT_PERMITTED)]
    program += [(_RETURN, 0, 0, _NOT_PERMITTED)]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)
