"""The server."""

from __future__ import annotations

from typing import Annotated

import typer

from overtone.cli.app import app


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.", envvar="OVERTONE_SERVE_HOST")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", envvar="OVERTONE_SERVE_PORT")] = 8000,
    model: Annotated[
        str,
        typer.Option(help="Alias that is followed, version, released model or folder.", envvar="OVERTONE_SERVE_MODEL"),
    ] = "auto",
) -> None:
    """Serve the champion over HTTP.

    Example: overtone serve --port 8000
    """
    from overtone.serving import server
    from overtone.serving.options import Options

    server.run(Options(host=host, port=port, model=model))
