"""Looking at recordings, and two of them or two models beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overtone.cli.app import Json, app, known_models
from overtone.errors import OvertoneError

if TYPE_CHECKING:
    from overtone.enhance.inspection import Inspection
    from overtone.evaluation.comparison import Rows


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
    import json

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
    import json

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
    _print_table(found.rows)
    for remark in found.remarks:
        print(remark)
    print(f"against {against}; lsd: lower is better, si_sdr and snr (dB): higher is better")
    if picture is not None:
        print(f"{picture}: spectrograms")


def _print_table(rows: Rows) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    columns.sort(key=lambda name: name == "bandwidth_hz")
    table = Table("", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right")
    for name, row in rows.items():
        values = [row.get(column) for column in columns]
        digits = [0 if column == "bandwidth_hz" else 2 for column in columns]
        cells = ("-" if value is None else f"{value:.{d}f}" for value, d in zip(values, digits, strict=True))
        table.add_row(name, *cells)
    Console().print(table)
