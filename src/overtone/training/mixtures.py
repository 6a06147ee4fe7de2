"""What `restore` learns from: voices and music with noise, drawn afresh for each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
from overtone.training.noises import Signal, synthetic

Recording = npt.NDArray[np.int16]
# Ratio of error to signal below which less error is worth little: -20 dB.
_ENOUGH = 1e-2
# Examples that a drawn voice, and a drawn noise, is used for.
_SHARED = 3
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

    Voices and noises are drawn once for `_SHARED` examples each, and meet in other pairs, levels and colours: to read and to
    transform them costs more than to mix.

    Args:
        sounds: what is mixed; at least one voice.
        mixing: how.
        batch: examples.
        seconds: of an example.
        rate: canonical rate in Hz.
        seed: decides everything random, together with the batch's number.
    """

    def __init__(self, sounds: Sounds, mixing: Mixing, batch: int, seconds: float, rate: int, seed: int) -> None:
        self.sounds, self.mixing, self.batch, self.rate, self.seed = sounds, mixing, batch, rate, seed
        self.samples = round(seconds * rate / HOP) * HOP
        weights = np.array(sounds.voice_weights, float)
        self._voice_shares = weights / weights.sum()
        self._knots_hz = np.geomspace(60, rate / 2, 9)
        # Without recordings of noise what would be recorded is synthetic.
        self._synthetic = mixing.synthetic if sounds.noises else 1.0 - mixing.babble

    def __call__(self, number: int, examples: range | None = None) -> Mixture:
        """Some examples of batch `number`, all by default; the same whichever others are asked for."""
        chosen = examples if examples is not None else range(self.batch)
        groups = -(-self.batch // _SHARED)
        voice_of = [example // _SHARED for example in chosen]
        noise_of = [(example // _SHARED + example % _SHARED) % groups for example in chosen]
        voices = {group: self._spectrum(self._voice, 1, number, group) for group in sorted(set(voice_of))}
        noises = {group: self._spectrum(self._noise, 2, number, group) for group in sorted(set(noise_of))}
        made = [
            self._mixed(voices[voice], noises[noise], np.random.default_rng((self.seed, 3, number, example)))
            for example, voice, noise in zip(chosen, voice_of, noise_of, strict=True)
        ]
        noisy, clean, visible = (torch.stack(parts) for parts in zip(*made, strict=True))
        return Mixture(noisy, clean, visible)

    def _spectrum(self, draw: Callable[[np.random.Generator], Signal], *seed: int) -> Tensor:
        """Of a signal whose louder parts have an RMS of 1. Shape: complex (N, BINS)."""
        signal = _scaled(draw(np.random.default_rng((self.seed, *seed))))
        return stft.analyse(torch.from_numpy(signal)[None])[0]

    def _mixed(self, voice: Tensor, noise: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy, clean (N, BINS) and visible (BINS,) of one example."""
        mixing = self.mixing
        level_db = rng.uniform(*mixing.level_dbfs)
        noise_db = level_db - rng.uniform(*mixing.snr_db)
        gains, lowest_hz = (level_db, noise_db), _VOICE_HZ
        kind = rng.choice(4, p=(mixing.music, mixing.clean, mixing.noise_alone, 1 - mixing.unmixed))
        if kind == 0 and self.sounds.musics:
            # Steady hiss may be there; it stays too, since music is not to be touched.
            recording = self.sounds.musics[int(rng.integers(len(self.sounds.musics)))]
            voice = stft.analyse(torch.from_numpy(_scaled(self._piece(recording, rng)))[None])[0]
            gains, lowest_hz = (level_db, -np.inf), 0.0
        elif kind == 1:
            gains = level_db, -np.inf
        elif kind == 2:
            gains = -np.inf, level_db
        narrow = rng.random() < mixing.narrow
        end = 0.97 * rng.choice(mixing.cutoffs) if narrow else np.inf
        visible = torch.arange(BINS) * (self.rate / stft.WINDOW) < end
        factors = (
            torch.from_numpy(self._colour(rng, lowest) * np.float32(10 ** (gain / 20))) * visible
            for lowest, gain in zip((lowest_hz, 0.0), gains, strict=True)
        )
        clean, added = (part * factor for part, factor in zip((voice, noise), factors, strict=True))
        return clean + added, clean, visible

    def _voice(self, rng: np.random.Generator) -> Signal:
        """A stretch of a voice, some with a pause put in."""
        chosen = int(rng.choice(len(self.sounds.voices), p=self._voice_shares))
        # Slower or faster it is another voice, and voices are few.
        voice = self._piece(self.sounds.voices[chosen], rng, rng.uniform(*self.mixing.voice_speed))
        if rng.random() < self.mixing.pauses:
            length = int(rng.uniform(0.2, 0.6) * len(voice))
            start = int(rng.integers(0, len(voice) - length))
            voice = voice.copy()
            voice[start : start + length] = 0
        return voice

    def _noise(self, rng: np.random.Generator) -> Signal:
        """One or two layers of recorded noise, other voices or synthetic noise, each of its own speed."""
        total = np.zeros(self.samples, np.float32)
        for _ in range(int(rng.integers(1, 3))):
            total += _scaled(self._layer(rng)) * np.float32(10 ** (rng.uniform(-8.0, 0.0) / 20))
        if rng.random() < 0.6:
            # Rumble would make up most of the power, and the ratio say little about what is heard.
            sections = scipy.signal.butter(2, rng.uniform(20.0, 150.0), "high", fs=self.rate, output="sos")
            total = scipy.signal.sosfilt(sections, total).astype(np.float32)
        return total

    def _layer(self, rng: np.random.Generator) -> Signal:
        draw = rng.random()
        if draw < self.mixing.babble:
            others = (_scaled(self._voice(rng)) for _ in range(int(rng.integers(2, 7))))
            return sum(others, np.zeros(self.samples, np.float32))
        if draw < self.mixing.babble + self._synthetic:
            return synthetic(self.samples, self.rate, rng)
        recording = self.sounds.noises[int(rng.integers(len(self.sounds.noises)))]
        return self._piece(recording, rng, rng.uniform(0.75, 1.4))

    def _piece(self, recording: Recording, rng: np.random.Generator, speed: float = 1.0) -> Signal:
        """A stretch from a random moment on, played over and over where the recording is short; speed by interpolation."""
        wanted = int(self.samples * speed) + 2
        start = int(rng.integers(0, max(1, len(recording) - wanted)))
        piece = recording[start : start + wanted]
        if len(piece) < wanted:
            piece = np.tile(piece, -(-wanted // len(piece)))[:wanted]
        signal = np.multiply(piece, np.float32(1 / 32768), dtype=np.float32)
        if speed == 1.0:
            return signal[: self.samples]
        moments = np.arange(self.samples, dtype=np.float32) * np.float32(speed)
        whole = moments.astype(np.int64)
        moments -= whole
        return np.asarray(signal[whole] * (1 - moments) + signal[whole + 1] * moments, np.float32)

    def _colour(self, rng: np.random.Generator, lowest_hz: float) -> Signal:
        """A smooth random gain over frequency that lets nothing pass below `lowest_hz`. Shape: (BINS,).

        Most are slight, since most recordings are natural; a few are as strong as those of the worst microphones.
        """
        gain_db = rng.normal(0, self.mixing.colour_db * rng.exponential(), len(self._knots_hz))
        hz = np.arange(BINS) * (self.rate / stft.WINDOW)
        gain = 10 ** (np.interp(np.log(np.maximum(hz, 1.0)), np.log(self._knots_hz), gain_db) / 20)
        return np.asarray(gain * (hz >= lowest_hz), np.float32)


def _scaled(signal: Signal) -> Signal:
    """To an RMS of 1 of its louder parts: the half of its stretches of 10 ms that is louder. What is silent stays so."""
    stretches = signal[: len(signal) // 480 * 480].reshape(-1, 480)
    power = np.sort(np.mean(np.square(stretches), axis=1))
    rms = float(np.sqrt(power[len(power) // 2 :].mean()))
    return signal * np.float32(1 / rms if rms > 1e-5 else 0.0)


def restoration_loss(made: Tensor, mixture: Mixture, snr_weight: float) -> tuple[Tensor, Tensor]:
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
    power, true = _power(made) + 1e-7, _power(clean) + 1e-7
    magnitude, true_magnitude = power.pow(0.15), true.pow(0.15)
    # |S^0.3 - C^0.3|^2 is the sum of the squares minus twice the product times the cosine of the angle between S and C: real
    # numbers alone, which takes a third of the time that complex ones take.
    cosine = (made.real * clean.real + made.imag * clean.imag) * torch.rsqrt(power * true)
    distance = magnitude.square() + true_magnitude.square() - magnitude * true_magnitude * (1.4 + 0.6 * cosine)
    total, left, there = (_power(part).sum((1, 2)) for part in (clean, made - clean, mixture.noisy - clean))
    before, after = (10 * torch.log10((total + 1e-4) / (noise + 1e-4)) for noise in (there, left))
    voiced = total > 1e-3
    # Beyond 20 dB more is hardly worth anything, or what is clean already would outweigh all that is not.
    ratio = -10 * torch.log10((left + 1e-4) / (total + 1e-4) + _ENOUGH)
    ratio = (ratio * voiced).sum() / voiced.sum().clamp(min=1)
    noisy = voiced & (before < 35)
    gain = ((after - before) * noisy).sum() / noisy.sum().clamp(min=1)
    return (distance * weight).mean() - snr_weight * ratio, gain.detach()


def _power(spectrum: Tensor) -> Tensor:
    """Squared modulus of each number."""
    return spectrum.real.square() + spectrum.imag.square()


def waveform_loss(made: Tensor, mixture: Mixture) -> Tensor:
    """The classical choice: mean squared error of the waveform, over the mean power of the batch's clean signals.

    Shape:
        made complex (B, N, BINS) -> ().
    """
    clean = stft.overlap_add(mixture.clean)
    error = stft.overlap_add(made) - clean
    return error.square().mean() / clean.square().mean().clamp(min=1e-8)
