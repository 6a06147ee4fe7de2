"""The pipeline: its stages, the search for better settings, and what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from overtone.cli.app import Engine, Json, Kind, RayAddress, Set, app, ended_by_signals, family

stage = typer.Typer(help="One stage of the pipeline, as dvc.yaml runs it.", no_args_is_help=True)
app.add_typer(stage, name="stage")


@stage.callback()
def enter() -> None:
    """Stages read and write the project's own files, wherever in it they are started."""
    from overtone.settings import project

    project.enter()


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Of the new project; it may hold your recordings already.")],
    recordings: Annotated[
        Path | None, typer.Option(help="Folder of your recordings, anywhere. Default: data in the new project.")
    ] = None,
) -> None:
    """Set up a project around your own recordings: settings, stages, DVC and git.

    Example: overtone init my-voice --recordings interviews
    """
    from overtone.settings import scaffold

    place = scaffold.create(folder, recordings)
    print(f"{folder}: a new project\n  recordings: {place}\n  settings: {folder / 'params.yaml'}")
    print(f"next: cd {folder} && dvc repro")


@stage.command()
def corpus(set: Set = None) -> None:
    """Check, resample and split the raw recordings: data/ -> work/corpus/."""
    from overtone import stages

    stages.corpus(stages.settings(set))


@stage.command()
def degrade(set: Set = None, engine: Engine = "local", ray_address: RayAddress = None) -> None:
    """Make seeded degraded twins of every clip: work/corpus/ -> work/pairs/; the same bytes by either engine."""
    from overtone import stages

    stages.degrade(stages.settings(set), ray=(ray_address or "local") if engine == "ray" else None)


@stage.command()
def train(
    model: Kind,
    set: Set = None,
) -> None:
    """Train the networks of a family as one MLflow run: work/corpus/ -> models/MODEL/."""
    from overtone import stages

    stages.train(stages.settings(set), model, set or ())


def _system(name: str) -> str:
    return name if name == "baselines" else family(name)


@stage.command()
def evaluate(
    system: Annotated[str, typer.Option(callback=_system, help="What is judged: baselines, or a family of networks.")],
    set: Set = None,
) -> None:
    """Score a system on the test split: every condition, every metric -> reports/SYSTEM/."""
    from overtone import stages

    stages.evaluate(stages.settings(set), system)


@stage.command()
def report(set: Set = None) -> None:
    """Put all systems beside each other on one page, with clips to listen to: reports/ -> reports/index.html.

    Example: overtone stage report
    """
    from overtone import stages

    stages.report(stages.settings(set))


@stage.command()
def register(set: Set = None) -> None:
    """Put the better model into the registry, as challenger, and as champion if it passes the gate."""
    from overtone import stages

    with ended_by_signals():
        stages.register(stages.settings(set))


@app.command()
def sync() -> None:
    """Bring runs to the store in use: what trainings could not send, and the whole runs of the models in models/.

    Example: overtone sync
    """
    from overtone.settings import project
    from overtone.tracking import sync

    project.enter()
    sync.sync()


@app.command()
def failure(
    folder: Annotated[Path, typer.Argument(help="failure-step-N of a training that diverged; its error names it.")],
) -> None:
    """Show why a training diverged, by what it kept, and say how to go on.

    Example: overtone failure checkpoints/rnn-0123456789abcdef/failure-step-140
    """
    from overtone.training import failure

    print(failure.text(folder))


@app.command()
def shards(
    target: Annotated[str, typer.Argument(help="Folder or URL to write to, such as s3://bucket/prefix.")],
    corpus: Annotated[
        Path | None, typer.Option(help="Folder that the stage corpus wrote. Default: work/corpus.")
    ] = None,
    shard_mb: Annotated[float, typer.Option(min=0.001, help="Size of a shard in MB.")] = 64.0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: one a core.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace another set of shards that is there.")] = False,
) -> None:
    """Write the corpus as shards that training can fetch from a folder or an object store; the same clips again: no change.

    Example: overtone shards work/shards
    """
    from overtone import stages
    from overtone.data import shards
    from overtone.settings import project

    shown = stages.progress("shards")
    written = shards.write(corpus or project.CORPUS, target, round(shard_mb * 1e6), force, shown, workers)
    print(written.text(target))


@app.command()
def tune(
    model: Kind,
    trials: Annotated[
        int | None, typer.Option(min=0, help="Trials to finish; 0 only plots and chooses. Default: tune.trials.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes at a time. Default: tune.workers.")] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="sqlite:///FILE or postgresql://... Default: OVERTONE_TUNE_STORAGE, else tune.storage."),
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
    from overtone import settings, stages
    from overtone.settings import project
    from overtone.tuning import search
    from overtone.tuning.plan import plan, require_first_process

    project.enter()
    require_first_process()
    params = stages.settings(set)
    if (start := stages.start_folder(params, model)) is not None:
        params = settings.changed(params, {"train.fit.start": str(start)})
    source = params.train.data.source
    made = plan(params, model, source, trials, workers, storage, study, objective == "speed")
    with ended_by_signals():
        search.tune(made, project.REPORTS / "tune", set or (), trial, dry_run)


@app.command()
def summary(
    by_condition: Annotated[
        bool, typer.Option("--by-condition", help="Log-spectral distance of every condition too.")
    ] = False,
    report: Annotated[
        list[Path] | None,
        typer.Option(help="Report of another system to set beside them (overtone evaluate). Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """What the last run of the pipeline came to: registered version, scores beside the baselines', what to type next.

    Example: overtone summary
    """
    import json
    from dataclasses import asdict

    from overtone import settings, stages
    from overtone.evaluation import table
    from overtone.evaluation.report import read_metrics
    from overtone.registry import registry
    from overtone.settings import project

    project.enter()
    params = stages.settings()
    names = (*params.evaluate.baselines, *settings.FAMILIES)
    folders = {name: project.report_folder(name) for name in names} | {path.name: path for path in report or ()}
    metrics = {name: read_metrics(folder) for name, folder in folders.items()}
    rows = [row for row in registry.models(params.register_.name) if row.aliases]
    if as_json:
        print(json.dumps({"metrics": metrics, "registered": [asdict(row) for row in rows]}, default=str))
        return
    print(table.figures(metrics))
    if by_condition:
        print(f"\n{table.table(metrics)}")
    print()
    for row in rows:
        print(f"{params.register_.name} version {row.version} ({', '.join(row.aliases)}): {row.model}, {row.decision}")
    print(
        "\nNext:\n"
        "  source .venv/bin/activate\n"
        "  overtone enhance IN OUT               enhance an audio file with the champion\n"
        "  overtone models                       what the registry holds\n"
        "  overtone summary --by-condition       log-spectral distance of every condition\n"
        f"  {project.PAGE}                    charts, and the worst and best clips to hear; opens in a browser\n"
        "  overtone ui                           compare runs, listen to before and after\n"
        "  dvc exp run -S train.rnn.layers=1     try a setting"
    )


@app.command()
def verify(
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove damaged objects of the cache, and their copies in the workspace.")
    ] = False,
) -> None:
    """Compare all that DVC keeps of the project with its digests; status 1 if something is damaged.

    Example: overtone verify
    """
    from overtone.registry import integrity
    from overtone.settings import project

    root = project.source_root()
    count, damaged = integrity.verify(root)
    print(integrity.text(count, damaged, remove))
    for one in damaged if remove else ():
        integrity.remove(root, one)
    if damaged:
        raise typer.Exit(1)
