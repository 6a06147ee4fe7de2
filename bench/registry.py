"""Do `overtone models` and `overtone stage register` stay quick when the registry has grown?

    python bench/registry.py                               # of a project whose line has run: 1,000 runs, 100 versions
    python bench/registry.py --runs 200 --versions 20 --line ../other

A copy of the line's models and reports is registered in a project of its own in a temporary folder, in an SQLite store.
Then the store is filled up with runs and versions like the first. Each command is run as a user runs it, on the small
store and on the full one: its time on the processor, the start of its process included, and by the clock. Half of such a
command is the import of MLflow, which is a row of its own.

`register, known` finds its model registered and judged already, as every `dvc repro` of the same model does; `register,
new` makes a version, with its package, ONNX graph and try-out. Status 1 if on the full store a command takes more than
1.3 times as long on the processor as on the small one.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
from memory import in_fresh_process
from scale import Cost, cost

MOST_GROWTH = 1.3
EXPERIMENT = "overtone"


def copied(line: Path, folder: Path) -> None:
    """The parts of a line that registering reads."""
    for name in ("models", "reports"):
        shutil.copytree(line / name, folder / name, ignore=shutil.ignore_patterns("figures", "audio", "*.onnx"))
    shutil.copyfile(line / "params.yaml", folder / "params.yaml")


def fill(folder: Path, runs: int, versions: int) -> None:
    """More runs with settings and metrics, and more versions with the tags of the first; in a process of its own."""
    os.environ |= {"DVC_ROOT": str(folder), "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.chdir(folder)

    from mlflow.entities import Metric, Param, RunTag

    from overtone import settings as params
    from overtone.tracking import store

    client, name = store.client(), params.load().register_.name
    experiment = store.experiment_id(client)
    first = client.get_model_version(name, "1")
    for index in range(runs):
        run = client.create_run(experiment, run_name=f"made-up-{index}")
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(f"overall.m{k}", index + k / 7, index, step) for k in range(10) for step in (0, 1)],
            params=[Param(f"train.p{k}", str(index * k)) for k in range(40)],
            tags=[RunTag(f"t{k}", str(index)) for k in range(8)],
        )
        client.set_terminated(run.info.run_id)
        # Spread over the runs, as they come to be in life.
        if index * versions // runs != (index + 1) * versions // runs:
            tags = dict(first.tags) | {"weights_sha256": f"{index:064x}", "origin_run_id": run.info.run_id}
            client.create_model_version(name, first.source, run.info.run_id, tags=tags, description=first.description)


def commands(folder: Path) -> dict[str, Cost]:
    """What each command costs on the store as it is; a version more is made each time."""
    run = folder / "models" / "rnn" / "run.json"
    known = json.loads(run.read_text())
    found = {
        "models": cost(folder, "models"),
        "register, known": cost(folder, "stage", "register"),
    }
    run.write_text(json.dumps(known | {"run_id": os.urandom(16).hex()}))
    return found | {"register, new": cost(folder, "stage", "register")}


def bare(folder: Path) -> Cost:
    """A command that starts, and needs no more than MLflow's client."""
    return cost(folder, code="import mlflow; mlflow.MlflowClient")


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--versions", type=int, default=100)
    parser.add_argument("--line", type=Path, default=Path(), help="project whose line has run")
    given = parser.parse_args()
    columns: dict[str, str] = {"command": "<16", "runs": "d", "versions": "d", "CPU s": ".2f", "by the clock, s": ".1f"}
    table = measure.Table(columns | {"CPU / small": ".2f"})
    small: dict[str, Cost] = {}
    kept = True
    print(f"load average {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copied(given.line, folder)
        found: dict[str, Any] = {"import mlflow": bare(folder)}
        table.row("import mlflow", 0, 0, found["import mlflow"].cpu, found["import mlflow"].wall, None)
        cost(folder, "stage", "register")
        for runs, versions in ((1, 1), (given.runs, given.versions)):
            if runs > 1:
                in_fresh_process(fill, folder, runs - 2, versions - 2)
            for command, one in commands(folder).items():
                ratio = one.cpu / small.setdefault(command, one).cpu
                table.row(command, runs, versions, one.cpu, one.wall, ratio)
                kept &= ratio <= MOST_GROWTH
    print(f"load average {os.getloadavg()[0]:.1f}")
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    measure.start(main)
