"""Laws of a training that diverges: it ends before its weights are spoilt, and keeps what one needs to see why and go on."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning.callbacks import Callback
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from conftest import ROOT
from overtone import cli, losses
from overtone.data.crops import Crop, RandomCrops
from overtone.losses import DivergedError
from overtone.models import build
from overtone.models.spectral import SpectralUpsampler
from overtone.params import Params
from overtone.training import diagnosis, failure, fit
from overtone.training.datamodule import PairsModule
from overtone.training.failure import FailureError
from overtone.training.watch import FACTOR, LEAST, SKIPPED, STEPS, Part, Watch
from test_training import SMALL, small, train

PLAIN = RandomCrops.__getitem__


def spoilt(number: int) -> Any:
    """`RandomCrops.__getitem__` with one example whose target is no number."""

    def item(self: RandomCrops, index: int) -> Crop:
        crop = PLAIN(self, index)
        if index == number:
            crop["target"] = crop["target"].clone()
            crop["target"][100] = math.nan
        return crop

    return item


def diverged(folder: Path, pairs: Path, *overrides: str, callbacks: tuple[Callback, ...] = ()) -> Path:
    """The folder that a training which must diverge keeps."""
    with pytest.raises(DivergedError) as caught:
        fit.train(
            small(*overrides), "rnn", pairs, folder / "model", folder / "checkpoints", False, callbacks
        )  # fmt: skip
    assert caught.value.folder is not None
    assert str(caught.value).endswith(f"overtone failure {caught.value.folder}")
    assert not (folder / "model").exists()
    assert not [path for path in (folder / "checkpoints").iterdir() if path.name.startswith(".")]
    return caught.value.folder


# --- what is kept -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[1, 2], ids=["whole batch", "two parts"])
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, pairs_folder: Path) -> Path:
    """A failure in the second epoch, by the target of example 33, the second of step 8."""
    folder = tmp_path_factory.mktemp("diverged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RandomCrops, "__getitem__", spoilt(33))
        return diverged(folder, pairs_folder, f"train.fit.accumulate={request.param}", "train.rnn.dropout=0.1")


def test_loss_that_is_no_number_keeps_step_and_examples(kept: Path, pairs_folder: Path) -> None:
    facts = failure.read(kept)
    assert kept.name == "failure-step-8"
    assert (facts["step"], facts["epoch"], facts["rank"], facts["seed"]) == (8, 1, 0, small().seed)
    assert facts["reason"].startswith("loss is not finite: log_spectral")
    assert facts["examples"] == [32, 33, 34, 35]
    assert "nan" in facts["losses"]
    assert len(facts["recent_losses"]) == 8 and all(math.isfinite(value) for value in facts["recent_losses"])
    batch = load_file(kept / failure.BATCH)
    module = PairsModule(small(), pairs_folder)
    module.setup("fit")
    for row, number in enumerate(facts["examples"]):
        crop: Any = module.train[number]
        for name, value in crop.items():
            if (name, number) != ("target", 33):
                assert torch.equal(batch[name][row], value), (name, number)


def test_kept_failure_is_json_and_safetensors_alone(kept: Path) -> None:
    names = sorted(str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file())
    networks = [f"{folder}/{name}" for folder in ("model", "start") for name in ("config.json", "weights.safetensors")]
    assert names == ["batch.safetensors", "failure.json", *networks]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    json.loads((kept / failure.FAILURE).read_text(), parse_constant=refuse)


def test_weights_are_those_before_the_step(kept: Path) -> None:
    network, _ = build.load(kept / failure.MODEL)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    norms = failure.read(kept)["weight_norms"]
    assert norms == pytest.approx(diagnosis.weight_norms(network), rel=1e-5)


def test_replay_takes_the_same_step_and_finds_the_example(kept: Path) -> None:
    facts, again = failure.read(kept), failure.replay(kept)
    assert [float(value) for value in facts["losses"]] == pytest.approx(again.losses, rel=1e-5, nan_ok=True)
    assert [number for number, value, _ in again.by_example if not math.isfinite(value)] == [33]


def test_command_shows_the_example_and_how_to_go_on(kept: Path) -> None:
    shown = CliRunner().invoke(cli.app, ["failure", str(kept)])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    place = next(number for number, line in enumerate(lines) if line.startswith("examples"))
    assert lines[place + 1].split()[:2] == ["33", "nan"]
    assert f"--set train.fit.start={kept / 'start'}" in shown.output


def test_training_goes_on_from_the_best_validation(kept: Path, tmp_path: Path, pairs_folder: Path) -> None:
    still = ("train.rnn.learning_rate=1e-9", "train.rnn.steps=2", "train.fit.epoch_steps=2", "train.fit.average=0")
    train(tmp_path, pairs_folder, f"train.fit.start={kept / 'start'}", *still)
    start, made = (build.load(folder)[0].state_dict() for folder in (kept / "start", tmp_path / "model"))
    for name, value in start.items():
        torch.testing.assert_close(made[name], value, atol=1e-6, rtol=0)


def test_failure_before_the_first_checkpoint_says_so(tmp_path: Path, pairs_folder: Path) -> None:
    """And the next failure at the same step takes its place."""
    for _ in range(2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RandomCrops, "__getitem__", spoilt(0))
            folder = diverged(tmp_path, pairs_folder)
        assert folder.name == "failure-step-0"
        assert not (folder / failure.START).exists()
        assert "no epoch had ended: begin anew" in failure.text(folder)


def test_disk_that_refuses_the_batch_is_said_beside_the_reason(
    tmp_path: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RandomCrops, "__getitem__", spoilt(2))
    monkeypatch.setattr(failure, "save_file", full)
    with pytest.raises(DivergedError, match=r"loss is not finite.*could not be kept: .*No space left") as caught:
        train(tmp_path, pairs_folder)
    assert caught.value.folder is None
    assert not list((tmp_path / "checkpoints").glob(".*"))


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 99}'])
def test_folder_that_is_no_failure_is_named(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / failure.FAILURE).write_text(content)
    with pytest.raises(FailureError, match=r"failure\.json"):
        failure.text(tmp_path)


def test_half_a_batch_is_named(kept: Path, tmp_path: Path) -> None:
    shutil.copytree(kept, tmp_path / "copy")
    batch = tmp_path / "copy" / failure.BATCH
    batch.write_bytes(batch.read_bytes()[:1000])
    with pytest.raises(FailureError, match=r"batch\.safetensors: not the batch of a failure"):
        failure.replay(tmp_path / "copy")


# --- what ends a training -----------------------------------------------------------------------------------------------


def test_gradient_that_is_no_number_ends_the_training_before_the_step(
    tmp_path: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls = losses.total, [0]

    def total(prediction: Tensor, *arguments: Any) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = plain(prediction, *arguments)
        calls[0] += 1
        # The root's slope at 0 is infinite, its value is not.
        return loss + (torch.sqrt(0.0 * prediction.sum()) if calls[0] == 4 else 0.0), terms

    monkeypatch.setattr(losses, "total", total)
    folder = diverged(tmp_path, pairs_folder)
    facts = failure.read(folder)
    assert folder.name == "failure-step-3"
    assert facts["reason"].startswith("gradient is not finite though the loss is")
    assert facts["gradient_norm"] == "nan"
    network, _ = build.load(folder / failure.MODEL)
    assert all(value.isfinite().all() for value in network.state_dict().values())


class Blow(Callback):
    """Raises every predicted level by 80 dB at one step: what a step too far does."""

    def on_train_batch_start(self, trainer: pl.Trainer, module: Any, batch: Any, index: int) -> None:
        if trainer.global_step == LEAST + 4:
            with torch.no_grad():
                module.network.level.bias += 8.0


def test_exploded_loss_ends_the_training_after_some_steps(tmp_path: Path, pairs_folder: Path) -> None:
    long = ("train.rnn.steps=60", "train.fit.epoch_steps=10", "train.loss.error_ratio=1.0")
    folder = diverged(tmp_path, pairs_folder, *long, callbacks=(Blow(),))
    facts = failure.read(folder)
    assert folder.name == f"failure-step-{LEAST + 4 + STEPS - 1}"
    assert facts["reason"].startswith("loss has exploded: above 10 times its median")
    assert all(value > FACTOR for value in facts["recent_losses"][-STEPS:])
    # Its own checkpoint is of before.
    network, _ = build.load(folder / failure.START)
    assert float(network.level.bias.detach().abs().max()) < 1.0


def test_validation_that_is_no_number_ends_the_training(
    tmp_path: Path, pairs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "log_spectral", lambda *_: torch.tensor(math.nan))
    folder = diverged(tmp_path, pairs_folder, "train.loss.log_spectral=0", "train.loss.error_ratio=1.0")
    assert failure.read(folder)["reason"].startswith("validation distance is not finite")


def test_norm_of_the_gradient_and_share_of_clipped_steps_are_in_the_curve(tmp_path: Path, pairs_folder: Path) -> None:
    _, curve = train(tmp_path, pairs_folder, "train.rnn.steps=6", "train.fit.clip_norm=1000.0")
    assert (curve["gradient_norm"] > 0).all()
    assert list(curve["clipped"]) == [0.0]


# --- the rule -----------------------------------------------------------------------------------------------------------


def followed(values: list[float], watch: Watch | None = None) -> Watch:
    watch = watch or Watch()
    for value in values:
        watch.hear(Part({}, torch.tensor(value), {}, 0))  # type: ignore[typeddict-item]  # not looked at
        watch.judge(value, 1.0, scaled=False)
    return watch


@given(
    st.lists(st.floats(0.1, 0.1 * FACTOR), min_size=LEAST, max_size=80),
    st.lists(st.integers(0, STEPS - 1), max_size=30),
    st.floats(1e2, 1e30),
)
def test_losses_within_a_decade_and_short_peaks_of_any_height_are_no_explosion(
    usual: list[float], peaks: list[int], height: float
) -> None:
    watch = followed(usual)
    for turn, count in enumerate(peaks):
        followed([height] * count + [usual[turn % len(usual)]], watch)


@given(st.lists(st.floats(0.1, 1.0), min_size=LEAST, max_size=200), st.floats(10.001, 1e30))
def test_steps_in_a_row_above_the_limit_are_an_explosion(usual: list[float], height: float) -> None:
    watch = followed(usual)
    followed([height] * (STEPS - 1), watch)
    with pytest.raises(DivergedError, match="loss has exploded"):
        followed([height], watch)


def test_curve_of_a_noisy_training_raises_no_alarm() -> None:
    """Losses that scatter by a factor of 2.7 about a falling curve, ten times as many as a long training has."""
    rng = np.random.default_rng(0)
    steps = np.arange(40_000)
    followed(list(np.exp(rng.normal(0.0, 1.0, len(steps))) * (0.5 + 2.0 * np.exp(-steps / 400))))


def test_memory_survives_an_interruption() -> None:
    before = followed([1.0] * LEAST + [1e3] * (STEPS - 1))
    after = Watch()
    after.load_state_dict(before.state_dict())
    with pytest.raises(DivergedError, match="loss has exploded"):
        followed([1e3], after)


def test_scaler_may_skip_some_steps_but_not_go_on_doing_so() -> None:
    watch = followed([1.0])
    for _ in range(SKIPPED):
        watch.judge(1.0, math.inf, scaled=True)
    watch.judge(1.0, 1.0, scaled=True)
    for _ in range(SKIPPED):
        watch.judge(1.0, math.inf, scaled=True)
    with pytest.raises(DivergedError, match="gradient is not finite"):
        watch.judge(1.0, math.inf, scaled=True)


def test_loss_of_another_process_ends_this_one_too() -> None:
    watch = Watch()
    watch.hear(Part({}, torch.tensor(1.0), {}, 0))  # type: ignore[typeddict-item]  # not looked at
    with pytest.raises(DivergedError, match="not finite in another process"):
        watch.judge(math.nan, math.nan, scaled=False)


# --- activations --------------------------------------------------------------------------------------------------------


def heard(network: SpectralUpsampler) -> dict[str, diagnosis.Activation]:
    generator = torch.Generator().manual_seed(5)
    signal = 0.1 * torch.randn(4, 12_000, generator=generator)
    cutoff, restore = torch.tensor([4e3, 8e3, 12e3, 8e3]), torch.tensor([False, True, False, True])
    found = diagnosis.activations(network, signal, cutoff, restore, torch.zeros_like(signal))
    return {one.layer: one for one in found}


@pytest.mark.parametrize("kind", ["cnn", "rnn"])
def test_untrained_networks_have_no_dead_nor_saturated_layers(params: Params, kind: str) -> None:
    torch.manual_seed(0)
    found = heard(build.network(params.train.cnn if kind == "cnn" else params.train.rnn, 48_000).eval())
    assert {"stem", "condition", "norm", "level", "turn"} < set(found)
    for one in found.values():
        assert one.finite == 1.0 and one.dead == 0.0 and one.saturated < 0.05, one
        # What nothing was told to: no sample is concealed.
        assert one.rms > 1e-3 or one.layer == "concealed", one


def test_dead_saturated_and_broken_layers_are_told_apart(params: Params) -> None:
    torch.manual_seed(0)
    network = build.network(params.train.rnn, 48_000).eval()
    body: Any = network.body
    layer = body.layers[0]
    with torch.no_grad():
        layer.cell.weight_ih_l0 *= 1e4
        layer.widen.weight[:8] = 0.0
        layer.narrow.bias[0] = math.nan
    found = heard(network)
    assert found["body.layers.0.cell"].saturated > 0.5
    assert found["body.layers.0.widen"].dead == pytest.approx(8 / layer.widen.out_features)
    assert found["body.layers.0.narrow"].finite == pytest.approx(1 - 1 / params.train.rnn.width)
    assert found["body.layers.0.out"].finite == 1.0


# --- real processes -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("devices", [1, pytest.param(2, marks=pytest.mark.long)])
def test_diverged_stage_is_one_sentence_and_a_failed_run(
    project: Path, pairs_folder: Path, environment: dict[str, str], devices: int
) -> None:
    """By a learning rate that no weights survive; on two processes both end, and both keep their share of the batch."""
    from overtone.tracking import store

    shutil.copyfile(ROOT / "params.yaml", project / "params.yaml")
    shutil.copytree(pairs_folder, project / "work" / "pairs")
    wild = ("train.rnn.learning_rate=1e+30", f"train.fit.devices={devices}")
    words = [word for override in (*SMALL, *wild) for word in ("--set", override)]
    variables = environment | {"DVC_ROOT": str(project), "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "false"}
    done = subprocess.run(
        ["overtone", "stage", "train", "--model", "rnn", *words],
        cwd=project,
        env=variables,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("overtone: loss is not finite"), done.stderr
    assert "Traceback" not in done.stderr
    folder = project / last.split()[-1]
    (run,) = store.client().search_runs(["1"])
    assert run.info.status == "FAILED"
    assert run.data.tags["overtone.failure"].startswith("loss is not finite")
    assert project / run.data.tags["overtone.failure_batch"] == folder
    shares = [failure.read(path)["examples"] for path in sorted(folder.parent.glob("failure-step-*"))]
    assert len(shares) == devices
    step = int(failure.read(folder)["step"])
    assert sorted(number for share in shares for number in share) == list(range(4 * step, 4 * step + 4))
    shown = subprocess.run(
        ["overtone", "failure", str(folder)], cwd=project, env=variables, capture_output=True, text=True, check=True
    )
    assert f"process 1 of {devices}" in shown.stdout
