"""Registered and released models."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from overtone.cli.app import Json, app, ended_by_signals, print_table
from overtone.errors import OvertoneError

if TYPE_CHECKING:
    from overtone.registry.decisions import Decision
    from overtone.registry.registry import ModelRow
    from overtone.settings import RegisterParams

Version = Annotated[
    str, typer.Argument(help="models:/overtone@champion, models:/overtone/3, an alias or a version number.")
]


def _settings() -> RegisterParams:
    from overtone import stages

    return stages.settings().register_


@app.command()
def models(as_json: Json = False) -> None:
    """List the versions in the registry with their scores and aliases.

    Example: overtone models
    """
    from overtone.registry import registry

    name = _settings().name
    rows = registry.models(name)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], default=str))
    elif not rows:
        print(f"{name}: nothing registered yet; run dvc repro")
    else:
        _print_versions(rows)


def _print_versions(rows: list[ModelRow]) -> None:
    # Metrics as headings of short lines, so that the table fits 80 columns.
    heads = ("version", "model", "made", "run", "commit", *(name.replace(".", "\n") for name in rows[0].scores))
    cells = []
    for row in rows:
        scores = [f"{row.scores[name]:.3f}" if name in row.scores else "-" for name in rows[0].scores]
        day = row.created.strftime("%Y-%m-%d")
        cells.append([str(row.version), row.model, day, row.run_id[:8], row.commit[:7], *scores])
    print_table(heads, cells)
    for row in rows:
        alias = f" ({', '.join(row.aliases)})" if row.aliases else ""
        print(f"version {row.version}{alias}: {row.decision or 'not judged'}")


@app.command()
def promote(
    version: Annotated[str | None, typer.Argument(help="Version number or alias that becomes champion.")] = None,
) -> None:
    """Make a registered version the champion by hand, whatever the gate says.

    Example: overtone promote 3
    """
    from overtone.registry import registry, versions

    params = _settings()
    name, reference = versions.address(version or _asked(params.name), params.name)
    _conclude(registry.promote(name, reference), params)


def _asked(name: str) -> str:
    """The challenger's version, if the user agrees.

    Raises:
        OvertoneError: nobody is there to be asked.
    """
    from overtone.registry import versions
    from overtone.tracking import store

    challenger = versions.resolve(store.client(), name, versions.CHALLENGER)
    what = f"version {challenger.version}, the challenger ({challenger.tags.get('decision', 'not judged')})"
    if not sys.stdin.isatty():
        raise OvertoneError(
            f"promote: expected a version number or alias; `overtone promote challenger` makes {what} champion, whatever the "
            "gate says"
        )
    typer.confirm(f"Make {what} champion, whatever the gate says?", abort=True)
    return str(challenger.version)


@app.command()
def rollback() -> None:
    """Give the champion's place back to the version that held it before.

    Example: overtone rollback
    """
    from overtone.registry import registry

    params = _settings()
    _conclude(registry.rollback(params.name), params)


def _conclude(decision: Decision, params: RegisterParams) -> None:
    from overtone.registry import hooks

    print(f"{decision.name}: champion is version {decision.champion} ({decision.reason}), before: {decision.previous}")
    with ended_by_signals():
        hooks.announce(decision, params.on_champion, params.on_champion_seconds)


@app.command()
def lineage(version: Version = "champion", as_json: Json = False) -> None:
    """Where a version comes from, back to commit, settings and data, every step checked; status 1 if one differs.

    Example: overtone lineage champion
    """
    from overtone.registry import lineage, versions

    found = lineage.trace(*versions.address(version, _settings().name))
    print(json.dumps(found.as_dict()) if as_json else lineage.text(found))
    if not found.holds:
        raise typer.Exit(1)


@app.command()
def reproduce(
    version: Version = "champion",
    tolerance: Annotated[float, typer.Option(help="Largest difference of a metric that passes.")] = 0.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the worktree where it is.")] = False,
    as_json: Json = False,
) -> None:
    """Train and evaluate a version again in a temporary worktree of its commit; status 1 if a metric differs.

    Example: overtone reproduce champion
    """
    from overtone.registry import lineage, reproduction, versions

    origin = lineage.trace(*versions.address(version, _settings().name), check=False)
    with ended_by_signals():
        outcome = reproduction.reproduce(origin, keep)
    print(json.dumps(outcome.as_dict(tolerance)) if as_json else reproduction.text(outcome, tolerance))
    if outcome.largest > tolerance:
        raise typer.Exit(1)


@app.command()
def repair(version: Version = "champion") -> None:
    """Put a version's stored files, damaged or gone, back from a sound copy in models/ or .overtone/models/.

    Example: overtone repair champion
    """
    from overtone.registry import repair, versions

    name, reference = versions.address(version, _settings().name)
    number, folder = repair.repair(name, reference)
    print(f"{name} version {number}: its files are back, from {folder}")


@app.command()
def fetch(
    model: Annotated[str, typer.Argument(help="champion, challenger, a version number, released or released-rnn.")],
    folder: Annotated[Path, typer.Argument(help="Where to put the model folder.")],
) -> None:
    """Copy a registered or released model to a folder, checked against its digest.

    Example: overtone fetch champion best
    """
    from overtone.data.corpus import replacing_folder
    from overtone.registry import resolve

    if folder.exists():
        raise OvertoneError(f"{folder}: exists already; expected a folder to make")
    source = resolve.fetched(model)
    with replacing_folder(folder) as temporary:
        for path in sorted(source.iterdir()):
            if path.is_file():
                (temporary / path.name).write_bytes(path.read_bytes())
    print(f"{folder}: {model}")


@app.command()
def export(folder: Annotated[Path, typer.Argument(help="A model folder, such as models/rnn.")]) -> None:
    """Write a model's ONNX graphs into its folder; enhancing on a CPU then runs them.

    Example: overtone export models/rnn
    """
    from overtone.models import graphs

    for path in graphs.export(folder):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, equal to the network within {graphs.TOLERANCE:g}")


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65_535, help="Port to listen on.")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open MLflow's page on the project's own store: runs, charts, registered models, audio to listen to.

    Example: overtone ui
    """
    from overtone.tracking import ui

    ui.serve(host, port)
