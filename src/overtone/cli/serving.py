"""The server."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from overtone.cli.app import app
from overtone.serving.options import Options


def _serve(
    *,
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the key that requests must show; or the key itself in OVERTONE_API_KEY.",
            envvar="OVERTONE_API_KEY_FILE",
        ),
    ] = None,
    insecure_no_key: Annotated[bool, typer.Option(help="Listen without a key where others reach the server.")] = False,
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
    server.run(Options(**given, state=state, key=key))


def _parameters() -> list[inspect.Parameter]:
    """Those of `_serve`, with an option for each field of `Options`."""
    own, types = get_type_hints(_serve, include_extras=True), get_type_hints(Options)
    found = [
        one.replace(annotation=own[one.name])
        for one in inspect.signature(_serve).parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    for one in (one for one in fields(Options) if one.metadata):
        option, kind = one.metadata["option"], types[one.name]
        found.append(
            inspect.Parameter(
                one.name, inspect.Parameter.KEYWORD_ONLY, default=one.default, annotation=Annotated[kind, option]
            )
        )
    return found


# Typer asks for both.
_PARAMETERS = _parameters()
_serve.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
_serve.__annotations__ = {one.name: one.annotation for one in _PARAMETERS}
app.command("serve", context_settings={"auto_envvar_prefix": "OVERTONE_SERVE"})(_serve)
