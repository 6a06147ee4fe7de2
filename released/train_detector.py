"""Train the network that finds noise behind a voice (`overtone.dsp.noise_detector`), in one process of one thread.

    python released/train_detector.py OUT --corpus work/corpus --minutes 12

Signals are mixed as powers of bands: no transform in the loop. Learns from the training split; each line of the log is of
the validation split: the share of noisy voices that are found, by signal-to-noise ratio, and of clean voices and of pieces
of music that are taken for noisy. `OUT/noise_detector.npz` goes into `src/overtone/dsp/`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.signal
import soxr
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from overtone import settings as params
from overtone.data import codecs
from overtone.data.sources import recognise
from overtone.dsp import noise_detector as detector
from overtone.training.noises import synthetic
from overtone.training.recordings import Recording, recordings

ROOT = Path(__file__).parents[1]
Floats = npt.NDArray[np.float32]
WIDTH, BATCH, LEARNING_RATE, SEED = 48, 32, 2e-3, 20
FRAMES = (150, 620)
# Level in dB between loud and quiet moments from which on a voice's recording is taken for clean. Noise added to others
# lies between `NOISY_DB`, and to some of the clean ones it is `FAINT_DB`, below the voice.
CLEAN_DB, NOISY_DB, FAINT_DB = 28.0, (-5.0, 17.0), (28.0, 70.0)
# Dampings of telephones, in Hz, and coders of them: a voice that went through one is not noisy.
CUTOFFS = (3400, 3800, 4000, 5500, 6000, 7000)
CODERS = (
    (params.Codec(codec="mulaw"), 8_000),
    (params.Codec(codec="gsm610"), 8_000),
    (params.Codec(codec="ima_adpcm"), 16_000),
    (params.Codec(codec="mp3", kbps=32), 16_000),
    (params.Codec(codec="opus", kbps=12), 48_000),
)
SNRS_DB = (0.0, 5.0, 10.0, 15.0)


class Network(nn.Module):
    """What `noise_detector.odds` computes. Shape: (B, frames, BANDS) -> (B, 2)."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.bands = nn.Linear(detector.BANDS, width)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(width, width, detector.TAPS, dilation=dilation) for dilation in detector.DILATIONS
        )
        self.pooled = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, features: Tensor) -> Tensor:
        hidden = torch.relu(self.bands(features)).transpose(1, 2)
        for convolution, dilation in zip(self.convolutions, detector.DILATIONS, strict=True):
            reach = (detector.TAPS - 1) // 2 * dilation
            hidden = torch.relu(convolution(hidden)) + hidden[..., reach:-reach]
        peak = (torch.logsumexp(2 * hidden, -1) - math.log(hidden.shape[-1])) / 2
        deviation = (hidden.var(-1, correction=0) + 1e-4).sqrt()
        pooled = torch.relu(self.pooled(torch.cat([hidden.mean(-1), deviation, peak], 1)))
        out: Tensor = self.out(pooled)
        return out


class Split(NamedTuple):
    """Log10 powers of bands of recordings, (frames, BANDS) each."""

    voices: list[Floats]
    clean: list[Floats]
    coded: list[Floats]
    musics: list[Floats]
    noises: list[Floats]
    made: list[Floats]


class Example(NamedTuple):
    """Features, whether noise lies behind a voice, and the signal-to-noise ratio in dB, nan where there is none."""

    features: Floats
    noisy: float
    snr_db: float


# --- recordings -------------------------------------------------------------------------------------------------------


def split_of(found: Sequence[Recording], rate: int, rng: np.random.Generator) -> Split:
    """Band levels of a split's recordings; of music 5 minutes a piece at most."""
    made = Split([], [], [], [], [], [])
    for one in found:
        samples = one.samples[: 300 * rate] if one.kind == "music" else one.samples
        signal = soxr.resample(samples.astype(np.float32) / 32768, rate, detector.RATE)
        part = detector.levels(signal)
        if one.kind == "noise":
            made.noises.append(part)
        elif len(part) < FRAMES[1]:
            continue
        elif one.kind != "speech":
            made.musics.append(part)
        else:
            made.voices.append(part)
            power = (10**part).mean(axis=1)
            loud, quiet = np.percentile(power, [95, 10])
            if 10 * math.log10(loud / (quiet + 1e-12)) > CLEAN_DB:
                made.clean.append(part)
                made.coded.append(coded(signal[: 40 * detector.RATE], rng))
    for _ in range(250):
        noise = synthetic(12 * detector.RATE, detector.RATE, rng)
        made.made.append(detector.levels(noise * np.float32(0.05 / (noise.std() + 1e-9))))
    return made


def coded(signal: Floats, rng: np.random.Generator) -> Floats:
    """Levels of a voice that an encoder drawn at random has gone over."""
    step, rate = CODERS[int(rng.integers(len(CODERS)))]
    sent = soxr.resample(signal, detector.RATE, rate).astype(np.float32)
    received = codecs.round_trip(sent[None], rate, step)[0]
    return detector.levels(soxr.resample(received, rate, detector.RATE))


# --- examples ---------------------------------------------------------------------------------------------------------


class Mixer:
    """Draws examples of a split."""

    def __init__(self, split: Split, rng: np.random.Generator) -> None:
        self.split, self.rng = split, rng
        self._shares = {
            id(group): np.array([min(len(part), 20_000) ** 0.5 for part in group]) for group in split if group
        }
        middles = (detector.EDGES[:-1] + detector.EDGES[1:]) / 2
        self.hz = middles * detector.RATE / detector.WINDOW

    def cut(self, group: list[Floats], frames: int) -> Floats:
        """Powers of a stretch, of mean 1 over its louder half."""
        shares = self._shares[id(group)]
        part = group[self.rng.choice(len(group), p=shares / shares.sum())]
        if len(part) < frames:
            part = np.tile(part, (-(-frames // len(part)), 1))
        start = int(self.rng.integers(len(part) - frames + 1))
        return scaled(10 ** part[start : start + frames].astype(np.float32))

    def colour(self, deviation: float) -> Floats:
        """A smooth random factor by band; `deviation` in log10 power."""
        knots = self.rng.normal(0, deviation, 7)
        curve = np.interp(np.log(self.hz), np.linspace(math.log(80), math.log(8000), 7), knots)
        return (10**curve).astype(np.float32)

    def noise(self, frames: int) -> Floats:
        """One or two layers of recorded noise, noise made by rule, or many voices at once."""
        total = np.zeros((frames, detector.BANDS), np.float32)
        for _ in range(int(self.rng.integers(1, 3))):
            draw = self.rng.random()
            if draw < 0.06:
                layer = sum(self.cut(self.split.voices, frames) for _ in range(int(self.rng.integers(4, 9))))
            else:
                layer = self.cut(self.split.made if draw < 0.39 or not self.split.noises else self.split.noises, frames)
            total += layer * 10 ** self.rng.uniform(-0.8, 0)
        return scaled(total * self.colour(0.6))

    def added(self, one: Floats, other: Floats, below_db: float) -> Floats:
        """The power of two signals' sum, the other so many dB softer: phases of bins are as they may be."""
        other = other * np.float32(10 ** (-below_db / 10))
        turn = np.cos(self.rng.uniform(0, 2 * np.pi, one.shape)) / np.sqrt(detector.WIDTHS)
        return np.maximum(one + other + 2 * np.sqrt(one * other) * turn.astype(np.float32), 1e-13)

    def __call__(self, frames: int) -> Example:
        """Nine in twenty are voices in noise; the others are clean voices, music, and noise alone."""
        rng, split = self.rng, self.split
        kind, noisy, snr_db = rng.random(), 0.0, math.nan
        if kind < 0.45:
            noisy, snr_db = 1.0, float(rng.uniform(*NOISY_DB))
            power = self.added(self.voice(split.voices, frames), self.noise(frames), snr_db)
        elif kind < 0.72:
            power = self.voice(split.clean if rng.random() < 0.6 else split.coded, frames)
            if rng.random() < 0.25:
                power = self.added(power, self.noise(frames), rng.uniform(*FAINT_DB))
        elif kind < 0.97:
            power = self.cut(split.musics, frames) * self.colour(0.2)
            if rng.random() < 0.2:
                power = self.added(power, self.noise(frames), rng.uniform(5, 40))
            elif rng.random() < 0.15:
                power = self.added(power, self.cut(split.voices, frames), rng.uniform(-10, 10))
        else:
            power = self.noise(frames)
        return Example(self.recorded(power), noisy, snr_db)

    def voice(self, group: list[Floats], frames: int) -> Floats:
        """A voice, perhaps in a room, perhaps with a pause put in."""
        power = self.cut(group, frames)
        if self.rng.random() < 0.3:
            decay = 10 ** (-6 * detector.HOP / detector.RATE / self.rng.uniform(0.15, 1.0))
            tail = scipy.signal.lfilter([0, 1 - decay], [1, -decay], power, axis=0)
            power = power + 10 ** self.rng.uniform(-1.5, 0.3) * tail.astype(np.float32)
        if self.rng.random() < 0.2:
            length = int(self.rng.uniform(0.2, 0.6) * frames)
            start = int(self.rng.integers(frames - length + 1))
            power[start : start + length] = 1e-13 if self.rng.random() < 0.5 else power[start : start + length].min(0)
        return scaled(power * self.colour(0.4))

    def recorded(self, power: Floats) -> Floats:
        """Features of a recording of it: its level, its floor, perhaps a narrow band and packets that were lost."""
        rng, level = self.rng, 10 ** self.rng.uniform(-6, -2.2)
        power = power * level
        if rng.random() < 0.35:
            power = power * np.where(self.hz > rng.choice(CUTOFFS), 1e-6, 1)
        floor = 10 ** rng.uniform(-10.5, -8) * rng.standard_gamma(detector.WIDTHS, power.shape) / detector.WIDTHS
        power = power + np.minimum(floor, 1e-5 * level)
        return features_of(self.sent(power) if rng.random() < 0.2 else power)

    def sent(self, power: Floats) -> Floats:
        """With packets lost: bursts of frames are silent, or the frame before again."""
        rng, made = self.rng, power.copy()
        repeated = rng.random() < 0.5
        for _ in range(int(rng.uniform(0.01, 0.1) * len(power))):
            start, count = int(rng.integers(1, len(power))), int(rng.integers(1, 5))
            made[start : start + count] = power[start - 1] if repeated else 1e-12
        return made


def features_of(power: Floats) -> Floats:
    return detector.features([np.log10(power + 1e-12).astype(np.float32)])[0]


def scaled(power: Floats) -> Floats:
    """To a mean of 1 over the louder half of the frames, all bins alike."""
    means = np.sort(power @ detector.WIDTHS / detector.WIDTHS.sum())
    return np.asarray(power / (means[len(means) // 2 :].mean() + 1e-11), np.float32)


def trials(split: Split, rng: np.random.Generator) -> list[tuple[str, Floats]]:
    """Of a split: clean voices, pieces of music, and voices at each of `SNRS_DB`, 400 of each; no augmentation."""
    mixer, made = Mixer(split, rng), []
    for _ in range(400):
        frames = int(rng.integers(250, 600))
        made.append(("voice", mixer.cut(split.clean, frames)))
        made.append(("music", mixer.cut(split.musics, frames)))
        for snr_db in SNRS_DB:
            voice, noise = mixer.cut(split.clean, frames), mixer.cut(split.noises, frames)
            made.append((f"{snr_db:g} dB", mixer.added(voice, noise, snr_db)))
    return [(name, features_of(power * 1e-4)) for name, power in made]


# --- training ---------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", required=True, help="of stage corpus, or shards of one")
    parser.add_argument("--minutes", type=float, required=True, help="of processor time")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    rate = params.load(ROOT / "params.yaml").corpus.rate
    found = recordings(recognise(options.corpus), rate, options.out / "prepared")
    split, valid = (split_of(found[name], rate, rng) for name in ("train", "valid"))
    train(Mixer(split, rng), trials(valid, np.random.default_rng(SEED)), 60 * options.minutes, options.out)


def train(mixer: Mixer, tried: list[tuple[str, Floats]], seconds: float, out: Path) -> None:
    """Train until `seconds` of processor time are spent; writes the averaged weights."""
    network = Network()
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.995))
    optimiser = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    step, began = 0, time.process_time()
    while (spent := time.process_time() - began) < seconds:
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / 50)
            group["lr"] = LEARNING_RATE * warm * (0.5 * (1 + math.cos(math.pi * spent / seconds)) + 0.005)
        frames = int(mixer.rng.integers(*FRAMES))
        examples = [mixer(frames) for _ in range(BATCH)]
        features, noisy, snr = (torch.from_numpy(np.stack(column)).float() for column in zip(*examples, strict=True))
        made = network(features)
        loss = nn.functional.binary_cross_entropy_with_logits(made[:, 0], noisy)
        known = noisy > 0
        if known.any():
            loss = loss + 0.2 * nn.functional.smooth_l1_loss(made[known, 1], snr[known] / detector.SCALE_DB)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        averaged.update_parameters(network)
        step += 1
        if step % 1000 == 0:
            judge(averaged.module, tried, step, spent)
    judge(averaged.module, tried, step, seconds)
    weights: dict[str, Any] = {
        name: value.numpy().astype(np.float16) for name, value in averaged.module.state_dict().items()
    }
    np.savez(out / "noise_detector.npz", **weights)


def judge(network: nn.Module, tried: list[tuple[str, Floats]], step: int, spent: float) -> None:
    """Print the share of each kind of trial that is taken for a noisy voice, and the odds that one clean in a hundred has."""
    with torch.no_grad():
        odds = np.array([float(network(torch.from_numpy(features[None]))[0, 0]) for _, features in tried])
    names = np.array([name for name, _ in tried])
    clean = odds[(names == "voice") | (names == "music")]
    shares = {str(name): round(float((odds[names == name] > detector.SURE).mean()), 3) for name in dict.fromkeys(names)}
    print(f"step {step}, {spent / 60:.1f} min: {shares}; 1 % of clean above {np.quantile(clean, 0.99):.2f}", flush=True)


if __name__ == "__main__":
    main()
