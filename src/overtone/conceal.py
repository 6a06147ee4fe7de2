"""Lost packets filled by linear prediction from what came before, as the signal streams by."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

from overtone.audio import Signal

# So many samples below half a 16-bit step, in all channels, are a gap: 2 ms at 48 kHz, which is also how long it takes
# until a gap is known to be one.
MIN_GAP = 96
_SILENT = 0.5 / 32768.0
# Less than this is no sound that goes on but the rounding of one that has died away.
_AUDIBLE = 2.0 / 32768.0
# The prediction hears this much of the past, has so many coefficients, and dies away by e in so many samples.
HISTORY = 4096
_ORDER = 512
_DECAY = 960
# Longer than this no voice or note is predicted.
_MAX_FILL = 4 * _DECAY
# A sound that ends this far below its own last moments has faded out; nothing was cut off.
_ABRUPT = 0.2
# Clicks in silence are not a sound with gaps: before a gap there is at least this much of it.
_MIN_SOUND = 240


class Concealer:
    """Replaces gaps in blocks of any size; what lies between gaps is given back as it is, at most `MIN_GAP` samples late.

    With the samples come marks, shape (1, samples): 1 where they stand in for lost ones, else 0.

    Source of the prediction: Burg 1975, "Maximum entropy spectral analysis"; its use for lost packets: Goodman et al. 1986.
    """

    def __init__(self, channels: int) -> None:
        self._history = np.zeros((channels, 0), np.float32)
        # Silence that is not yet long enough to be a gap; the fill of the gap that goes on, and how much of it is used.
        self._held = np.zeros((channels, 0), np.float32)
        self._fill: Signal | None = None
        self._used = 0
        # Samples since the last gap.
        self._sound = 0

    def push(self, block: Signal) -> tuple[Signal, Signal]:
        """Take (channels, samples), give the samples whose fate is known, and their marks."""
        return self._process(block, last=False)

    def finish(self) -> tuple[Signal, Signal]:
        """The samples still held back, and their marks."""
        return self._process(self._held[:, :0], last=True)

    def _process(self, block: Signal, last: bool) -> tuple[Signal, Signal]:
        signal = np.concatenate((self._held, block), axis=1).astype(np.float32)
        silent = np.concatenate(([False], (np.abs(signal) < _SILENT).all(axis=0), [False]))
        edges = np.flatnonzero(silent[1:] != silent[:-1])
        end = signal.shape[1]
        parts: list[Signal] = []
        marks = np.zeros((1, end), np.float32)
        position = 0
        for start, stop in zip(edges[::2], edges[1::2], strict=True):
            if start > position:
                parts.append(self._pass(signal[:, position:start]))
            if stop == end and stop - start < MIN_GAP and self._fill is None and not last:
                end = start
            elif stop - start < MIN_GAP and self._fill is None:
                parts.append(self._pass(signal[:, start:stop]))
            else:
                part, count = self._filled(signal[:, start:stop])
                parts.append(part)
                marks[:, start : start + count] = 1.0
            position = stop
        if position < end:
            parts.append(self._pass(signal[:, position:end]))
        self._held = signal[:, end:]
        return np.concatenate(parts, axis=1) if parts else signal[:, :0], marks[:, :end]

    def _pass(self, part: Signal) -> Signal:
        self._fill, self._used = None, 0
        self._sound += part.shape[1]
        self._remember(part)
        return part

    def _filled(self, part: Signal) -> tuple[Signal, int]:
        """A part of a gap with what was expected there, and how many of its samples that is."""
        if self._fill is None:
            self._fill = self._predict() if self._sound >= _MIN_SOUND else part[:, :0]
            self._used = self._sound = 0
        out = part.copy()
        fill = self._fill[:, self._used : self._used + part.shape[1]]
        out[:, : fill.shape[1]] += fill
        self._used += part.shape[1]
        self._remember(out)
        return out, fill.shape[1]

    def _remember(self, part: Signal) -> None:
        self._history = np.concatenate((self._history, part[:, -HISTORY:]), axis=1)[:, -HISTORY:]

    def _predict(self) -> Signal:
        fill = np.stack([continued(channel, _MAX_FILL) for channel in self._history]).astype(np.float32)
        return fill if np.abs(fill).max() > _AUDIBLE else fill[:, :0]


def concealed(signal: Signal) -> tuple[Signal, Signal]:
    """A whole signal without gaps, and marks of where they were, as `Concealer` gives them.

    Shape:
        (channels, samples) -> (channels, samples), (1, samples).
    """
    concealer = Concealer(signal.shape[0])
    parts = concealer.push(signal), concealer.finish()
    whole, marks = (np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True))
    return whole, marks


def continued(past: npt.NDArray[np.float32], count: int) -> npt.NDArray[np.float64]:
    """`count` samples that linear prediction expects after `past`, dying away; silence if the past had faded out or is short.

    Shape:
        (samples,) -> (count,).
    """
    nothing = np.zeros(count)
    if len(past) < 2 * _ORDER:
        return nothing
    recent, whole = past[-MIN_GAP:], past[-10 * MIN_GAP :]
    if np.sqrt(np.mean(recent**2)) <= _ABRUPT * np.sqrt(np.mean(whole**2)):
        return nothing
    coefficients = burg(past.astype(np.float64), _ORDER)
    denominator = np.concatenate(([1.0], -coefficients))
    state = scipy.signal.lfiltic([1.0], denominator, past[::-1][:_ORDER].astype(np.float64))
    predicted, _ = scipy.signal.lfilter([1.0], denominator, nothing, zi=state)
    peak = float(np.abs(past).max())
    return np.asarray(np.clip(predicted, -peak, peak) * np.exp(-np.arange(count) / _DECAY))


def burg(signal: npt.NDArray[np.float64], order: int) -> npt.NDArray[np.float64]:
    """Coefficients a of x[n] = sum a[k] x[n - 1 - k], by Burg's method, which always gives a stable predictor.

    Shape:
        (samples,) -> (order,), zeros from where nothing is left to predict.
    """
    coefficients = np.zeros(order)
    forward, backward = signal[1:].copy(), signal[:-1].copy()
    for done in range(order):
        power = float(forward @ forward + backward @ backward)
        if power <= 1e-12:
            break
        reflection = 2.0 * float(forward @ backward) / power
        coefficients[:done] -= reflection * coefficients[:done][::-1].copy()
        coefficients[done] = reflection
        forward, backward = forward[1:] - reflection * backward[1:], backward[:-1] - reflection * forward[:-1]
    return coefficients
