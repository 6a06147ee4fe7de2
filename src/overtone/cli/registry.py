"""Registered and released models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from overtone.cli.app import app


@app.command()
def models() -> None:
    """List the versions in the registry with their scores and aliases."""
    from overtone import stages

    stages.print_models()


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Version number or alias that becomes champion.")] = "challenger",
) -> None:
    """Make a registered version the champion, by hand."""
    from overtone import stages

    stages.promote(version)


@app.command()
def rollback() -> None:
    """Give the champion's place back to the version that held it before."""
    from overtone import stages

    stages.rollback()


@app.command()
def lineage(
    version: Annotated[
        str, typer.Argument(help="models:/overtone@champion, models:/overtone/3, an alias or a version number.")
    ] = "champion",
) -> None:
    """Where a version comes from, back to commit, settings and data, every step checked; status 1 if one differs."""
    from overtone import stages

    if not stages.print_lineage(version):
        raise typer.Exit(1)


@app.command()
def reproduce(
    version: Annotated[
        str, typer.Argument(help="models:/overtone@champion, models:/overtone/3, an alias or a version number.")
    ] = "champion",
    tolerance: Annotated[float, typer.Option(help="Largest difference of a metric that passes.")] = 0.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the temporary clone where it is.")] = False,
) -> None:
    """Train and evaluate a version again in a temporary clone of its commit; status 1 if a metric differs."""
    from overtone import stages

    if not stages.reproduce(version, tolerance, keep):
        raise typer.Exit(1)


@app.command()
def fetch(
    model: Annotated[str, typer.Argument(help="champion, challenger, a version number, released or released-cnn.")],
    folder: Annotated[Path, typer.Argument(help="Where to put the model folder.")],
) -> None:
    """Copy a registered or released model to a folder, checked against its digest."""
    from overtone import stages

    stages.fetch(model, folder)


@app.command()
def export(folder: Annotated[Path, typer.Argument(help="A model folder, such as models/rnn.")]) -> None:
    """Write a model's ONNX graphs into its folder; enhancing on a CPU then runs them."""
    from overtone import stages

    stages.export(folder)
