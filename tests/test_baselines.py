"""Laws of the systems without learning."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from overtone.audio import Signal, resample
from overtone.evaluation.baselines import RATE, Sinc, SpectralBandReplication
from overtone.evaluation.metrics import score

System = Sinc | SpectralBandReplication
SYSTEMS: list[System] = [Sinc(), SpectralBandReplication()]


def round_16_bit(signal: npt.ArrayLike) -> Signal:
    return np.asarray(np.round(np.multiply(signal, 32768)) / 32768, dtype=np.float32)


def falling_noise(seconds: float = 1.0, channels: int = 1, db_per_khz: float = -2.0, seed: int = 0) -> Signal:
    """Noise that falls towards high frequencies and swells and fades in time, as natural sounds do."""
    samples = int(seconds * RATE)
    white = np.random.default_rng(seed).standard_normal((channels, samples))
    khz = np.fft.rfftfreq(samples, 1 / RATE) / 1000
    shaped = np.fft.irfft(np.fft.rfft(white, axis=1) * 10 ** (db_per_khz * khz / 20), samples, axis=1)
    swell = 0.55 + 0.45 * np.sin(2 * np.pi * 2 * np.arange(samples) / RATE)
    return round_16_bit(0.2 * shaped * swell)


def narrow(signal: Signal, rate: int) -> Signal:
    low = resample(signal, RATE, rate)
    back = resample(low, rate, RATE)[:, : signal.shape[1]]
    return round_16_bit(back)


def low_band(signal: Signal, cutoff: float) -> npt.NDArray[np.float64]:
    spectra = np.fft.rfft(signal.astype(np.float64), axis=1)
    spectra[:, np.fft.rfftfreq(signal.shape[1], 1 / RATE) > cutoff] = 0.0
    return np.fft.irfft(spectra, signal.shape[1], axis=1)


@pytest.mark.parametrize("rate", [8000, 24000])
def test_replication_beats_sinc_clearly(rate: int) -> None:
    target = falling_noise()
    given = narrow(target, rate)
    distances = []
    for system in SYSTEMS:
        out = system.enhance(given, RATE, mode="extend", cutoff_hz=rate / 2)
        distances.append(score(torch.from_numpy(out), torch.from_numpy(target), RATE, rate / 2, RATE / 2)["lsd_hf"])
    assert distances[1] < 0.6 * distances[0]


@pytest.mark.parametrize("rate", [8000, 11025])
def test_low_band_is_untouched_to_16_bit(rate: int) -> None:
    given = narrow(falling_noise(channels=2), rate)
    out = SpectralBandReplication().enhance(given, RATE, cutoff_hz=rate / 2)
    changed = low_band(out, rate / 2) - low_band(given, rate / 2)
    # The ends are where a whole-signal transform sees the signal stop.
    assert np.abs(changed[:, 1024:-1024]).max() < 0.5 / 32768
    assert np.sqrt(np.mean((out - given) ** 2)) > 2.0 / 32768


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("samples", "channels"), [(1, 1), (100, 2), (2047, 3), (4801, 2)])
def test_length_and_channels_are_kept(system: System, samples: int, channels: int) -> None:
    given = falling_noise(0.2, channels)[:, :samples]
    out = system.enhance(given, RATE, mode="auto", cutoff_hz=4000)
    assert out.shape == given.shape and out.dtype == np.float32 and bool(np.isfinite(out).all())


@pytest.mark.parametrize("system", SYSTEMS)
def test_low_rate_signal_comes_back_at_48_khz_and_the_same_each_time(system: System) -> None:
    given = resample(falling_noise(0.5), RATE, 16000)
    out = system.enhance(given, 16000)
    assert out.shape == (1, 24000) and np.array_equal(out, system.enhance(given, 16000))


@pytest.mark.parametrize("system", SYSTEMS)
def test_silence_stays_silence(system: System) -> None:
    out = system.enhance(np.zeros((2, 10_000), np.float32), RATE, mode="extend", cutoff_hz=8000)
    assert not out.any()


def test_nothing_is_added_to_a_silent_passage() -> None:
    given = narrow(falling_noise(), 16000)
    given[:, 12000:36000] = 0.0
    out = SpectralBandReplication().enhance(given, RATE, mode="extend", cutoff_hz=8000)
    assert np.abs(out[:, 18000:30000]).max() < 0.5 / 32768


def test_equal_channels_stay_equal() -> None:
    given = np.repeat(narrow(falling_noise(), 16000), 2, axis=0)
    out = SpectralBandReplication().enhance(given, RATE, mode="extend", cutoff_hz=8000)
    assert np.array_equal(out[0], out[1])


def test_full_band_input_is_returned() -> None:
    given = falling_noise()
    for system in SYSTEMS:
        assert np.array_equal(system.enhance(given, RATE, mode="restore", cutoff_hz=24000), given)


def test_cutoff_is_found_where_none_is_given() -> None:
    given = narrow(falling_noise(), 16000)
    system = SpectralBandReplication()
    told, found = system.enhance(given, RATE, cutoff_hz=8000), system.enhance(given, RATE)
    # The measured edge may lie a little to the side of the true one: the same level, not the same samples.
    assert np.std(found - given) == pytest.approx(np.std(told - given), rel=0.5)
