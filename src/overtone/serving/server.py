"""The processes that serve: sockets, threads, memory, signals."""

from __future__ import annotations

import asyncio
import ctypes
import functools
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from contextlib import ExitStack, suppress
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from overtone.errors import OvertoneError
from overtone.serving import logs, metrics
from overtone.serving.app import create_app
from overtone.serving.models import require_device
from overtone.serving.options import Options

log = logging.getLogger("overtone.serving")
_M_ARENA_MAX = -8
# More than a second of any stream in one frame is no live sound.
_FRAME_BYTES = 2_000_000
_START_SECONDS = 120
# Of a request's line and headers.
_HEAD_BYTES = 65_536


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs.

    Raises:
        OvertoneError: the device is not there, the address cannot be listened on, or a process could not begin.
        Exception: what kept the first model from being loaded.
    """
    logs.configure(options.log_format, options.key)
    require_device(options.device)
    with ExitStack() as stack:
        listener = stack.enter_context(_listening(options))
        host, port = listener.getsockname()[:2]
        log.info("listening on http://%s:%d", f"[{host}]" if ":" in host else host, port)
        if options.processes == 1:
            _run_here(options, listener)
        else:
            # Before the counters of any process are made.
            os.environ[metrics.FOLDER] = stack.enter_context(tempfile.TemporaryDirectory(prefix="overtone-metrics-"))
            config = _config(functools.partial(_app_of_process, options.share()), options, factory=True)
            supervisor = Multiprocess(config, sockets=[listener])
            supervisor.run()
            if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
                raise OvertoneError("no process could begin; the lines above say why")


def _run_here(options: Options, listener: socket.socket) -> None:
    _limit_heaps()
    app = create_app(options)
    server = uvicorn.Server(_config(app, options))
    app.state.stop, app.state.ready = lambda: setattr(server, "should_exit", True), _keep_loaded
    # uvicorn raises the signals that stopped it once more when it is done.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    if app.state.failure is not None:
        raise app.state.failure


def _app_of_process(options: Options) -> FastAPI:
    """The application of one of several processes; one that finds no model ends all of them, as a server of one does."""
    logs.configure(options.log_format, options.key)
    _limit_heaps()
    app = create_app(options)

    def stop() -> None:
        log.error("no model could be loaded: %s", app.state.failure)
        os._exit(STARTUP_FAILURE)

    app.state.stop, app.state.ready = stop, _keep_loaded
    return app


def _config(app: Any, options: Options, factory: bool = False) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=factory,
        workers=options.processes,
        http=functools.partial(Connection, seconds=options.read_seconds),  # type: ignore[arg-type]  # as good as a class
        h11_max_incomplete_event_size=_HEAD_BYTES,
        # Importing torch takes seconds, on a busy machine many.
        timeout_worker_healthcheck=_START_SECONDS,
        timeout_graceful_shutdown=round(options.grace),
        ws_max_size=_FRAME_BYTES,
        # Sound hardly packs, and packing takes time that live sound has not.
        ws_per_message_deflate=False,
        server_header=False,
        access_log=False,
        log_config=None,
    )


class Connection(H11Protocol):
    """uvicorn's connection, which by itself waits for ever for the head of a request and for a client that takes nothing.

    Args:
        seconds: between two looks. A connection that has begun no request from one to the next is closed, and one that is
            closed and still not gone is broken off.
    """

    def __init__(self, *given: Any, seconds: float, **more: Any) -> None:
        super().__init__(*given, **more)
        self._seconds, self._lost = seconds, False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self.loop.call_later(self._seconds, self._look, None)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lost = True

    def _look(self, before: object) -> None:
        if self._lost or self.transport.get_protocol() is not self:
            return
        idle = self.cycle is None or self.cycle.response_complete
        if self.transport.is_closing():
            self.transport.abort()
        elif idle and self.cycle is before:
            self.transport.close()
        self.loop.call_later(self._seconds, self._look, self.cycle)


def _limit_heaps() -> None:
    """Few heaps: memory stays flat."""
    if sys.platform == "linux":
        # glibc gives each thread a heap of its own, which keeps its largest size; other libraries have no such call.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _keep_loaded() -> None:
    """Let the garbage collector pass over what is loaded, which stays: looking through it holds live sound up for 0.2 s."""
    gc.collect()
    gc.freeze()


def _listening(options: Options) -> socket.socket:
    six = ":" in options.host
    try:
        return socket.create_server(
            (options.host, options.port), family=socket.AF_INET6 if six else socket.AF_INET, dualstack_ipv6=six
        )
    except OSError as error:
        raise OvertoneError(
            f"{options.host}:{options.port}: cannot be listened on: {error.strerror or error}"
        ) from None
