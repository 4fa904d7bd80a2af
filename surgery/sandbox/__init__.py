"""Run untrusted programs and judge them; imports the standard library only."""

from surgery.sandbox.host import Limits, Sandbox, SandboxError, Verdict, open_sandbox
from surgery.sandbox.isolation import drop_privileges
from surgery.sandbox.seccomp import syscall_filter
from surgery.sandbox.wire import pack, unpack

__all__ = [
    "Limits",
    "Sandbox",
    "SandboxError",
    "Verdict",
    "drop_privileges",
    "open_sandbox",
    "pack",
    "syscall_filter",
    "unpack",
]
