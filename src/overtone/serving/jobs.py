"""Jobs: files that are enhanced in the background, kept, and given in any format without computing again."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.enhance.inspection import inspect
from overtone.errors import OvertoneError
from overtone.serving import conditions
from overtone.serving.engine import Engine
from overtone.serving.enhancement import BLOCK, Enhancement, Order, of_length
from overtone.serving.errors import Refused, sentence_of
from overtone.serving.jobfiles import ENHANCED, RECEIVED, JobFiles, Record
from overtone.serving.limits import Slot
from overtone.serving.uploads import Upload

log = logging.getLogger("overtone.serving")
ROUTE = "/v1/jobs"
# Of the progress; encoding the result is the rest.
_ENHANCING = 0.9
_SAVE_SECONDS = 0.5
# A file that ends the process that computes it is not tried for ever.
_ATTEMPTS = 2


class Jobs:
    """The jobs of one process of a server."""

    def __init__(self, engine: Engine, files: JobFiles) -> None:
        self.files, self._engine = files, engine
        # Requests that wait for their answer are not to be kept out by jobs.
        self._running = asyncio.Semaphore(max(1, engine.options.concurrency // 2))
        self._tasks: set[asyncio.Task[None]] = set()
        self._own: set[str] = set()
        self._encoding: dict[Path, asyncio.Lock] = {}

    async def submit(self, client: str, given: Upload | None, other: str | None, order: dict[str, Any]) -> Record:
        """Take a job; see `JobFiles.create`."""
        job = await asyncio.to_thread(self.files.create, client, given, other, order)
        self._start(job)
        return job

    async def resume(self) -> None:
        """Go on with jobs that a process which has ended left behind."""
        for job in await asyncio.to_thread(lambda: list(self.files.abandoned(self._own))):
            self._start(job)

    async def close(self) -> None:
        """Stop after the pieces that are being computed; what is not done is for the next start of the server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def result(self, job: Record, format: str, client: str) -> Path:
        """The enhanced file in a format, made if need be.

        Raises:
            Refused: the job is not done (409).
            AudioError: the format cannot hold it.
        """
        if job.state != "done":
            raise Refused(
                409, job.detail or f"the job is {job.state}, {job.progress:.0%} done; expected a job that is done"
            )
        async with self._engine.limits.slot(client) as slot:
            return await self._encoded(job, format, slot)

    async def original(self, job: Record, format: str, client: str) -> Path:
        """What was enhanced, at 48 kHz, in a format.

        Raises:
            Refused: it is not known yet (409).
            AudioError: not usable audio, or the format cannot hold it.
        """
        if not job.source:
            raise Refused(409, job.detail or "the job has not begun; expected one that has")
        source = self.files.original(job)
        info = audio.Info(**job.source)
        frames = audio.resampled_length(info.frames, info.rate, conditions.RATE)

        def blocks() -> Iterator[Signal]:
            with source.open("rb") as file:
                yield from of_length(conditions.decoded(file, info), frames, conditions.RATE // 10)

        target = self.files.path(job, f"original.{format}")
        async with self._engine.limits.slot(client) as slot:
            return await self._made(target, blocks, info, conditions.RATE, frames, slot)

    # --- computing ------------------------------------------------------------------------------------------------------

    def _start(self, job: Record) -> None:
        self._own.add(job.id)
        task = asyncio.get_running_loop().create_task(self._run(job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._own.discard(job.id))

    async def _run(self, job: Record) -> None:
        try:
            if job.attempts >= _ATTEMPTS:
                raise OvertoneError("the server ended twice while it computed this file; it is not tried again")
            # Jobs and requests of one address wait for slots apart from each other.
            async with self._running, self._engine.limits.slot(f"{job.client} jobs") as slot:
                await self._compute(job, slot)
        except (Refused, OvertoneError) as error:
            await self._fail(job, error.detail if isinstance(error, Refused) else sentence_of(error))
        except OSError as error:
            if not self.files.is_deleted(job):
                log.error("job %s: %s", job.id, sentence_of(error))
                await self._fail(job, f"the server's disk cannot be used: {error.strerror}")
        except Exception:
            if not self.files.is_deleted(job):
                log.exception("job %s failed", job.id)
                await self._fail(job, "the server failed; its log says how")

    async def _fail(self, job: Record, sentence: str) -> None:
        self._engine.metrics.jobs.labels("failed").inc()
        await self._save(job, state="failed", detail=sentence)

    async def _compute(self, job: Record, slot: Slot) -> None:
        engine = self._engine
        await self._save(job, state="running", attempts=job.attempts + 1)
        loaded = await engine.models.get(job.order["model"])
        with ExitStack() as stack:
            given = {name: stack.enter_context(path.open("rb")) for name, path in self.files.inputs(job).items()}
            if (condition := job.order["condition"]) != conditions.NONE:
                received = self.files.path(job, RECEIVED)
                seconds = engine.options.job_seconds
                await engine.workers.compute(lambda: conditions.write(given["file"], condition, received, seconds))
                given["file"] = stack.enter_context(received.open("rb"))
            order = Order(**{name: job.order[name] for name in Order.__dataclass_fields__})
            work = Enhancement(loaded, Upload(**given), order, engine.options.job_seconds)
            async for _ in engine.steps(work.open(), slot):
                if await asyncio.to_thread(self.files.is_deleted, job):
                    return
            await self._save(job, source=asdict(work.info), format=work.format, seconds=work.info.seconds)
            await engine.workers.compute(work.examine)
            await self._inspect(job, work)
            if not await self._enhance(job, work, slot):
                return
            shadow = await engine.excerpt_for_shadow(given["file"], work)
        await self._encoded(job, work.format, slot)
        await self._save(job, state="done", progress=1.0)
        engine.metrics.jobs.labels("done").inc()
        await engine.count(ROUTE, work, shadow)

    async def _inspect(self, job: Record, work: Enhancement) -> None:
        """Say what the file is and what is done to it."""
        path = self.files.original(job)
        try:
            found = (await self._engine.workers.in_background(lambda: inspect(path))).as_dict()
        except AudioError as error:
            # The client knows no file of the server's.
            raise AudioError(str(error).replace(str(path), "audio")) from None
        notes = list(work.info.notes)
        report = {name: value for name, value in found.items() if name not in ("file", "enhance")}
        facts: dict[str, Any] = {"mode": work.mode, "cutoff_hz": work.treatment.cutoff_hz, "done": work.account}
        facts |= {"model": work.loaded.kind, "version": work.loaded.version}
        await self._save(job, report={**report, "notes": notes, "done": work.account}, **facts)

    async def _enhance(self, job: Record, work: Enhancement, slot: Slot) -> bool:
        """Write the enhanced samples; False if the job was deleted meanwhile."""
        channels, target = work.info.channels, self.files.path(job, ENHANCED)
        await asyncio.to_thread(self.files.require_space, 4 * work.frames * channels)
        saved = time.monotonic()
        written = _written(work.blocks(), target, work.rate, channels, "RF64", "FLOAT", 0)
        async with aclosing(self._engine.steps(written, slot)) as steps:
            async for frames in steps:
                if time.monotonic() - saved < _SAVE_SECONDS:
                    continue
                if await asyncio.to_thread(self.files.is_deleted, job):
                    return False
                await self._save(job, progress=round(_ENHANCING * frames / max(work.frames, 1), 3))
                saved = time.monotonic()
        return True

    async def _encoded(self, job: Record, format: str, slot: Slot) -> Path:
        """The enhanced samples as a file of a format, at the depth that the source has."""
        enhanced, source = self.files.path(job, ENHANCED), audio.Info(**job.source)
        found = await asyncio.to_thread(audio.probe, enhanced)
        target = self.files.path(job, f"result.{format}")
        return await self._made(target, lambda: audio.blocks(enhanced, BLOCK), source, found.rate, found.frames, slot)

    async def _made(
        self,
        target: Path,
        blocks: Callable[[], Iterator[Signal]],
        source: audio.Info,
        rate: int,
        frames: int,
        slot: Slot,
    ) -> Path:
        """A file of these samples; whoever asks for it while it is made waits for it."""
        async with self._once(target):
            if not target.exists():
                container, subtype = audio.container_for(target, source, frames)
                written = _written(blocks(), target, rate, source.channels, container, subtype, source.mask)
                async for _ in self._engine.steps(written, slot):
                    pass
        return target

    @asynccontextmanager
    async def _once(self, target: Path) -> AsyncIterator[None]:
        lock = self._encoding.setdefault(target, asyncio.Lock())
        async with lock:
            yield
        self._encoding.pop(target, None)

    async def _save(self, job: Record, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(job, name, value)
        await asyncio.to_thread(self.files.save, job)


def _written(
    blocks: Iterator[Signal], target: Path, rate: int, channels: int, container: str, subtype: str, mask: int
) -> Iterator[int]:
    """Write samples to a file that appears when it is whole; gives the samples a channel so far, block by block."""
    frames, temporary = 0, target.with_name(f".{secrets.token_hex(4)}.{target.name}")
    try:
        with audio.Writer(temporary, rate, channels, container, subtype, mask=mask) as file:
            for block in blocks:
                file.write(block)
                frames += block.shape[1]
                yield frames
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
