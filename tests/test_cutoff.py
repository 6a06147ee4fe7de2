"""Laws of the cutoff: the lower of half the rate and what the signal shows, whatever the file's rate."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from overtone import audio
from overtone.audio import Signal
from overtone.dsp.cutoff import find_cutoff

RATE = 48_000


def sound(level: float = 0.1) -> Signal:
    """Noise that falls by 6 dB an octave and swells as syllables do, above a soft room."""
    time, generator = np.arange(3 * RATE) / RATE, np.random.default_rng(0)
    coloured = scipy.signal.lfilter([1.0], [1.0, -0.9], generator.standard_normal(len(time)))
    swell = 0.03 + np.clip(np.sin(2 * np.pi * 3 * time), 0, None)
    return (level * swell * coloured).astype(np.float32)[None]


def narrowed(signal: Signal, low: int, stored: int) -> Signal:
    """Held at `low` Hz once, stored at `stored` Hz in 16 bits."""
    out = audio.resample(audio.resample(signal, RATE, low), low, stored)
    return np.asarray(np.round(out * 32_768) / 32_768, np.float32)


@pytest.mark.parametrize(("low", "stored"), [(8_000, 16_000), (8_000, 48_000), (12_000, 32_000), (24_000, 44_100)])
@pytest.mark.parametrize("level", [0.2, 0.01])
def test_edge_of_the_narrowest_rate_is_found(low: int, stored: int, level: float) -> None:
    found = find_cutoff([narrowed(sound(level), low, stored)], stored)
    assert 0.95 <= found / (low / 2) <= 1.05


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_full_band_ends_at_half_the_rate(rate: int) -> None:
    assert find_cutoff([audio.resample(sound(), RATE, rate)], rate) == pytest.approx(rate / 2, rel=0.03)


def test_line_and_steady_noise_above_the_band_do_not_hide_it() -> None:
    signal = narrowed(sound(), 16_000, RATE)
    pilot = 0.01 * np.sin(2 * np.pi * 19_000 * np.arange(signal.shape[1]) / RATE)
    hiss = 1e-4 * np.random.default_rng(1).standard_normal(signal.shape)
    for added in (pilot, hiss):
        assert find_cutoff([(signal + added).astype(np.float32)], RATE) == pytest.approx(8_000, rel=0.05)


def test_clipped_moments_do_not_hide_it() -> None:
    signal = narrowed(sound(0.5), 8_000, 16_000)
    level = np.quantile(np.abs(signal), 0.999)
    assert find_cutoff([np.clip(signal, -level, level)], 16_000) == pytest.approx(4_000, rel=0.06)


def test_silence_has_none_and_quiet_excerpts_do_not_count() -> None:
    signal = narrowed(sound(), 16_000, RATE)
    assert find_cutoff([0 * signal], RATE) == 0.0
    assert find_cutoff([], RATE) == 0.0
    assert find_cutoff([0 * signal, signal], RATE) == pytest.approx(8_000, rel=0.05)
