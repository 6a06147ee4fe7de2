"""The process that serves: threads, memory, signals, log."""

from __future__ import annotations

import ctypes
import logging
import signal
import socket
import sys
from contextlib import suppress

import torch
import uvicorn

from overtone.errors import OvertoneError
from overtone.serving import connection
from overtone.serving.app import create_app
from overtone.serving.options import Options

log = logging.getLogger("overtone.serving")
_M_ARENA_MAX = -8
# More than a second of any stream in one frame is no live sound.
_FRAME_BYTES = 2_000_000


def run(options: Options, access_log: bool = True) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs.

    Raises:
        OvertoneError: the address cannot be listened on.
        Exception: what kept the first model from being loaded.
    """
    _settle()
    app = create_app(options)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        http=connection.within(options.read_seconds),
        timeout_graceful_shutdown=round(options.grace_seconds),
        ws_max_size=_FRAME_BYTES,
        # Sound hardly packs, and packing takes time that live sound has not.
        ws_per_message_deflate=False,
        server_header=False,
        access_log=access_log,
        log_config=_log_config(),
    )
    server = uvicorn.Server(config)
    app.state.stop = lambda: setattr(server, "should_exit", True)
    with _listening(options) as listener:
        # uvicorn raises the signals that stopped it once more when it is done.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        host, port = listener.getsockname()[:2]
        log.info(
            "listening on http://%s:%d, its interface is shown at /docs", f"[{host}]" if ":" in host else host, port
        )
        server.run(sockets=[listener])
    if app.state.failure is not None:
        raise app.state.failure


def _settle() -> None:
    """One compute thread a request: they are spread over the cores, not the work of one. Few heaps: memory stays flat."""
    torch.set_num_threads(1)
    if sys.platform == "linux":
        # glibc gives each thread a heap of its own, which keeps its largest size; other libraries have no such call.
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _listening(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
    except OSError as error:
        listener.close()
        raise OvertoneError(
            f"{options.host}:{options.port}: cannot be listened on: {error.strerror or error}"
        ) from None
    return listener


def _log_config() -> dict[str, object]:
    """uvicorn's own, with our lines among its."""
    config: dict[str, object] = dict(uvicorn.config.LOGGING_CONFIG)
    loggers = config["loggers"]
    assert isinstance(loggers, dict)
    config["loggers"] = {**loggers, "overtone": {"handlers": ["default"], "level": logging.INFO, "propagate": False}}
    return config
