"""Laws of work on many items: in order, told as it goes on, and in other processes only where that pays."""

from __future__ import annotations

import os
import time

import pytest
import torch

from overtone.data import parallel

COUNT = 12


def where(seconds: float, item: int) -> tuple[int, int]:
    time.sleep(seconds)
    return item, os.getpid()


def threads(_: None, __: int) -> int:
    return torch.get_num_threads()


def places(seconds: float, workers: int | None) -> list[int]:
    """The processes in which the items were worked on, in the order of the items."""
    calls: list[tuple[int, int]] = []
    found = parallel.run(where, seconds, range(COUNT), workers, lambda *share: calls.append(share))
    assert [item for item, _ in found] == list(range(COUNT))
    assert calls == [(done, COUNT) for done in range(1, COUNT + 1)]
    return [place for _, place in found]


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def test_little_work_starts_no_process() -> None:
    assert set(places(0.001, None)) == {os.getpid()}


def test_much_work_goes_to_others_when_the_first_items_have_shown_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "SMALL_SECONDS", 0.5)
    first, second, *others = places(0.1, None)
    assert (first, second) == (os.getpid(), os.getpid())
    assert os.getpid() not in others
    assert len(set(others)) <= 2


def test_what_the_first_item_loads_is_not_taken_for_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "SMALL_SECONDS", 0.5)
    assert not parallel._long([0.4], COUNT)
    assert parallel._long([0.6], COUNT)
    assert not parallel._long([0.4, 0.01], COUNT)
    assert parallel._long([0.4, 0.05], COUNT)


@pytest.mark.long
def test_a_number_of_processes_that_is_asked_for_is_kept_to() -> None:
    assert os.getpid() not in places(0.001, 2)
    assert set(places(0.001, 1)) == {os.getpid()}


@pytest.mark.parametrize("workers", [None, 1, pytest.param(2, marks=pytest.mark.long)])
def test_every_item_has_one_compute_thread_and_the_caller_its_own_again(workers: int | None) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert parallel.run(threads, None, range(3), workers) == [1, 1, 1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("workers", [None, pytest.param(2, marks=pytest.mark.long)])
def test_error_of_an_item_is_the_callers(workers: int | None) -> None:
    with pytest.raises(ZeroDivisionError):
        parallel.run(divmod, 7, [1, 0, 2], workers)
