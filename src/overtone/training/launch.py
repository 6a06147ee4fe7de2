"""Which processes make up one training, and how several are started on one machine: torchrun's own engine does it."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from overtone.errors import OvertoneError
from overtone.settings import FitParams, TrainParams

# What torchrun calls a job, in the environment of each of its processes.
_JOB = "TORCHELASTIC_RUN_ID"


class LaunchError(OvertoneError):
    """Processes that cannot be started, do not fit the settings, or died; the message says which and what to do.

    Args:
        job: of the processes that died; empty where none was started.
    """

    def __init__(self, message: str, job: str = "") -> None:
        super().__init__(message)
        self.job = job


@dataclass(frozen=True)
class Layout:
    """Processes on each machine, and machines."""

    devices: int
    num_nodes: int

    @property
    def world(self) -> int:
        return self.devices * self.num_nodes


def launched() -> bool:
    """Whether torchrun has started this process as one of a job's."""
    return _JOB in os.environ


def job() -> str:
    """The job that this process is one of; empty where it stands alone."""
    return os.environ.get(_JOB, "")


def layout(fit: FitParams) -> Layout:
    """What the launcher made of this job; a single process where there was none.

    Raises:
        LaunchError: `train.fit.devices` or `train.fit.num_nodes` says otherwise.
    """
    if not launched():
        return Layout(1, 1)
    devices = int(os.environ["LOCAL_WORLD_SIZE"])
    found = Layout(devices, int(os.environ["WORLD_SIZE"]) // devices)
    for name in ("devices", "num_nodes"):
        wanted = getattr(fit, name)
        if wanted not in ("auto", getattr(found, name)):
            raise LaunchError(f"train.fit.{name}: {wanted}, but torchrun started {getattr(found, name)}; expected auto")
    return found


def share(task: str, batch: int, world: int, accumulate: int) -> int:
    """Examples that one process computes at a time, of a batch that all share.

    Raises:
        LaunchError: the batch cannot be shared out evenly.
    """
    if batch % (world * accumulate):
        raise LaunchError(
            f"train.{task}.batch: {batch} cannot be shared out evenly among {world} processes with "
            f"train.fit.accumulate={accumulate}; expected a multiple of {world * accumulate}"
        )
    return batch // (world * accumulate)


def check(train: TrainParams, world: int) -> None:
    """Whether the batches of both networks can be shared out.

    Raises:
        LaunchError: one cannot.
    """
    for task, batch in (("extend", train.extend.batch), ("restore", train.restore.batch)):
        share(task, batch, world, train.fit.accumulate)


def wanted(fit: FitParams) -> int:
    """How many processes a job on this machine alone should have.

    Raises:
        LaunchError: the settings ask for several machines.
    """
    if fit.num_nodes not in ("auto", 1):
        raise LaunchError(
            f"train.fit.num_nodes: {fit.num_nodes} machines need torchrun on each: docs/how-to/many-gpus.md"
        )
    if fit.devices != "auto":
        return fit.devices
    if fit.accelerator in ("cpu", "mps"):
        return 1
    import torch

    return max(torch.cuda.device_count(), 1)


def launch(module: str, arguments: Sequence[str], processes: int, environment: Mapping[str, str] | None = None) -> None:
    """Run `python -m MODULE ARGUMENTS` in several processes of one job, and wait for them.

    Args:
        environment: variables that they have besides those of this process.

    Raises:
        LaunchError: one of them died; the others were ended.
    """
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
    )
    before = {name: os.environ.get(name) for name in environment or {}}
    os.environ.update(environment or {})
    try:
        elastic_launch(config, sys.executable)("-m", module, *arguments)
    except ChildFailedError as error:
        rank, failure = min(error.failures.items(), key=lambda item: _suspicion(item[1].exitcode))
        how = (
            f"was killed by {signal.Signals(-failure.exitcode).name}"
            if failure.exitcode < 0
            else f"failed with exit status {failure.exitcode}"
        )
        raise LaunchError(
            f"training: process {rank} of {processes} {how}, and the others were ended; "
            "the same command goes on from the last checkpoint",
            config.run_id,
        ) from None
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _suspicion(status: int) -> int:
    """Orders processes that ended together by how likely they were the first: the others lost them, or were asked to end."""
    if status < 0:
        return 2 if status == -signal.SIGTERM else 0
    return 1
