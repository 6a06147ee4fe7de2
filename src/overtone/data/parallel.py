"""One function over many items on all cores, results in the order of the items."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Shared = TypeVar("Shared")
Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]

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
        workers: processes, None for one a core; 1 (or one item) runs in this process.
        progress: called with (done, total) after each item, in order of completion.
        ray: address of a Ray cluster (`overtone.data.cluster`) whose processes do it, None for this machine's own.

    Raises:
        ClusterError: no such cluster, or one that lost work.
    """
    if ray is not None:
        return _on_ray(function, shared, items, workers, progress, ray)
    workers = min(workers or os.cpu_count() or 1, len(items))
    if workers <= 1:
        results = []
        for item in items:
            results.append(function(shared, item))
            if progress:
                progress(len(results), len(items))
        return results
    # spawn: a forked child of a process that runs threads (torch, MLflow) may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _initialise, (function, shared)) as pool:
        try:
            futures = [pool.submit(_call, item) for item in items]
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                if progress:
                    progress(done, len(items))
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


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
