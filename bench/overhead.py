"""What does one stage of the line cost besides its work, and how does that grow with the number of files?

    python bench/overhead.py                       # everything; the training is of 10 steps
    python bench/overhead.py --files 10 100 1000 10000 --steps 50
    python bench/overhead.py --runs 1 --steps 0 --chart docs/pictures/bench-overhead.png

Prints, beside a bare `python -c pass`: the start of the command, the imports of each stage, an empty stage and one that
is up to date under DVC by the number of files in the folder that it depends on, and an MLflow run beside the training
that it records (on work/pairs, one epoch with its validation; without that folder or with --steps 0 it is left out).
Everything is written into a temporary folder.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
from overtone.errors import OvertoneError

PAIRS = Path("work/pairs")
# What each stage imports that the command itself does not.
IMPORTS = {
    "numpy": "numpy",
    "torch": "torch",
    "mlflow": "mlflow",
    "stage corpus": "overtone.stages, overtone.data.corpus",
    "stage degrade": "overtone.stages, overtone.data.pairs",
    "stage train": "overtone.stages, overtone.tracking.runs, overtone.training.fit, mlflow",
    "stage evaluate": "overtone.stages, overtone.report, overtone.enhance.upsampler, overtone.tracking.runs, mlflow",
    "stage register": "overtone.stages, overtone.registry.registry, mlflow",
}


def command(*arguments: str, cwd: Path | None = None) -> None:
    """Run a command of this environment, silently; its output is shown if it fails."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    program = shutil.which(arguments[0], path=path) or arguments[0]
    done = subprocess.run([program, *arguments[1:]], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OvertoneError(f"{' '.join(arguments)}: exit status {done.returncode}\n{done.stdout}{done.stderr}")


def isolate(scratch: Path) -> None:
    """Keep this process and those it starts away from the user's stores and caches."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "DVC_", "OVERTONE_")):
            del os.environ[name]
    os.environ |= {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(scratch), "MLFLOW_DISABLE_TELEMETRY": "true"}
    # The store's locks lie in the folder for temporary files.
    tempfile.tempdir = str(scratch)


def repository(folder: Path, files: int) -> None:
    """A DVC project of one stage that does nothing and depends on a folder of so many files."""
    (folder / "files").mkdir(parents=True)
    for i in range(files):
        (folder / "files" / f"{i}.txt").write_text(f"{i}\n")
    # JSON is YAML, and quotes whatever the interpreter's path holds.
    stage = {"cmd": f'"{sys.executable}" -c pass', "deps": ["files"]}
    (folder / "dvc.yaml").write_text(json.dumps({"stages": {"empty": stage}}))
    command("dvc", "init", "--no-scm", "--quiet", cwd=folder)
    command("dvc", "repro", "--quiet", cwd=folder)


def time_starts(table: measure.Table, bare: float, runs: int) -> None:
    """The command's start, and the imports of each stage, in processes of their own."""
    table.row("python -c pass", bare, 1.0)
    for arguments in (("overtone", "--help"), ("overtone", "stage", "train", "--help"), ("dvc", "--version")):
        taken = measure.seconds(functools.partial(command, *arguments), runs)
        table.row(" ".join(arguments), taken, taken / bare)
    for name, modules in IMPORTS.items():
        taken = measure.seconds(functools.partial(command, sys.executable, "-c", f"import {modules}"), runs)
        table.row(f"imports: {name}", taken, taken / bare)


def time_mlflow(table: measure.Table, bare: float, runs: int, steps: int, overrides: list[str], scratch: Path) -> None:
    """An MLflow run in a database of its own, and a short training without and with it."""
    from overtone import settings as params
    from overtone.tracking import store
    from overtone.tracking.runs import TrainingRun
    from overtone.training.fit import train

    # Its import is a row of its own.
    importlib.import_module("mlflow")
    paced = (f"train.rnn.steps={max(steps, 1)}", f"train.fit.epoch_steps={max(steps, 1)}", *overrides)
    settings, pairs = params.load(overrides=paced), PAIRS.resolve()
    os.environ["DVC_ROOT"] = str(scratch)

    def fit(run: TrainingRun | None = None) -> None:
        # Checkpoints of a training before would be continued.
        folder = Path(tempfile.mkdtemp())
        train(settings, "rnn", pairs, folder / "model", folder / "checkpoints", run.logger() if run else False)

    def recorded(work: Callable[[TrainingRun], object]) -> None:
        with TrainingRun("rnn", settings) as run:
            work(run)

    with contextlib.chdir(scratch), contextlib.redirect_stdout(io.StringIO()):
        begun = time.perf_counter()
        store.client()
        opened = time.perf_counter() - begun
        empty = measure.seconds(functools.partial(recorded, lambda _: None), runs)
        taken = {"MLflow: first use of a database": opened, "MLflow: an empty run": empty}
        if steps and pairs.is_dir():
            taken[f"fit: {steps} steps, not recorded"] = measure.seconds(fit, runs)
            taken[f"fit: {steps} steps, recorded"] = measure.seconds(functools.partial(recorded, fit), runs)
    for name, value in taken.items():
        table.row(name, value, value / bare)


def main() -> None:
    parser = measure.parser(__doc__)
    parser.add_argument("--files", nargs="+", type=int, default=[10, 100, 1000, 10_000])
    parser.add_argument("--steps", type=int, default=10, help="of the training beside the MLflow run; 0 leaves it out")
    parser.add_argument("--set", action="append", default=[], help="dotted.key=value over params.yaml")
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        isolate(scratch)
        bare = measure.seconds(functools.partial(command, sys.executable, "-c", "pass"), given.runs)
        table = measure.Table({"what": "<34", "time, s": ".3f", "time / bare python": ".1f"})
        time_starts(table, bare, given.runs)
        time_mlflow(table, bare, given.runs, given.steps, given.set, scratch)

        print()
        ways = {"dvc status": ["status"], "dvc repro, up to date": ["repro"], "dvc repro --force": ["repro", "--force"]}
        lines: measure.Lines = {"python -c pass": [], **{name: [] for name in ways}}
        columns = {"what": "<24", "files": "d", "time, s": ".3f", "time / bare python": ".1f"}
        table = measure.Table({**columns, "time / fewest files": ".2f"})
        for files in sorted(given.files):
            project = scratch / f"files-{files}"
            repository(project, files)
            lines["python -c pass"].append((files, bare))
            for name, arguments in ways.items():
                taken = measure.seconds(functools.partial(command, "dvc", *arguments, cwd=project), given.runs)
                lines[name].append((files, taken))
                table.row(name, files, taken, taken / bare, taken / lines[name][0][1])
    measure.chart(
        given.chart,
        {"": lines},
        title="A stage that does nothing, under DVC",
        x="files in the folder it depends on",
        y="time (s)",
        log_y=False,
    )


if __name__ == "__main__":
    measure.start(main)
