"""Laws of a training: it learns, it repeats, and an interruption leaves no trace in what it comes to."""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning.callbacks import Callback

from conftest import ROOT, TINY
from overtone import settings as settings_file
from overtone import stages
from overtone.data import sources
from overtone.data.corpus import CorpusError, read_manifest
from overtone.dsp import bands, stft
from overtone.dsp.bands import BANDS
from overtone.models import envelope
from overtone.models.envelope import Trackers
from overtone.models.folder import ModelError
from overtone.models.model import Model, network
from overtone.settings import Params
from overtone.training import fit
from overtone.training.envelopes import envelope_loss
from overtone.training.recordings import recordings
from overtone.training.tasks import TASKS, Task, restored, si_sdr

SMALL = (
    *TINY,
    *("train.extend.steps=12", "train.extend.batch=4", "train.extend.frames=20"),
    *("train.restore.steps=12", "train.restore.batch=4", "train.restore.seconds=0.3"),
    *("train.fit.epoch_steps=4", "train.fit.warmup_steps=2", "train.fit.average=0.9", "train.fit.patience=50"),
    *("train.fit.threads=1", "train.fit.accelerator=cpu", "train.fit.precision=32-true"),
)


def small(corpus: Path, *overrides: str) -> Params:
    prepared = f"train.data.prepared={corpus.parent / 'prepared'}"
    return settings_file.load(ROOT / "params.yaml", (*SMALL, prepared, *overrides))


def train(
    folder: Path, corpus: Path, *overrides: str, family: str = "rnn", start: Path | None = None
) -> tuple[list[fit.Outcome], pd.DataFrame]:
    """Train into `folder`; the outcomes and the curve."""
    outcomes = fit.train(
        small(corpus, *overrides), family, corpus, folder / "model", folder / "checkpoints", start=start
    )
    return outcomes, pd.read_csv(folder / "model" / "history.csv")


def weights(folder: Path) -> bytes:
    return (folder / "model" / "weights.safetensors").read_bytes()


def task_of(name: str, corpus: Path, *overrides: str) -> Task:
    params = small(corpus, *overrides)
    heard = recordings(sources.recognise(corpus), params.corpus.rate, params.train.data.prepared)
    return TASKS[name](params, heard["train"], heard["valid"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, corpus_folder: Path) -> Path:
    """A folder where the plain small training has run."""
    folder = tmp_path_factory.mktemp("trained")
    train(folder, corpus_folder)
    return folder


# --- what it comes to -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", settings_file.FAMILIES)
def test_each_network_overfits_a_batch(corpus_folder: Path, family: str) -> None:
    """Of `restore` at least 6 dB of noise go away, of `extend` more than half of the error of levels."""
    loud = tuple(f"train.restore.mixing.{name}=0" for name in ("clean", "noise_alone", "music", "narrow", "pauses"))
    wide = tuple(f"train.{family}.{name}.width=48" for name in TASKS)
    for name in TASKS:
        task = task_of(name, corpus_folder, *loud, "train.restore.mixing.snr_db=[0, 5]")
        torch.manual_seed(0)
        bodies = small(corpus_folder, *wide).train.bodies(family)
        net = network(family, name, bodies, 48_000)
        optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
        batch = task.draw(0, range(2))

        def run(*inputs: torch.Tensor, net: Any = net) -> Any:
            return net(*inputs, net.body.initial(len(inputs[0])))

        figures = []
        for _ in range(200):
            loss, values = task.loss(run, batch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            figures.append(float(next(iter(values.values()))))
        if name == "extend":
            assert figures[-1] < 0.5 * figures[0]
            continue
        with torch.inference_mode():
            made = stft.overlap_add(restored(run, batch.noisy, batch.visible))
        clean, noisy = (stft.overlap_add(value) for value in (batch.clean, batch.noisy))
        assert float((si_sdr(made, clean) - si_sdr(noisy, clean)).mean()) > 6.0


def test_curve_has_a_row_for_each_epoch_of_each_task(trained: Path) -> None:
    curve = pd.read_csv(trained / "model" / "history.csv")
    assert list(curve["task"]) == ["extend"] * 3 + ["restore"] * 3
    assert list(curve["step"]) == [4, 8, 12] * 2
    for name, column in (("extend", "valid_lsd"), ("restore", "valid_gain_db")):
        mine = curve[curve["task"] == name]
        for other in ("train_loss", column, "learning_rate", "gradient_norm"):
            assert np.isfinite(mine[f"{name}_{other}"]).all()
        assert curve[curve["task"] != name][f"{name}_{column}"].isna().all()


@pytest.mark.parametrize(("steps", "expected"), [(3, [3]), (6, [4, 6])])
def test_training_ends_at_its_step_with_a_validation(
    tmp_path: Path, corpus_folder: Path, steps: int, expected: list[int]
) -> None:
    """Whether or not the steps fill their last epoch."""
    overrides = (f"train.extend.steps={steps}", f"train.restore.steps={steps}")
    outcomes, curve = train(tmp_path, corpus_folder, *overrides)
    assert [(one.steps, one.stopped_early) for one in outcomes] == [(steps, False)] * 2
    assert list(curve["step"]) == expected * 2


def test_same_seed_gives_the_same_weights(trained: Path, tmp_path: Path, corpus_folder: Path) -> None:
    train(tmp_path / "same", corpus_folder)
    assert weights(tmp_path / "same") == weights(trained)
    train(tmp_path / "other", corpus_folder, "seed=7")
    assert weights(tmp_path / "other") != weights(trained)


def test_kept_weights_are_those_of_the_best_epoch(tmp_path: Path, corpus_folder: Path) -> None:
    """A learning rate that spoils the networks makes an early epoch the best one, and patience ends the training."""
    harsh = tuple(
        f"train.{name}.{key}" for name in TASKS for key in ("learning_rate=0.1", "clip_norm=1000", "steps=40")
    )
    outcomes, curve = train(tmp_path, corpus_folder, *harsh, "train.fit.average=0", "train.fit.patience=2")
    model = Model.load(tmp_path / "model")
    for outcome in outcomes:
        figures = curve[curve["task"] == outcome.task][outcome.monitor].to_numpy()
        assert figures[outcome.best_epoch] == (figures.min() if outcome.mode == "min" else figures.max())
        assert outcome.stopped_early and outcome.steps < 40
        task = task_of(outcome.task, corpus_folder)
        net: Any = model.networks[outcome.task]
        with torch.inference_mode():
            found = [
                float(task.validate(lambda *x, net=net: net(*x, net.body.initial(len(x[0]))), index)[outcome.monitor])
                for index in range(task.excerpts())
            ]
        assert np.mean(found) == pytest.approx(outcome.best, rel=1e-3)


@pytest.mark.parametrize(
    "override",
    [
        "train.restore.loss=mse",
        "train.restore.snr_weight=0",
        "train.extend.ranges.raw=0",
        "train.rnn.extend.cell=lstm",
        "train.rnn.restore.dropout=0.4",
    ],
)
def test_settings_decide_the_weights(trained: Path, tmp_path: Path, corpus_folder: Path, override: str) -> None:
    train(tmp_path, corpus_folder, override)
    assert weights(tmp_path) != weights(trained)


def test_accumulated_parts_are_the_same_batch(trained: Path, tmp_path: Path, corpus_folder: Path) -> None:
    _, curve = train(tmp_path, corpus_folder, "train.fit.accumulate=2")
    plain = pd.read_csv(trained / "model" / "history.csv")
    # Parts have means of their own; the batches are the same.
    np.testing.assert_allclose(curve["extend_train_loss"][:1], plain["extend_train_loss"][:1], rtol=0.05)


# --- where it begins -----------------------------------------------------------------------------------------------------


def test_training_begins_with_the_weights_of_a_given_model(trained: Path, tmp_path: Path, corpus_folder: Path) -> None:
    still = tuple(f"train.{name}.{key}" for name in TASKS for key in ("learning_rate=0.000000001", "steps=4"))
    train(tmp_path, corpus_folder, *still, "train.fit.average=0", start=trained / "model")
    before, after = (Model.load(folder / "model") for folder in (trained, tmp_path))
    for name, one in before.networks.items():
        for key, value in one.state_dict().items():
            torch.testing.assert_close(after.networks[name].state_dict()[key], value, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_released_networks_are_a_better_beginning_than_none(tmp_path: Path, corpus_folder: Path) -> None:
    short = (
        *("train.extend.steps=4", "train.extend.batch=4", "train.extend.frames=20"),
        *("train.restore.steps=4", "train.restore.batch=4", "train.restore.seconds=0.3"),
        *("train.fit.epoch_steps=4", "train.fit.precision=32-true", "train.fit.threads=1", "train.fit.accelerator=cpu"),
        f"train.data.prepared={tmp_path / 'prepared'}",
    )
    curves = {}
    for begin in ("released", "null"):
        params = settings_file.load(ROOT / "params.yaml", (*short, f"train.fit.start={begin}"))
        folder = tmp_path / begin
        start = stages.start_folder(params, "rnn")
        fit.train(params, "rnn", corpus_folder, folder / "model", folder / "checkpoints", start=start)
        curves[begin] = pd.read_csv(folder / "model" / "history.csv")
    gain = {begin: curve["restore_valid_gain_db"].max() for begin, curve in curves.items()}
    assert gain["released"] > gain["null"] + 2


def test_start_of_other_settings_is_refused_by_name(trained: Path, tmp_path: Path, corpus_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"train\.fit\.start: .*model: not of the same settings"):
        train(tmp_path, corpus_folder, "train.rnn.extend.width=24", start=trained / "model")


# --- what is learned from --------------------------------------------------------------------------------------------------


def test_test_split_is_never_read(trained: Path, tmp_path: Path, corpus_folder: Path) -> None:
    """Without its files the training is the same, and the code has no word for it."""
    corpus = tmp_path / "corpus"
    shutil.copytree(corpus_folder, corpus)
    kept_out = [clip for clip in read_manifest(corpus) if clip.split == "test"]
    for clip in kept_out:
        (corpus / clip.path).unlink()
    assert kept_out
    train(tmp_path, corpus)
    assert weights(tmp_path) == weights(trained)
    for folder in ("training", "tuning"):
        for path in (ROOT / "src" / "overtone" / folder).glob("*.py"):
            assert '"test"' not in path.read_text(), path


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_split_is_refused_by_name(tmp_path: Path, corpus_folder: Path, split: str) -> None:
    shutil.copytree(corpus_folder, tmp_path / "corpus")
    path = tmp_path / "corpus" / "manifest.csv"
    table = pd.read_csv(path)
    table[table["split"] != split].to_csv(path, index=False)
    with pytest.raises(CorpusError, match=rf"no clips of speech or music in the split '{split}'"):
        train(tmp_path, tmp_path / "corpus")


def test_training_goes_on_without_recorded_noise_and_music(tmp_path: Path, corpus_folder: Path) -> None:
    shutil.copytree(corpus_folder, tmp_path / "corpus")
    path = tmp_path / "corpus" / "manifest.csv"
    table = pd.read_csv(path)
    table[table["kind"] == "speech"].to_csv(path, index=False)
    outcomes, _ = train(tmp_path, tmp_path / "corpus")
    assert all(np.isfinite(one.best) for one in outcomes)


@pytest.mark.parametrize("name", TASKS)
def test_batch_is_the_same_whoever_draws_it(corpus_folder: Path, name: str) -> None:
    """In one piece, in parts, after other batches or as the first one."""
    task, other = task_of(name, corpus_folder), task_of(name, corpus_folder)
    task.draw(4, range(4))
    whole = task.draw(5, range(4))
    for first, second in zip(other.draw(5, range(1, 3)), whole, strict=True):
        assert torch.equal(first, second[1:3])
    assert not torch.equal(task.draw(6, range(4))[0], whole[0])


def test_nothing_above_the_cutoff_reaches_the_extend_network(corpus_folder: Path) -> None:
    batch = task_of("extend", corpus_folder).draw(0, range(4))
    seen = batch.visible[:, None] > 0
    loud = torch.where(seen, batch.target, batch.target + 3 * torch.randn(batch.target.shape))
    one, other = (envelope.features(levels, batch.visible, Trackers()) for levels in (batch.target, loud))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_loss_ignores_bands_above_the_clips_bandwidth(corpus_folder: Path) -> None:
    task = task_of("extend", corpus_folder)
    draw: Any = task._draw  # type: ignore[attr-defined]
    top = 15_000.0
    draw.sources = [replace(source, tops=np.full_like(source.tops, top), brightness=None) for source in draw.sources]
    draw.ranges = draw.ranges.model_copy(update={"end": 0.0})
    batch = task.draw(1, range(4))
    made = torch.zeros(*batch.target.shape[:2], BANDS, requires_grad=True)
    loss, _ = envelope_loss(made, batch.target, batch.asked)
    loss.backward()  # type: ignore[no-untyped-call]
    assert made.grad is not None
    above = bands.band_tops(48_000) > top
    assert bool(above.any()) and not made.grad[..., above].any()
    assert not made.grad[(batch.visible[:, None] > 0).expand_as(made)].any()
    assert made.grad.any()


def test_prepared_data_is_that_of_the_clips_and_made_once(corpus_folder: Path, tmp_path: Path) -> None:
    source = sources.recognise(corpus_folder)
    made = recordings(source, 48_000, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = recordings(source, 48_000, tmp_path)
    after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"}
    assert all(before[path] == time for path, time in after.items())
    for split in ("train", "valid"):
        clips = {clip.source: signal for clip, signal in source.clips(split)}
        for one, other in zip(made[split], again[split], strict=True):
            assert np.array_equal(one.samples, other.samples)
            signal = clips[one.source].mean(axis=0)
            np.testing.assert_allclose(one.samples / 32768, signal, atol=1 / 32768)
            assert (len(one.levels) == 0) == (one.kind == "noise")
            assert one.levels.shape == (len(one.tops), BANDS)


# --- interruptions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["extend:8", "restore:4"])
def test_interrupted_training_ends_where_an_undisturbed_one_does(
    trained: Path, tmp_path: Path, corpus_folder: Path, where: str
) -> None:
    """In either network; what is done is not done again."""
    task, step = where.split(":")

    class Stop(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if pl_module.task.name == task and trainer.global_step == int(step):
                raise KeyboardInterrupt

    params = small(corpus_folder)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit.train(params, "rnn", corpus_folder, tmp_path / "model", tmp_path / "checkpoints", callbacks=(Stop(),))
    assert not (tmp_path / "model").exists()
    train(tmp_path, corpus_folder)
    assert weights(tmp_path) == weights(trained)
    assert (tmp_path / "model" / "history.csv").read_text() == (trained / "model" / "history.csv").read_text()


@pytest.mark.slow
def test_killed_stage_goes_on_in_the_same_run(
    project: Path, trained: Path, corpus_folder: Path, environment: dict[str, str]
) -> None:
    """SIGKILL, so that nothing is tidied up; then the same command again."""
    from overtone.tracking import store

    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    shutil.copytree(corpus_folder, project / "work" / "corpus")
    said = []
    process = stage(project, environment)
    assert process.stdout is not None
    for text in process.stdout:
        said.append(text)
        if text.startswith("step 4/12: restore"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert said[-1].startswith("step 4/12: restore"), "".join(said)
    again = stage(project, environment)
    output = again.communicate(timeout=600)[0]
    assert again.returncode == 0, output
    (run,) = store.client().search_runs(["1"])
    assert f"resuming run {run.info.run_id}" in output
    assert run.info.status == "FINISHED"
    for name, count in (("extend_valid_lsd", 3), ("restore_valid_gain_db", 3)):
        assert len({point.step for point in store.client().get_metric_history(run.info.run_id, name)}) == count
    assert (project / "models" / "rnn" / "weights.safetensors").read_bytes() == weights(trained)
    assert not list((project / "checkpoints").iterdir())


def stage(project: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    words = [word for override in SMALL for word in ("--set", override)]
    return subprocess.Popen(
        ["overtone", "stage", "train", "--model", "rnn", *words],
        cwd=project,
        env=environment | {"DVC_ROOT": str(project)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
