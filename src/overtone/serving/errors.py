"""What a request is refused with: a status and one sentence."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from overtone.errors import OvertoneError


class Detail(BaseModel):
    """The body of every error."""

    detail: str


# How OpenAPI shows that every request may be answered with an error.
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Detail}, "5XX": {"model": Detail}}


class Refused(HTTPException):
    """A request that is not met.

    Args:
        sentence: what is wrong and what was expected.
        retry_after: seconds after which the same request may be met.
    """

    def __init__(self, status: int, sentence: str, retry_after: int | None = None) -> None:
        super().__init__(status, sentence, None if retry_after is None else {"Retry-After": str(retry_after)})


def sentence_of(error: BaseException) -> str:
    """An error's message in one line."""
    text = error.detail if isinstance(error, HTTPException) else str(error)
    return " ".join(text.split()) or type(error).__name__


def install(app: FastAPI) -> None:
    """Answer every error of an application with JSON `{"detail": sentence}`, and none with a stack trace."""

    @app.exception_handler(RequestValidationError)
    async def _parameters(_: Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(str(part) for part in one['loc'][1:])}: {one['msg']}" for one in error.errors()]
        return JSONResponse({"detail": "; ".join(found)}, 422)

    @app.exception_handler(OvertoneError)
    async def _unusable(_: Request, error: OvertoneError) -> JSONResponse:
        return JSONResponse({"detail": sentence_of(error)}, 422)

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, __: Exception) -> JSONResponse:
        # The server's log has the rest.
        return JSONResponse({"detail": "the server failed; its log says how"}, 500)
