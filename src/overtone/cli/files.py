"""Users' own recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from overtone.cli.app import Engine, RayAddress, app, ended_by_signals, known_models


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
            "registry, released, released-rnn, or a model folder.",
            autocompletion=known_models,
        ),
    ] = "auto",
    mode: Annotated[
        Literal["auto", "extend", "restore"],
        typer.Option(
            help="extend keeps the known band untouched; restore also repairs it; auto repairs only what is damaged."
        ),
    ] = "auto",
    cutoff: Annotated[
        float | None, typer.Option(help="Hz above which the source holds nothing; found when not given.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(help="Full-band recording of the same microphone or archive, to extend by; repeatable."),
    ] = None,
    profile: Annotated[
        Path | None,
        typer.Option(help="What `overtone profile` made of references: a file, or its name in the registry."),
    ] = None,
    brightness: Annotated[
        float, typer.Option(min=-6.0, max=6.0, help="dB by which what is added is turned brighter or duller.")
    ] = 0.0,
    denoiser: Annotated[
        Literal["network", "deepfilternet"],
        typer.Option(help="What takes noise out: the model, or DeepFilterNet 3 (extra `peers`)."),
    ] = "network",
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

    Example: overtone enhance tapes --output enhanced --reference same-microphone.wav
    """
    from overtone.enhance import request
    from overtone.registry import resolve

    asked = request.Request(
        paths=paths,
        find=resolve.folder,
        output=output,
        format=format,
        model=model,
        mode=mode,
        cutoff_hz=cutoff,
        rate=rate,
        references=tuple(reference or ()),
        profile=None if profile is None else resolve.profile(profile),
        brightness_db=brightness,
        denoiser=denoiser,
        device=device,
        jobs=jobs,
        ray=(ray_address or "local") if engine == "ray" else None,
        force=force,
        dry_run=dry_run,
    )
    with ended_by_signals():
        done = request.answer(asked)
    if not done:
        raise typer.Exit(1)


@app.command()
def profile(
    references: Annotated[
        list[Path], typer.Argument(metavar="REFERENCE...", help="Full-band recordings of one microphone or archive.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, such as archive.json.")],
    name: Annotated[
        str | None, typer.Option(help="What the profile is called. Default: the references' names.")
    ] = None,
    register: Annotated[
        str | None, typer.Option(help="Keep it in the registry under this name too, for `enhance --profile NAME`.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Keep what full-band recordings of a microphone look like, to enhance others of it by; a few seconds are enough.

    Example: overtone profile interview-2019.wav --output archive.json
    """
    from overtone.enhance.profile import RATE, read_profile
    from overtone.errors import OvertoneError

    if output.exists() and not force:
        raise OvertoneError(f"{output}: exists already; give --force to overwrite it")
    made = read_profile(references, RATE, name)
    made.save(output)
    print(f"{output}: {made.seconds:.1f} s of {made.name}")
    if register is not None:
        from overtone.registry import resolve

        resolve.keep_profile(register, output)
        print(f"kept in the registry: overtone enhance IN OUT --profile {register}")
