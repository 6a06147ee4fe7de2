"""How far up a signal really goes: the effective bandwidth of a recording, the cutoff that a codec left."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy.ndimage import median_filter, uniform_filter1d

from overtone.audio import Signal

# Power of 16-bit rounding (one step is 2^-15 of full scale): nothing below it survives in a clip.
ROUNDING_POWER = 2.0**-30 / 12.0
_ABOVE_ROUNDING = 10.0**1.2  # a 98th percentile of noise is 6 dB above its mean; dither adds 5 dB
_CLIFF_DB = 25.0
_CLIFF_BINS = 6
_CLIFF_FROM_HZ = 2500.0
_STEADY_DB = 16.0  # steady noise has 12 dB between its 20th and 98th percentiles
_LOST = 0.05
_DEPENDABLE = 0.75
_DEPENDS_FROM_HZ = 16000.0  # encoders economise above this
# A single line (a 19 kHz pilot, a monitor's whistle) is no bandwidth: the median over this many bins drops it.
_LINE_BINS = 15
_CHUNK_FRAMES = 1024
# Loudest moments against quiet ones. Of the power of steady noise in a band of 1 kHz, these percentiles of 10 s differ by 5 dB.
_LOUD_PERCENTILE, _QUIET_PERCENTILE = 99.5, 10.0
_STANDS_OUT = 10.0**1.2  # 12 dB
_BAND_HZ, _BAND_STEP_HZ = 1000.0, 500.0
_GATED_FROM_HZ = 10000.0
_MIDDLE_HZ = (500.0, 4000.0)  # every voice and instrument sounds here

Spectrum = npt.NDArray[np.float64]


def estimate_bandwidth(signal: Signal, rate: int) -> float:
    """The highest frequency at which a recording still has something to hear.

    A high percentile over frames of the spectrum (so that rare high frequencies count) is followed upwards until nothing
    stands out of 16-bit rounding noise, or until a cliff that no instrument or voice makes (25 dB within 300 Hz, and only
    steady noise beyond it): the low-pass of an encoder or resampler above a noise floor.

    Args:
        signal: any level, full scale 1.0.
        rate: Hz.

    Shape:
        signal: (channels, samples).

    Returns:
        Hz, from 0 (silence) to rate / 2 (full band).
    """
    size = _frame_size(rate)
    power = np.concatenate([block.max(axis=0) for block in _spectra(signal, size)]).reshape(-1, size // 2 + 1)
    loud = np.percentile(power, 98.0 if len(power) >= 50 else 100.0, axis=0)
    level = median_filter(loud, size=_LINE_BINS, mode="nearest")
    above = np.flatnonzero(level > ROUNDING_POWER * _window_power(size) * _ABOVE_ROUNDING)
    if not len(above):
        return 0.0
    spread = 10.0 * np.log10((level + 1e-30) / (np.percentile(power, 20.0, axis=0) + 1e-30))
    top = _cliff(10.0 * np.log10(level + 1e-30), spread, int(above[-1]), int(_CLIFF_FROM_HZ * size / rate))
    bins = size // 2
    return rate / 2.0 if top >= bins - 3 else (top + 1) * rate / size


def sound_edge(signal: Signal, rate: int) -> float:
    """How far up the sound of a recording goes: where its loudest moments stand 12 dB above its own quiet ones.

    Hiss that reaches 20 kHz is no sound: it is there in the quiet moments too. Frames of digital silence are no quiet
    moments of the recording. Where, above 10 kHz, an encoder wrote silence for the quiet moments (they fall by 6 dB within
    1 kHz), the floor below goes on. A recording without quiet moments (between 0.5 and 4 kHz nothing stands out by 12 dB:
    steady music, noise) shows no floor: everything in it is taken for its sound.

    Args:
        signal: any level, full scale 1.0.
        rate: Hz.

    Shape:
        signal: (channels, samples).

    Returns:
        Hz, from 0 (silence) to rate / 2 (full band, or no quiet moments); `estimate_bandwidth` may be lower.
    """
    size = _frame_size(rate)
    rounding = ROUNDING_POWER * _window_power(size)
    power = np.concatenate([block.max(axis=0) for block in _spectra(signal, size)])
    sounding = power[power.mean(axis=1) > 4.0 * rounding]
    if not len(sounding):
        return 0.0
    step, width = (max(round(hz * size / rate), 1) for hz in (_BAND_STEP_HZ, _BAND_HZ))
    starts = np.arange(0, size // 2 - width + 1, step)
    if not len(starts):
        return rate / 2.0
    bands = np.stack([sounding[:, start : start + width].mean(axis=1) for start in starts], axis=1)
    quiet = np.percentile(bands, _QUIET_PERCENTILE, axis=0)
    first = int(np.searchsorted(starts, _GATED_FROM_HZ * size / rate))
    lift = np.percentile(bands, _LOUD_PERCENTILE, axis=0) / _floor(quiet, rounding, first)
    low, high = (hz * size / rate for hz in _MIDDLE_HZ)
    middle = lift[(starts >= low) & (starts + width <= high)]
    if not len(middle) or np.median(middle) < _STANDS_OUT:
        return rate / 2.0
    out = np.flatnonzero(lift >= _STANDS_OUT)
    return rate / 2.0 if out[-1] == len(starts) - 1 else float((starts[out[-1]] + width) * rate / size)


def _floor(quiet: Spectrum, rounding: float, first: int) -> Spectrum:
    """The floor by band: the power of quiet moments; from `first` on, where that falls by 6 dB, it goes on as it was."""
    floor = np.maximum(quiet, rounding)
    for band in range(max(first, 2), len(floor)):
        if floor[band] < floor[band - 2] / 4.0:
            floor[band] = floor[band - 2]
    return np.asarray(floor)


def dependable_bandwidth(signal: Signal, rate: int, reach: float | None = None) -> float:
    """The frequency up to which a recording holds its sound dependably, not only in its loudest moments.

    Encoders such as Vorbis keep the top of the band only where it is loud and write silence elsewhere; a network that
    trains on such bins learns the encoder's choice, and a metric that counts them judges it. In bands of 500 Hz, the
    share of the active frames that hold more than 16-bit rounding is compared with the best share below; the first
    band in which less than 0.75 of it is left ends the dependable range.

    Args:
        signal: any level, full scale 1.0.
        rate: Hz.
        reach: an upper limit, `estimate_bandwidth` of the signal where it is not given.

    Shape:
        signal: (channels, samples).

    Returns:
        Hz, at most `reach`.
    """
    reach = estimate_bandwidth(signal, rate) if reach is None else reach
    size = _frame_size(rate)
    power = np.concatenate([block.mean(axis=0) for block in _spectra(signal, size)])
    width = max(round(500.0 * size / rate), 1)
    energy = power[:, round(300.0 * size / rate) :].mean(axis=1)
    active = power[energy > 1e-3 * np.percentile(energy, 95.0)]
    count = (size // 2) // width
    bands = active[:, : count * width].reshape(len(active), count, width).mean(axis=2)
    held = (bands > 4.0 * ROUNDING_POWER * _window_power(size)).mean(axis=0) if len(active) else np.zeros(count)
    best = np.maximum.accumulate(held)
    first = int(_DEPENDS_FROM_HZ * size / rate) // width
    # Two in a row, so that a natural notch does not end the range.
    poor = held < _DEPENDABLE * best
    ends = [band for band in range(first, count) if poor[band : band + 2].all()]
    return min(reach, ends[0] * width * rate / size) if ends else reach


def measure_cutoff(degraded: Signal, reference: Signal, rate: int, known: float) -> float:
    """Frequency above which `degraded` holds nothing of `reference`: what an encoder threw away.

    Args:
        degraded: output of the encoder, aligned with `reference`.
        reference: its input.
        rate: Hz.
        known: Hz, returned where the reference's highest frequencies passed (or it has none).

    Shape:
        both signals: (channels, samples).

    Returns:
        Hz, at most `known`.
    """
    size = _frame_size(rate)
    before, after = _total(reference, size), _total(degraded, size)
    frames = max(1, reference.shape[0] * -(-reference.shape[1] // (size // 2)))
    bearing = before > frames * ROUNDING_POWER * _window_power(size) * _ABOVE_ROUNDING
    bearing &= np.arange(len(bearing)) * rate / size < known
    if not bearing.any():
        return known
    kept = np.flatnonzero(bearing & (after > _LOST * before))
    if not len(kept) or kept[-1] == np.flatnonzero(bearing)[-1]:
        return known
    return float(min(known, (kept[-1] + 1) * rate / size))


def _cliff(level_db: Spectrum, spread_db: Spectrum, top: int, start: int) -> int:
    """The lowest bin from `start` on above which there is a drop of `_CLIFF_DB` and then steady noise, else `top`."""
    beyond = np.maximum.accumulate(level_db[::-1])[::-1]
    for k in range(max(8, start), top - _CLIFF_BINS):
        drop = level_db[k - 7 : k + 1].min() - beyond[k + _CLIFF_BINS]
        if drop >= _CLIFF_DB and np.median(spread_db[k + _CLIFF_BINS : top + 1]) <= _STEADY_DB:
            return min(top, k + _CLIFF_BINS // 2)
    return top


def _frame_size(rate: int) -> int:
    """Samples of an analysis frame: the power of two that resolves about 50 Hz."""
    return int(2 ** max(6, round(math.log2(rate / 47.0))))


def _window(size: int) -> npt.NDArray[np.float32]:
    """Hann squared: its side lobes fall fast enough for 16-bit rounding to show beside a loud tone."""
    hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)
    return np.asarray(hann**2, dtype=np.float32)


def _window_power(size: int) -> float:
    return float(np.sum(_window(size).astype(np.float64) ** 2))


def _spectra(signal: Signal, size: int) -> Iterator[Spectrum]:
    """Power spectra (channels, frames, bins) of half-overlapping frames, some frames at a time."""
    short = max(0, size - signal.shape[1])
    padded = np.pad(signal, ((0, 0), (0, short)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, :: size // 2]
    for start in range(0, frames.shape[1], _CHUNK_FRAMES):
        spectrum = np.fft.rfft(frames[:, start : start + _CHUNK_FRAMES] * _window(size), axis=-1)
        yield spectrum.real**2 + spectrum.imag**2


def _total(signal: Signal, size: int) -> Spectrum:
    """Power summed over channels and frames, smoothed over 9 bins."""
    total: Spectrum = np.sum([block.sum(axis=(0, 1)) for block in _spectra(signal, size)], axis=0)
    return np.asarray(uniform_filter1d(total, 9, mode="nearest"))
