"""The application: its routes, what it holds while it runs, and what stands before every route."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI
from fastapi.responses import RedirectResponse

from overtone.serving import catalogue, enhance, health, refusal
from overtone.serving.options import Options
from overtone.serving.room import Room
from overtone.serving.service import Service
from overtone.serving.shelf import Shelf

_PAGE = "overtone.serving.page"


def create_app(options: Options) -> FastAPI:
    """A server's application; it loads the model when it is started."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        served: Service = app.state.service
        await served.shelf.refresh()
        following = asyncio.create_task(served.shelf.follow(options.poll_seconds))
        try:
            yield
        finally:
            following.cancel()
            with suppress(asyncio.CancelledError):
                await following
            served.shelf.close()
            served.workers.shutdown(wait=False, cancel_futures=True)

    app = FastAPI(title="Overtone", lifespan=lifespan)
    app.state.service = Service(
        options,
        Shelf(options.model, options.kept_models),
        Room(options.concurrency, options.queue, options.per_client),
        ThreadPoolExecutor(options.workers, thread_name_prefix="worker"),
    )
    refusal.install(app)
    for room in (enhance, catalogue, health):
        app.include_router(room.router)
    if importlib.util.find_spec(_PAGE):
        app.include_router(importlib.import_module(_PAGE).router)
    else:
        app.add_api_route("/", lambda: RedirectResponse("/docs"), include_in_schema=False)
    return app
