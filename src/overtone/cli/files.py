"""Users' own recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from overtone.cli import completion
from overtone.cli.app import app
from overtone.errors import OvertoneError


@app.command()
def enhance(
    source: Annotated[Path, typer.Argument(help="Audio file: WAV, FLAC, Ogg Vorbis or Opus, MP3; any rate.")],
    target: Annotated[Path, typer.Argument(help="File to write; the extension decides the format.")],
    model: Annotated[
        str,
        typer.Option(
            help="auto (the champion; without one, the released model), champion, challenger, a version number of the "
            "registry, released, released-cnn, or a model folder.",
            autocompletion=completion.models,
        ),
    ] = "auto",
    mode: Annotated[
        Literal["auto", "extend", "restore"],
        typer.Option(help="extend keeps the known band untouched; restore also repairs it. auto is extend."),
    ] = "auto",
    cutoff: Annotated[
        float | None, typer.Option(help="Hz above which the source holds nothing; estimated when not given.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the target if it exists.")] = False,
) -> None:
    """Enhance one audio file to full-band 48 kHz.

    Example: overtone enhance old.mp3 new.flac
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from overtone import resolve

    if target.exists() and not force:
        raise OvertoneError(f"{target}: exists already; give --force to overwrite it")
    if target.resolve() == source.resolve():
        raise OvertoneError(f"{target}: source and target are the same file")
    upsampler, name = resolve.upsampler(model)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(source.name, total=1.0)
        upsampler.enhance_file(
            source, target, mode=mode, cutoff_hz=cutoff, progress=lambda share: bar.update(task, completed=share)
        )
    print(f"{target}: {upsampler.rate} Hz, by the {upsampler.config['model'].upper()} ({name})")
