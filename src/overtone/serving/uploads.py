"""A request's files, received into temporary files without a name: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from overtone.serving.errors import Refused
from overtone.serving.options import Options

# Up to this size a body stays in memory.
_SPOOL_BYTES = 2_000_000
# What is written to the disk at a time, by a thread.
_WRITE_BYTES = 1_000_000
# A body may take a second more for each so many bytes: 128 kbit/s.
_LEAST_BYTES_A_SECOND = 16_000
FIELDS = FIELD, REFERENCE, PROFILE = ("file", "reference", "profile")
# OpenAPI cannot see what a route reads and writes as bytes.
BYTES = {"type": "string", "format": "binary"}
_FILES = {
    FIELD: BYTES,
    REFERENCE: {**BYTES, "description": "A full-band recording of the same microphone or archive, to extend by."},
    PROFILE: {**BYTES, "description": "What `overtone profile` made of such recordings."},
}
BODY: dict[str, Any] = {
    "description": "An audio file: WAV, FLAC, Ogg Vorbis or Opus, MP3 or another that libsndfile reads.",
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "required": [FIELD], "properties": _FILES}},
        "application/octet-stream": {"schema": BYTES},
    },
}


@dataclass(frozen=True)
class Upload:
    """What a request brings: its audio, and in a form perhaps a full-band reference or a profile of its recording chain."""

    file: BinaryIO
    reference: BinaryIO | None = None
    profile: BinaryIO | None = None


@asynccontextmanager
async def received(request: Request, options: Options, megabytes: float) -> AsyncIterator[Upload]:
    """The audio of a request: its raw body, or the field `file` of a multipart form, which may have other files too.

    Raises:
        Refused: too large (413), too slow (408), or no file in the form (422).
    """
    max_bytes = int(megabytes * 1_000_000)
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    bounded = Request(request.scope, _Bounded(request, options, max_bytes))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bounded.close)
        try:
            if request.headers.get("content-type", "").lower().startswith("multipart/"):
                found = await _form(bounded)
            else:
                spool = tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 -- the stack closes it
                file = cast("BinaryIO", stack.enter_context(spool))
                await _fill(file, bounded)
                found = Upload(file)
        except ClientDisconnect:
            # Nobody is left to answer: the log alone shows the status.
            raise Refused(499, "the client is gone") from None
        yield found


class _Bounded:
    """An ASGI `receive` that counts bytes and does not wait for ever."""

    def __init__(self, request: Request, options: Options, max_bytes: int) -> None:
        self._receive, self._options, self._max_bytes = request.receive, options, max_bytes
        self._bytes, self._begun = 0, time.monotonic()

    async def __call__(self) -> Message:
        allowed = self._options.upload_seconds + self._bytes / _LEAST_BYTES_A_SECOND
        left = allowed - (time.monotonic() - self._begun)
        try:
            # Not wait_for: before Python 3.12 that may lose a cancellation.
            async with asyncio.timeout(min(self._options.read_seconds, max(left, 0.0))):
                message = await self._receive()
        except TimeoutError:
            if left <= self._options.read_seconds:
                raise Refused(408, f"the audio was not sent within {allowed:.3g} s") from None
            raise Refused(408, f"no audio was sent for {self._options.read_seconds:g} s") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._max_bytes:
            raise _too_large(self._max_bytes)
        return message


def _too_large(max_bytes: int) -> Refused:
    return Refused(413, f"the request is too large; expected at most {max_bytes / 1e6:g} MB")


async def _fill(file: BinaryIO, request: Request) -> None:
    held = bytearray()
    async for chunk in request.stream():
        held += chunk
        if len(held) >= _WRITE_BYTES:
            await run_in_threadpool(file.write, bytes(held))
            held.clear()
    await run_in_threadpool(file.write, bytes(held))
    if not file.tell():
        raise Refused(422, "the request is empty; expected the bytes of an audio file as its body")


async def _form(request: Request) -> Upload:
    try:
        form = await request.form(max_files=3, max_fields=8)
    except MultiPartException as error:
        raise Refused(422, f"the form cannot be read: {error.message}") from None
    if FIELD not in form:
        raise Refused(422, f"the form has no file in its field {FIELD!r}")
    files = {}
    for name in FIELDS:
        file = form.get(name)
        if file is None:
            continue
        if not isinstance(file, UploadFile):
            raise Refused(422, f"the form has no file in its field {name!r}")
        if not file.size:
            raise Refused(422, f"the form's field {name!r} is empty; expected a file")
        files[name] = file.file
    return Upload(**files)
