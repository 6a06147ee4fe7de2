"""Laws of damage: what was done to a voice is found and nothing else, and clean voices and music are left alone."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from overtone.audio import Signal
from overtone.data import degrade, noise
from overtone.dsp.damage import Damage, examine
from overtone.settings import Clip, PacketLoss

RATE = 16_000


def voice(seconds: float = 4.0) -> Signal:
    """Harmonics and breath in syllables with pauses, over a soft room."""
    time, generator = np.arange(round(seconds * RATE)) / RATE, np.random.default_rng(0)
    phase = 2 * np.pi * np.cumsum(140 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))) / RATE
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 40))
    breath = scipy.signal.lfilter([1.0, -0.7], [1.0], generator.standard_normal(len(time)))
    syllables = np.clip(np.sin(2 * np.pi * 2.3 * time), 0.0, None) ** 2
    sound = syllables * (0.1 * harmonics + 0.03 * breath) + 1e-4 * generator.standard_normal(len(time))
    return sound.astype(np.float32)[None]


def music() -> Signal:
    """Chords that swell and never pause."""
    time = np.arange(4 * RATE) / RATE
    notes = sum(np.sin(2 * np.pi * f * k * time) / k for f in (220, 277, 330) for k in range(1, 15))
    return (0.05 * notes * (0.55 + 0.45 * np.sin(2 * np.pi * time))).astype(np.float32)[None]


@pytest.mark.parametrize("signal", [voice(), music(), 0 * voice(), voice()[:, :100], voice()[:, :0]])
def test_nothing_is_wrong_with_clean_sound(signal: Signal) -> None:
    assert not examine([signal], RATE).any


@pytest.mark.parametrize("snr", [3.0, 8.0, 12.0])
def test_noise_behind_a_voice_is_measured(snr: float) -> None:
    hiss = np.random.default_rng(1).standard_normal(voice().shape).astype(np.float32)
    found = examine([noise.mix(voice(), hiss, snr)], RATE)
    assert found.snr_db == pytest.approx(snr, abs=6.0)
    assert found.denoise and not found.conceal and not found.declip


def test_noise_alone_and_music_are_not_denoised() -> None:
    hiss = 0.1 * np.random.default_rng(1).standard_normal(voice().shape).astype(np.float32)
    assert examine([hiss], RATE) == examine([music()], RATE) == Damage()


@pytest.mark.parametrize("fill", ["zero", "repeat"])
def test_lost_packets_are_counted(fill: str) -> None:
    step = PacketLoss(share=0.1, fill=fill)  # type: ignore[arg-type]
    sound = voice() + 3e-3 * np.random.default_rng(2).standard_normal(voice().shape).astype(np.float32)
    found = examine([degrade.packet_loss(sound, RATE, step, np.random.default_rng(0))], RATE)
    assert found.conceal and not found.declip
    assert 0.04 < found.lost < 0.16


def test_clipped_samples_are_counted() -> None:
    found = examine([degrade.clip(voice(), Clip(share=0.05))], RATE)
    assert found.declip and not found.conceal
    assert found.clipped == pytest.approx(0.05, rel=0.1)
