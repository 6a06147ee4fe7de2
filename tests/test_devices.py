"""Laws of a training on several processes: the same curve, one run, one set of files, and a clear end when one dies."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from conftest import ROOT
from overtone import settings as settings_file
from overtone.settings import FitParams
from overtone.training import launch
from overtone.training.launch import LaunchError, Layout
from test_training import SMALL

# Each process's share has means of its own, over the frames and examples that count, and sums come in another order: after
# 12 steps of 4 examples a curve has moved by less than this share of its value, or so many dB.
TOLERANCE, TOLERANCE_DB = 0.02, 0.05

Start = Callable[..., subprocess.Popen[str]]


def fit_settings(**changes: object) -> FitParams:
    return settings_file.load(ROOT / "params.yaml").train.fit.model_copy(update=changes)


@pytest.fixture
def torchrun(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Makes this process look like one of a job of so many processes on so many machines."""

    def set(devices: int, nodes: int) -> None:
        values = {"TORCHELASTIC_RUN_ID": "1", "LOCAL_WORLD_SIZE": str(devices), "WORLD_SIZE": str(devices * nodes)}
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set


# --- who takes part -----------------------------------------------------------------------------------------------------


def test_without_a_launcher_there_is_one_process() -> None:
    assert launch.layout(fit_settings(devices=2)) == Layout(1, 1)
    assert not launch.launched()


@pytest.mark.parametrize(("devices", "nodes"), [(2, 1), (1, 2), (8, 4)])
def test_launcher_says_how_many_processes_there_are(
    torchrun: Callable[[int, int], None], devices: int, nodes: int
) -> None:
    torchrun(devices, nodes)
    for settings in (fit_settings(), fit_settings(devices=devices, num_nodes=nodes)):
        assert launch.layout(settings) == Layout(devices, nodes)


@pytest.mark.parametrize("setting", ["devices", "num_nodes"])
def test_settings_that_contradict_the_launcher_are_refused(torchrun: Callable[[int, int], None], setting: str) -> None:
    torchrun(2, 2)
    with pytest.raises(LaunchError, match=rf"train\.fit\.{setting}: 3, but torchrun started 2"):
        launch.layout(fit_settings(**{setting: 3}))


def test_several_machines_want_a_launcher() -> None:
    with pytest.raises(LaunchError, match=r"train\.fit\.num_nodes: 2 machines need torchrun"):
        launch.wanted(fit_settings(num_nodes=2))
    assert launch.wanted(fit_settings(accelerator="cpu")) == 1
    assert launch.wanted(fit_settings(devices=3)) == 3


def test_batch_is_shared_out_evenly_or_refused() -> None:
    assert launch.share("extend", 16, 2, 2) == 4
    with pytest.raises(LaunchError, match=r"train\.extend\.batch: 16 cannot be shared out .* expected a multiple of 6"):
        launch.share("extend", 16, 3, 2)


# --- real processes -----------------------------------------------------------------------------------------------------


@pytest.fixture
def start(project: Path, corpus_folder: Path, environment: dict[str, str]) -> Start:
    """Starts `overtone stage train --model rnn` in a project of its own, `before` the command as torchrun would stand."""
    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    shutil.copytree(corpus_folder, project / "work" / "corpus")

    def run(
        *overrides: str, before: Sequence[str] = (), program: Sequence[str] = ("overtone",)
    ) -> subprocess.Popen[str]:
        words = [word for override in (*SMALL, *overrides) for word in ("--set", override)]
        return subprocess.Popen(
            [*before, *program, "stage", "train", "--model", "rnn", *words],
            cwd=project,
            env=environment | {"DVC_ROOT": str(project)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


def finished(process: subprocess.Popen[str]) -> str:
    output = process.communicate(timeout=900)[0]
    assert process.returncode == 0, output
    return output


def curve(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "models" / "rnn" / "history.csv")


def assert_same_curve(one: pd.DataFrame, other: pd.DataFrame) -> None:
    assert list(one.columns) == list(other.columns)
    assert list(one["step"]) == list(other["step"])
    # The norm of a gradient feels the order of sums a hundred times as much as the loss does.
    # These two are means over what each process's share holds of their kind, the shares weighted alike.
    shared = ["extend_train_rms", "restore_train_gain_db"]
    for name in one.columns.drop(["task", "extend_gradient_norm", "restore_gradient_norm", *shared]):
        np.testing.assert_allclose(one[name], other[name], rtol=TOLERANCE, atol=TOLERANCE_DB, err_msg=name)


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one_and_one_run(start: Start, project: Path) -> None:
    from overtone.tracking import store

    output = finished(start("train.fit.devices=2"))
    assert output.count("starting run") == 1
    assert output.count("step 12/12: extend") == output.count("step 12/12: restore") == 1
    (run,) = store.client().search_runs(["1"])
    assert run.info.status == "FINISHED"
    for name in ("extend_valid_lsd", "restore_valid_gain_db"):
        assert len(store.client().get_metric_history(run.info.run_id, name)) == 3
    assert sorted(path.name for path in (project / "models" / "rnn").iterdir()) == [
        "config.json",
        "history.csv",
        "run.json",
        "weights.safetensors",
    ]
    assert not list((project / "checkpoints").iterdir())
    together = curve(project)
    finished(start("train.fit.devices=1"))
    assert_same_curve(together, curve(project))
    finished(start("train.fit.devices=1", "train.fit.accumulate=2"))
    assert_same_curve(together, curve(project))


@pytest.mark.slow
@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.long), 1])
def test_killed_process_ends_the_job_and_another_number_of_them_goes_on(start: Start, project: Path, rank: int) -> None:
    from overtone.tracking import store

    job = start("train.fit.devices=2")
    assert job.stdout is not None
    said = []
    for text in job.stdout:
        said.append(text)
        if text.startswith("step 4/12: restore"):
            break
    workers = [child for child in psutil.Process(job.pid).children() if child.environ().get("RANK") == str(rank)]
    assert len(workers) == 1, "".join(said)
    workers[0].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    output = "".join(said) + job.communicate(timeout=60)[0]
    assert time.monotonic() - killed < 60
    assert job.returncode == 1
    assert (
        output.rstrip()
        .splitlines()[-1]
        .startswith(f"overtone: training: process {rank} of 2 was killed by SIGKILL, and the others were ended")
    )
    (run,) = store.client().search_runs(["1"])
    assert run.info.status in ("FAILED", "KILLED")

    resumed = finished(start("train.fit.devices=1"))
    assert f"resuming run {run.info.run_id}" in resumed
    assert "extend_" not in resumed
    (run,) = store.client().search_runs(["1"])
    assert run.info.status == "FINISHED"
    after = curve(project)
    finished(start("train.fit.devices=1"))
    assert_same_curve(after, curve(project))


@pytest.mark.slow
def test_two_machines_give_the_curve_of_one(start: Start, project: Path) -> None:
    """Two nodes of torchrun on the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    nodes = [
        start(
            before=(
                *(sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"),
                *(f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}", "-m"),
            )
        )
        for node in range(2)
    ]
    outputs = [node.communicate(timeout=900)[0] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], "\n".join(outputs)
    assert "".join(outputs).count("starting run") == 1
    together = curve(project)
    finished(start())
    assert_same_curve(together, curve(project))


@pytest.mark.slow
@pytest.mark.long
def test_process_without_excerpts_does_not_hold_up_the_others(start: Start, project: Path) -> None:
    """More processes than excerpts to validate on."""
    manifest = project / "work" / "corpus" / "manifest.csv"
    table = pd.read_csv(manifest)
    first = table.index[(table["split"] == "valid") & (table["kind"] == "speech")][0]
    table[(table["split"] != "valid") | (table.index == first)].to_csv(manifest, index=False)
    finished(start("train.fit.devices=2"))
    together = curve(project)
    finished(start())
    assert_same_curve(together, curve(project))


@pytest.mark.slow
@pytest.mark.long
def test_error_in_the_processes_is_said_once_more_at_the_end(start: Start, project: Path) -> None:
    shutil.rmtree(project / "work" / "corpus" / "clips")
    job = start("train.fit.devices=2")
    output = job.communicate(timeout=600)[0]
    assert job.returncode == 1
    assert "no such file" in output
    assert "failed with exit status 1" in output.rstrip().splitlines()[-1]
