"""What a request is refused with: a status and one sentence."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from overtone.errors import OvertoneError
from overtone.serving.shelf import UnknownModelError, UnusableModelError

log = logging.getLogger("overtone.serving")


class Detail(BaseModel):
    """The body of every error."""

    detail: str


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """How OpenAPI shows that a route may answer with these errors."""
    return {status: {"model": Detail} for status in statuses}


class Refused(HTTPException):
    """A request that is not met.

    Args:
        sentence: what is wrong and what was expected.
        retry_after: seconds after which the same request may be met.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(status, sentence, None if retry_after is None else {"Retry-After": str(retry_after)})


def install(app: FastAPI) -> None:
    """Answer every error of an application with JSON `{"detail": sentence}`, and none with a stack trace."""

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        told = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"detail": "; ".join(told)}, 422)

    @app.exception_handler(UnknownModelError)
    async def _model(_: Request, error: UnknownModelError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 404)

    @app.exception_handler(UnusableModelError)
    async def _broken(_: Request, error: UnusableModelError) -> JSONResponse:
        log.error("%s: %s", error, " ".join(str(error.__cause__).split()))
        return JSONResponse({"detail": str(error)}, 503)

    @app.exception_handler(OvertoneError)
    async def _unusable(_: Request, error: OvertoneError) -> JSONResponse:
        return JSONResponse({"detail": " ".join(str(error).split())}, 422)

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, __: Exception) -> JSONResponse:
        # The server's log has the rest.
        return JSONResponse({"detail": "the server failed; its log says how"}, 500)
