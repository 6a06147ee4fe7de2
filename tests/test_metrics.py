"""Laws of the metrics, against independent re-implementations in numpy and scipy."""

from __future__ import annotations

import importlib.util

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import get_window

from overtone.errors import MissingExtraError
from overtone.evaluation import metrics, perceptual
from overtone.evaluation.metrics import log_spectral_distance, score, si_sdr, snr

RATE = 48_000
Array = npt.NDArray[np.float64]


def tensor(signal: npt.ArrayLike) -> torch.Tensor:
    return torch.from_numpy(np.atleast_2d(np.asarray(signal, dtype=np.float32)))


def noise(seed: int = 0, channels: int = 1, samples: int = RATE // 2, level: float = 0.1) -> Array:
    return level * np.random.default_rng(seed).standard_normal((channels, samples))


def powers(signal: npt.ArrayLike) -> Array:
    """log10 powers (bins, frames) of one channel in plain numpy, by the written definition."""
    rounded = np.clip(np.round(np.asarray(signal, dtype=np.float32) * 32768), -32768, 32767).astype(np.float64) / 32768
    mirrored = np.pad(rounded, 1024, mode="reflect")
    window = get_window("hann", 2048, fftbins=True)
    frames = np.lib.stride_tricks.sliding_window_view(mirrored, 2048)[::512]
    spectra = np.fft.rfft(frames * window, axis=1).T
    return np.asarray(np.log10(np.maximum(np.abs(spectra) ** 2, 1e-8)))


def test_lsd_equals_its_written_definition() -> None:
    target, prediction = noise(1)[0], noise(2, level=0.02)[0]
    difference = powers(target) - powers(prediction)
    expected = np.sqrt((difference**2).mean(axis=0)).mean()
    assert log_spectral_distance(tensor(prediction), tensor(target), RATE) == pytest.approx(expected, abs=1e-4)


def test_low_and_high_lsd_look_at_the_bins_of_their_range_only() -> None:
    target, prediction = noise(1)[0], noise(2, level=0.02)[0]
    frequencies = np.arange(1025) * RATE / 2048
    difference = powers(target) - powers(prediction)
    values = score(tensor(prediction), tensor(target), RATE, cutoff_hz=6000, bandwidth_hz=15000)
    for name, bins in (
        ("lsd", frequencies <= 15000),
        ("lsd_lf", frequencies <= metrics.KNOWN_SHARE * 6000),
        ("lsd_hf", (frequencies > 6000) & (frequencies <= 15000)),
    ):
        assert values[name] == pytest.approx(np.sqrt((difference[bins] ** 2).mean(axis=0)).mean(), abs=1e-4), name


def test_lsd_is_averaged_over_channels() -> None:
    target, prediction = noise(1, channels=2), noise(2, channels=2, level=0.02)
    singles = [log_spectral_distance(tensor(p), tensor(t), RATE) for p, t in zip(prediction, target, strict=True)]
    assert None not in singles
    both = log_spectral_distance(tensor(prediction), tensor(target), RATE)
    assert both == pytest.approx(np.mean(np.array(singles, dtype=float)), abs=1e-5)


def test_equal_signals_have_no_distance_and_the_highest_finite_ratio() -> None:
    signal = tensor(noise(channels=2))
    values = score(signal, signal, RATE, cutoff_hz=8000, bandwidth_hz=24000)
    ratios = {"si_sdr", "snr"}
    assert {values[name] for name in ratios} == {metrics.MAX_RATIO_DB}
    assert all(value == 0.0 for name, value in values.items() if name not in ratios)
    assert set(values) - set(score(signal, signal, RATE, 8000, 24000, texture=False)) == set(metrics.TEXTURE)


def test_differences_below_16_bit_are_not_seen() -> None:
    target = np.round(noise()[0] * 32768) / 32768
    assert log_spectral_distance(tensor(target + 1e-6), tensor(target), RATE) == 0.0


def test_ratios_equal_their_definitions() -> None:
    target = np.round(noise(1)[0] * 32768) / 32768
    prediction = np.round((0.7 * target + noise(2, level=0.01)[0]) * 32768) / 32768
    scaled = target * (prediction @ target) / (target @ target)
    expected_si = 10 * np.log10((scaled @ scaled) / ((prediction - scaled) @ (prediction - scaled)))
    expected_snr = 10 * np.log10((target @ target) / ((prediction - target) @ (prediction - target)))
    assert si_sdr(tensor(prediction), tensor(target)) == pytest.approx(expected_si, abs=1e-3)
    assert snr(tensor(prediction), tensor(target)) == pytest.approx(expected_snr, abs=1e-3)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_a_wrong_level_scores_worse(gain: float) -> None:
    target = tensor(noise())
    prediction = target + tensor(noise(2, level=0.005))
    right = score(prediction, target, RATE, 8000, 24000)
    wrong = score(gain * prediction, target, RATE, 8000, 24000)
    assert wrong["lsd"] > right["lsd"] and wrong["snr"] < right["snr"]


def test_bias_tells_too_quiet_from_too_loud() -> None:
    target = tensor(noise())
    assert score(target / 10, target, RATE, 8000, 24000)["bias_hf_db"] == pytest.approx(-20.0, abs=0.1)


def test_flipped_polarity_is_caught_by_snr_alone() -> None:
    target = tensor(noise())
    values = score(-target, target, RATE, 8000, 24000)
    assert values["lsd"] == pytest.approx(0.0, abs=1e-3)
    assert values["si_sdr"] > 60.0
    assert values["snr"] == pytest.approx(-20 * np.log10(2), abs=0.01)


def test_bins_above_the_bandwidth_are_ignored() -> None:
    target = noise()[0]
    spectrum = np.fft.rfft(target)
    frequencies = np.fft.rfftfreq(len(target), 1 / RATE)
    changed = np.fft.irfft(np.where(frequencies > 16000, 0.1 * spectrum, spectrum), len(target))
    values = score(tensor(changed), tensor(target), RATE, cutoff_hz=8000, bandwidth_hz=15000)
    assert values["lsd"] < 0.05
    assert score(tensor(changed), tensor(target), RATE, 8000, 24000)["lsd_hf"] > 1.0


def test_full_band_input_has_no_high_band() -> None:
    values = score(tensor(noise(1)), tensor(noise(2)), RATE, cutoff_hz=24000, bandwidth_hz=24000)
    assert not {name for name in values if "hf" in name or "copies" in name}
    assert values["lsd_lf"] == values["lsd"] and "coherence_error" not in values
    assert log_spectral_distance(tensor(noise(1)), tensor(noise(2)), RATE, low_hz=24000) is None


def test_silence_has_defined_scores() -> None:
    silence, target = torch.zeros(2, RATE // 2), tensor(noise(channels=2))
    against_silence = score(target, silence, RATE, 8000, 24000)
    assert "si_sdr" not in against_silence and "snr" not in against_silence
    silent = score(silence, target, RATE, 8000, 24000)
    assert silent["si_sdr"] == -metrics.MAX_RATIO_DB and silent["snr"] == pytest.approx(0.0, abs=1e-4)
    assert score(silence, silence, RATE, 8000, 24000)["lsd"] == 0.0
    assert all(np.isfinite(value) for values in (against_silence, silent) for value in values.values())


def test_one_silent_channel_is_left_out_of_the_ratios() -> None:
    target = noise(1, channels=2)
    target[1] = 0.0
    prediction = target + noise(2, channels=2, level=0.01)
    assert snr(tensor(prediction), tensor(target)) == pytest.approx(snr(tensor(prediction[0]), tensor(target[0])))


def test_collapse_to_mono_is_a_stereo_error() -> None:
    target = tensor(noise(channels=2))
    mono = target.mean(dim=0, keepdim=True).expand(2, -1)
    values = score(mono, target, RATE, 8000, 24000)
    assert values["coherence_error"] > 0.7
    assert values["side_mid_error_db"] == pytest.approx(metrics.MAX_SIDE_MID_DB, abs=1.0)


def test_side_mid_error_is_the_change_of_level_of_the_side() -> None:
    mid, side = noise(1)[0], noise(2)[0] * 0.3
    target, narrow = np.stack([mid + side, mid - side]), np.stack([mid + side / 2, mid - side / 2])
    error = score(tensor(narrow), tensor(target), RATE, 8000, 24000)["side_mid_error_db"]
    assert error == pytest.approx(20 * np.log10(2), abs=0.01)


@pytest.mark.parametrize("samples", [1, 1024, 1025])
def test_short_signals_are_scored(samples: int) -> None:
    values = score(tensor(noise(1, samples=samples)), tensor(noise(2, samples=samples)), RATE, 8000, 24000)
    assert np.isfinite(values["lsd"])


def test_signals_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the same shape"):
        score(tensor(noise(samples=100)), tensor(noise(samples=99)), RATE, 8000, 24000)
    broken = tensor(noise())
    broken[0, 5] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        score(broken, tensor(noise()), RATE, 8000, 24000)


@pytest.mark.skipif(importlib.util.find_spec("pesq") is not None, reason="the extra is installed")
def test_missing_extra_is_named() -> None:
    with pytest.raises(MissingExtraError, match=r"overtone\[perceptual\]"):
        perceptual.require()


def voiced(seconds: float = 2.0) -> npt.NDArray[np.float32]:
    """Harmonics of a gliding pitch in syllables: enough of a voice for the speech metrics."""
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * (120 * time + 10 * np.sin(2 * np.pi * time))
    tones = sum(np.sin(k * phase) / k for k in range(1, 60))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time), 0, 1)
    signal = 0.1 * tones * syllables + 1e-3 * np.random.default_rng(0).standard_normal(len(time))
    return np.asarray(signal[None], dtype=np.float32)


def test_speech_metrics_fall_with_noise() -> None:
    pytest.importorskip("pesq")
    pytest.importorskip("pystoi")
    clean = voiced()
    dirty = clean + 0.05 * np.random.default_rng(1).standard_normal(clean.shape).astype(np.float32)
    best, worse = (perceptual.speech(signal, clean, RATE) for signal in (clean, dirty))
    assert best["pesq"] > 4.5 and worse["pesq"] < best["pesq"] - 1.0
    assert best["stoi"] > 0.99 > worse["stoi"]
    assert "pesq" not in perceptual.speech(np.zeros_like(clean), clean, RATE)


def test_visqol_falls_with_noise() -> None:
    pytest.importorskip("visqol")
    clean = voiced()
    dirty = clean + 0.05 * np.random.default_rng(1).standard_normal(clean.shape).astype(np.float32)
    best, worse = perceptual.visqol(clean, clean, RATE), perceptual.visqol(dirty, clean, RATE)
    assert best is not None and worse is not None and best > worse + 0.5
    assert perceptual.visqol(np.zeros_like(clean), clean, RATE) is None
