"""Two simulated machines for sweeps, and the loss of a worker on one of them."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def two_nodes() -> Iterator[str]:
    """The address of a Ray cluster of two nodes of one CPU each, which listen on the loopback address alone."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    # what a Ray of one machine binds and connects to; read when it is imported
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "node_ip_address": "127.0.0.1", "object_store_memory": 80 << 20}
    nodes = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        nodes.add_node(**node)
        yield nodes.address
    finally:
        nodes.shutdown()


class Killer(threading.Thread):
    """Kills the first worker that is seen to write answers below `runs` once `due()` says so; `killed` is its id."""

    def __init__(self, runs: Path, due: Callable[[], bool] = lambda: True) -> None:
        super().__init__(daemon=True)
        self.killed: int | None = None
        self._runs, self._due, self._over = runs, due, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.05) and self.killed is None:
            if self._due():
                self.killed = next((pid for pid in self._at_work() if _kill(pid)), None)

    def _at_work(self) -> Iterator[int]:
        import psutil

        for child in psutil.Process().children(recursive=True):
            try:
                if "_prove_task" not in child.name():
                    continue
                written = [Path(file.path) for file in child.open_files()]
            except psutil.Error:
                continue
            if any(file.name == "answers.jsonl" and self._runs in file.parents for file in written):
                yield child.pid

    def __enter__(self) -> "Killer":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
