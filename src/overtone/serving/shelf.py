"""The models a server holds: the one that it follows, and a few that requests have named."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError
from overtone.registry import resolve

T = TypeVar("T")
log = logging.getLogger("overtone.serving")
# What a request may name: never a path.
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_WARM_SECONDS = 1.0
# A broken version stays broken; one that could not be fetched may be had later.
_RETRY_SECONDS = 60.0


class UnknownModelError(OvertoneError):
    """A request names a model that there is not."""


class BrokenModelError(OvertoneError):
    """A model that loads but does not compute."""


class UnusableModelError(OvertoneError):
    """A model that a request names, and that cannot be used; its cause is for the log, it names files and addresses."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to work. `version`: of the registry, or the name of a released model or folder."""

    upsampler: Upsampler
    version: str

    @property
    def kind(self) -> str:
        """The model's family."""
        return self.upsampler.model.family


def load(folder: Path, version: str) -> Loaded:
    """A model of a folder, tried out once, so that its first request finds it warm.

    Raises:
        OvertoneError: it cannot be loaded, or what it makes of noise is no audio.
    """
    upsampler = Upsampler.load(folder)
    noise = np.random.default_rng(0).normal(0.0, 0.1, (2, round(_WARM_SECONDS * upsampler.rate))).astype(np.float32)
    for signal in (noise[:1], noise):
        out = upsampler.enhance(signal, upsampler.rate, cutoff_hz=8_000.0)
        if out.shape != signal.shape or not np.isfinite(out).all():
            raise BrokenModelError(
                f"{version}: does not make audio of noise; expected finite samples of the same number"
            )
    return Loaded(upsampler, version)


class Shelf:
    """Loaded models. The default one follows its reference; others are kept while they are asked for.

    A request holds the model that it began with: a swap changes only which one the next request gets.

    Args:
        model: reference that is followed, or a folder, which stays as it is.
        size: models kept besides the default one.
        changed: called with each new default model.
    """

    def __init__(self, model: str, size: int, changed: Callable[[Loaded], None] = lambda _: None) -> None:
        self.model = model
        self.current: Loaded | None = None
        self._size = size
        self._changed = changed
        self._others: OrderedDict[str, Loaded] = OrderedDict()
        self._lock = asyncio.Lock()
        # One thread: loading is heavy, and requests for a model that is being loaded wait for it.
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="loader")
        # A version that could not be used, and when it may be tried again.
        self._refused = ("", 0.0)

    @property
    def default(self) -> Loaded:
        """The model of requests that name none."""
        if self.current is None:
            raise UnknownModelError("the model is not loaded yet; try again in a moment")
        return self.current

    async def refresh(self) -> None:
        """Load what the followed reference means now, if that is another version than the current.

        Raises:
            OvertoneError: the version cannot be used; the current one stays.
        """
        version = await self._run(resolve.version, self.model)
        refused, until = self._refused
        if (self.current and self.current.version == version) or (version == refused and time.monotonic() < until):
            return
        try:
            loaded = await self._run(_load_version, self.model, version)
        except Exception:
            self._refused = (version, time.monotonic() + _RETRY_SECONDS)
            raise
        before, self.current = self.current, loaded
        self._changed(loaded)
        log.info("serving %s %s%s", loaded.kind, version, f" in place of {before.version}" if before else "")

    async def follow(self, seconds: float) -> None:
        """Look for another champion again and again, until cancelled; what goes wrong is logged, and nothing changes."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.refresh()
            except Exception as error:  # a registry may fail in any way, and the server must outlive it
                stays = self.current.version if self.current else "none"
                log.error("model %s: cannot be followed, %s stays: %s", self.model, stays, " ".join(str(error).split()))

    async def get(self, reference: str | None) -> Loaded:
        """The model that a request names, loaded if need be; None or `auto` is the default one.

        Raises:
            UnknownModelError: there is no such model.
            UnusableModelError: it cannot be used.
        """
        if reference in (None, "", "auto", self.model):
            return self.default
        assert reference is not None
        if not _REFERENCE.fullmatch(reference):
            raise UnknownModelError(
                f"model: {reference[:64]!r} is no alias, version number or name of a released model"
            )
        async with self._lock:
            try:
                version = await self._run(resolve.version, reference)
            except OvertoneError as error:
                log.info("model %r, named by a request: %s", reference, error)
                raise UnknownModelError(f"model: {reference!r} is not known here; /v1/models lists what is") from None
            if self.current and version == self.current.version:
                return self.current
            if version not in self._others:
                try:
                    self._others[version] = await self._run(_load_version, reference, version)
                except OvertoneError as error:
                    raise UnusableModelError(
                        f"model: {reference!r} cannot be used; the server's log says why"
                    ) from error
            self._others.move_to_end(version)
            while len(self._others) > self._size:
                self._others.popitem(last=False)
            return self._others[version]

    def close(self) -> None:
        """Load no more."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[..., T], *arguments: str) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._loader, call, *arguments)


def _load_version(reference: str, version: str) -> Loaded:
    folder, _ = resolve.folder(version if version.isdecimal() else reference)
    return load(folder, version)
