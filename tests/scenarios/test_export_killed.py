"""Exports that are killed, and exports whose folder or disk gives out: what is left, and what the next one does.

Every fault is the real one: a process that kills itself at the n-th call to the system, a limit on the size of
a file, a small disk that is full or read-only, a folder that is removed. A sweep over n finds every moment.
"""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from surgery.adapter import open_adapter
from surgery.data import CalibrationPlan
from surgery.edits import EditPlan
from surgery.errors import ExportError
from surgery.export import export_recipe
from surgery.files import try_lock
from surgery.model import BaseChoice
from surgery.policies import RandomIndex, Rank
from surgery.recipes import Recipe, dump_recipe
from surgery.spectra import decompose
from tests.helpers.limited_system import unprivileged
from tests.helpers.refusals import refusal

ROOT = Path(__file__).resolve().parents[2]
FILES = ["README.md", "adapter_config.json", "adapter_model.safetensors", "recipe.yaml", "surgery.json"]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


Exported = Callable[[Path], object]
Tree = dict[str, bytes | None]


def tree(folder: Path) -> Tree:
    """Everything below a folder: the bytes of files, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")
    }


@pytest.fixture(scope="module")
def recipe(small_adapter) -> Recipe:
    edit = EditPlan(RandomIndex(amp=2.0, sup=0.25), scope="all")
    return Recipe(str(small_adapter), "", BaseChoice("some/base"), CalibrationPlan("rows.jsonl"), edit)


@pytest.fixture(scope="module")
def exported(recipe) -> Exported:
    adapter = open_adapter(recipe.adapter)
    spectra = decompose(adapter)
    edit = recipe.edit.apply(spectra, None)
    return lambda out: export_recipe(adapter, spectra, edit, recipe, out)


@pytest.fixture(scope="module")
def whole(exported, tmp_path_factory) -> Tree:
    """The files of an export that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    exported(folder)
    found = tree(folder)
    assert sorted(found) == FILES
    return found


@pytest.fixture(scope="module")
def before(recipe, tmp_path_factory) -> Path:
    """A folder with an older export and an empty folder in it. Not to be changed."""
    folder = tmp_path_factory.mktemp("before") / "place"
    (folder / "empty").mkdir(parents=True)
    adapter = open_adapter(recipe.adapter)
    spectra = decompose(adapter)
    older = replace(recipe, edit=EditPlan(Rank(keep=1), scope="all", energy="none"))
    export_recipe(adapter, spectra, older.edit.apply(spectra, None), older, folder / "older")
    return folder


# ---- faults at every moment of an export ----

CHILD = """
import itertools, json, os, resource, shutil, signal, sys
from pathlib import Path
from surgery.adapter import open_adapter
from surgery.errors import SurgeryError
from surgery.recipes import read_recipe
from surgery.export import export_recipe
from surgery.spectra import decompose

file, before, places, sizes = sys.argv[1], sys.argv[2], Path(sys.argv[3]), json.loads(sys.argv[4])
recipe = read_recipe(file)
adapter = open_adapter(recipe.adapter)
spectra = decompose(adapter)
edit = recipe.edit.apply(spectra, None)
export_recipe(adapter, spectra, edit, recipe, places / "first")  # all that is imported late is there now
numbers = itertools.count()

def at_event(number, act):
    def arm(root, tell):
        inside, seen = f"{root}{os.sep}", 0
        def hook(event, arguments):
            nonlocal seen
            paths = [os.fsdecode(a) for a in arguments if isinstance(a, (str, bytes, os.PathLike))]
            if any(path.startswith(inside) for path in paths):
                seen += 1
                if seen == number:
                    tell(event)
                    act(root)
        sys.addaudithook(hook)
    return arm

def at_size(size, handler):
    def arm(root, tell):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGXFSZ, handler)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    return arm

def tried(fault, target, arm):
    root = places / str(next(numbers))
    shutil.copytree(before, root)
    told, telling = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            arm(root, lambda event: os.write(telling, event.encode()))
            export_recipe(adapter, spectra, edit, recipe, root / target)
            code = 0
        except SurgeryError as error:
            os.write(telling, f"\\n{error}".encode())
            code = 2
        except BaseException as error:
            os.write(telling, f"\\n{type(error).__name__}: {error}".encode())
        finally:
            os._exit(code)
    os.close(telling)
    with os.fdopen(told) as said:
        event, _, told = said.read().partition("\\n")
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps([fault, str(root), target, ended, event, told]), flush=True)
    return event

def kill(root):
    os.kill(os.getpid(), signal.SIGKILL)

for fault, act, targets in (
    ("killed", kill, ("out", "new/deeper/out", "empty", "older")), ("removed", shutil.rmtree, ("out", "empty"))
):
    for target in targets:
        for number in itertools.count(1):
            if not tried(fault, target, at_event(number, act)):
                break
for size in sizes:
    tried("cut", "out", at_size(size, signal.SIG_DFL))
    tried("limited", "out", at_size(size, signal.SIG_IGN))
"""


@dataclass(frozen=True)
class Attempt:
    """One export in a process of its own: how it ended, at which event its fault came, and what was told."""

    root: Path
    target: str
    ended: int
    event: str
    told: str

    def again(self, exported: Exported) -> Tree:
        """What a next export to the same place gives."""
        exported(self.root / self.target)
        return tree(self.root / self.target)


class Attempts:
    def __init__(self, lines: list[str]) -> None:
        self._all = [json.loads(line) for line in lines]

    def of(self, fault: str, target: str = "out") -> list[Attempt]:
        """In order; where a fault comes at the n-th event, the last one is an export without a fault."""
        return [
            Attempt(Path(root), where, *rest)
            for kind, root, where, *rest in self._all
            if (kind, where) == (fault, target)
        ]


@pytest.fixture(scope="module")
def attempts(recipe, before, whole, tmp_path_factory) -> Attempts:
    """Exports that a fault struck. One process imports, and forks for each."""
    places = tmp_path_factory.mktemp("places")
    (places / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    weights = len(whole["adapter_model.safetensors"])
    assert weights == max(map(len, whole.values()))
    arguments = [places / "recipe.yaml", before, places, json.dumps([0, 1, 100, weights // 2, weights - 1])]
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Attempts(done.stdout.splitlines())


@pytest.mark.parametrize("target", ["out", "new/deeper/out", "empty"])
def test_an_export_that_is_killed_at_any_moment_leaves_a_whole_folder_or_none(
    target, attempts, exported, whole, before
):
    *killed, unharmed = attempts.of("killed", target)
    assert len(killed) >= 10
    assert {attempt.ended for attempt in killed} == {-signal.SIGKILL}
    assert unharmed.ended == 0
    assert tree(unharmed.root / target) == whole
    older, nothing = tree(before / "older"), {} if target == "empty" else None
    for attempt in killed:
        folder = attempt.root / target
        found = tree(folder) if folder.exists() else None
        assert found in (nothing, whole), attempt
        assert tree(attempt.root / "older") == older
        if found == whole:
            assert "exists" in refusal(ExportError, exported, folder)
            assert tree(folder) == whole
        else:
            assert attempt.again(exported) == whole
        assert open_adapter(folder).digest == open_adapter(unharmed.root / target).digest
        assert tree(attempt.root / "older") == older


def test_an_older_export_in_the_way_is_refused_and_untouched_even_by_a_kill(attempts, before):
    *killed, refused = attempts.of("killed", "older")
    assert {attempt.ended for attempt in killed} == {-signal.SIGKILL}
    assert refused.ended == 2
    assert "exists" in refused.told
    assert all(tree(attempt.root) == tree(before) for attempt in (*killed, refused))


def test_an_export_that_is_killed_in_the_middle_of_a_write_leaves_no_folder(attempts, exported, whole, before):
    cut = attempts.of("cut")
    assert len(cut) == 5
    for attempt in cut:
        assert attempt.ended == -signal.SIGXFSZ
        assert not (attempt.root / "out").exists()
        assert tree(attempt.root / "older") == tree(before / "older")
        assert attempt.again(exported) == whole


def test_a_file_that_may_grow_no_further_is_told_and_nothing_is_left(attempts, exported, whole, before):
    limited = attempts.of("limited")
    assert len(limited) == 5
    for attempt in limited:
        assert attempt.ended == 2, attempt
        assert os.strerror(errno.EFBIG) in attempt.told
        assert len(attempt.told.splitlines()) == 1
        assert tree(attempt.root) == tree(before)
        assert attempt.again(exported) == whole


@pytest.mark.parametrize("target", ["out", "empty"])
def test_a_place_that_is_removed_meanwhile_is_told_and_takes_the_next_export(target, attempts, exported, whole):
    *removed, unharmed = attempts.of("removed", target)
    assert len(removed) >= 10
    assert unharmed.ended == 0
    for attempt in removed:
        assert attempt.ended == 2, attempt
        assert os.strerror(errno.ENOENT) in attempt.told
        assert "defect" not in attempt.told, attempt
        assert len(attempt.told.splitlines()) == 1
        assert not attempt.root.exists()
        assert attempt.again(exported) == whole


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or sys.platform != "linux":
        pytest.skip("a disk in memory is mounted as Linux does it")
    size = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"]
    done = subprocess.run([mount, *size, folder], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk may be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_is_told_at_every_page_and_takes_the_export_once_there_is_room(disk, exported, whole, before):
    shutil.copytree(before, disk, dirs_exist_ok=True)
    kept, page, ballast = tree(disk), 4096, disk / "ballast"
    free = shutil.disk_usage(disk).free
    for room in range(sum(-(-len(data) // page) for data in whole.values())):
        ballast.write_bytes(bytes(free - page * room))
        told = refusal(ExportError, exported, disk / "out")
        assert os.strerror(errno.ENOSPC) in told
        needed = int(re.search(r"([\d,]+) KiB are needed", told)[1].replace(",", ""))
        assert needed == -(-sum(map(len, tensors_and_texts(whole))) // 1024)
        ballast.unlink()
        assert tree(disk) == kept
    exported(disk / "out")
    assert tree(disk / "out") == whole
    assert tree(disk / "older") == tree(before / "older")


def tensors_and_texts(whole: Tree) -> list[bytes]:
    """The files of an export without the header of its weights, which is not known before they are written."""
    weights = whole["adapter_model.safetensors"]
    header = 8 + int.from_bytes(weights[:8], "little")
    return [weights[header:], *(data for name, data in whole.items() if name != "adapter_model.safetensors")]


def test_an_export_removes_what_a_killed_one_left_and_nothing_that_is_another_s(exported, whole, tmp_path):
    left, held, foreign, file = (tmp_path / f".out-{name * 4}" for name in ("ab", "cd", "ef", "gh"))
    for folder in (left, held, foreign):
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(b"half")
    (left / ".tmp12ab34").write_bytes(b"half")
    (foreign / "thesis.txt").write_text("mine")
    file.write_text("mine")
    descriptor = os.open(held, os.O_RDONLY)
    try:
        assert try_lock(descriptor), "as an export that is under way holds it"
        exported(tmp_path / "out")
    finally:
        os.close(descriptor)
    assert tree(tmp_path / "out") == whole
    assert {path.name for path in tmp_path.iterdir()} == {"out", held.name, foreign.name, file.name}
    assert (held / "adapter_model.safetensors").read_bytes() == b"half"
    assert (foreign / "thesis.txt").read_text() == "mine"


def test_a_disk_that_is_read_only_is_told_and_takes_the_export_once_it_is_not(disk, exported, whole, before):
    shutil.copytree(before, disk, dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    for target in ("out", "new/deeper/out", "empty"):
        assert os.strerror(errno.EROFS) in refusal(ExportError, exported, disk / target)
    assert tree(disk) == tree(before)
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    exported(disk / "out")
    assert tree(disk / "out") == whole


@pytest.mark.parametrize("mode", [0o555, 0o000], ids=["read-only", "closed"])
def test_a_folder_without_permission_is_told_and_takes_the_export_once_it_is_given(mode, exported, whole):
    with tempfile.TemporaryDirectory() as name:  # pytest's folders are closed to other accounts
        Path(name).chmod(0o755)
        shut = Path(name) / "shut"
        shut.mkdir()
        shut.chmod(mode)
        with unprivileged():
            assert os.strerror(errno.EACCES) in refusal(ExportError, exported, shut / "out")
        shut.chmod(0o777)
        assert tree(shut) == {}
        with unprivileged():
            exported(shut / "out")
        assert tree(shut / "out") == whole
