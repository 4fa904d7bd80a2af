"""What the walls hold back, behind each kind of walls that this machine has."""

import os
import re
import subprocess
import sys

import pytest

from surgery.sandbox import Sandbox, SandboxError, open_sandbox
from surgery.sandbox import host as sandbox_module
from tests.surgery.sandbox.conftest import ROOT, linux, run


def tried(sandbox: Sandbox, body: str, **limits: float) -> str:
    """What the program saw: its last printed line."""
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    program = f"import os, socket, sys\ndef f():\n    try:\n{lines}\n    except Exception as error:\n        print(type(error).__name__)\n"
    verdict = run(sandbox, program, "f()", **limits)
    return verdict.output.strip().rpartition("\n")[2]


REFUSED = {
    "fork bomb": "for _ in range(1000): os.fork()",
    "daemon": "import subprocess\nsubprocess.Popen(['/bin/sh', '-c', 'sleep 3; touch /tmp/late'], start_new_session=True)",
    "fork by system call": "import ctypes\nlibc = ctypes.CDLL(None, use_errno=True)\nfor number in (56, 57, 58, 220, 435):\n    if libc.syscall(number, 17, 0, 0, 0, 0) >= 0: raise SystemExit\nraise OSError",
    "threads": "import threading\nthreading.Thread(target=print).start()",
    "connect": "socket.create_connection(('127.0.0.1', PORT), 1)",
    "udp": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "unix socket": "socket.socket(socket.AF_UNIX)",
    "delete": "os.unlink(SECRET)",
    "overwrite": "open(SECRET, 'w').write('x')",
    "append": "open(SECRET, 'a').write('x')",
    "read": "print(open(SECRET).read())",
    "list": "print(os.listdir(os.path.dirname(SECRET)))",
    "chmod": "os.chmod(SECRET, 0)",
    "symlink out": "os.symlink(SECRET, 'link')",
    "hard link out": "os.link(SECRET, 'link')",
    "dots out": "print(open('../../../../' + SECRET).read())",
    "its own source": "print(open(HARNESS).read())",
    "password file": "print(open('/etc/passwd').read())",
    "parent's environment": "print(open(f'/proc/{os.getppid()}/environ').read())",
    "remove Python": "os.unlink(os.__file__)",
    "kill everyone": "os.kill(-1, 0)",
    "kill by an owned pipe": "import fcntl\nfcntl.fcntl(os.pipe()[0], fcntl.F_SETOWN, OWNER)",
    "someone's limits": "import resource\nresource.prlimit(OWNER, resource.RLIMIT_CPU)",
    "memory files": "os.memfd_create('x')",
}


@linux
@pytest.mark.parametrize("attack", REFUSED)
def test_the_walls_hold(sandbox, attack, tmp_path):
    import socket

    secret = tmp_path / "secret"
    secret.write_text("4711")
    secret.chmod(0o666)
    tmp_path.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as server:
        names = {
            "SECRET": str(secret),
            "PORT": server.getsockname()[1],
            "OWNER": os.getpid(),
            "HARNESS": sandbox_module.__file__,
        }
        body = re.sub("|".join(names), lambda found: repr(names[found[0]]), REFUSED[attack])
        seen = tried(sandbox, body)
    assert re.fullmatch("PermissionError|FileNotFoundError|BlockingIOError|OSError|RuntimeError", seen), seen
    assert secret.read_text() == "4711"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


@linux
def test_the_environment_is_empty(sandbox, monkeypatch):
    monkeypatch.setenv("TOKEN", "4711")
    assert tried(sandbox, "print(dict(os.environ), os.getenv('TOKEN'))") == "{} None"


@linux
def test_the_scratch_folder_is_small_and_forgotten():
    try:
        sandbox = open_sandbox(["namespaces"])
    except SandboxError as error:
        pytest.skip(error.problem)
    write = (
        "print(os.listdir('.'))\nfor n in range(40): open(f'a{n}', 'wb').write(b'x' * 100000)\nprint('written')"
    )
    assert tried(sandbox, "open('a', 'w').write('x')\nprint(open('a').read())") == "x"
    assert tried(sandbox, write) == "OSError"
    assert tried(sandbox, "print(os.listdir('.'))") == "[]"
    assert tried(sandbox, "for n in range(1000): os.mkdir(str(n))") == "OSError"


@linux
def test_without_namespaces_nothing_is_writable():
    try:
        sandbox = open_sandbox(["landlock"])
    except SandboxError as error:
        pytest.skip(error.problem)
    assert tried(sandbox, "open('a', 'w')") == "PermissionError"
    assert tried(sandbox, "import tempfile\ntempfile.mkstemp()") == "FileNotFoundError"


@linux
def test_the_standard_library_can_be_imported(sandbox):
    modules = (
        "math, random, hashlib, decimal, itertools, heapq, statistics, sqlite3, bz2, ctypes, datetime, json, re"
    )
    assert tried(sandbox, f"import {modules}\nprint(hashlib.md5(b'').hexdigest()[:4])") == "d41d"


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_root_gives_up_every_privilege():
    code = "import sys; from surgery.sandbox import drop_privileges; drop_privileges(sys.argv[1]); print(open('/proc/self/status').read())"
    for folder, user in (("/", "65534"), ("/root/secret", "0")):
        done = subprocess.run(
            [sys.executable, "-c", code, folder], cwd=ROOT, capture_output=True, text=True, check=False
        )
        status = dict(line.split(":\t", 1) for line in done.stdout.splitlines() if ":\t" in line)
        assert status["Uid"].split() == [user] * 4, done.stderr
        assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
