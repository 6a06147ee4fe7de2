"""What makes added sound unnatural although its level is right: copies, a buzz at the hop rate, noise in place of tones.

Pure functions of arrays. Log-spectral distance and ViSQOL hear none of the three.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.signal
from scipy.ndimage import uniform_filter1d

# Fewer bins of 23 Hz than this are no band whose texture could be judged (1.5 kHz).
MIN_BINS = 64
# The shortest period of copies that is looked for, in bins: neighbours are coherent through the window alone.
_MIN_PERIOD = 24
# A copy is seen where at least so many bins overlap with their original.
_MIN_OVERLAP = 48
# Hop rates in use, as samples at 48 kHz: powers of two and the 5, 10 and 20 ms of speech codecs.
_HOPS = (128, 240, 256, 480, 512, 960, 1024)
_LINE_HZ, _AROUND_HZ, _ENVELOPE_RATE = 1.0, 14.0, 2400
_SMOOTH_SECONDS, _SILENCE = 0.06, 1e-11
# Bins (750 Hz) and frames (0.3 s) over which tones are told from noise.
_BAND_BINS, _FRAMES = 32, 28
_AUDIBLE = 1e-6

Spectra = npt.NDArray[np.complex64]
Floats = npt.NDArray[np.float64]


def copies(spectra: Spectra) -> float:
    """Coherence of bins a copy period apart, 0 (none) to 1 (one strip again and again).

    In each frame the phases are correlated with themselves along frequency; a strip that was copied shows as one distance
    at which they agree in all frames. The median over the distances is subtracted: a click agrees with itself at all.

    Args:
        spectra: short-time spectra of the band and of the known one that it may have been copied from.

    Shape:
        (channels, bins, frames).
    """
    _, bins, frames = spectra.shape
    longest = bins - _MIN_OVERLAP
    if longest <= _MIN_PERIOD or not frames:
        return 0.0
    power = np.abs(spectra)
    phases = np.where(power > np.sqrt(_AUDIBLE) * 0.1, spectra / np.maximum(power, 1e-12), 0.0)
    size = scipy.fft.next_fast_len(2 * bins)
    turned = scipy.fft.fft(phases, size, axis=1)
    agreement = np.abs(scipy.fft.ifft(np.abs(turned) ** 2, axis=1)[:, _MIN_PERIOD:longest])
    overlap = bins - np.arange(_MIN_PERIOD, longest)
    # Random phases agree by 1 / sqrt(overlap) of themselves.
    by_period = np.sqrt(np.mean(np.square(agreement), axis=(0, 2))) / overlap * np.sqrt(_filled(phases))
    by_period = np.sqrt(np.maximum(by_period**2 - 1.0 / overlap, 0.0))
    return float(np.clip(by_period.max() - np.median(by_period), 0.0, 1.0))


def _filled(phases: Spectra) -> float:
    """1 over the share of bins that hold sound: silence agrees with nothing and is not held against a copy."""
    share = float(np.mean(np.abs(phases) > 0.5))
    return 1.0 / share if share else 0.0


def hop_lines_db(signal: npt.NDArray[np.float32], rate: int, low_hz: float) -> Floats:
    """How far a line at each hop rate in use stands above its surroundings in the envelope above `low_hz`, dB.

    Chance makes some 3 dB.

    Synthesis windows whose squares do not add up to one leave such a line in everything incoherent: a buzz.

    Shape:
        signal: (channels, samples); returns one value for each hop.

    Args:
        rate: Hz.
        low_hz: lower edge of the band.
    """
    sections = scipy.signal.butter(6, min(low_hz, 0.45 * rate), "high", fs=rate, output="sos")
    step = rate // _ENVELOPE_RATE
    envelope = scipy.signal.sosfilt(sections, signal.astype(np.float64)) ** 2
    usable = envelope.shape[1] // step * step
    if usable < rate // 4:
        return np.zeros(len(_HOPS))
    # A short mean is low-pass and decimation in one.
    level = np.sqrt(envelope[:, :usable].reshape(len(signal), -1, step).mean(axis=2) + _SILENCE)
    own = rate / step
    # Against its own surroundings: loud and quiet moments then count the same, and syllables make no floor.
    ripple = level / uniform_filter1d(level, round(_SMOOTH_SECONDS * own), axis=1)
    frequency, power = scipy.signal.welch(ripple, own, nperseg=min(4096, level.shape[1]))
    power = power.mean(axis=0) + 1e-12
    found = []
    for hop in _HOPS:
        away = np.abs(frequency - 48_000 / hop)
        line, around = away < max(_LINE_HZ, 1.1 * frequency[1]), away < max(_AROUND_HZ, 8 * frequency[1])
        found.append(10.0 * np.log10(power[line].max() / np.median(power[around])) if line.any() else 0.0)
    return np.array(found)


def tonality_db(power: Floats) -> float | None:
    """Peakiness of bins within bands over time, dB: about 0.5 for noise, many dB for tones; None for silence.

    Powers are averaged over 0.3 s, so that noise becomes flat and what stands still does not; then the arithmetic over the
    geometric mean (the inverse of spectral flatness) of each 750 Hz.

    Shape:
        power: (channels, bins, frames).
    """
    channels, bins, frames = power.shape
    span = min(_FRAMES, frames)
    bands, parts = bins // _BAND_BINS, frames // span if span else 0
    if not bands or not parts:
        return None
    cut = power[:, : bands * _BAND_BINS, : parts * span].reshape(channels, bands, _BAND_BINS, parts, span)
    steady = cut.mean(axis=4)
    level = steady.mean(axis=2)
    audible = level > _AUDIBLE
    if not audible.any():
        return None
    flatness = np.exp(np.log(np.maximum(steady, 1e-12)).mean(axis=2)) / np.maximum(level, 1e-12)
    return float(-10.0 * np.log10(np.maximum(flatness[audible], 1e-6)).mean())
