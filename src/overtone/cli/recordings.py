"""Users' own recordings: enhancing them, what they are, and two of them or two models beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from overtone.cli.app import Engine, Json, RayAddress, app, ended_by_signals, known_models, print_table
from overtone.errors import OvertoneError

if TYPE_CHECKING:
    from overtone.enhance.inspection import Inspection
    from overtone.evaluation.comparison import Rows


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

    if output.exists() and not force:
        raise OvertoneError(f"{output}: exists already; give --force to overwrite it")
    made = read_profile(references, RATE, name)
    made.save(output)
    print(f"{output}: {made.seconds:.1f} s of {made.name}")
    if register is not None:
        from overtone.registry import resolve

        resolve.keep_profile(register, output)
        print(f"kept in the registry: overtone enhance IN OUT --profile {register}")


@app.command()
def inspect(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files.")],
    picture: Annotated[
        Path | None, typer.Option(help="PNG to draw the spectrograms into, side by side; 20 s of each.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object for each file, a line each.")] = False,
) -> None:
    """What a recording is, how far up it goes, what was probably done to it and how to enhance it.

    Example: overtone inspect old.mp3 --picture old.png
    """
    from overtone.enhance import inspection

    for path in files:
        found = inspection.inspect(path)
        print(json.dumps(found.as_dict(), ensure_ascii=False) if as_json else _text(found))
    if picture is not None:
        from overtone.evaluation import comparison

        comparison.draw(files, picture)
        if not as_json:
            print(f"{picture}: spectrograms")


def _text(found: Inspection) -> str:
    import shlex

    info = found.info
    lines = [
        f"{found.path}: {info.rate} Hz, {info.channels} channel{'s' * (info.channels > 1)}, {info.seconds:.2f} s, "
        f"{info.format} {info.subtype}",
        f"  peak {found.peak_dbfs:.1f} dBFS, RMS {found.rms_dbfs:.1f} dBFS, DC {found.dc:+.5f}, "
        f"{found.damage.clipped:.2%} clipped, {found.damage.lost:.2%} lost",
        f"  bandwidth {found.bandwidth_hz:.0f} Hz of {info.rate / 2:.0f} Hz",
        *(f"  {note}" for note in info.notes),
        *(f"  {finding.name}: {finding.evidence}" for finding in found.findings),
    ]
    if found.mode is None:
        return "\n".join([*lines, "  nothing to enhance"])
    target = shlex.quote(str(found.path.with_name(f"{found.path.stem}-enhanced.flac")))
    command = f"overtone enhance {shlex.quote(str(found.path))} {target}"
    what = "repaired and extended" if found.mode == "restore" else "extended"
    return "\n".join([*lines, f"  to have it {what}: {command}"])


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="An audio file, or a model.", autocompletion=known_models)],
    second: Annotated[str, typer.Argument(help="Another of the same sort.", autocompletion=known_models)],
    reference: Annotated[
        Path | None, typer.Argument(help="File that both files are to be like; else the first.")
    ] = None,
    on: Annotated[
        list[Path] | None,
        typer.Option(
            help="Full-band file to try two models on; repeatable. Default: the validation pairs in work/pairs."
        ),
    ] = None,
    cutoff: Annotated[
        float, typer.Option(min=1000, max=20000, help="Hz that files of --on are cut to first.")
    ] = 8000.0,
    clips: Annotated[int, typer.Option(min=1, help="Validation clips of each condition.")] = 2,
    picture: Annotated[Path | None, typer.Option(help="PNG to draw the spectrograms into.")] = None,
    as_json: Json = False,
) -> None:
    """Score two files against a third (or each other), or two models against each other.

    Example: overtone compare old.mp3 new.flac --picture both.png
    """
    from rich.progress import Progress

    from overtone.evaluation import comparison
    from overtone.registry import resolve

    paths = Path(first), Path(second)
    if all(path.is_file() for path in paths):
        if on:
            raise OvertoneError("--on: is for comparing models; expected no such option with two files")
        found = comparison.files(*paths, reference)
        against = reference or first
    else:
        for path in paths:
            if path.is_file():
                raise OvertoneError(f"{path}: is a file, and the other is none; expected two files or two models")
        if reference is not None:
            raise OvertoneError(f"{reference}: a reference is for two files; name files for models with --on")
        tasks = comparison.narrowed(on, cutoff) if on else comparison.pairs(Path("work/pairs"), clips)
        with Progress(transient=True) as bar:
            task = bar.add_task(f"{first} and {second}", total=1.0)
            systems = {name: resolve.upsampler(name)[0] for name in (first, second)}
            found = comparison.models(systems, tasks, lambda done, of: bar.update(task, completed=done / of))
        against = "the original"
    if picture is not None:
        found.draw(picture, f"{first} and {second}")
    if as_json:
        facts = {"against": str(against), "scores": found.rows, "remarks": found.remarks}
        print(json.dumps(facts, ensure_ascii=False))
        return
    _print_rows(found.rows)
    for remark in found.remarks:
        print(remark)
    print(f"against {against}; lsd: lower is better, si_sdr and snr (dB): higher is better")
    if picture is not None:
        print(f"{picture}: spectrograms")


def _print_rows(rows: Rows) -> None:
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    columns.sort(key=lambda name: name == "bandwidth_hz")

    def cell(value: float | None, column: str) -> str:
        return "-" if value is None else f"{value:.{0 if column == 'bandwidth_hz' else 2}f}"

    cells = ([name, *(cell(row.get(column), column) for column in columns)] for name, row in rows.items())
    print_table(["", *columns], cells, figures="right")
