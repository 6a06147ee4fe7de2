"""The process that serves: threads, memory, signals."""

from __future__ import annotations

import torch
import uvicorn

from overtone.serving.app import create_app
from overtone.serving.options import Options


def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then finish what runs."""
    # Requests are spread over the cores, not the work of one.
    torch.set_num_threads(1)
    config = uvicorn.Config(
        create_app(options), host=options.host, port=options.port, timeout_graceful_shutdown=int(options.grace_seconds)
    )
    uvicorn.Server(config).run()
