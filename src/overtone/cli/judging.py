"""Judging any system on the project's conditions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from overtone.cli.app import Set, app


@app.command()
def evaluate(
    system: Annotated[
        list[str],
        typer.Option(
            help="sinc, sbr, concealer, wiener, rnnoise, deepfilternet; a model (champion, a version, released-rnn, a folder); "
            "or NAME='tool {in} {out}', any command. Repeatable."
        ),
    ],
    on: Annotated[
        Path | None, typer.Option(help="Folder of your own full-band recordings. Default: the pairs in work/pairs.")
    ] = None,
    split: Annotated[
        Literal["valid", "test"], typer.Option(help="Choose by valid; test is for telling what was chosen.")
    ] = "test",
    condition: Annotated[list[str] | None, typer.Option(help="Only this one. Repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for reports and the page.")] = Path("reports/evaluate"),
    set: Set = None,
) -> None:
    """Score systems as a user would run them: every metric under every condition, a table and a page to listen on.

    Example: overtone evaluate --system sinc --system released --system mine='sox {in} {out} treble 6'
    """
    import tempfile

    from overtone import stages
    from overtone.data.pairs import read_pairs
    from overtone.evaluation import recordings, session
    from overtone.settings import project

    params = stages.settings(set)
    makers = dict(_maker(text) for text in system)
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        pairs_folder = project.PAIRS if on is None else Path(folder) / "pairs"
        pairs = (
            read_pairs(pairs_folder, split)
            if on is None
            else recordings.make(on, params, project.CORPUS, Path(folder))
        )  # fmt: skip
        wanted = session.chosen(pairs, condition or ())
        print(session.run(makers, wanted, pairs_folder, params.evaluate, out, stages.progress))
    print(f"\n{out / session.PAGE}: charts, and clips to hear")


def _maker(text: str) -> tuple[str, Any]:
    """A system's name, and what makes it."""
    import functools

    from overtone.enhance.upsampler import Upsampler
    from overtone.evaluation import systems
    from overtone.registry import resolve

    if (known := systems.named(text)) is not None:
        return known
    folder, _ = resolve.folder(text)
    return folder.name if Path(text).is_dir() else text, functools.partial(Upsampler.load, folder)
