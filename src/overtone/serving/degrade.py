"""`POST /v1/degrade`: a recording made worse as an evaluation condition does it, to hear what a model makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Annotated, BinaryIO

import numpy as np
import soxr
from fastapi import APIRouter, Depends, Query, Request, Response

from overtone import audio
from overtone.audio import AudioError, Signal, sending
from overtone.errors import needs_extra
from overtone.serving import conditions, samples, service, upload
from overtone.serving.enhance import BODY, Format, Pieces
from overtone.serving.refusal import Refused, documented
from overtone.serving.service import Service
from overtone.serving.work import SHORT_SECONDS, of_length, opened
from overtone.settings import Condition

router = APIRouter(prefix="/v1", tags=["conditions"])

RATE = 48_000
# Damages work on the whole signal, which takes its memory several times over.
MAX_DAMAGED_SECONDS = 300.0
_SEED = 20260


@router.post(
    "/degrade",
    response_class=Response,
    responses=documented(401, 404, 408, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": BODY},
)
async def degrade(
    request: Request,
    served: Annotated[Service, Depends(service.of)],
    condition: Annotated[
        str, Query(description="A name of /v1/conditions; none only decodes and resamples.")
    ] = conditions.NONE,
    format: Annotated[Format, Query(description="Of the answer.")] = "wav",
) -> Response:
    """Make a recording worse as an evaluation condition does, at 48 kHz; the same request gives the same bytes."""
    found = conditions.known().get(condition)
    if found is None and condition != conditions.NONE:
        raise Refused(404, f"there is no condition {condition[:64]!r}; expected a name of /v1/conditions")
    async with AsyncExitStack() as stack:
        stack.enter_context(served.room.entered(service.client_of(request)))
        given = await stack.enter_async_context(upload.received(request, served.options))
        await stack.enter_async_context(served.room.worked_on())
        worse = await served.compute(lambda: Worse(given.file, condition, found, format, served.options.max_seconds))
        first = await served.compute(worse.next)
        headers = {"X-Overtone-Cutoff-Hz": f"{worse.cutoff_hz:.0f}"} if worse.cutoff_hz else {}
        return Pieces(request, served, worse, first, headers, stack.pop_all())


class Worse:
    """A file at 48 kHz, damaged or just decoded; it computes, in a worker's thread.

    Attributes:
        format: of the answer.
        cutoff_hz: above which the condition left nothing; None without one.

    Raises:
        Refused: not audio (415), or too long (413).
        AudioError: audio that cannot be used, or a format that cannot hold it.
    """

    def __init__(self, file: BinaryIO, name: str, condition: Condition | None, format: str, max_seconds: float) -> None:
        info = opened(file, max_seconds if condition is None else min(max_seconds, MAX_DAMAGED_SECONDS))
        if not info.frames:
            raise AudioError("the audio holds no samples; expected at least one")
        self.format = format
        self.cutoff_hz: float | None = None
        frames = audio.resampled_length(info.frames, info.rate, RATE)
        encoder = sending.Encoder(format, RATE, info.channels, frames, "PCM_16")
        blocks = _decoded(file, info)
        if condition is not None:
            whole = of_length(blocks, frames, round(SHORT_SECONDS * RATE))
            signal = np.concatenate(list(whole), axis=1)
            signal, cutoff = _damaged(signal, name, condition)
            self.cutoff_hz = min(cutoff, info.rate / 2)
            blocks = iter((signal,))
        self._pieces = sending.encoded(encoder, of_length(blocks, frames, round(SHORT_SECONDS * RATE)))

    def next(self) -> bytes | None:
        """The next bytes of the answer, None after the last.

        Raises:
            AudioError: the file turns out not to be usable audio, or ends before its header says.
        """
        return next(self._pieces, None)


def _damaged(signal: Signal, name: str, condition: Condition) -> tuple[Signal, float]:
    """A signal after a condition's steps, and the cutoff in Hz that they leave.

    Raises:
        MissingExtraError: the installation has none of the line's libraries.
    """
    with needs_extra("a condition"):
        from overtone.data import degrade as degradations
    rng = degradations.generator(_SEED, name)
    noises = (samples.recorded_noise(RATE),)
    received, rate, cutoff = degradations.received(condition.steps, signal, RATE, rng, noises)
    return audio.fit_length(audio.resample(received, rate, RATE), signal.shape[1]), cutoff


def _decoded(file: BinaryIO, info: audio.Info) -> Iterator[Signal]:
    """The samples of a file at 48 kHz, aligned to those of an enhanced one.

    Raises:
        AudioError: a sample is no number.
    """
    resampler = soxr.ResampleStream(info.rate, RATE, info.channels, quality="VHQ")
    for block in audio.blocks(file):
        if not np.isfinite(block).all():
            raise AudioError("the audio holds samples that are no numbers; expected finite ones")
        yield block if info.rate == RATE else resampler.resample_chunk(np.ascontiguousarray(block.T)).T
    if info.rate != RATE:
        yield resampler.resample_chunk(np.zeros((0, info.channels), np.float32), last=True).T
