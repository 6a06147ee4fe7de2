"""The server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from overtone.cli.app import app


def _option(name: str, help: str, **more: Any) -> Any:
    """An option that may come from the environment too."""
    return typer.Option(help=help, envvar=f"OVERTONE_SERVE_{name}", **more)


@app.command()
def serve(
    host: Annotated[str, _option("HOST", "Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, _option("PORT", "Port to listen on; 0 takes a free one.", min=0, max=65_535)] = 8000,
    model: Annotated[
        str,
        _option(
            "MODEL",
            "auto (follows the champion; without one, the released model), an alias, which is followed, a version number, "
            "released, released-rnn, or a model folder.",
        ),
    ] = "auto",
    workers: Annotated[
        int | None, _option("WORKERS", "Threads that compute, each on one core. Default: cores.", min=1)
    ] = None,
    concurrency: Annotated[int, _option("CONCURRENCY", "Requests worked on at a time.", min=1)] = 8,
    queue: Annotated[int, _option("QUEUE", "Requests that may wait besides; 503 to any more.", min=0)] = 64,
    per_client: Annotated[
        int, _option("PER_CLIENT", "Requests and live streams of one address; 429 to any more.", min=1)
    ] = 64,
    max_megabytes: Annotated[float, _option("MAX_MEGABYTES", "Of a request; 413 to larger ones.", min=0.001)] = 100.0,
    max_seconds: Annotated[
        float, _option("MAX_SECONDS", "Of sound in a request, summed over channels; 413 to longer ones.", min=0.1)
    ] = 1800.0,
    kept_models: Annotated[int, _option("KEPT_MODELS", "Models that requests name, kept in memory.", min=1)] = 2,
    poll_seconds: Annotated[float, _option("POLL_SECONDS", "Between two looks for another champion.", min=0.1)] = 10.0,
    read_seconds: Annotated[
        float, _option("READ_SECONDS", "Without a byte from a client, until it is given up.", min=0.1)
    ] = 20.0,
    write_seconds: Annotated[
        float, _option("WRITE_SECONDS", "In which a client takes nothing, until it is given up.", min=0.1)
    ] = 20.0,
    upload_seconds: Annotated[float, _option("UPLOAD_SECONDS", "In which a request must be sent.", min=0.1)] = 300.0,
    grace: Annotated[float, _option("GRACE", "Seconds for what runs, when the server is told to stop.", min=0)] = 30.0,
    live_sessions: Annotated[int, _option("LIVE_SESSIONS", "Live streams at a time.", min=0)] = 8,
    live_ahead: Annotated[
        float, _option("LIVE_AHEAD", "Seconds that a live stream may be ahead of time.", min=0)
    ] = 2.0,
    live_backlog: Annotated[
        float, _option("LIVE_BACKLOG", "Seconds of a live stream taken in and not yet computed.", min=0.1)
    ] = 2.0,
    live_idle: Annotated[
        float, _option("LIVE_IDLE", "Seconds without a frame, until a live stream is ended.", min=0.1)
    ] = 30.0,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that requests must show; or the key itself in OVERTONE_API_KEY.",
            envvar="OVERTONE_API_KEY_FILE",
        ),
    ] = None,
    insecure_no_key: Annotated[
        bool, _option("INSECURE_NO_KEY", "Listen without a key where others reach the server.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        _option("ALLOWED_HOSTS", "Name by which browsers reach the server, behind a proxy. Repeatable."),
    ] = None,
    access_log: Annotated[bool, _option("ACCESS_LOG", "Log every request.")] = True,
) -> None:
    """Serve enhancement over HTTP: files, live streams, a page of the interface at /docs.

    Every option can be set in the environment, as OVERTONE_SERVE_PORT and so on.

    Example: overtone serve --port 8000
    """
    from overtone.serving import key, server
    from overtone.serving.options import Options, cores

    shown = key.read(api_key_file)
    key.require(host, shown, insecure_no_key)
    options = Options(
        host=host,
        port=port,
        model=model,
        workers=workers or cores(),
        concurrency=concurrency,
        queue=queue,
        per_client=per_client,
        max_megabytes=max_megabytes,
        max_seconds=max_seconds,
        kept_models=kept_models,
        poll_seconds=poll_seconds,
        read_seconds=read_seconds,
        write_seconds=write_seconds,
        upload_seconds=upload_seconds,
        grace_seconds=grace,
        live_sessions=live_sessions,
        live_ahead_seconds=live_ahead,
        live_backlog_seconds=live_backlog,
        live_idle_seconds=live_idle,
        key=shown,
        hosts=tuple(allowed_host or ()),
    )
    server.run(options, access_log)
