"""Laws of declipping: clipped samples rise beyond the clip level towards the truth, all others stay."""

from __future__ import annotations

import numpy as np
import pytest

from overtone.audio import Signal
from overtone.dsp.declip import Declipper, clipped_samples, declipped

RATE = 16_000


def sound(seconds: float = 1.5) -> Signal:
    """Partials that rise and fall against each other, and a little noise."""
    time = np.arange(round(seconds * RATE)) / RATE
    partials = sum(np.sin(2 * np.pi * f * time + f) / k for k, f in enumerate((171, 347, 529, 911, 1702), 1))
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 2 * time)
    return (0.25 * partials * swell + 1e-3 * np.random.default_rng(0).standard_normal(len(time))).astype(np.float32)[
        None
    ]


def clipped(signal: Signal, share: float = 0.05) -> Signal:
    level = np.float32(np.quantile(np.abs(signal), 1 - share))
    return np.clip(signal, -level, level)


def snr_db(signal: Signal, reference: Signal) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(signal - reference).sum()))


@pytest.mark.parametrize("gain", [1.0, 0.1])
def test_clipped_peaks_come_closer_to_what_they_were(gain: float) -> None:
    signal = np.float32(gain) * sound()
    damaged = clipped(signal)
    out = declipped(damaged, RATE)
    assert snr_db(out, signal) > snr_db(damaged, signal) + 10
    low = np.abs(damaged) < np.abs(damaged).max()
    assert np.array_equal(out[low], damaged[low])
    assert (np.abs(out) >= np.abs(damaged)).all()


def test_each_channel_has_its_own_level() -> None:
    signal = sound()
    damaged = np.concatenate((clipped(signal), 0.3 * clipped(signal, 0.02), signal))
    out = declipped(damaged, RATE)
    assert np.array_equal(out, np.concatenate([declipped(row[None], RATE) for row in damaged]))
    assert np.array_equal(out[2:], signal)


@pytest.mark.parametrize("signal", [sound(), 0 * sound(), np.ones((1, 9), np.float32), sound()[:, :0]])
def test_nothing_changes_where_nothing_clips(signal: Signal) -> None:
    assert np.array_equal(declipped(signal, RATE), signal)


def test_loud_tone_is_not_clipped() -> None:
    tone = np.sin(2 * np.pi * 997 * np.arange(RATE) / 48_000).astype(np.float32)
    assert not clipped_samples(np.float32(0.9999) * tone).any()


@pytest.mark.parametrize("size", [100, 7_777])
def test_result_does_not_depend_on_blocks_and_comes_in_time(size: int) -> None:
    damaged = clipped(sound(2.3))
    whole = declipped(damaged, RATE)
    declipper, parts, given = Declipper(1, RATE), [], 0
    for start in range(0, damaged.shape[1], size):
        parts.append(declipper.push(damaged[:, start : start + size]))
        given += parts[-1].shape[1]
        assert min(start + size, damaged.shape[1]) - given <= declipper.lookahead
    assert np.array_equal(np.concatenate([*parts, declipper.finish()], axis=1), whole)
