"""Noise made by rule, so that `restore` meets more kinds than were recorded: what is steady or swells, what hums, what
clatters, what calls.

Every function gives a mono signal of any level, float32, shape (samples,).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

Signal = npt.NDArray[np.float32]
_LOWEST_HZ = 30.0


def synthetic(samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Noise of a kind drawn at random.

    Args:
        samples: how many; at least 1.
        rate: in Hz.
        rng: decides everything random.
    """
    kind = (swelling, swelling, machine, impacts, impacts, calls)[int(rng.integers(6))]
    return kind(samples, rate, rng)


def swelling(samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Hiss, wind, rain, traffic: noise of a random spectrum whose level is steady or swells up and down."""
    noise = _shaped(rng.standard_normal(samples), rate, rng)
    return np.asarray(noise * _swell(samples, rate, rng), np.float32)


def machine(samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Engines, fans, mains hum: harmonics of a tone that wavers, and noise that beats with it."""
    base = float(np.exp(rng.uniform(np.log(25), np.log(600))))
    wander = _smooth(samples, rate, rng.uniform(0.2, 4.0), rng) * rng.uniform(0.0, 0.04)
    phase = np.cumsum(2 * np.pi * base / rate * (1 + wander))
    count = min(int(rng.integers(3, 30)), int(0.45 * rate / base))
    slope_db, spread_db = rng.uniform(-12, -3), rng.uniform(2, 9)
    tone = np.zeros(samples)
    for harmonic in range(1, count + 1):
        level_db = slope_db * np.log2(harmonic) + rng.normal(0, spread_db)
        tone += 10 ** (level_db / 20) * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    beat = np.abs(np.sin(phase / 2)) ** rng.uniform(0.0, 4.0)
    noise = _shaped(rng.standard_normal(samples), rate, rng) * beat
    share = rng.uniform(0.05, 1.0)
    mixed = tone / tone.std() * share + noise / noise.std() * (1 - share)
    return np.asarray(mixed * _swell(samples, rate, rng), np.float32)


def impacts(samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Steps, keys, dishes, drops, crackle: events of a few sounds that decay, now and then or by the thousand."""
    events = float(np.exp(rng.uniform(np.log(0.8), np.log(rng.choice([12.0, 800.0])))))
    total = np.zeros(samples)
    for _ in range(int(rng.integers(1, 4))):
        length = int(rate * np.exp(rng.uniform(np.log(0.004), np.log(0.4))))
        time = np.arange(length) / rate
        decay = np.exp(-7 * np.arange(length) / length)
        sound = _shaped(rng.standard_normal(length), rate, rng) if length > 64 else rng.standard_normal(length)
        sound = sound / (sound.std() + 1e-9) * rng.uniform(0.1, 1.0)
        for _ in range(int(rng.integers(0, 5))):
            hertz = np.exp(rng.uniform(np.log(150), np.log(9000)))
            sound = sound + rng.uniform(0.2, 1.5) * np.sin(2 * np.pi * hertz * time + rng.uniform(0, 2 * np.pi))
        moments = rng.integers(0, samples, max(1, rng.poisson(events * samples / rate)))
        train = np.zeros(samples)
        np.add.at(train, moments, np.exp(rng.normal(0, 0.7, len(moments))) * rng.choice([-1, 1], len(moments)))
        total += scipy.signal.fftconvolve(train, sound * decay)[:samples]
    return np.asarray(total, np.float32)


def calls(samples: int, rate: int, rng: np.random.Generator) -> Signal:
    """Birds, squeaks, beeps: short gliding tones with pauses."""
    total = np.zeros(samples)
    low, high = sorted(np.exp(rng.uniform(np.log(500), np.log(9000), 2)))
    pause = rng.uniform(0.02, 0.8)
    glide, harmonics, position = rng.uniform(0.0, 0.6), int(rng.integers(1, 4)), int(rng.uniform(0, 0.3) * rate)
    while position < samples:
        length = int(rate * rng.uniform(0.03, 0.4))
        hertz = rng.uniform(low, high) * np.linspace(1, 1 + rng.uniform(-glide, glide), length)
        hertz = hertz * (1 + rng.uniform(0, 0.1) * np.sin(2 * np.pi * rng.uniform(5, 40) * np.arange(length) / rate))
        phase = np.cumsum(2 * np.pi * hertz / rate)
        sound = sum((np.sin(k * phase) / k**2 for k in range(1, harmonics + 1)), np.zeros(length))
        stretch = total[position : position + length]
        stretch += (sound * np.hanning(length))[: len(stretch)] * rng.uniform(0.3, 1.0)
        position += length + int(rate * rng.exponential(pause))
    return np.asarray(total + 0.003 * total.std() * rng.standard_normal(samples), np.float32)


def _shaped(signal: npt.NDArray[np.float64], rate: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Through a random smooth filter: a slope over octaves and hills and dales."""
    size = len(signal)
    spectrum = np.fft.rfft(signal)
    hz = np.maximum(np.fft.rfftfreq(size, 1 / rate), _LOWEST_HZ)
    knots = np.geomspace(_LOWEST_HZ, rate / 2, 12)
    gain_db = rng.uniform(-7, 1) * np.log2(knots / _LOWEST_HZ) + rng.normal(0, rng.uniform(1, 10), len(knots))
    return np.asarray(np.fft.irfft(spectrum * 10 ** (np.interp(np.log(hz), np.log(knots), gain_db) / 20), size))


def _smooth(samples: int, rate: int, hertz: float, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A random curve that turns about `hertz` times a second, of mean 0 and deviation 1 or so."""
    knots = rng.standard_normal(max(2, int(samples / rate * hertz * 2) + 2))
    return np.interp(np.linspace(0, len(knots) - 1, samples), np.arange(len(knots)), knots)


def _swell(samples: int, rate: int, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A gain that is steady as often as not."""
    if rng.random() < 0.4:
        return np.ones(samples)
    hertz = float(np.exp(rng.uniform(np.log(0.2), np.log(15))))
    return np.asarray(10 ** (_smooth(samples, rate, hertz, rng) * rng.uniform(1, 9) / 20))
