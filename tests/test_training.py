"""Laws of a training: it learns, it repeats, and an interruption leaves no trace in what it comes to."""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from conftest import ROOT
from overtone import losses
from overtone import params as settings_file
from overtone.data.corpus import MANIFEST
from overtone.data.crops import RandomCrops
from overtone.data.pairs import NOISE, PairsError, training_noise
from overtone.losses import DivergedError, in_band, log_spectral, spectrum
from overtone.models import build
from overtone.models.spectral import HOP, Phase, SpectralUpsampler, analyse, visible_bins
from overtone.params import Params
from overtone.training import fit
from overtone.training.datamodule import PairsModule
from overtone.training.module import SHIFT

SMALL = (
    *("train.rnn.width=16", "train.rnn.hidden=16", "train.rnn.layers=1"),
    *("train.cnn.width=16", "train.cnn.depths=[1, 1]"),
    *("train.rnn.steps=24", "train.cnn.steps=24", "train.fit.epoch_steps=6", "train.fit.warmup_steps=2"),
    *("train.data.batch=4", "train.data.crop_seconds=0.3", "train.data.workers=0", "train.data.redraw=0.3"),
    *("train.fit.threads=1", "train.fit.accelerator=cpu", "train.fit.patience=50"),
    *("train.loss.log_spectral=1.0", "train.loss.magnitude=0", "train.loss.phase=0", "train.loss.mse=0"),
    *("train.loss.error_ratio=0", "train.loss.harm=0"),
)

FAMILIES = tuple(
    f"degrade.damage.weights.{name}=0"
    for name in ("codec", "packet_loss", "noise", "clip", "bit_errors", "quantise", "none")
)


def small(*overrides: str) -> Params:
    return settings_file.load(ROOT / "params.yaml", (*SMALL, *overrides))


def train(folder: Path, pairs: Path, *overrides: str, kind: build.Kind = "rnn") -> tuple[fit.Outcome, pd.DataFrame]:
    """Train into `folder`; the outcome and the curve."""
    outcome = fit.train(small(*overrides), kind, pairs, folder / "model", folder / "checkpoints")
    return outcome, pd.read_csv(folder / "model" / "history.csv")


def weights(folder: Path) -> bytes:
    return (folder / "model" / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, pairs_folder: Path) -> Path:
    """A folder where the plain small training has run."""
    folder = tmp_path_factory.mktemp("trained")
    train(folder, pairs_folder)
    return folder


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_training_lowers_the_distance_on_unheard_sources(tmp_path: Path, pairs_folder: Path, kind: build.Kind) -> None:
    overrides = (
        f"train.{kind}.steps=60",
        "train.fit.epoch_steps=12",
        "train.fit.average=0",
        "train.fit.warmup_steps=4",
    )
    wide = (
        *("train.rnn.width=32", "train.rnn.hidden=32", "train.cnn.width=32"),
        f"train.{kind}.learning_rate=0.001",
    )
    params = small(*overrides, *wide)
    torch.manual_seed(0)
    untrained = build.network(params.train.cnn if kind == "cnn" else params.train.rnn, 48_000).eval()
    outcome, curve = train(tmp_path, pairs_folder, *overrides, *wide, kind=kind)
    assert outcome.steps == 60
    assert outcome.best < 0.9 * distance(untrained, params, pairs_folder)
    assert curve["valid_lsd_extend"].iloc[-1] < 0.85 * curve["valid_lsd_extend"].iloc[0]
    assert curve["train_loss"].iloc[-1] < curve["train_loss"].iloc[0]


def test_curve_has_a_row_for_each_epoch(trained: Path) -> None:
    curve = pd.read_csv(trained / "model" / "history.csv")
    assert list(curve["epoch"]) == [0, 1, 2, 3]
    assert list(curve["step"]) == [6, 12, 18, 24]
    assert {"train_loss", "valid_lsd", "valid_lsd_extend", "valid_lsd_restore", "learning_rate"} <= set(curve.columns)
    assert np.isfinite(curve.to_numpy(dtype=float)).all()


@pytest.mark.parametrize(("steps", "expected"), [(3, [3]), (6, [6]), (9, [6, 9])])
def test_training_ends_at_its_step_with_a_validation(
    tmp_path: Path, pairs_folder: Path, steps: int, expected: list[int]
) -> None:
    """Whether or not the steps fill their last epoch."""
    outcome, curve = train(tmp_path, pairs_folder, f"train.rnn.steps={steps}")
    assert (outcome.steps, outcome.stopped_early) == (steps, False)
    assert list(curve["step"]) == expected
    assert curve["valid_lsd"].notna().all()
    assert curve["valid_lsd"].nunique() == len(expected)


def test_same_seed_gives_the_same_weights(trained: Path, tmp_path: Path, pairs_folder: Path) -> None:
    train(tmp_path, pairs_folder)
    assert weights(tmp_path) == weights(trained)
    assert (tmp_path / "model" / "history.csv").read_text() == (trained / "model" / "history.csv").read_text()


def test_another_seed_gives_other_weights(trained: Path, tmp_path: Path, pairs_folder: Path) -> None:
    train(tmp_path, pairs_folder, "seed=7")
    assert weights(tmp_path) != weights(trained)


def test_loader_processes_change_nothing(trained: Path, tmp_path: Path, pairs_folder: Path) -> None:
    train(tmp_path, pairs_folder, "train.data.workers=2")
    assert weights(tmp_path) == weights(trained)


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_kept_weights_are_those_of_the_best_epoch(tmp_path: Path, pairs_folder: Path, average: float) -> None:
    """A learning rate that spoils the network makes an early epoch the best one."""
    harsh = ("train.rnn.learning_rate=0.3", "train.fit.clip_norm=1000.0", f"train.fit.average={average}")
    outcome, curve = train(tmp_path, pairs_folder, *harsh)
    assert outcome.best == pytest.approx(curve["valid_lsd"].min(), rel=1e-4)
    assert outcome.best_epoch == curve["valid_lsd"].argmin()
    network, _ = build.load(tmp_path / "model")
    assert distance(network, small(), pairs_folder) == pytest.approx(outcome.best, rel=0.01)


def distance(network: SpectralUpsampler, params: Params, pairs: Path) -> float:
    """Validation distance of a network, of each mode by itself, weighted by the number of pairs."""
    module = PairsModule(params, pairs)
    module.setup("fit")
    total = 0.0
    for index in range(len(module.valid)):
        crop = module.valid[index]
        batch: dict[str, Tensor] = {name: value[None] for name, value in crop.items()}  # type: ignore[index]
        with torch.inference_mode():
            out = network(batch["input"], batch["cutoff_hz"], batch["restore"], batch["concealed"])
            weight = in_band(batch["bandwidth_hz"], 2048, 48_000)
            total += float(log_spectral(spectrum(out, 2048), spectrum(batch["target"], 2048), weight))
    return total / len(module.valid)


def test_training_stops_early_when_nothing_improves(tmp_path: Path, pairs_folder: Path) -> None:
    harsh = ("train.rnn.learning_rate=0.3", "train.fit.clip_norm=1000.0", "train.fit.average=0", "train.fit.patience=1")
    outcome, curve = train(tmp_path, pairs_folder, *harsh, "train.rnn.steps=120")
    assert outcome.stopped_early
    assert outcome.steps == curve["step"].iloc[-1] < 120


def test_averaged_weights_differ_from_the_last_ones(trained: Path, tmp_path: Path, pairs_folder: Path) -> None:
    train(tmp_path, pairs_folder, "train.fit.average=0")
    assert weights(tmp_path) != weights(trained)


@pytest.mark.parametrize("term", ["mse", "error_ratio", "harm", "magnitude", "phase"])
def test_each_loss_trains(tmp_path: Path, pairs_folder: Path, term: str) -> None:
    overrides = ("train.loss.log_spectral=0", f"train.loss.{term}=1.0", "train.rnn.steps=4", "train.fit.epoch_steps=4")
    _, curve = train(tmp_path, pairs_folder, *overrides)
    assert f"train_{term}" in curve.columns
    assert "train_log_spectral" not in curve.columns


@pytest.mark.parametrize(
    "overrides",
    [("train.rnn.cell=lstm",), ("train.rnn.bidirectional=true",), ("train.rnn.dropout=0.2",)],
    ids=lambda overrides: overrides[0],
)
def test_each_variant_of_the_rnn_trains(tmp_path: Path, pairs_folder: Path, overrides: tuple[str, ...]) -> None:
    train(tmp_path, pairs_folder, "train.rnn.steps=4", "train.fit.epoch_steps=4", *overrides)
    assert build.load(tmp_path / "model")[1]["network"][overrides[0].split("=")[0].rpartition(".")[2]] not in (
        0.0,
        "gru",
    )


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("phase", ["copied", "free", "mixed"])
def test_each_phase_trains_and_keeps_the_known_band(
    tmp_path: Path, pairs_folder: Path, kind: build.Kind, phase: Phase
) -> None:
    steps = (f"train.{kind}.steps=48", "train.fit.epoch_steps=12", "train.fit.average=0")
    _, curve = train(tmp_path, pairs_folder, f"train.{kind}.phase={phase}", *steps, kind=kind)
    assert curve["train_loss"].iloc[-1] < 0.95 * curve["train_loss"].iloc[0]
    assert curve["valid_lsd"].iloc[-1] < curve["valid_lsd"].iloc[0]
    network, config = build.load(tmp_path / "model")
    assert config["network"]["phase"] == network.phase == phase
    signal = 0.1 * torch.randn(2, 9_000, generator=torch.Generator().manual_seed(0))
    spectrum, visible = analyse(signal, network.window), visible_bins(torch.tensor([8_000.0, 8_000.0]), network.rate)
    with torch.inference_mode():
        modes, nowhere = torch.tensor([False, True]), torch.zeros(spectrum.shape[:2])
        out, _ = network.enhance(spectrum, visible, modes, nowhere, network.body.initial(2))
        full = network(signal, torch.tensor([24_000.0, 24_000.0]), torch.tensor([False, False]))
    assert torch.equal(out[0, :, visible[0]], spectrum[0, :, visible[0]])
    assert not torch.isclose(out, spectrum)[:, :, ~visible[0]].any()
    assert out.isfinite().all()
    torch.testing.assert_close(full, signal, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shift", [True, False])
def test_shift_moves_the_losss_frames_over_every_place_within_a_hop(
    tmp_path: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch, shift: bool
) -> None:
    plain, starts = losses.total, list[int]()

    def noted(*arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        starts.append(arguments[7])
        return plain(*arguments)

    monkeypatch.setattr(losses, "total", noted)
    train(tmp_path, pairs_folder, f"train.loss.shift={str(shift).lower()}")
    assert starts == [step * SHIFT % HOP if shift else 0 for step in range(24)]
    assert {step * SHIFT % HOP for step in range(HOP)} == set(range(HOP))


def test_max_pooling_trains(tmp_path: Path, pairs_folder: Path) -> None:
    overrides = ("train.cnn.steps=4", "train.fit.epoch_steps=4", "train.cnn.pooling=max", "train.cnn.dropout=0.1")
    train(tmp_path, pairs_folder, *overrides, kind="cnn")
    assert build.load(tmp_path / "model")[1]["network"]["pooling"] == "max"


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_training_begins_with_the_weights_of_a_given_model(
    trained: Path, tmp_path: Path, pairs_folder: Path, average: float
) -> None:
    still = (
        "train.rnn.learning_rate=1e-9",
        "train.rnn.steps=4",
        "train.fit.epoch_steps=4",
        f"train.fit.average={average}",
    )
    train(tmp_path, pairs_folder, f"train.fit.start={trained / 'model'}", *still)
    start, made = (build.load(folder / "model")[0].state_dict() for folder in (trained, tmp_path))
    for name, value in start.items():
        torch.testing.assert_close(made[name], value, atol=1e-6, rtol=0)


def test_start_of_other_settings_is_refused_by_name(trained: Path, tmp_path: Path, pairs_folder: Path) -> None:
    start = f"train.fit.start={trained / 'model'}"
    with pytest.raises(build.ModelError, match=rf"train\.fit\.start: {trained}.*: not a network of the same settings"):
        train(tmp_path, pairs_folder, start, "train.rnn.hidden=24")
    with pytest.raises(build.ModelError, match="not a model folder"):
        train(tmp_path, pairs_folder, f"train.fit.start={tmp_path}")
    assert not (tmp_path / "model").exists()


def test_loss_and_network_are_given_what_the_crop_holds(
    tmp_path: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The input, its marks and whether all is damaged to the one; the input and what was to be repaired to the other."""
    plain_loss, plain_forward = losses.total, SpectralUpsampler.forward
    heard, judged = list[tuple[Tensor, ...]](), list[tuple[Tensor, ...]]()

    def forward(self: SpectralUpsampler, *arguments: Tensor) -> Tensor:
        heard.append(arguments)
        return plain_forward(self, *arguments)

    def total(*arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        judged.append((*heard[-1], *arguments[2:4]))
        return plain_loss(*arguments)

    monkeypatch.setattr(SpectralUpsampler, "forward", forward)
    monkeypatch.setattr(losses, "total", total)
    lost = ("train.data.redraw=1.0", *FAMILIES, "degrade.damage.weights.packet_loss=1", "train.loss.harm=1.0")
    train(tmp_path, pairs_folder, *lost)
    assert judged
    for sound, _, restore, concealed, opened, given, repaired in judged:
        assert given is sound
        # What has to change may well be worse than the input.
        assert torch.equal(repaired, restore & ~opened)
        assert concealed.shape == sound.shape
        assert not concealed[~restore].any() and not opened[~restore].any()
    assert any(arguments[3].any() for arguments in judged)
    assert any(arguments[4].any() for arguments in judged)
    # Validation leaves it to the network.
    assert {len(arguments) for arguments in heard} == {4, 5}


def test_damage_is_redrawn_from_the_recordings_kept_with_the_pairs(tmp_path: Path, pairs_folder: Path) -> None:
    noisy = ("train.data.redraw=1.0", *FAMILIES, "degrade.damage.weights.noise=1")
    module = PairsModule(small(*noisy), pairs_folder)
    module.setup("fit")
    kept = training_noise(pairs_folder)
    assert len(kept) > 0
    assert isinstance(module.train, RandomCrops)
    given = module.train.cutter.noises
    assert [signal.shape for signal in given] == [signal.shape for signal in kept]
    assert all(np.array_equal(one, other) for one, other in zip(given, kept, strict=True))


def test_training_goes_on_without_recorded_noise(tmp_path: Path, pairs_folder: Path) -> None:
    """What is asked for as recorded is pink then."""
    shutil.copytree(pairs_folder, tmp_path / "pairs")
    table = pd.read_csv(tmp_path / "pairs" / NOISE / MANIFEST)
    shutil.rmtree(tmp_path / "pairs" / NOISE)
    (tmp_path / "pairs" / NOISE).mkdir()
    table.iloc[:0].to_csv(tmp_path / "pairs" / NOISE / MANIFEST, index=False)
    noisy = ("train.data.redraw=1.0", *FAMILIES, "degrade.damage.weights.noise=1")
    module = PairsModule(small(*noisy), tmp_path / "pairs")
    module.setup("fit")
    assert isinstance(module.train, RandomCrops)
    assert len(module.train.cutter.noises) == 0
    crops = [module.train[number] for number in range(12)]
    damaged = [not torch.equal(crop["input"], crop["target"]) for crop in crops if crop["restore"]]
    assert damaged and all(damaged)
    outcome, curve = train(tmp_path, tmp_path / "pairs", *noisy)
    assert outcome.steps == 24
    assert np.isfinite(curve["train_loss"]).all()


def test_ranges_of_damage_decide_the_weights_of_a_redrawing_training(
    trained: Path, tmp_path: Path, pairs_folder: Path
) -> None:
    train(tmp_path, pairs_folder, "degrade.damage.snr_db=[0.0, 1.0]", "degrade.damage.clip_share=[0.4, 0.4]")
    assert weights(tmp_path) != weights(trained)


# --- what goes wrong ----------------------------------------------------------------------------------------------------


def test_loss_that_is_no_number_stops_the_training(
    tmp_path: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = SpectralUpsampler.forward

    def broken(self: SpectralUpsampler, *arguments: Any) -> Tensor:
        return plain(self, *arguments) * float("nan")

    monkeypatch.setattr(SpectralUpsampler, "forward", broken)
    with pytest.raises(DivergedError, match="loss is not finite: log_spectral"):
        train(tmp_path, pairs_folder)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("split", ["train", "valid"])
def test_empty_split_is_refused_by_name(tmp_path: Path, pairs_folder: Path, split: str) -> None:
    shutil.copytree(pairs_folder, tmp_path / "pairs")
    manifest = tmp_path / "pairs" / MANIFEST
    table = pd.read_csv(manifest)
    table[table["split"] != split].to_csv(manifest, index=False)
    with pytest.raises(PairsError, match={"train": "no training pairs", "valid": "no validation pairs"}[split]):
        train(tmp_path, tmp_path / "pairs")


# --- interruption -------------------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


@pytest.mark.parametrize("override", ["train.rnn.dropout=0.0", "train.rnn.dropout=0.3", "train.data.workers=1"])
def test_interrupted_training_ends_where_an_undisturbed_one_does(
    tmp_path: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch, override: str
) -> None:
    train(tmp_path / "calm", pairs_folder, override)
    record = fit.History.on_train_epoch_end

    def stop(self: fit.History, trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 2:
            raise Stop
        record(self, trainer, module)

    monkeypatch.setattr(fit.History, "on_train_epoch_end", stop)
    with pytest.raises(Stop):
        train(tmp_path / "hurt", pairs_folder, override)
    monkeypatch.setattr(fit.History, "on_train_epoch_end", record)
    outcome, curve = train(tmp_path / "hurt", pairs_folder, override)
    assert outcome.steps == 24
    pd.testing.assert_frame_equal(curve, pd.read_csv(tmp_path / "calm" / "model" / "history.csv"))
    assert weights(tmp_path / "hurt") == weights(tmp_path / "calm")


def stage(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    """`overtone stage train` in a project's folder, with the small settings."""
    overrides = [text for override in SMALL for text in ("--set", override)]
    return subprocess.Popen(
        ["overtone", "stage", "train", "--model", "rnn", *overrides],
        cwd=folder,
        env=environment | {"DVC_ROOT": str(folder), "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.long
def test_killed_stage_goes_on_in_the_same_run(
    project: Path, trained: Path, pairs_folder: Path, environment: dict[str, str]
) -> None:
    """SIGKILL, so that nothing is tidied up; then the same command again."""
    from overtone.tracking import store

    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    shutil.copytree(pairs_folder, project / "work" / "pairs")
    process = stage(project, environment)
    assert process.stdout is not None
    said = []
    for text in process.stdout:
        said.append(text)
        if text.startswith("step 18/"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert said[-1].startswith("step 18/"), "".join(said)
    assert not (project / "models").exists()

    again = stage(project, environment)
    output = again.communicate(timeout=300)[0]
    assert again.returncode == 0, output
    (run,) = store.client().search_runs(["1"])
    assert f"resuming run {run.info.run_id}" in output
    assert f"starting run {run.info.run_id}" in "".join(said)
    assert run.info.status == "FINISHED"
    steps = {metric.step for metric in store.client().get_metric_history(run.info.run_id, "valid_lsd")}
    assert len(steps) == 4
    # The undisturbed one ran in this process, without tracking: neither matters.
    for name in ("weights.safetensors", "history.csv", "config.json"):
        assert (project / "models" / "rnn" / name).read_bytes() == (trained / "model" / name).read_bytes()
    assert not list((project / "checkpoints").iterdir())
