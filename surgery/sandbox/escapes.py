"""What hostile code would try; `open_sandbox` runs this inside its walls and demands that all of it fails.

Loaded as text into the confined process, so it imports the standard library only. Where there are no
walls after all, none of it does harm: only `secret` and its folder, made for this, can suffer.
"""

import ctypes
import errno
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 16)
_SECRETS = ("/etc/passwd", "/etc/shadow", "/proc/self/mem", "/proc/self/environ", "/proc/1/environ", "/dev/mem")
_NEW_SPACES = 0x10000000 | 0x00020000


def escapes(secret: str, owner: int, memory_bytes: int) -> list[str]:
    """The names of the attempts that got through. `secret` is a file outside that everyone may change."""
    folder = os.path.dirname(secret)
    beside = os.path.join(folder, "beside")
    link = os.path.join(folder if os.getcwd() == "/" else os.getcwd(), "link")
    libc = ctypes.CDLL(None, use_errno=True)
    attempts: dict[str, Callable[[], object]] = {
        **{f"a socket of family {family}": lambda f=family: socket.socket(f) for family in _FAMILIES},  # type: ignore[misc]
        "a pair of sockets": socket.socketpair,
        **{f"reading {path}": lambda p=path: _read(p) for path in (secret, *_SECRETS)},  # type: ignore[misc]
        f"listing {folder}": lambda: os.listdir(folder),
        "writing outside": lambda: Path(secret).write_text("changed"),
        "appending outside": lambda: os.close(os.open(secret, os.O_WRONLY | os.O_APPEND)),
        "emptying by reading": lambda: os.close(os.open(secret, os.O_RDONLY | os.O_TRUNC)),
        "truncating outside": lambda: os.truncate(secret, 0),
        "deleting outside": lambda: os.unlink(secret),
        "renaming outside": lambda: os.rename(secret, beside),
        "creating outside": lambda: Path(beside).touch(),
        "creating in the root": lambda: os.close(os.open("/", os.O_WRONLY | os.O_TMPFILE)),
        "a folder outside": lambda: os.mkdir(beside),
        "changing the mode": lambda: os.chmod(secret, 0o600),
        "changing the owner": lambda: os.chown(secret, os.getuid(), os.getgid()),
        "changing the time": lambda: os.utime(secret, (0, 0)),
        "a hard link": lambda: os.link(secret, link),
        "a symbolic link": lambda: os.symlink(secret, link),
        "changing Python's library": lambda: os.close(os.open(os.__file__, os.O_WRONLY)),
        "a child": _fork,
        "a thread": lambda: threading.Thread(target=int).start(),
        "a program": lambda: os.execv("/bin/sh", ["sh", "-c", "exit"]),
        "a subprocess": lambda: subprocess.run(["/bin/true"], check=False),
        "a session of its own": os.setsid,
        "signalling the owner": lambda: os.kill(owner, 0),
        "signalling the group": lambda: os.killpg(0, 0),
        "tracing": lambda: _reached(libc.ptrace, 0, 0, 0, 0),
        "a mount": lambda: _reached(libc.mount, b"none", b"/there is no such folder", b"tmpfs", 0, None),
        "namespaces": lambda: _reached(libc.unshare, _NEW_SPACES),
        "a file without a name": lambda: os.memfd_create("x"),
        "becoming root": lambda: _really_root(secret),
        "the environment": lambda: _present(os.environ),
        "standard input": lambda: _present(os.read(0, 1)),
        "too much memory": lambda: bytearray(memory_bytes),
    }
    return [name for name, attempt in attempts.items() if _got_through(attempt)]


def _got_through(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except (OSError, RuntimeError, MemoryError, AttributeError):
        return False
    return True


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1)


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _reached(function: Callable[..., int], *arguments: object) -> None:
    """A call that the filter lets by may still fail for another reason than permission."""
    if function(*arguments) != 0 and ctypes.get_errno() == errno.EPERM:
        raise OSError


def _really_root(secret: str) -> None:
    os.setresuid(0, 0, 0)
    _read(secret)


def _present(found: object) -> None:
    if not found:
        raise OSError
