"""One function over many items on Ray: this machine's cores, or the machines of a cluster. The only code that knows Ray."""

from __future__ import annotations

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
# Blocks a worker: few enough to cost little, many enough that no worker is left alone with a long one, and to see progress.
_BLOCKS = 25

_CONNECT_SECONDS = 10.0


class ClusterError(OvertoneError):
    """A cluster that cannot be had, or that lost work."""


class _Worker:
    """In a process of Ray's: the function, and what all items share."""

    def __init__(self, payload: bytes, folder: str) -> None:
        # Relative paths mean what they mean to the caller, where the machines share its files.
        if Path(folder).is_dir():
            os.chdir(folder)
        self._function, self._shared = pickle.loads(payload)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            result: Any = self._function(self._shared, pickle.loads(row["item"]))
            return {"index": row["index"], "result": pickle.dumps((result, None))}
        except Exception as error:
            return {"index": row["index"], "result": pickle.dumps((None, error))}


def results(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    address: str = LOCAL,
    workers: int | None = None,
    gpus: int = 0,
) -> Generator[tuple[int, Result | None], None, None]:
    """Positions and results of `function(shared, item)`, as they come; None for an item whose process died, alone too.

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
        payload, folder = pickle.dumps((function, shared)), str(Path.cwd())
        rows = {index: {"index": index, "item": pickle.dumps(item)} for index, item in enumerate(items)}
        for row in _spread(ray.data, (payload, folder), list(rows.values()), min(workers or most, most), gpus):
            del rows[int(row["index"])]
            yield int(row["index"]), _unpacked(row)
        for index, row in rows.items():
            found = _alone(ray, (payload, folder), row, gpus)
            yield index, None if found is None else _unpacked(found)


def _unpacked(row: dict[str, Any]) -> Any:
    result, error = pickle.loads(row["result"])
    if error is not None:
        raise error
    return result


def _spread(
    data: Any, arguments: tuple[bytes, str], rows: list[dict[str, Any]], workers: int, gpus: int
) -> Iterator[dict[str, Any]]:
    """Rows of the results; those of a block whose process died are left out."""
    blocks = min(len(rows), workers * _BLOCKS)
    made = data.from_items(rows, override_num_blocks=blocks).map(
        _Worker,
        fn_constructor_args=arguments,
        compute=data.ActorPoolStrategy(size=min(workers, blocks)),
        num_cpus=1,
        num_gpus=gpus,
        ray_remote_args_fn=_once,
    )
    yield from made.iter_rows()


def _once() -> dict[str, Any]:
    """Ray's own way with an item that kills its process is to try it for ever."""
    return {"max_restarts": -1, "max_task_retries": 0}


def _alone(ray: Any, arguments: tuple[bytes, str], row: dict[str, Any], gpus: int) -> dict[str, Any] | None:
    """The result's row of an item in a process that it shares with none; None if that dies."""
    call = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(_call)
    try:
        found: dict[str, Any] = ray.get(call.remote(arguments, row))
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError, ray.exceptions.NodeDiedError):
        return None
    return found


def _call(arguments: tuple[bytes, str], row: dict[str, Any]) -> dict[str, Any]:
    return _Worker(*arguments)(row)


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
        import ray.data
    except ImportError as error:
        raise ClusterError(f"Ray is not installed ({error}); pip install 'overtone[ray]'") from None
    with ExitStack() as stack:
        if not ray.is_initialized():
            _check_reachable(address)
            _connect(ray, address, workers, stack)
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        # A process that dies costs its block, not the run.
        context.max_errored_blocks = -1
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
