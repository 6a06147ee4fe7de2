"""What a training view does to its own target: speed, music beneath, tone colour, level, noise floor."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft
from scipy.interpolate import PchipInterpolator

from overtone import audio
from overtone.audio import Signal
from overtone.data import noise
from overtone.params import Range, Settings, TargetParams

_PEAK = 0.99
_FILTER_PADDING = 2048
# Centres of the bands whose gain a random microphone changes; between them the gain is smooth in log frequency.
COLOUR_HZ = (63.0, 125.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)


class TargetRecipe(Settings):
    """The changes of one target: resampling factor, dB of tilt from 0 Hz to half the rate, dBFS of level and floor.

    `colour_db` are gains at the frequencies `COLOUR_HZ`, empty for none. `mix_clip` names the clip of music that lies
    beneath at `mix_snr_db`.
    """

    speed: float
    tilt_db: float
    colour_db: tuple[float, ...] = ()
    level_dbfs: float
    floor_dbfs: float
    floor_tilt_db: float
    mix_clip: str | None = None
    mix_snr_db: float = 0.0


def draw(params: TargetParams, kind: str, musics: Sequence[str], rng: np.random.Generator) -> TargetRecipe:
    """Changes drawn uniformly from their ranges; speech gets music beneath at a share of the draws.

    Args:
        kind: of the clip: "speech" or another.
        musics: names of clips that may lie beneath.
    """

    def uniform(bounds: Range) -> float:
        return round(float(rng.uniform(*bounds)), 3)

    recipe = TargetRecipe(
        speed=uniform(params.speed),
        tilt_db=uniform(params.tilt_db),
        level_dbfs=uniform(params.level_dbfs),
        floor_dbfs=uniform(params.floor_dbfs),
        floor_tilt_db=uniform(params.floor_tilt_db),
    )
    if params.colour_db:
        recipe = recipe.model_copy(update={"colour_db": draw_colour(params.colour_db, rng)})
    if kind == "speech" and musics and rng.random() < params.mix_share:
        mixed = {"mix_clip": musics[int(rng.integers(len(musics)))], "mix_snr_db": uniform(params.mix_snr_db)}
        recipe = recipe.model_copy(update=mixed)
    return recipe


def draw_colour(deviation_db: float, rng: np.random.Generator) -> tuple[float, ...]:
    """Gains in dB at `COLOUR_HZ`, normally distributed, at most two standard deviations from 0."""
    gains = np.clip(rng.normal(0.0, deviation_db, len(COLOUR_HZ)), -2 * deviation_db, 2 * deviation_db)
    return tuple(round(float(gain), 2) for gain in gains)


def make(
    recipe: TargetRecipe, signal: Signal, rate: int, rng: np.random.Generator, music: Signal | None = None
) -> Signal:
    """The target of a view. Its peak stays below full scale, if need be at a lower level than asked for.

    Args:
        music: the recording named by `recipe.mix_clip`, at `rate` Hz.

    Shape:
        signal: (channels, samples) -> (channels, about samples / speed).
    """
    signal = change_speed(signal, rate, recipe.speed)
    if music is not None:
        beneath = noise.excerpt([music], signal.shape[0], signal.shape[1], rate, rng)
        signal = noise.mix(signal, beneath, recipe.mix_snr_db)
    signal = filtered(signal, rate, recipe.tilt_db, recipe.colour_db)
    loud = noise.rms(signal)
    if loud:
        signal = signal * np.float32(10.0 ** (recipe.level_dbfs / 20.0) / loud)
    signal = signal * np.float32(min(1.0, _PEAK / max(float(np.abs(signal).max(initial=0.0)), 1e-9)))
    floor = noise.tilted(recipe.floor_tilt_db, signal.shape[0], signal.shape[1], rate, rng)
    return signal + floor * np.float32(10.0 ** (recipe.floor_dbfs / 20.0))


def change_speed(signal: Signal, rate: int, speed: float) -> Signal:
    """Played `speed` times as fast: shorter and higher above 1. Rounded to a whole rate in Hz."""
    return audio.resample(signal, round(rate * speed), rate)


def filtered(signal: Signal, rate: int, tilt_db: float, colour_db: Sequence[float] = ()) -> Signal:
    """A zero-phase gain: linear in frequency from 0 dB at 0 Hz to `tilt_db` at half the rate, plus the curve of a microphone.

    Args:
        colour_db: gains in dB at `COLOUR_HZ`, joined by a monotone cubic over log frequency and constant beyond; empty
            for none.

    Shape:
        signal: (channels, samples) in and out.
    """
    frames = signal.shape[1]
    size = fft.next_fast_len(frames + _FILTER_PADDING, real=True)
    spectrum = fft.rfft(signal, size)
    frequency = np.linspace(0.0, rate / 2.0, spectrum.shape[1])
    gain_db = tilt_db * frequency / (rate / 2.0)
    if len(colour_db):
        octaves = np.log2(np.clip(frequency, COLOUR_HZ[0], COLOUR_HZ[-1]))
        gain_db += PchipInterpolator(np.log2(COLOUR_HZ), colour_db)(octaves)
    spectrum *= (10.0 ** (gain_db / 20.0)).astype(np.float32)
    return np.asarray(fft.irfft(spectrum, size)[:, :frames], dtype=np.float32)
