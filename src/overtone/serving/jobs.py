"""Jobs: files that are enhanced in the background, kept, and given in any format without computing again."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.enhance.inspection import inspect
from overtone.errors import OvertoneError
from overtone.serving import conditions
from overtone.serving.engine import Engine
from overtone.serving.enhancement import BLOCK, Enhancement, of_length
from overtone.serving.errors import Refused, sentence_of
from overtone.serving.jobfiles import ENHANCED, RECEIVED, JobFiles, JobOrder, Record
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

    def __init__(self, engine: Engine) -> None:
        self.files, self._engine = JobFiles(engine.folder / "jobs", engine.options), engine
        # Requests that wait for their answer are not to be kept out by jobs.
        self._running = asyncio.Semaphore(max(1, engine.options.concurrency // 2))
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, client: str, given: Upload | None, order: JobOrder) -> Record:
        """Take a job; see `JobFiles.create`."""
        job = await asyncio.to_thread(self.files.create, client, given, order)
        self._start(job.id)
        return job

    async def resume(self) -> None:
        """Go on with jobs that a process which has ended left behind."""
        for id in await asyncio.to_thread(self.files.unfinished):
            self._start(id)

    async def close(self) -> None:
        """Stop after the pieces that are being computed; what is not done is for the next start of the server."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def result(self, job: Record, format: str, client: str) -> Path:
        """The enhanced file in a format, at the depth that the source has; made if need be.

        Raises:
            Refused: the job is not done (409).
            AudioError: the format cannot hold it.
        """
        if job.state != "done":
            raise Refused(
                409, job.detail or f"the job is {job.state}, {job.progress:.0%} done; expected a job that is done"
            )
        return await self._encoded(job, format, client)

    async def original(self, job: Record, format: str, client: str) -> Path:
        """What was enhanced, at 48 kHz, in a format.

        Raises:
            Refused: it is not known yet (409).
            AudioError: not usable audio, or the format cannot hold it.
        """
        if not job.source:
            raise Refused(409, job.detail or "the job has not begun; expected one that has")
        info, source = audio.Info(**job.source), self.files.original(job)
        frames = audio.resampled_length(info.frames, info.rate, conditions.RATE)

        def blocks() -> Iterator[Signal]:
            with source.open("rb") as file:
                yield from of_length(conditions.decoded(file, info), frames, conditions.RATE // 10)

        target = self.files.path(job, f"original.{format}")
        return await self._made(target, blocks(), info, conditions.RATE, frames, client)

    # --- computing ------------------------------------------------------------------------------------------------------

    def _start(self, id: str) -> None:
        task = asyncio.get_running_loop().create_task(self._run(id))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, id: str) -> None:
        with ExitStack() as stack:
            try:
                job = stack.enter_context(self.files.held(id))
            except OSError:
                return
            if not job.ended:
                await self._attempt(job)

    async def _attempt(self, job: Record) -> None:
        try:
            if job.attempts >= _ATTEMPTS:
                raise OvertoneError("the server ended twice while it computed this file; it is not tried again")
            async with self._running:
                await self._compute(job)
        except (Refused, OvertoneError) as error:
            await self._fail(job, sentence_of(error))
        except Exception as error:
            if self.files.is_deleted(job):
                return
            log.exception("job %s failed", job.id)
            disk = f"the server's disk cannot be used: {error.strerror}" if isinstance(error, OSError) else ""
            await self._fail(job, disk or "the server failed; its log says how")

    async def _fail(self, job: Record, sentence: str) -> None:
        self._engine.metrics.jobs.labels("failed").inc()
        await self._save(job, state="failed", detail=sentence)

    async def _compute(self, job: Record) -> None:
        # Jobs and requests of one address wait for slots apart from each other.
        engine, client = self._engine, f"{job.client} jobs"
        await self._save(job, state="running", attempts=job.attempts + 1)
        loaded = await engine.models.get(job.order.model)
        with ExitStack() as stack:
            given = {name: stack.enter_context(path.open("rb")) for name, path in self.files.inputs(job).items()}
            if (condition := job.order.condition) != conditions.NONE:
                received, seconds = self.files.path(job, RECEIVED), engine.options.job_seconds
                await engine.compute(lambda: conditions.write(given["file"], condition, received, seconds), client)
                given["file"] = stack.enter_context(received.open("rb"))
            work = Enhancement(loaded, Upload(**given), job.order, engine.options.job_seconds)
            async for _ in engine.steps(work.open(), client):
                if await asyncio.to_thread(self.files.is_deleted, job):
                    return
            await self._save(job, source=asdict(work.info), format=work.format, seconds=work.info.seconds)
            await engine.compute(work.examine, client)
            await self._inspect(job, work)
            async for frames in self._enhanced(job, work, client):
                if await asyncio.to_thread(self.files.is_deleted, job):
                    return
                await self._save(job, progress=round(_ENHANCING * frames / max(work.frames, 1), 3))
            await self._encoded(job, work.format, client)
            await self._save(job, state="done", progress=1.0)
            engine.metrics.jobs.labels("done").inc()
            await engine.count(ROUTE, work)

    async def _inspect(self, job: Record, work: Enhancement) -> None:
        """Say what the file is and what is done to it."""
        path = self.files.original(job)
        try:
            found = (await self._engine.in_background(lambda: inspect(path))).as_dict()
        except AudioError as error:
            # The client knows no file of the server's.
            raise AudioError(str(error).replace(str(path), "audio")) from None
        report = {name: value for name, value in found.items() if name not in ("file", "enhance")}
        report |= {"notes": list(work.info.notes), "done": work.account}
        facts = {"mode": work.treatment.mode, "cutoff_hz": work.treatment.cutoff_hz, "done": work.account}
        await self._save(job, report=report, model=work.loaded.kind, version=work.loaded.version, **facts)

    async def _enhanced(self, job: Record, work: Enhancement, client: str) -> AsyncIterator[int]:
        """Write the enhanced samples; gives the samples a channel so far, now and then."""
        channels, target = work.info.channels, self.files.path(job, ENHANCED)
        await asyncio.to_thread(self.files.require_space, 4 * work.frames * channels)
        given = time.monotonic()
        writing = written(work.blocks(), target, work.rate, channels, "RF64", "FLOAT", 0)
        async for frames in self._engine.steps(writing, client):
            if time.monotonic() - given >= _SAVE_SECONDS:
                yield frames
                given = time.monotonic()

    async def _encoded(self, job: Record, format: str, client: str) -> Path:
        enhanced, target = self.files.path(job, ENHANCED), self.files.path(job, f"result.{format}")
        found = await asyncio.to_thread(audio.probe, enhanced)
        blocks = audio.blocks(enhanced, BLOCK)
        return await self._made(target, blocks, audio.Info(**job.source), found.rate, found.frames, client)

    async def _made(
        self, target: Path, blocks: Iterator[Signal], source: audio.Info, rate: int, frames: int, client: str
    ) -> Path:
        """A file of these samples, made once."""
        if not target.exists():
            container, subtype = audio.container_for(target, source, frames)
            writing = written(blocks, target, rate, source.channels, container, subtype, source.mask)
            async for _ in self._engine.steps(writing, client):
                pass
        return target

    async def _save(self, job: Record, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(job, name, value)
        await asyncio.to_thread(self.files.save, job)


def written(
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
