"""`/docs`: the OpenAPI page, from files of our own, so that it opens without a network."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from starlette.staticfiles import StaticFiles

_FILES = Path(__file__).parent / "swagger"


def install(app: FastAPI) -> None:
    """Mount the page."""
    app.add_api_route("/docs", lambda: RedirectResponse("docs/"), include_in_schema=False)
    app.mount("/docs", StaticFiles(directory=_FILES, html=True), name="docs")
