"""A request's audio, received into a file that no longer has a name: bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from overtone.serving.options import Options
from overtone.serving.refusal import Refused

# Up to this size a body stays in memory.
_SPOOL_BYTES = 2_000_000
FIELD, REFERENCE, PROFILE = "file", "reference", "profile"


@dataclass(frozen=True)
class Upload:
    """What a request brings: its audio, and in a form perhaps a full-band reference or a profile of its recording chain."""

    file: BinaryIO
    reference: BinaryIO | None = None
    profile: BinaryIO | None = None


@asynccontextmanager
async def received(request: Request, options: Options) -> AsyncIterator[Upload]:
    """The audio of a request: its raw body, or the field `file` of a multipart form, which may have other files too.

    Raises:
        Refused: too large (413), too slow (408), or no file in the form (422).
    """
    _check_declared(request, options)
    bounded = Request(request.scope, _Bounded(request, options))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(bounded.close)
        try:
            async with asyncio.timeout(options.upload_seconds):
                if request.headers.get("content-type", "").lower().startswith("multipart/"):
                    found = await _form(bounded)
                else:
                    file = stack.enter_context(_spool())
                    await _fill(file, bounded)
                    found = Upload(file)
        except TimeoutError:
            raise Refused(408, f"the audio was not sent within {options.upload_seconds:g} s") from None
        except ClientDisconnect:
            # Nobody is told: the log alone shows the status.
            raise Refused(499, "the client is gone") from None
        yield found


def _spool() -> BinaryIO:
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))


class _Bounded:
    """An ASGI `receive` that counts bytes and does not wait for ever."""

    def __init__(self, request: Request, options: Options) -> None:
        self._receive = request.receive
        self._options = options
        self._bytes = 0

    async def __call__(self) -> Message:
        try:
            # Not wait_for: before Python 3.12 that may lose the cancellation by which the whole upload's time ends.
            async with asyncio.timeout(self._options.read_seconds):
                message = await self._receive()
        except TimeoutError:
            raise Refused(408, f"no audio was sent for {self._options.read_seconds:g} s") from None
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._options.max_bytes:
            raise _too_large(self._options)
        return message


def _too_large(options: Options) -> Refused:
    return Refused(413, f"the request is too large; expected at most {options.max_megabytes:g} MB")


def _check_declared(request: Request, options: Options) -> None:
    """Refuse by the header what would be refused later."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > options.max_bytes:
        raise _too_large(options)


async def _fill(file: BinaryIO, request: Request) -> None:
    async for chunk in request.stream():
        file.write(chunk)
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
    for name in (FIELD, REFERENCE, PROFILE):
        file = form.get(name)
        if file is None:
            continue
        if not isinstance(file, UploadFile):
            raise Refused(422, f"the form has no file in its field {name!r}")
        if not file.size:
            raise Refused(422, f"the form's field {name!r} is empty; expected a file")
        files[name] = file.file
    return Upload(**files)
