"""The command `overtone`: thin commands over the rooms. Heavy imports happen inside commands, so that help is instant."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from overtone.errors import OvertoneError

app = typer.Typer(
    help="Audio super-resolution: narrow-band, codec-crushed or noisy audio in, full-band 48 kHz audio out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
stage = typer.Typer(help="One stage of the line, as dvc.yaml runs it.", no_args_is_help=True)
app.add_typer(stage, name="stage")

Set = Annotated[list[str] | None, typer.Option("--set", help="Override a setting: dotted.key=value. Repeatable.")]
Kind = Literal["cnn", "rnn"]


@stage.command()
def corpus(set: Set = None) -> None:
    """Check, resample and split the raw recordings: data/ -> work/corpus/."""
    from overtone import stages

    stages.corpus(stages.settings(set))


@stage.command()
def degrade(set: Set = None) -> None:
    """Make seeded degraded twins of every clip: work/corpus/ -> work/pairs/."""
    from overtone import stages

    stages.degrade(stages.settings(set))


@stage.command()
def train(
    model: Annotated[Kind, typer.Option(help="Which family of networks.")],
    set: Set = None,
) -> None:
    """Train one network as one MLflow run: work/pairs/ -> models/MODEL/."""
    from overtone import stages

    stages.train(stages.settings(set), model, set or ())


@stage.command()
def evaluate(
    system: Annotated[Literal["baselines", "cnn", "rnn"], typer.Option(help="What is judged.")],
    set: Set = None,
) -> None:
    """Score a system on the test split: every condition, every metric -> reports/SYSTEM/."""
    from overtone import stages

    stages.evaluate(stages.settings(set), system)


@stage.command()
def register(set: Set = None) -> None:
    """Put the better model into the registry, as challenger, and as champion if it passes the gate."""
    from overtone import stages

    stages.register(stages.settings(set))


@app.command()
def tune(
    model: Annotated[Kind, typer.Option(help="Which family of networks.")],
    trials: Annotated[
        int | None, typer.Option(min=0, help="Trials to finish; 0 only plots and chooses. Default: tune.trials.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at a time. Default: tune.workers.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="sqlite:///FILE, journal:///FILE or postgresql://... Default: OVERTONE_TUNE_STORAGE, else tune.storage."
        ),
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Name of the study to begin or continue. Default: tune.study-MODEL.")
    ] = None,
    objective: Annotated[
        Literal["quality", "speed"] | None,
        typer.Option(help="speed: maximise the real-time factor beside quality, in a study of its own."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option(help="Write this trial's settings in place of those of best quality.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change in params.yaml.")] = False,
    set: Set = None,
) -> None:
    """Search for better settings of a network and write them into params.yaml; the same command again goes on.

    Example: overtone tune --model rnn --trials 20 --workers 2
    """
    from overtone import stages

    stages.tune(
        stages.settings(set),
        model,
        set,
        trials=trials,
        workers=workers,
        storage=storage,
        study=study,
        speed=objective == "speed",
        chosen=trial,
        dry_run=dry_run,
    )


@app.command()
def enhance(
    source: Annotated[Path, typer.Argument(help="Audio file: WAV, FLAC, Ogg Vorbis or Opus, MP3; any rate.")],
    target: Annotated[Path, typer.Argument(help="File to write; the extension decides the format.")],
    model: Annotated[
        str,
        typer.Option(
            help="auto (the champion; without one, the released model), champion, challenger, a version number of the "
            "registry, released, released-cnn, or a model folder."
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

    from overtone import stages

    if target.exists() and not force:
        raise OvertoneError(f"{target}: exists already; give --force to overwrite it")
    if target.resolve() == source.resolve():
        raise OvertoneError(f"{target}: source and target are the same file")
    upsampler, name = stages.upsampler(model)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(source.name, total=1.0)
        upsampler.enhance_file(
            source, target, mode=mode, cutoff_hz=cutoff, progress=lambda share: bar.update(task, completed=share)
        )
    print(f"{target}: {upsampler.rate} Hz, by the {upsampler.config['model'].upper()} ({name})")


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
def summary(
    by_kind: Annotated[bool, typer.Option("--by-kind", help="Rows for speech and music too.")] = False,
) -> None:
    """What the last run of the line came to: registered version, scores beside the baselines', what to type next."""
    from overtone import stages

    stages.print_summary(by_kind)


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
    """Write a model's ONNX graph into its folder; enhancing on a CPU then runs it."""
    from overtone import stages

    stages.export(folder)


def main() -> None:
    """Run the command line; errors that users can mend are one message and exit status 1."""
    try:
        app()
    except OvertoneError as error:
        print(f"overtone: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        # Errors of a library that was never loaded cannot have come.
        if "mlflow" not in sys.modules:
            raise
        from overtone.tracking import refusal

        if (sentence := refusal.sentence(error)) is None:
            raise
        print(f"overtone: {sentence}", file=sys.stderr)
        sys.exit(1)
