"""A registered version made again in a temporary worktree of its commit, and its metrics compared."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overtone.errors import OvertoneError
from overtone.registry import packaging
from overtone.registry.lineage import Origin
from overtone.settings import project
from overtone.tracking import dvc, entries, git, processes, provenance

# What a process inside a stage or an `mlflow run` has set, and a pipeline of its own must not inherit.
_INHERITED = (
    *("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STUDIO_OFFLINE", "OVERTONE_PARENT_RUN_ID"),
    *("MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "GIT_DIR"),
    *("GIT_WORK_TREE", "GIT_INDEX_FILE"),
)


class ReproductionError(OvertoneError):
    """A version that cannot be made again; the message says what is missing."""


@dataclass(frozen=True)
class Outcome:
    """A version and its reproduction.

    `metrics`: name -> (the version's, the reproduction's), None where one has none. `weights` and `test_set`: whether they
    are the same. `folder`: the worktree, None once it is gone.
    """

    origin: Origin
    metrics: Mapping[str, tuple[float | None, float | None]]
    weights: bool
    test_set: bool
    folder: Path | None

    @property
    def largest(self) -> float:
        """The largest difference of a metric; infinite where one of the two lacks it."""
        return max((_difference(*pair) for pair in self.metrics.values()), default=float("inf"))

    def as_dict(self, tolerance: float) -> dict[str, Any]:
        """For `--json`."""
        return {
            "name": self.origin.name,
            "version": self.origin.version,
            "model": self.origin.model,
            "commit": self.origin.commit,
            "metrics": {name: {"version": before, "again": after} for name, (before, after) in self.metrics.items()},
            "largest": self.largest if math.isfinite(self.largest) else None,
            "passed": self.largest <= tolerance,
            "weights": self.weights,
            "test_set": self.test_set,
            "folder": None if self.folder is None else str(self.folder),
        }


def _difference(before: float | None, after: float | None) -> float:
    return float("inf") if before is None or after is None else abs(after - before)


def reproduce(origin: Origin, keep: bool = False) -> Outcome:
    """Make a version again from its commit, its uncommitted changes and its data: every stage runs afresh.

    The worktree has an MLflow store of its own and shares this project's DVC cache, in which nothing is taken for done
    (`dvc repro --force`). The environment is the one that is active. Interrupted, it leaves nothing running and no worktree.

    Args:
        origin: of the version.
        keep: leave the worktree where it is.

    Raises:
        ReproductionError: commit, changes, data or scores were not kept or are not here, or a stage fails.
    """
    root = project.root()
    _require(origin, root)
    with _worktree(origin, root, keep) as folder:
        environment = _environment(folder)
        _fetch_data(origin, root, folder, environment)
        _run(_dvc("repro", "--force", f"evaluate@{origin.model}"), folder, environment)
        return _compare(origin, folder, folder if keep else None)


def text(outcome: Outcome, tolerance: float = 0.0) -> str:
    """The metrics that differ, as a table, and what is the same."""
    lines = ["| metric | version | again | difference |", "|---|---:|---:|---:|"]
    for name, pair in outcome.metrics.items():
        if (difference := _difference(*pair)) > tolerance:
            cells = ["none" if one is None else f"{one:.6f}" for one in pair]
            lines.append(f"| {name} | {' | '.join(cells)} | {difference:.3g} |")
    found = outcome.origin
    lines += [
        "",
        f"{found.name} version {found.version} ({found.model}) at commit {found.commit[:7]}: {len(outcome.metrics)} metrics, "
        f"largest difference {outcome.largest:.3g}",
        f"weights: {'identical to the byte' if outcome.weights else 'not identical'}; "
        f"test set: {'identical' if outcome.test_set else 'not identical'}",
        *([f"kept: {outcome.folder}"] if outcome.folder else []),
    ]
    return "\n".join(lines if outcome.largest > tolerance else lines[3:])


def _require(origin: Origin, root: Path) -> None:
    which = f"{origin.name} version {origin.version}"
    if not origin.commit:
        raise ReproductionError(f"{which}: its run names no commit; it was trained outside git")
    if not git.has_commit(root, origin.commit):
        raise ReproductionError(f"{which}: commit {origin.commit} is not in this clone; git fetch may bring it")
    if origin.dirty and origin.patch is None:
        raise ReproductionError(f"{which}: trained with uncommitted changes, which its run did not keep")
    if not origin.metrics:
        raise ReproductionError(f"{which}: its scores were not kept; there is nothing to compare with")


@contextmanager
def _worktree(origin: Origin, root: Path, keep: bool) -> Iterator[Path]:
    """The project's folder in a new worktree at the version's commit, with what was not committed."""
    place = Path(tempfile.mkdtemp(prefix="overtone-reproduce-")).resolve() / "overtone"
    plain = _plain_environment()
    try:
        _run(["git", "worktree", "add", "-q", "--detach", str(place), origin.commit], root, plain)
        if origin.dirty and origin.patch:
            patch = place.with_name(provenance.PATCH)
            patch.write_bytes(origin.patch)
            _run(["git", "apply", "--whitespace=nowarn", str(patch)], place, plain)
        yield place / git.line(root, "rev-parse", "--show-prefix")
    finally:
        if not keep:
            shutil.rmtree(place.parent, ignore_errors=True)
            git.run(root, "worktree", "prune")


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _INHERITED}


def _environment(folder: Path) -> dict[str, str]:
    """The active environment with the worktree's own code first, and a store of its own."""
    plain = _plain_environment()
    path = os.pathsep.join([str(Path(sys.executable).parent), plain.get("PATH", "")])
    code = os.pathsep.join(filter(None, [str(folder / "src"), plain.get("PYTHONPATH", "")]))
    return plain | {"PATH": path, "PYTHONPATH": code, "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}


def _fetch_data(origin: Origin, root: Path, folder: Path, environment: Mapping[str, str]) -> None:
    """The recordings, from this project's cache if they are there, else from its remote."""
    pointer = dvc.pointer(origin.corpus)
    if not (folder / pointer).is_file():
        if (folder / origin.corpus).is_dir():
            return
        raise ReproductionError(f"{origin.corpus}: the commit has neither the recordings nor {pointer}")
    if (local := root / ".dvc" / "config.local").is_file():
        shutil.copyfile(local, folder / ".dvc" / "config.local")
    asked = subprocess.run(_dvc("cache", "dir"), cwd=root, env=environment, capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        _run(_dvc("config", "-q", "--local", "cache.dir", asked.stdout.strip()), folder, environment)
    _run(_dvc("pull", "-q", pointer), folder, environment)


def _dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """A command whose output goes to standard error, past the table."""
    if status := processes.call(command, folder, environment, output=sys.stderr.fileno()):
        shown = " ".join(command).removeprefix(f"{sys.executable} -m ")
        raise ReproductionError(f"{shown} failed with status {status}; what it printed is above")


def _compare(origin: Origin, made: Path, folder: Path | None) -> Outcome:
    try:
        tree: dict[str, Any] = json.loads((made / "reports" / origin.model / "metrics.json").read_text())
        digest = packaging.digested(made / "models" / origin.model)[packaging.WEIGHTS]
    except (OSError, ValueError, KeyError) as error:
        raise ReproductionError(f"the results cannot be read: {error}") from None
    again = dict(entries.leaves(tree))
    names = sorted({*origin.metrics, *again})
    return Outcome(
        origin,
        {name: (origin.metrics.get(name), again.get(name)) for name in names},
        weights=digest == origin.weights_sha256,
        test_set=tree.get("test_set") == origin.test_set,
        folder=folder,
    )
