"""Users' own recordings."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from overtone.cli import completion
from overtone.cli.app import Engine, RayAddress, app


@app.command()
def enhance(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="SOURCE TARGET; or with --output any number of files, folders and bucket addresses (s3://bucket/folder). "
            "- is standard input or output.",
            metavar="PATHS...",
        ),
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder, bucket address, file or - to write to.")
    ] = None,
    format: Annotated[
        Literal["wav", "flac", "ogg", "opus", "mp3", "m4a"] | None,
        typer.Option(help="Of all targets. Default: by the target's extension; in a folder, each source's own."),
    ] = None,
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
    rate: Annotated[int | None, typer.Option(min=1, help="Of the targets, Hz. Default: the model's, 48000.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or another device of torch.")] = "cpu",
    jobs: Annotated[
        int | None, typer.Option("--jobs", "-j", min=1, help="Processes for many files. Default: one a core.")
    ] = None,
    engine: Engine = "local",
    ray_address: RayAddress = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done, and do nothing.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite targets that exist; do again what is done.")
    ] = False,
) -> None:
    """Enhance files, folders, buckets or a pipe to full-band audio; a folder's run goes on where an earlier one ended.

    Example: overtone enhance old.mp3 new.flac

    Example: overtone enhance recordings calls/1.wav --output enhanced --jobs 2
    """
    from overtone.bulk import request

    asked = request.Request(
        paths=paths,
        output=output,
        format=format,
        model=model,
        mode=mode,
        cutoff_hz=cutoff,
        rate=rate,
        device=device,
        jobs=jobs,
        ray=(ray_address or "local") if engine == "ray" else None,
        force=force,
        dry_run=dry_run,
    )
    if not request.answer(asked):
        raise typer.Exit(1)
