"""Degradations: pure functions of (signal, rate, step, random generator), and recipes that chain them.

Each takes and gives (channels, samples), full scale 1.0, of the same length and aligned to the sample.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from overtone import audio
from overtone.audio import Signal
from overtone.data import codecs, noise, variation
from overtone.data.bandlimit import narrowband
from overtone.dsp.bandwidth import measure_cutoff
from overtone.settings import (
    BitErrors,
    Clip,
    Codec,
    NarrowBand,
    Noise,
    PacketLoss,
    Quantise,
    Resample,
    Step,
)

MAX_BURST = 10


def generator(*key: object) -> np.random.Generator:
    """A random generator that depends on nothing but its key (numbers and texts)."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


# --- the degradations -------------------------------------------------------------------------------------------------


def packet_loss(signal: Signal, rate: int, step: PacketLoss, rng: np.random.Generator) -> Signal:
    """Frames of `step.frame_ms` lost in Gilbert-Elliott bursts, in all channels alike; the end may be a part of a frame.

    A lost frame is silence, or the last good frame again (silence before the first good one).
    """
    size = max(1, round(step.frame_ms * rate / 1000.0))
    count = -(-signal.shape[1] // size)
    lost = lost_frames(count, step.share, step.burst, rng)
    frames = np.pad(signal, ((0, 0), (0, count * size - signal.shape[1]))).reshape(signal.shape[0], count, size)
    if step.fill == "repeat":
        # Number of the last good frame at or before each frame, -1 where there was none.
        source = np.maximum.accumulate(np.where(lost, -1, np.arange(count)))
        frames, lost = frames[:, source], source < 0
    out = np.where(lost[:, None], np.float32(0.0), frames)
    return np.ascontiguousarray(out.reshape(signal.shape[0], -1)[:, : signal.shape[1]])


def lost_frames(count: int, share: float, burst: float, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which of `count` frames are lost: a two-state chain with this mean share and mean burst, bursts of 10 at most.

    A share above burst / (burst + 1) cannot be had with good frames in between; the most that can is lost then.

    Source: Gilbert 1960, "Capacity of a burst-noise channel"; the cap's effect on the mean burst is taken into account.
    """
    if share <= 0.0:
        return np.zeros(count, dtype=np.bool_)
    if share >= 1.0:
        return np.ones(count, dtype=np.bool_)
    stay = _stay(burst)
    fall = min(1.0, share / (burst * (1.0 - share)))
    lost = np.zeros(count, dtype=np.bool_)
    draws = rng.random(count + 1)
    run = 1 if draws[count] < share else 0
    for i in range(count):
        lost[i] = run > 0
        goes_on = run < MAX_BURST and draws[i] < (stay if run else fall)
        run = run + 1 if goes_on else 0
    return lost


def _stay(burst: float) -> float:
    """Probability that a burst goes on, such that bursts cut at 10 frames have this mean: sum of stay^0 ... stay^9."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if sum(middle**i for i in range(MAX_BURST)) < burst else (low, middle)
    return low


def bit_errors(signal: Signal, rate: int, step: BitErrors, rng: np.random.Generator) -> Signal:
    """Mu-law coding at the signal's own rate with each bit flipped at probability `step.rate`; peaks above 1 clip."""
    data = codecs.mulaw_bytes(signal, rate)
    flips = rng.choice(8 * len(data), rng.binomial(8 * len(data), step.rate), replace=False, shuffle=False)
    np.bitwise_xor.at(data, flips // 8, (1 << (flips % 8)).astype(np.uint8))
    return codecs.from_mulaw_bytes(data, rate, signal.shape[0])


def add_noise(
    signal: Signal, rate: int, step: Noise, rng: np.random.Generator, noises: Sequence[Signal] = ()
) -> Signal:
    """Noise at `step.snr_db` over the whole signal; pink where recorded noise is asked for and there is none.

    Coloured noise is independent in each channel; of recorded noise see `noise.excerpt`.
    """
    channels, frames = signal.shape
    if step.colour != "recorded":
        added = noise.coloured(step.colour, channels, frames, rate, rng)
    else:
        added = _recorded(step, channels, frames, rate, rng, noises) if len(noises) else np.zeros_like(signal)
        if not noise.rms(added):
            added = noise.coloured("pink", channels, frames, rate, rng)
    return noise.mix(signal, added, step.snr_db)


def _recorded(
    step: Noise, channels: int, frames: int, rate: int, rng: np.random.Generator, noises: Sequence[Signal]
) -> Signal:
    """The layers of recorded noise, each at a random speed and colour, the others up to 12 dB softer than the first."""
    total = np.zeros((channels, frames), np.float32)
    for layer in range(step.layers):
        speed = step.speed ** float(rng.uniform(-1.0, 1.0)) if step.speed > 1.0 else 1.0
        # Rounding to a whole rate may cost some samples.
        length = int(np.ceil(frames * speed)) + 16 if step.speed > 1.0 else frames
        part = noise.excerpt(noises, channels, length, rate, rng)
        if step.speed > 1.0:
            part = audio.fit_length(variation.change_speed(part, rate, speed), frames)
        if step.colour_db:
            part = variation.filtered(part, rate, 0.0, variation.draw_colour(step.colour_db, rng))
        loud = noise.rms(part)
        if step.layers > 1 and loud:
            softer = float(rng.uniform(0.0, 12.0)) if layer else 0.0
            part = part / np.float32(loud * 10.0 ** (softer / 20.0))
        total += part
    return total


def clip(signal: Signal, step: Clip) -> Signal:
    """Hard clipping at the level that `step.share` of the samples (of all channels together) exceed."""
    level = np.float32(np.quantile(np.abs(signal), 1.0 - step.share))
    return np.clip(signal, -level, level) if level > 0.0 else signal


def quantise(signal: Signal, step: Quantise) -> Signal:
    """Rounding to `step.bits` bits, without dither; peaks above full scale clip."""
    scale = np.float32(2.0 ** (step.bits - 1))
    return np.asarray(np.clip(np.round(signal * scale), -scale, scale - 1) / scale, dtype=np.float32)


# --- chains -----------------------------------------------------------------------------------------------------------


def apply(
    steps: Sequence[Step], signal: Signal, rate: int, rng: np.random.Generator, noises: Sequence[Signal] = ()
) -> Signal:
    """The steps one after the other.

    Args:
        steps: in order.
        signal: full scale 1.0.
        rate: Hz.
        rng: its state decides everything random.
        noises: recordings at `rate` Hz for steps that want them.

    Shape:
        (channels, samples) in and out.
    """
    for step in steps:
        signal = _apply_one(step, signal, rate, rng, noises)
    return signal


def _apply_one(step: Step, signal: Signal, rate: int, rng: np.random.Generator, noises: Sequence[Signal]) -> Signal:
    match step:
        case NarrowBand():
            return narrowband(signal, rate, step)
        case Codec():
            return codecs.round_trip(signal, rate, step)
        case PacketLoss():
            return packet_loss(signal, rate, step, rng)
        case BitErrors():
            return bit_errors(signal, rate, step, rng)
        case Noise():
            return add_noise(signal, rate, step, rng, noises)
        case Clip():
            return clip(signal, step)
        case Quantise():
            return quantise(signal, step)
        case Resample():
            raise ValueError("resample: changes the rate; expected it among the steps of a condition")


def received(
    steps: Sequence[Step], signal: Signal, rate: int, rng: np.random.Generator, noises: Sequence[Signal] = ()
) -> tuple[Signal, int, float]:
    """What a user receives at the end of the steps: (signal, its rate in Hz, cutoff in Hz).

    Unlike with `apply`, the signal stays at the rate to which `resample` brought it or at which an encoder left it: packets are
    lost at the rate of the call. Opus and Vorbis decode to 48 kHz whatever they encoded.

    Args:
        steps: in order.
        signal: full scale 1.0.
        rate: Hz; `noises` are at this rate too.

    Shape:
        (channels, samples) in and out, of about equal duration.
    """
    cutoff = rate / 2.0
    for step in steps:
        if isinstance(step, Resample):
            signal, rate = audio.resample(signal, rate, step.rate), step.rate
        elif isinstance(step, Codec):
            coded = codecs.codec_rate(step, signal.shape[0])
            kept = rate if step.codec in ("opus", "vorbis") else coded
            before = audio.resample(signal, rate, kept)
            signal, rate = codecs.round_trip(before, kept, step), kept
            cutoff = min(cutoff, cutoff_of([step], rate, signal.shape[0]))
            if step.codec in ("mp3", "opus", "vorbis"):
                cutoff = measure_cutoff(signal, before, rate, cutoff)
        else:
            signal = _apply_one(step, signal, rate, rng, noises)
            cutoff = min(cutoff, cutoff_of([step], rate, signal.shape[0]))
        cutoff = min(cutoff, rate / 2.0)
    return signal, rate, cutoff


def cutoff_of(steps: Sequence[Step], rate: int, channels: int = 1) -> float:
    """Frequency in Hz above which nothing of the original is left, as far as the steps alone tell; rate / 2 if all is.

    A narrow band ends at its filter's edge, an encoder at half the rate it runs at or at its low-pass, if known.
    """
    cutoff = rate / 2.0
    for step in steps:
        if isinstance(step, NarrowBand):
            cutoff = min(cutoff, step.cut * step.rate / 2.0)
        elif isinstance(step, Codec):
            cutoff = min(cutoff, codecs.codec_rate(step, channels) / 2.0)
            if step.codec == "mp3":
                cutoff = min(cutoff, codecs.mp3_lowpass(step.kbps or 0.0, channels))
    return cutoff
