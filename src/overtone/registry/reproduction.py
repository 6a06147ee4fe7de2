"""A registered version made again in a temporary clone of its commit, and its metrics compared."""

from __future__ import annotations

import hashlib
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
from overtone.registry import processes
from overtone.registry.origin import Origin
from overtone.settings import FAMILIES, project
from overtone.tracking import dvc, entries, git, provenance

# What a process inside a stage or an `mlflow run` has set, and a line of its own must not inherit.
_INHERITED = (
    *("DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STUDIO_OFFLINE", "OVERTONE_PARENT_RUN_ID"),
    *("MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "GIT_DIR"),
    *("GIT_WORK_TREE", "GIT_INDEX_FILE"),
)
_SHOWN = 20


class ReproductionError(OvertoneError):
    """A version that cannot be made again; the message says what is missing."""


@dataclass(frozen=True)
class Outcome:
    """A version and its reproduction.

    `metrics`: name -> (the version's, the reproduction's), None where one has none. `weights` and `test_set`: whether they
    are the same. `folder`: the clone, None once it is gone.
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
    """Make a version again from its commit, its uncommitted changes and its data: training and evaluation run afresh.

    The clone has a store and a DVC cache of its own, so that nothing is taken for done; only the recordings come from this
    project's cache, or from its remote. The environment is the one that is active. Interrupted, it leaves nothing running and
    no clone.

    Args:
        origin: of the version.
        keep: leave the clone where it is.

    Raises:
        ReproductionError: commit, changes, data or scores were not kept or are not here, or a stage fails.
    """
    root = project.root()
    _require(origin, root)
    with _scratch(keep) as scratch:
        clone = _clone(origin, root, scratch)
        environment = _environment(clone)
        _pull(origin, root, clone, environment)
        stage = f"evaluate@{origin.model}"
        _run(_dvc("repro", "--no-run-cache", stage), clone, environment, f"dvc repro {stage}")
        return _compare(origin, clone, clone if keep else None)


def text(outcome: Outcome, tolerance: float = 0.0) -> str:
    """The differences as a table: the macro means, and whatever differs."""
    differing = [name for name, pair in outcome.metrics.items() if _difference(*pair) > tolerance]
    means = [name for name in outcome.metrics if name.endswith(".all.lsd") and name not in differing]
    lines = ["| metric | version | again | difference |", "|---|---:|---:|---:|"]
    for name in [*differing[:_SHOWN], *means]:
        before, after = outcome.metrics[name]
        cells = ["none" if one is None else f"{one:.6f}" for one in (before, after)]
        lines.append(f"| {name} | {' | '.join(cells)} | {_difference(before, after):.3g} |")
    if len(differing) > _SHOWN:
        lines.append(f"and {len(differing) - _SHOWN} more that differ")
    found = outcome.origin
    lines += [
        "",
        f"{found.name} version {found.version} ({found.model}) at commit {found.commit[:7]}: {len(outcome.metrics)} metrics, "
        f"largest difference {outcome.largest:.3g}",
        f"weights: {'identical to the byte' if outcome.weights else 'not identical'}; "
        f"test set: {'identical' if outcome.test_set else 'not identical'}",
    ]
    if outcome.folder:
        lines.append(f"kept: {outcome.folder}")
    return "\n".join(lines)


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
    if origin.model not in FAMILIES:
        raise ReproductionError(f"{which}: expected a model of kind {' or '.join(FAMILIES)}, not {origin.model!r}")


@contextmanager
def _scratch(keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="overtone-reproduce-")).resolve()
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _clone(origin: Origin, root: Path, scratch: Path) -> Path:
    """The project's folder in a new clone at the version's commit, its uncommitted changes applied."""
    repository, environment = scratch / "overtone", _plain_environment()
    top = git.line(root, "rev-parse", "--show-toplevel")
    prefix = git.line(root, "rev-parse", "--show-prefix")
    _run(["git", "clone", "-q", "--no-checkout", top, str(repository)], scratch, environment, "git clone")
    _run(["git", "checkout", "-q", "--detach", origin.commit], repository, environment, "git checkout")
    if origin.dirty and origin.patch:
        patch = scratch / provenance.PATCH
        patch.write_bytes(origin.patch)
        _run(["git", "apply", "--whitespace=nowarn", str(patch)], repository, environment, "git apply")
    return repository / prefix


def _plain_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _INHERITED}


def _environment(clone: Path) -> dict[str, str]:
    """The active environment with the clone's own code first, and the clone's own store."""
    plain = _plain_environment()
    path = os.pathsep.join([str(Path(sys.executable).parent), plain.get("PATH", "")])
    code = os.pathsep.join(filter(None, [str(clone / "src"), plain.get("PYTHONPATH", "")]))
    return plain | {"PATH": path, "PYTHONPATH": code, "MLFLOW_TRACKING_URI": f"sqlite:///{clone / 'mlflow.db'}"}


def _pull(origin: Origin, root: Path, clone: Path, environment: Mapping[str, str]) -> None:
    """The recordings, from this project's cache if they are there, else from its remote."""
    pointer = dvc.pointer(origin.corpus)
    if not (clone / pointer).is_file():
        if (clone / origin.corpus).is_dir():
            return
        raise ReproductionError(f"{origin.corpus}: the commit has neither the recordings nor {pointer}")
    local = root / ".dvc" / "config.local"
    if local.is_file():
        shutil.copyfile(local, clone / ".dvc" / "config.local")
    asked = subprocess.run(_dvc("cache", "dir"), cwd=root, env=environment, capture_output=True, text=True, check=False)
    if asked.returncode == 0:
        # A cache is laid out as a remote is.
        here = _dvc("remote", "add", "-q", "--local", "--force", "here", asked.stdout.strip())
        _run(here, clone, environment, "dvc remote add")
        nearby, nowhere = _dvc("pull", "-q", "-r", "here", pointer), subprocess.DEVNULL
        if processes.call(nearby, clone, environment, output=nowhere, errors=nowhere) == 0:
            return
    _run(_dvc("pull", "-q", pointer), clone, environment, f"dvc pull {pointer}")


def _dvc(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "dvc", *arguments]


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str], what: str) -> None:
    """A command whose output goes to standard error, past the table."""
    if status := processes.call(command, folder, environment, output=sys.stderr.fileno()):
        raise ReproductionError(f"{what} failed with status {status}; what it said is above")


def _compare(origin: Origin, clone: Path, folder: Path | None) -> Outcome:
    report, weights = clone / "reports" / origin.model / "metrics.json", clone / "models" / origin.model
    try:
        tree: dict[str, Any] = json.loads(report.read_text())
        digest = hashlib.sha256((weights / "weights.safetensors").read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise ReproductionError(f"the clone's results cannot be read: {error}") from None
    again = dict(entries.leaves(tree))
    names = sorted({*origin.metrics, *again})
    return Outcome(
        origin,
        {name: (origin.metrics.get(name), again.get(name)) for name in names},
        weights=digest == origin.weights_sha256,
        test_set=tree.get("test_set") == origin.test_set,
        folder=folder,
    )
