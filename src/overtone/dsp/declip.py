"""Clipping: found by the crowd of samples at a channel's extreme levels, repaired by autoregression."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

from overtone.audio import Signal

Array = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

STEP = 1.0 / 32_768.0
# At an extreme level there are at least so many samples, so many times those of each of the eight steps next to it.
_LEAST, _CREST, _BESIDE = 12, 8.0, 8
# Near the middle it is silence that is frequent.
_LOUD = 64 * STEP
# Samples that are repaired at a time, those beside them that are listened to, coefficients, and rounds.
FRAME, CONTEXT, _ORDER, _ROUNDS = 1024, 512, 40, 3


class Declipper:
    """Replaces clipped samples by what linear prediction expects beyond the clip level, in blocks of any size.

    All other samples are given back as they are.

    Source: Janssen, Veldhuis and Vries 1986, "Adaptive interpolation of discrete-time signals that can be modeled as
    autoregressive processes".
    """

    def __init__(self, channels: int, rate: int) -> None:
        """Args: rate: Hz; levels are looked for in each second by itself."""
        self._second = max(rate, FRAME)
        self.lookahead = self._second + CONTEXT
        self._signal, self._start = np.zeros((channels, 0), np.float32), 0

    def push(self, block: Signal) -> Signal:
        """Take (channels, samples), give the samples whose fate is known."""
        self._signal = np.concatenate((self._signal, block), axis=1)
        return self._process(last=False)

    def finish(self) -> Signal:
        """The samples still held back."""
        return self._process(last=True)

    def _process(self, last: bool) -> Signal:
        start, end = self._start, self._signal.shape[1]
        position = start
        while end - position >= self.lookahead or (last and position < end):
            stop = min(position + self._second, end)
            seen = self._signal[:, max(position - CONTEXT, 0) : stop + CONTEXT]
            for channel, row in enumerate(seen):
                flags = clipped_samples(row)
                if flags.any():
                    first = position - max(position - CONTEXT, 0)
                    self._signal[channel, position:stop] = repair(row, flags, first, first + stop - position)
            position = stop
        out, drop = self._signal[:, start:position].copy(), max(position - CONTEXT, 0)
        self._signal, self._start = self._signal[:, drop:].copy(), position - drop
        return out


def declipped(signal: Signal, rate: int) -> Signal:
    """A whole signal without clipping. Shape: (channels, samples) in and out."""
    declipper = Declipper(signal.shape[0], rate)
    return np.concatenate((declipper.push(signal), declipper.finish()), axis=1)


def clipped_samples(samples: npt.NDArray[np.float32]) -> Flags:
    """Which samples of a channel lie at an extreme level that far more have than the levels just below it.

    Shape:
        (samples,) -> (samples,).
    """
    flags = np.zeros(len(samples), np.bool_)
    for sign in (1.0, -1.0):
        signed = sign * samples
        top = float(signed.max(initial=0.0))
        at = signed > top - 1.5 * STEP
        beside = (signed > top - (1.5 + _BESIDE) * STEP) & ~at
        count = int(at.sum())
        # Two in a row: the peak of a clipped wave is flat.
        flat = int((at[1:] & at[:-1]).sum())
        if top > _LOUD and count >= _LEAST and 4 * flat >= count and count >= _CREST * beside.sum() / _BESIDE:
            flags |= at
    return flags


def repair(samples: npt.NDArray[np.float32], flags: Flags, start: int, stop: int) -> npt.NDArray[np.float32]:
    """The samples from start to stop, the flagged ones replaced.

    Shape:
        (samples,), (samples,) -> (stop - start,).
    """
    signal = samples.astype(np.float64)
    for one in range(start, stop, FRAME):
        other = min(one + FRAME, stop)
        if not flags[one:other].any():
            continue
        low, high = max(one - CONTEXT, 0), min(other + CONTEXT, len(signal))
        # What lies before the frame is repaired already.
        unknown = flags[low:high].copy()
        unknown[: one - low] = False
        made = _interpolated(signal[low:high], np.flatnonzero(unknown))
        signal[one:other] = made[one - low : other - low]
    return signal[start:stop].astype(np.float32)


def _interpolated(part: Array, unknown: npt.NDArray[np.intp]) -> Array:
    """A part with its unknown samples such that prediction errors are least, none of them below its clip level."""
    clipped = part[unknown]
    made = part.copy()
    order = min(_ORDER, len(part) // 4)
    if order < 1:
        return made
    for _ in range(_ROUNDS):
        error = _error_filter(made, order)
        power = np.correlate(error, error, "full")[order:]
        rest = made.copy()
        rest[unknown] = 0.0
        # Zero beyond both ends, as the autocorrelation method takes it.
        right = -np.convolve(rest, np.concatenate((power[:0:-1], power)))[order : order + len(part)][unknown]
        distance = np.abs(unknown[:, None] - unknown[None, :])
        left = np.where(distance <= order, power[np.minimum(distance, order)], 0.0)
        left[np.diag_indices_from(left)] *= 1.0 + 1e-6
        found = scipy.linalg.solve(left, right, assume_a="pos")
        peak = 4.0 * np.abs(clipped).max()
        found = np.clip(found * np.sign(clipped), np.abs(clipped), peak) * np.sign(clipped)
        made[unknown] = found
    return made


def _error_filter(signal: Array, order: int) -> Array:
    """Prediction-error filter by the autocorrelation method. Shape: (samples,) -> (order + 1,)."""
    windowed = signal * np.hanning(len(signal))
    correlation = np.correlate(windowed, windowed, "full")[len(signal) - 1 : len(signal) + order]
    correlation[0] = correlation[0] * (1.0 + 1e-7) + 1e-12
    coefficients = scipy.linalg.solve_toeplitz(correlation[:-1], correlation[1:])
    return np.concatenate(([1.0], -coefficients))
