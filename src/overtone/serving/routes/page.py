"""`GET /`: the page to listen on. Everything it needs comes from this server."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles
from starlette.types import Scope

ASSETS = Path(__file__).parents[1] / "assets"
# Besides what every answer has (see `security`).
_HEADERS = {
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    # A browser asks each time whether its copy is the server's: after an upgrade no old script meets a new page.
    "Cache-Control": "no-cache",
}


class _Assets(StaticFiles):
    """Static files with the page's headers."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def install(app: FastAPI) -> None:
    """Serve the page at `/` and its files below `/page/`."""

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(ASSETS / "index.html", headers=_HEADERS)

    app.mount("/page", _Assets(directory=ASSETS), name="page")
