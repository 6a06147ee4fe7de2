"""One function over many items on Ray: this machine's cores, or the machines of a cluster. The only code that knows Ray."""

from __future__ import annotations

import functools
import itertools
import logging
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from overtone.errors import OvertoneError

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")

# The address that stands for a Ray of this machine's own, started and ended by the call; as Ray itself has it.
LOCAL = "local"
# Items are a few hundred bytes: what Ray asks for at least.
_STORE_BYTES = 128 * 2**20
_CONNECT_SECONDS = 10.0


class ClusterError(OvertoneError):
    """A cluster that cannot be had, or that lost work."""


def results(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    address: str = LOCAL,
    workers: int | None = None,
    gpus: int = 0,
) -> Generator[tuple[int, Result | None], None, None]:
    """Positions and results of `function(shared, item)`, as they come; None for an item whose process died.

    Args:
        function: a module's top-level function; `shared`, items and results must pickle.
        shared: sent once to each process.
        address: `local`, `auto` (the cluster that this machine belongs to) or host:port.
        workers: processes, None for one a core, or one a GPU where each has one.
        gpus: of each process; Ray hides the others from it.

    Raises:
        ClusterError: Ray is not installed, or cannot be reached at the address.
        Exception: what the function raised.
    """
    if not items:
        return
    with _connected(address, workers) as ray:
        resources = ray.cluster_resources()
        most = int(resources.get("GPU", 0)) // gpus if gpus else int(resources.get("CPU", 1))
        if not most:
            raise ClusterError(f"Ray at {address}: has no GPU; expected {gpus} for each process")
        died = (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError)
        call = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_call)
        work = ray.put(pickle.dumps((function, shared, str(Path.cwd()))))
        waiting, running = enumerate(items), dict[Any, int]()
        while True:
            for index, item in itertools.islice(waiting, min(workers or most, most) - len(running)):
                running[call.remote(work, pickle.dumps(item))] = index
            if not running:
                return
            (done,), _ = ray.wait(list(running), num_returns=1)
            index = running.pop(done)
            try:
                result, error = pickle.loads(ray.get(done))
            except died:
                yield index, None
                continue
            if error is not None:
                raise error
            yield index, result


def _call(work: bytes, item: bytes) -> bytes:
    """In a process of Ray's: the result of an item and None, or None and the error."""
    function, shared = _loaded(work)
    try:
        return pickle.dumps((function(shared, pickle.loads(item)), None))
    except Exception as error:
        return pickle.dumps((None, error))


@functools.lru_cache(maxsize=1)
def _loaded(work: bytes) -> tuple[Any, Any]:
    """The function and what all items share, once for each process."""
    function, shared, folder = pickle.loads(work)
    # Relative paths mean what they mean to the caller, where the machines share its files.
    if Path(folder).is_dir():
        os.chdir(folder)
    return function, shared


def _check_reachable(address: str) -> None:
    """Ray itself waits for minutes where nobody answers."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal():
        if address not in (LOCAL, "auto"):
            raise ClusterError(f"Ray at {address}: expected local, auto or host:port")
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(f"Ray at {address}: cannot be reached ({error})") from None


@contextmanager
def _connected(address: str, workers: int | None) -> Iterator[Any]:
    """The package `ray`, connected; a Ray that this process is connected to is used as it is."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ClusterError(f"Ray is not installed ({error}); pip install 'overtone[ray]'") from None
    with ExitStack() as stack:
        if not ray.is_initialized():
            _check_reachable(address)
            _connect(ray, address, workers, stack)
        yield ray


def _connect(ray: Any, address: str, workers: int | None, stack: ExitStack) -> None:
    options: dict[str, Any] = {}
    if address == LOCAL:
        folder = tempfile.mkdtemp(prefix="overtone-ray-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        options = {"num_cpus": workers or os.cpu_count() or 1, "include_dashboard": False, "_temp_dir": folder}
        options["object_store_memory"] = _STORE_BYTES
    stack.callback(ray.shutdown)
    own = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if own else None
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ClusterError(f"Ray at {address}: cannot be reached ({reason})") from None
    finally:
        # Ray's own would end this process with another status than the signal's.
        if own:
            signal.signal(signal.SIGTERM, handler)
