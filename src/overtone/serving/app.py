"""The application: its routes, what it holds while it runs, and what stands before every route."""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from fastapi import Depends, FastAPI
from fastapi.responses import FileResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles

from overtone.serving import errors
from overtone.serving.engine import Engine
from overtone.serving.jobs import Jobs
from overtone.serving.middleware import Observed
from overtone.serving.models import ModelCache
from overtone.serving.options import Options
from overtone.serving.routes import catalogue, enhance, jobs, live
from overtone.serving.security import Security

# The page to listen on. Everything it needs comes from this server.
ASSETS = Path(__file__).parent / "assets"


def create_app(options: Options) -> FastAPI:
    """A server's application. It loads its model when it is started; until then `/readyz` answers 503.

    `app.state.failure` is what kept the first model from being loaded, if anything; `app.state.stop` is then called, else
    `app.state.ready`.
    """
    app = FastAPI(
        title="Overtone",
        description="Audio in, full-band 48 kHz audio out.",
        version=importlib.metadata.version("overtone"),
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        responses=errors.ERRORS,
        # The middleware asks for the key; this says so in the description.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if options.key else [],
    )
    engine = app.state.engine = Engine(options)
    app.state.jobs = Jobs(engine)
    app.state.failure, app.state.stop, app.state.ready = None, lambda: None, lambda: None
    # The last one added is the first to see a request.
    app.add_middleware(Security, options=options)
    app.add_middleware(Observed, options=options, metrics=engine.metrics)
    errors.install(app)
    for part in (enhance, jobs, catalogue):
        app.include_router(part.router)
    app.router.routes.extend(live.router.routes)
    app.get("/", include_in_schema=False, response_class=FileResponse)(lambda: ASSETS / "index.html")
    app.mount("/page", StaticFiles(directory=ASSETS))
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    engine: Engine = app.state.engine
    if engine.options.processes > 1:
        # The port is shared: a process that has no model yet must take no request.
        await _begin(app)
    following = asyncio.create_task(_follow(app))
    try:
        yield
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await app.state.jobs.close()
        await engine.close()


async def _begin(app: FastAPI) -> None:
    """Load the first model, and go on with jobs that were left."""
    try:
        await app.state.engine.models.refresh()
    except Exception as error:
        app.state.failure = error
        app.state.stop()
        return
    app.state.ready()
    await app.state.jobs.resume()


async def _follow(app: FastAPI) -> None:
    models: ModelCache = app.state.engine.models
    if models.current is None:
        await _begin(app)
    if models.current is not None:
        await models.follow()
