"""One function over many items on all cores, results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

# Work that is done sooner than processes have started and imported torch and SciPy, each for itself.
SMALL_SECONDS = 5.0

_work: tuple[Callable[..., Any], Any] | None = None


def _initialise(function: Callable[..., Any], shared: Any) -> None:
    global _work
    _work = (function, shared)
    # One compute thread a process: the processes share the cores. Unpickling the function has imported torch if it is used.
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _call(item: Any) -> Any:
    assert _work is not None
    function, shared = _work
    return function(shared, item)


def run(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    workers: int | None = None,
    progress: Progress | None = None,
    ray: str | None = None,
) -> list[Result]:
    """`[function(shared, item) for item in items]`, spread over processes.

    Args:
        function: a module's top-level function; `shared` and the items must pickle.
        shared: sent once to each process.
        workers: processes; 1 (or one item) runs in this process. None for one a core as soon as the first items show that
            the others will take longer than processes take to start.
        progress: called with (done, total) after each item, in order of completion.
        ray: address of a Ray cluster (`overtone.data.cluster`) whose processes do it, None for this machine's own.

    Raises:
        ClusterError: no such cluster, or one that lost work.
    """
    if ray is not None:
        return _on_ray(function, shared, items, workers, progress, ray)
    processes = min(workers or os.cpu_count() or 1, len(items))
    here: list[Result] = []
    if processes <= 1 or workers is None:
        here = _here(function, shared, items, progress, to_the_end=processes <= 1)
    left = items[len(here) :]
    if not left:
        return here
    # spawn: a forked child of a process that runs threads (torch, MLflow) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(processes, len(left)), context, _initialise, (function, shared)) as pool:
        try:
            futures = [pool.submit(_call, item) for item in left]
            for done, future in enumerate(as_completed(futures), len(here) + 1):
                future.result()
                if progress:
                    progress(done, len(items))
            return here + [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _here(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    progress: Progress | None,
    to_the_end: bool,
) -> list[Result]:
    """Results in this process: of all items, or of the first ones, until the others are known to take long."""
    results: list[Result] = []
    seconds: list[float] = []
    with _one_compute_thread():
        for item in items:
            if not to_the_end and _long(seconds, len(items) - len(seconds)):
                break
            start = time.monotonic()
            results.append(function(shared, item))
            seconds.append(time.monotonic() - start)
            if progress:
                progress(len(results), len(items))
    return results


def _long(seconds: Sequence[float], left: int) -> bool:
    """Whether so many items, judged by what those before them took, are worth starting processes for."""
    if len(seconds) < 2:
        # The first loads what the function needs, and says little of the others.
        return sum(seconds) > SMALL_SECONDS
    return sum(seconds[1:]) / (len(seconds) - 1) * left > SMALL_SECONDS


@contextmanager
def _one_compute_thread() -> Iterator[None]:
    """As in the other processes: sums of several threads may differ in their last bits."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _on_ray(
    function: Callable[[Shared, Item], Result],
    shared: Shared,
    items: Sequence[Item],
    workers: int | None,
    progress: Progress | None,
    address: str,
) -> list[Result]:
    from overtone.data import cluster

    found: dict[int, Any] = {}
    for index, result in cluster.results(function, shared, items, address, workers):
        if result is None:
            raise cluster.ClusterError(f"Ray at {address}: the process at work on {items[index]} died; out of memory?")
        found[index] = result
        if progress:
            progress(len(found), len(items))
    return [found[index] for index in range(len(items))]
