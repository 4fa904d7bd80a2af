"""The kernel's walls around the calling process: namespaces, Landlock, seccomp, limits, no privileges.

Every function changes the process that calls it, for good, and raises `OSError` where the kernel
refuses. Meant for a small process that will run nothing else; Linux on x86_64 and aarch64 only.
"""

import contextlib
import ctypes
import os
import resource
import signal
import struct
from collections.abc import Sequence

from surgery.sandbox.seccomp import syscall_filter

SCRATCH = "/scratch"
# truncating a file is governed since the third version; before it a readable file could be emptied
LANDLOCK_NEEDED = 3
_NOBODY = 65534
_NEW_MOUNTS, _NEW_HOST, _NEW_IPC, _NEW_USER, _NEW_PIDS, _NEW_NET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
_NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE, _RDONLY = 2, 4, 8, 32, 4096, 16384, 1 << 18, 1
_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_MOUNT_ATTR_READ_ONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4
_MOUNT_SETATTR, _LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 442, 444, 445, 446
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SET_PDEATHSIG, _SET_DUMPABLE, _SET_SECCOMP, _BOUNDING_DROP, _SET_NO_NEW_PRIVS, _AMBIENT = 1, 4, 22, 24, 38, 47
_SECCOMP_FILTER, _AMBIENT_CLEAR_ALL = 2, 4
_CAPABILITY_VERSION = 0x20080522
# Landlock's rights: read a file, list a folder; write, remove folder and file, make folder and file,
# rename across folders, truncate
_READ = 1 << 2 | 1 << 3
_WRITE = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 13 | 1 << 14
_ON_FILES = 1 | 1 << 1 | 1 << 2 | 1 << 14
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    """A function of the C library, `OSError` if it returns below zero."""
    done = getattr(_libc, name)(*(ctypes.c_long(a) if isinstance(a, int) else a for a in arguments))
    if done < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(done)


def die_with_parent() -> None:
    """Be killed when the parent ends; a change of user forgets it, so it is asked for again after one."""
    _call("prctl", _SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def hide_memory() -> None:
    """No other process of the same user may look into this one or take its files."""
    _call("prctl", _SET_DUMPABLE, 0, 0, 0, 0)


def landlock_version() -> int:
    """The version of the kernel's Landlock, 0 where it has none."""
    version = _libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_long(0), ctypes.c_long(1))
    return max(0, int(version))


def enter_namespaces(readable: Sequence[str], scratch_bytes: int) -> None:
    """A network without interfaces, a root that holds `readable` and a scratch folder; children get own pids.

    The scratch folder lives in memory and holds `scratch_bytes` in at most 64 files and folders.
    """
    user, group = os.geteuid(), os.getegid()
    spaces = _NEW_MOUNTS | _NEW_PIDS | _NEW_NET | _NEW_IPC | _NEW_HOST
    try:
        _call("unshare", spaces)
    except PermissionError:
        # who is not the administrator gets these inside a user namespace of his own
        _call("unshare", spaces | _NEW_USER)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{user} {user} 1")
        _write("/proc/self/gid_map", f"{group} {group} 1")
    _new_root(readable, scratch_bytes)


def _new_root(readable: Sequence[str], scratch_bytes: int) -> None:
    _mount(None, "/", None, _REC | _PRIVATE)
    os.umask(0o022)
    # held open, so that a library below /tmp is found after the new root covers /tmp
    held = {path: os.open(path, os.O_PATH) for path in readable}
    _mount("none", "/tmp", "tmpfs", _NOSUID | _NODEV | _NOEXEC, "mode=755,size=1m")
    for path, descriptor in held.items():
        _show(descriptor, f"/tmp{path}")
    os.mkdir(f"/tmp{SCRATCH}")
    options = f"mode=777,nr_inodes=64,size={scratch_bytes}"
    _mount("none", f"/tmp{SCRATCH}", "tmpfs", _NOSUID | _NODEV | _NOEXEC, options)
    _mount(None, "/tmp", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV | _NOEXEC)
    os.chdir("/tmp")
    _call("syscall", _PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def _show(descriptor: int, target: str) -> None:
    """The file or folder behind `descriptor` at `target`, with all that is mounted in it, read-only."""
    source = f"/proc/self/fd/{descriptor}"
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write(target, "")
    _mount(source, target, None, _BIND | _REC)
    read_only = _MOUNT_ATTR_READ_ONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV
    attributes = struct.pack("<4Q", read_only, 0, 0, 0)
    _call("syscall", _MOUNT_SETATTR, _AT_FDCWD, target.encode(), _AT_RECURSIVE, attributes, len(attributes))
    os.close(descriptor)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _call("mount", encoded[0], encoded[1], encoded[2], flags, encoded[3])


def drop_privileges(must_read: str) -> None:
    """No capability, now or after any change of user; root becomes nobody.

    Root stays root, without capabilities, only where nobody could not list `must_read`.
    """
    for capability in range(64):
        with contextlib.suppress(OSError):
            _call("prctl", _BOUNDING_DROP, capability, 0, 0, 0)
    with contextlib.suppress(OSError):
        _call("prctl", _AMBIENT, _AMBIENT_CLEAR_ALL, 0, 0, 0)
    if os.geteuid() == 0 and _nobody_can_read(must_read):
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _call("capset", struct.pack("<Ii", _CAPABILITY_VERSION, 0), bytes(24))
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _nobody_can_read(folder: str) -> bool:
    """False in a user namespace too, where nobody has no number and root is an ordinary user outside."""
    try:
        os.seteuid(_NOBODY)
    except OSError:
        return False
    try:
        os.listdir(folder)
    except OSError:
        return False
    finally:
        os.seteuid(0)
    return True


def restrict_files(readable: Sequence[str], writable: Sequence[str], *, may_signal: bool = False) -> None:
    """Landlock: nothing can be opened, made, renamed or removed but below these paths.

    Signals to processes outside go too, unless `may_signal`. Does nothing on a kernel without Landlock.
    """
    version = landlock_version()
    if version == 0:
        return
    every = (1 << _FILE_RIGHTS.get(version, 16)) - 1
    # bind and connect of TCP since version 4; abstract sockets and signals to outsiders since 6
    asked = struct.pack("<3Q", every, 3 if version >= 4 else 0, 1 if may_signal else 3)
    size = 8 if version < 4 else 16 if version < 6 else 24
    rules = _call("syscall", _LANDLOCK_CREATE, asked[:size], size, 0)
    for paths, rights in ((readable, _READ), (writable, _READ | _WRITE)):
        for path in paths:
            folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
            allowed = rights & every & (-1 if os.path.isdir(path) else _ON_FILES)
            _call("syscall", _LANDLOCK_ADD, rules, 1, struct.pack("<Qi", allowed, folder), 0)
            os.close(folder)
    _call("syscall", _LANDLOCK_RESTRICT, rules, 0)
    os.close(rules)


def set_limits(memory_bytes: int, cpu_seconds: int, file_bytes: int) -> None:
    """Address space, processor time, size of a file; no core file, no further process, few open files."""
    wanted = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        # the soft limit has a signal that nothing else sends; the hard one is for a program that ignores it
        resource.RLIMIT_CPU: (cpu_seconds, cpu_seconds + 1),
        resource.RLIMIT_FSIZE: (file_bytes, file_bytes),
        resource.RLIMIT_NOFILE: (64, 64),
        resource.RLIMIT_NPROC: (0, 0),
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
    }
    for kind, (soft, hard) in wanted.items():
        most = resource.getrlimit(kind)[1]
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))


def restrict_calls(may_kill: int | None = None) -> None:
    """Seccomp: only the calls that `syscall_filter` lists. Needs `drop_privileges` before it."""
    instructions = syscall_filter(os.uname().machine, may_kill=may_kill)
    held = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("<HxxxxxxQ", len(instructions) // 8, ctypes.addressof(held))
    _call("prctl", _SET_SECCOMP, _SECCOMP_FILTER, program, 0, 0)
