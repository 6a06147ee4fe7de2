"""What `restore` learns from: voices and music with noise, drawn afresh for each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.signal
import torch
from torch import Tensor

from overtone.dsp import stft
from overtone.dsp.stft import BINS, HOP
from overtone.settings import Mixing

Recording = npt.NDArray[np.int16]
# Ratio of error to signal below which less error is worth little: -20 dB.
_ENOUGH = 1e-2
# What lies below this in a recording of a voice is rumble.
_VOICE_HZ = 60.0


@dataclass(frozen=True)
class Sounds:
    """Recordings to mix, mono, 16 bit, by source; `weights` are how often each source is drawn."""

    voices: Sequence[Recording]
    voice_weights: Sequence[float]
    musics: Sequence[Recording]
    noises: Sequence[Recording]


class Mixture(NamedTuple):
    """A batch of spectra. Shapes: noisy, clean complex (B, N, BINS); visible bool (B, BINS)."""

    noisy: Tensor
    clean: Tensor
    visible: Tensor


class Mixer:
    """Draws batches of mixtures.

    Args:
        sounds: what is mixed; at least one voice and one noise.
        mixing: how.
        batch: examples.
        seconds: of an example.
        rate: canonical rate in Hz.
        rng: decides everything random.
    """

    def __init__(
        self, sounds: Sounds, mixing: Mixing, batch: int, seconds: float, rate: int, rng: np.random.Generator
    ) -> None:
        self.sounds, self.mixing, self.batch, self.rate, self.rng = sounds, mixing, batch, rate, rng
        self.samples = round(seconds * rate / HOP) * HOP
        weights = np.array(sounds.voice_weights, float)
        self._voice_shares = weights / weights.sum()
        self._knots_hz = np.geomspace(60, rate / 2, 9)

    def __call__(self) -> Mixture:
        """The next batch."""
        return self.made([self.rng] * self.batch)

    def made(self, rngs: Sequence[np.random.Generator]) -> Mixture:
        """Examples, each decided by a generator of its own."""
        examples, gains, ends = [], [], []
        for self.rng in rngs:
            voice, other, lowest_hz = self._example()
            examples.append((voice, other))
            gains.append((self._colour(lowest_hz), self._colour(0.0)))
            narrow = self.rng.random() < self.mixing.narrow
            ends.append(0.97 * self.rng.choice(self.mixing.cutoffs) if narrow else np.inf)
        clean, noise = (
            stft.analyse(torch.from_numpy(np.stack(parts))) * torch.from_numpy(np.stack(colours))[:, None]
            for parts, colours in zip(zip(*examples, strict=True), zip(*gains, strict=True), strict=True)
        )
        hz = torch.arange(BINS) * (self.rate / stft.WINDOW)
        visible = hz < torch.tensor(ends, dtype=torch.float32)[:, None]
        keep = visible[:, None]
        clean = clean * keep
        return Mixture(clean + noise * keep, clean, visible)

    def _example(self) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], float]:
        """A clean signal and the noise to add, (samples,) each, and how far down the clean one is to go, Hz."""
        mixing, rng = self.mixing, self.rng
        draw = rng.random()
        silent = np.zeros(self.samples, np.float32)
        if draw < mixing.music and self.sounds.musics:
            music = self._piece(self.sounds.musics[int(rng.integers(len(self.sounds.musics)))])
            clean = _scaled(music, rng.uniform(*mixing.level_dbfs))
            # Steady hiss may be there; it stays too, since music is not to be touched.
            return clean, silent, 0.0
        voice = self._voice()
        if rng.random() < mixing.pauses:
            voice = self._paused(voice)
        level = rng.uniform(*mixing.level_dbfs)
        voice = _scaled(voice, level)
        draw = rng.random()
        if draw < mixing.clean:
            return voice, silent, _VOICE_HZ
        noise = self._noise()
        if draw < mixing.clean + mixing.noise_alone:
            return silent, _scaled(noise, level), _VOICE_HZ
        return voice, _scaled(noise, level - rng.uniform(*mixing.snr_db)), _VOICE_HZ

    def _voice(self) -> npt.NDArray[np.float32]:
        return self._piece(self.sounds.voices[int(self.rng.choice(len(self.sounds.voices), p=self._voice_shares))])

    def _noise(self) -> npt.NDArray[np.float32]:
        """One or two layers of recorded noise, other voices or synthetic noise, each of its own speed."""
        rng, mixing = self.rng, self.mixing
        total = np.zeros(self.samples, np.float32)
        for _ in range(int(rng.integers(1, 3))):
            draw = rng.random()
            if draw < mixing.babble:
                layer = sum((_scaled(self._voice(), 0.0) for _ in range(int(rng.integers(2, 7)))), np.zeros_like(total))
            elif draw < mixing.babble + mixing.coloured:
                layer = self._synthetic()
            else:
                layer = self._piece(
                    self.sounds.noises[int(rng.integers(len(self.sounds.noises)))], rng.uniform(0.75, 1.4)
                )
            total += _scaled(layer, rng.uniform(-8.0, 0.0))
        if rng.random() < 0.6:
            # Rumble would make up most of the power, and the ratio say little about what is heard.
            sections = scipy.signal.butter(2, rng.uniform(20.0, 150.0), "high", fs=self.rate, output="sos")
            total = scipy.signal.sosfilt(sections, total).astype(np.float32)
        return total

    def _synthetic(self) -> npt.NDArray[np.float32]:
        spectrum = np.fft.rfft(self.rng.standard_normal(self.samples))
        hz = np.fft.rfftfreq(self.samples, 1 / self.rate)
        spectrum *= np.maximum(hz, 30.0) ** self.rng.uniform(-1.0, 0.3)
        return np.fft.irfft(spectrum, self.samples).astype(np.float32)

    def _piece(self, recording: Recording, speed: float = 1.0) -> npt.NDArray[np.float32]:
        """A stretch from a random moment on, played over and over where the recording is short; speed by interpolation."""
        wanted = int(self.samples * speed) + 2
        start = int(self.rng.integers(0, max(1, len(recording) - wanted)))
        piece = recording[start : start + wanted]
        if len(piece) < wanted:
            piece = np.tile(piece, -(-wanted // len(piece)))[:wanted]
        signal = (piece / 32768).astype(np.float32)
        if speed == 1.0:
            return np.asarray(signal[: self.samples], np.float32)
        moments = np.arange(self.samples) * speed
        return np.asarray(np.interp(moments, np.arange(wanted), signal), np.float32)

    def _colour(self, lowest_hz: float) -> npt.NDArray[np.float32]:
        """A smooth random gain over frequency that lets nothing pass below `lowest_hz`. Shape: (BINS,)."""
        gain_db = self.rng.normal(0, self.mixing.colour_db, len(self._knots_hz))
        hz = np.arange(BINS) * (self.rate / stft.WINDOW)
        gain = 10 ** (np.interp(np.log(np.maximum(hz, 1.0)), np.log(self._knots_hz), gain_db) / 20)
        return np.asarray(gain * (hz >= lowest_hz), np.float32)

    def _paused(self, voice: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        length = int(self.rng.uniform(0.2, 0.6) * len(voice))
        start = int(self.rng.integers(0, len(voice) - length))
        voice = voice.copy()
        voice[start : start + length] = 0
        return voice


def _scaled(signal: npt.NDArray[np.float32], level_dbfs: float) -> npt.NDArray[np.float32]:
    """At an RMS of its louder parts: the mean power of the half of 10 ms stretches that is louder."""
    stretches = signal[: len(signal) // 480 * 480].reshape(-1, 480)
    power = np.sort(np.mean(np.square(stretches, dtype=np.float64), axis=1))
    rms = float(np.sqrt(power[len(power) // 2 :].mean()))
    return signal * np.float32(10 ** (level_dbfs / 20) / rms) if rms > 1e-5 else signal * 0


def restoration_loss(made: Tensor, mixture: Mixture, snr_weight: float = 0.05) -> tuple[Tensor, Tensor]:
    """Compressed spectral distance minus a share of the signal-to-noise ratio; and the ratio's gain over the input, dB.

    0.7 (|S|^0.3 - |C|^0.3)^2 + 0.3 |S^0.3 - C^0.3|^2, the phase kept, bins weighted by 1 / (1 + f / 4 kHz).

    Shape:
        made complex (B, N, BINS) -> (), ().

    Source: Braun and Tashev, "A consolidated view of loss functions for supervised deep learning-based speech
    enhancement" (2021); the limit of the ratio: Wisdom et al., "Unsupervised sound separation using mixture invariant
    training" (2020).
    """
    clean = mixture.clean
    hz = torch.arange(BINS, device=made.device) * (48_000 / stft.WINDOW)
    weight = mixture.visible[:, None] / (1 + hz / 4000)
    weight = weight / weight.mean()
    power, true = made.real.square() + made.imag.square() + 1e-7, clean.real.square() + clean.imag.square() + 1e-7
    magnitude, true_magnitude = power.pow(0.15), true.pow(0.15)
    turned = made * (magnitude / power.sqrt()) - clean * (true_magnitude / true.sqrt())
    distance = 0.7 * (magnitude - true_magnitude).square() + 0.3 * (turned.real.square() + turned.imag.square())
    total = clean.abs().square().sum((1, 2))
    error = made - clean
    left = (error.real.square() + error.imag.square()).sum((1, 2))
    there = (mixture.noisy - clean).abs().square().sum((1, 2))
    before, after = (10 * torch.log10((total + 1e-4) / (noise + 1e-4)) for noise in (there, left))
    voiced = total > 1e-3
    # Beyond 20 dB more is hardly worth anything, or what is clean already would outweigh all that is not.
    ratio = -10 * torch.log10((left + 1e-4) / (total + 1e-4) + _ENOUGH)
    ratio = (ratio * voiced).sum() / voiced.sum().clamp(min=1)
    noisy = voiced & (before < 35)
    gain = ((after - before) * noisy).sum() / noisy.sum().clamp(min=1)
    return (distance * weight).mean() - snr_weight * ratio, gain.detach()


def waveform_loss(made: Tensor, mixture: Mixture) -> Tensor:
    """The classical choice: mean squared error of the waveform, over the mean power of the batch's clean signals.

    Shape:
        made complex (B, N, BINS) -> ().
    """
    clean = stft.overlap_add(mixture.clean)
    error = stft.overlap_add(made) - clean
    return error.square().mean() / clean.square().mean().clamp(min=1e-8)
