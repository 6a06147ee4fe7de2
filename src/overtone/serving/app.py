"""The application: its routes, what it holds while it runs, and what stands before every route."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from fastapi import Depends, FastAPI
from fastapi.security import HTTPBearer

from overtone.serving import (
    catalogue,
    conditions,
    degrade,
    enhance,
    health,
    live,
    manual,
    meters,
    page,
    refusal,
    samples,
)
from overtone.serving.door import Door
from overtone.serving.meters import Meters
from overtone.serving.options import Options
from overtone.serving.room import Room
from overtone.serving.service import Service
from overtone.serving.shelf import Shelf

log = logging.getLogger("overtone.serving")


def create_app(options: Options) -> FastAPI:
    """A server's application. It loads its model when it is started; until then `/readyz` answers 503.

    `app.state.failure` is what kept the first model from being loaded, if anything; `app.state.stop` is then called.
    """
    room = Room(options.concurrency, options.queue, options.per_client, options.live_sessions)
    counters = Meters(room)
    served = Service(
        options,
        Shelf(options.model, options.kept_models, counters.serves),
        room,
        counters,
        ThreadPoolExecutor(options.workers, thread_name_prefix="worker"),
        # Live sound does not wait behind files.
        ThreadPoolExecutor(options.workers, thread_name_prefix="live"),
    )
    app = FastAPI(
        title="Overtone",
        description="Audio in, full-band 48 kHz audio out.",
        version=importlib.metadata.version("overtone"),
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        # The door asks for the key; this shows a field for it in /docs.
        dependencies=[Depends(HTTPBearer(auto_error=False))] if options.key else [],
    )
    app.state.service, app.state.failure, app.state.stop = served, None, lambda: None
    app.add_middleware(Door, options=options, meters=counters)
    refusal.install(app)
    for part in (enhance, degrade, catalogue, conditions, samples, health, meters):
        app.include_router(part.router)
    app.router.routes.extend(live.router.routes)
    manual.install(app)
    page.install(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    served: Service = app.state.service
    running = asyncio.create_task(_models(app, served))
    try:
        yield
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        served.close()


async def _models(app: FastAPI, served: Service) -> None:
    """Load the first model, then follow its reference."""
    try:
        await served.shelf.refresh()
    except Exception as error:
        app.state.failure = error
        app.state.stop()
        return
    await served.shelf.follow(served.options.poll_seconds)
