"""The models that a server holds: the one that it follows, and a few that requests have named.

The registry may be slow or away. It is asked in threads of its own, and no request for a model that is loaded waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError
from overtone.registry import resolve
from overtone.serving.errors import Refused, sentence_of
from overtone.serving.options import Options

T = TypeVar("T")
log = logging.getLogger("overtone.serving")
# What a request may name: never a path.
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_WARM_SECONDS = 1.0
# A broken version stays broken; one that could not be fetched may be had later.
_RETRY_SECONDS = 60.0
# For a model that a request names to be fetched and loaded.
_LOAD_SECONDS = 60.0
_LOADS_AT_A_TIME = 2


@dataclass(frozen=True)
class Loaded:
    """A model ready to work. `version`: of the registry, or the name of a released model or folder."""

    upsampler: Upsampler
    version: str

    @property
    def kind(self) -> str:
        """The model's family."""
        return self.upsampler.model.family

    @property
    def trained_hz(self) -> tuple[float, float] | None:
        """The lowest and the highest cutoff that it was trained with; None where it does not say."""
        try:
            cutoffs = self.upsampler.config["train"]["extend"]["ranges"]["cutoffs"]
            return float(min(cutoffs)), float(max(cutoffs))
        except (KeyError, TypeError, ValueError):
            return None


def require_device(name: str) -> None:
    """Refuse a device that torch does not find here; for `cpu`, torch is not imported.

    Args:
        name: `cpu`, `cuda`, `cuda:1` or another device of torch.

    Raises:
        OvertoneError: there is none of this name.
    """
    if name == "cpu":
        return
    import torch

    try:
        wanted = torch.device(name)
        count = torch.get_device_module(wanted.type).device_count()
    except RuntimeError:
        raise OvertoneError(f"device {name}: no device of torch; expected cpu, cuda, cuda:1 or another") from None
    if (wanted.index or 0) >= count:
        there = ", ".join(f"{wanted.type}:{index}" for index in range(count)) or f"no {wanted.type}"
        raise OvertoneError(f"device {name}: not found; torch finds {there} here. `--device cpu` needs none")


def load(folder: Path, version: str, device: str = "cpu") -> Loaded:
    """A model of a folder, tried out once, so that its first request finds it warm.

    Raises:
        OvertoneError: it cannot be loaded, or what it makes of noise is no audio.
    """
    upsampler = Upsampler.load(folder, device)
    if (torch := sys.modules.get("torch")) is not None:
        # Requests are spread over the cores, not the work of one.
        torch.set_num_threads(1)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (2, round(_WARM_SECONDS * upsampler.rate))).astype(np.float32)
    for signal in (noise[:1], noise):
        out = upsampler.enhance(signal, upsampler.rate, cutoff_hz=8_000.0)
        if out.shape != signal.shape or not np.isfinite(out).all():
            raise OvertoneError(f"{version}: does not make audio of noise; expected finite samples of the same number")
    return Loaded(upsampler, version)


class ModelCache:
    """Loaded models. The default one follows its reference; others are kept while they are asked for.

    A request holds the model that it began with: a swap changes only which one the next request gets.

    Args:
        options: `model` is a reference that is followed, or a folder, which stays as it is.
        changed: called with each new default model, and the one before.
    """

    def __init__(self, options: Options, changed: Callable[[Loaded, Loaded | None], None] = lambda *_: None) -> None:
        self.model, self._options, self._changed = options.model, options, changed
        self.current: Loaded | None = None
        self._others: OrderedDict[str, Loaded] = OrderedDict()
        # What a reference meant when the registry last said.
        self._meant: dict[str, str] = {}
        self._known: list[resolve.Known] = []
        # What is being asked or loaded; requests for the same wait for the same task.
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._loading = asyncio.Semaphore(_LOADS_AT_A_TIME)
        # A version that could not be used, and when it may be tried again.
        self._refused = ("", 0.0)

    def require_loaded(self) -> Loaded:
        """The model of requests that name none.

        Raises:
            Refused: it is not loaded yet (503).
        """
        if self.current is None:
            raise Refused(503, "the model is not loaded yet; try again in a moment", 1)
        return self.current

    async def refresh(self) -> None:
        """Load what the followed reference means now, if that is another version than the current.

        Raises:
            OvertoneError: the version cannot be used; the current one stays.
        """
        version = await self._once(f"version {self.model}", lambda: self._version(self.model))
        refused, until = self._refused
        if (self.current and self.current.version == version) or (version == refused and time.monotonic() < until):
            return
        try:
            loaded = await self._load(self.model, version)
        except Exception:
            self._refused = (version, time.monotonic() + _RETRY_SECONDS)
            raise
        before, self.current = self.current, loaded
        self._changed(loaded, before)
        log.info("serving %s %s%s", loaded.kind, version, f" in place of {before.version}" if before else "")

    async def follow(self) -> None:
        """Look for another champion again and again, until cancelled; what goes wrong is logged, and nothing changes."""
        while True:
            await asyncio.sleep(self._options.poll_seconds)
            try:
                await self.refresh()
            except Exception as error:  # a registry may fail in any way, and the server must outlive it
                stays = self.current.version if self.current else "none"
                log.error("model %s: cannot be followed, %s stays: %s", self.model, stays, sentence_of(error))

    async def get(self, reference: str | None) -> Loaded:
        """The model that a request names, loaded if need be; None or `auto` is the default one.

        What an alias means is asked anew each time; a model that is loaded under it is given at once, and the answer
        counts for the next request.

        Raises:
            Refused: there is no such model (404), it cannot be used or is not loaded in time, or the registry does not
                answer (503).
        """
        if reference in (None, "", "auto", self.model):
            return self.require_loaded()
        assert reference is not None
        if not _REFERENCE.fullmatch(reference):
            raise Refused(404, f"model: {reference[:64]!r} is no alias, version number or name of a released model")
        asked = self._once(f"version {reference}", lambda: self._version(reference))
        if (loaded := self._held(self._meant.get(reference, reference))) is not None:
            return loaded
        try:
            version = await _within(self._options.registry_seconds, asked, "the registry does not answer")
            if (loaded := self._held(version)) is not None:
                return loaded
        except OvertoneError as error:
            log.info("model %r, named by a request: %s", reference, sentence_of(error))
            raise Refused(404, f"model: {reference!r} is not known here; /v1/models lists what is") from None
        loading = self._once(f"load {version}", lambda: self._load(reference, version))
        try:
            loaded = await _within(_LOAD_SECONDS, loading, f"model {reference!r} is not loaded yet")
        except Refused:
            raise
        except Exception as error:  # the device's own, too
            # It names files and addresses.
            log.error("model %r, named by a request: %s", reference, sentence_of(error))
            raise Refused(503, f"model: {reference!r} cannot be used; the server's log says why") from None
        self._others[version] = loaded
        while len(self._others) > self._options.kept_models:
            self._others.popitem(last=False)
        return loaded

    async def known(self) -> list[resolve.Known]:
        """What a request may name; what was known before, where the registry does not answer in time."""
        asked = self._once("known", lambda: in_thread(resolve.known))
        with suppress(TimeoutError):
            self._known = await asyncio.wait_for(asyncio.shield(asked), self._options.registry_seconds)
        return self._known

    def _held(self, version: str) -> Loaded | None:
        if self.current and version == self.current.version:
            return self.current
        if version in self._others:
            self._others.move_to_end(version)
        return self._others.get(version)

    async def _version(self, reference: str) -> str:
        version = await in_thread(resolve.version, reference)
        self._meant[reference] = version
        return version

    async def _load(self, reference: str, version: str) -> Loaded:
        async with self._loading:
            return await in_thread(_load_version, reference, version, self._options.device)

    def _once(self, name: str, call: Callable[[], Coroutine[Any, Any, T]]) -> asyncio.Task[T]:
        """A task that is running under this name, or a new one."""
        if name not in self._tasks:
            task = self._tasks[name] = asyncio.get_running_loop().create_task(call())
            task.add_done_callback(lambda done: (self._tasks.pop(name, None), done.cancelled() or done.exception()))
        return self._tasks[name]


async def _within(seconds: float, task: asyncio.Task[T], sentence: str) -> T:
    """What a task gives, which goes on when it takes too long."""
    try:
        return await asyncio.wait_for(asyncio.shield(task), seconds)
    except TimeoutError:
        raise Refused(503, f"{sentence}; try again later", 5) from None


async def in_thread(call: Callable[..., T], *arguments: Any) -> T:
    """What a call gives, made in a thread of its own, which does not keep a process alive that is to end."""
    made: Future[T] = Future()

    def run() -> None:
        if made.set_running_or_notify_cancel():
            try:
                made.set_result(call(*arguments))
            except Exception as error:  # the caller's to judge
                made.set_exception(error)

    threading.Thread(target=run, name="registry", daemon=True).start()
    return await asyncio.wrap_future(made)


def _load_version(reference: str, version: str, device: str) -> Loaded:
    folder, _ = resolve.folder(version if version.isdecimal() else reference)
    return load(folder, version, device)
