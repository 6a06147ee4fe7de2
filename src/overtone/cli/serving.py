"""The server."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from overtone.cli.app import app
from overtone.serving.options import Options


def _serve(
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that requests must show; or the key itself in OVERTONE_API_KEY.",
            envvar="OVERTONE_API_KEY_FILE",
        ),
    ] = None,
    insecure_no_key: Annotated[
        bool,
        typer.Option(
            help="Listen without a key where others reach the server.", envvar="OVERTONE_SERVE_INSECURE_NO_KEY"
        ),
    ] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Print what came in so far, by day, and serve nothing.")
    ] = False,
    **given: Any,
) -> None:
    """Serve enhancement over HTTP: files, jobs, live streams, a page at /.

    Every option can be set in the environment, as OVERTONE_SERVE_PORT and so on.

    Example: overtone serve --port 8000
    """
    from overtone.settings import project

    state: Path = given.pop("state") or project.cache().parent / "serving"
    if report:
        from overtone.serving import statistics

        typer.echo(statistics.as_text(statistics.Statistics(state).report()))
        return
    from overtone.serving import security, server

    key = security.read_key(api_key_file)
    security.require_key(given["host"], key, insecure_no_key)
    given["allowed_hosts"] = tuple(given["allowed_hosts"] or ())
    server.run(Options(**given, state=state, key=key))


def _signature() -> inspect.Signature:
    """That of `_serve`, with an option for each field of `Options`."""
    own = [one for one in inspect.signature(_serve).parameters.values() if one.kind is not one.VAR_KEYWORD]
    hints = get_type_hints(_serve, include_extras=True)
    options = [one.replace(kind=one.KEYWORD_ONLY, annotation=hints[one.name]) for one in own]
    hints = get_type_hints(Options)
    for field in (field for field in fields(Options) if field.metadata):
        many, limits = get_origin(hints[field.name]) is tuple, field.metadata
        kind = list[str] | None if many else hints[field.name]
        whole = int in (kind, *get_args(kind))
        least, most = (limit if limit is None or not whole else int(limit) for limit in (limits["min"], limits["max"]))
        option = typer.Option(
            *(["--allowed-host"] if many else []),
            help=limits["help"],
            envvar=f"OVERTONE_SERVE_{field.name.upper()}",
            min=least,
            max=most,
        )
        options.append(
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None if many else field.default,
                annotation=Annotated[kind, option],
            )
        )
    return inspect.Signature(options)


# Typer asks for both.
_serve.__signature__ = _SIGNATURE = _signature()  # type: ignore[attr-defined]
_serve.__annotations__ = {name: one.annotation for name, one in _SIGNATURE.parameters.items()}
app.command("serve")(_serve)
