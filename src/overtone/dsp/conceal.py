"""Lost samples filled by linear prediction: in files from both sides of a gap, in live streams from what came before."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.signal

from overtone.audio import Signal
from overtone.dsp.gaps import LONGEST, GapFinder, runs

Array = npt.NDArray[np.float64]

# The prediction learns from so many seconds beside a gap, the last of them most (by e in `_RECENT`), and has a coefficient for
# each sample of `_PERIOD`: long enough for the period of a deep voice.
CONTEXT, _RECENT, _PERIOD = 0.05, 0.01, 0.015
MAX_ORDER = 512
_MIN_CONTEXT = 64  # samples
# A prediction dies away by e in so many seconds; with one side alone sooner, for nothing corrects it.
_DECAY, _DECAY_LIVE = 0.05, 0.02
# In a live stream no voice or note is predicted for longer, and behind a gap the sound fades in from what was predicted.
MAX_LIVE, _FADE = 0.08, 0.002


class Concealer:
    """Finds gaps (see `dsp.gaps`) and fills them, in blocks of any size; all else is given back as it is.

    Source of the prediction: Burg 1975, "Maximum entropy spectral analysis", weighted as by Swingler 1979; its use for lost
    packets: Goodman et al. 1986; from both sides: Kauppinen and Roth 2002, "Audio signal extrapolation".
    """

    def __init__(self, channels: int, rate: int, live: bool = False) -> None:
        """Args: rate: Hz; live: fill from the past alone, at most `lookahead` samples (6 ms) late."""
        self._finder = GapFinder(channels, rate, live)
        self._rate, self._live = rate, live
        self._context = round(CONTEXT * rate)
        self.lookahead = self._finder.lookahead + (0 if live else round(LONGEST * rate) + self._context)
        # Context that was given back already, then samples that wait, and where those begin; the marks of both.
        self._signal, self._marks, self._start = np.zeros((channels, 0), np.float32), np.zeros(0, np.bool_), 0
        # Live: what was predicted for the last gap, how much of it is used, and what of the fade behind it is left.
        self._fill, self._used, self._fading = np.zeros((channels, 0), np.float32), 0, 0

    def push(self, block: Signal) -> Signal:
        """Take (channels, samples), give the samples whose fate is known."""
        return self._process(*self._finder.push(block), last=False)

    def finish(self) -> Signal:
        """The samples still held back."""
        return self._process(*self._finder.finish(), last=True)

    def _process(self, block: Signal, lost: Signal, last: bool) -> Signal:
        start = self._start
        self._signal = np.concatenate((self._signal, block), axis=1)
        self._marks = np.concatenate((self._marks, lost[0] > 0))
        ready = self._fill_live(start) if self._live else self._fill_between(start, last)
        out = self._signal[:, start:ready].copy()
        drop = max(ready - self._context, 0)
        self._signal, self._marks, self._start = self._signal[:, drop:], self._marks[drop:], ready - drop
        return out

    def _fill_between(self, start: int, last: bool) -> int:
        """Fills the gaps from `start` on whose other side is known; where the first begins that is not."""
        end = self._signal.shape[1]
        gaps = [(one + start, other + start) for one, other in runs(self._marks[start:])]
        for (one, other), (following, _) in zip(gaps, [*gaps[1:], (end, end)], strict=False):
            if other + self._context > end and not last:
                return one
            past = self._signal[:, max(one - self._context, 0) : one]
            future = self._signal[:, other : min(other + self._context, following)]
            for channel, row in enumerate(self._signal):
                row[one:other] = between(past[channel], future[channel], other - one, self._rate)
        return end

    def _fill_live(self, start: int) -> int:
        """Fills what is lost from `start` on, and fades from the prediction to what follows."""
        end, fade = self._signal.shape[1], max(round(_FADE * self._rate), 1)
        edges = np.flatnonzero(np.diff(self._marks[start:])) + start + 1
        for one, other in zip([start, *edges], [*edges, end], strict=True):
            part = self._signal[:, one:other]
            if other > one and self._marks[one]:
                if self._used == 0 or self._fading < fade:
                    self._predict(one, fade)
                part[:] = self._next(other - one)
                self._fading = fade
            elif other > one and self._fading:
                count = min(self._fading, other - one)
                weight = (self._fading - np.arange(count, dtype=np.float32)) / np.float32(fade + 1)
                part[:, :count] += weight * (self._next(count) - part[:, :count])
                self._fading -= count
        return end

    def _predict(self, at: int, fade: int) -> None:
        """Predicts what follows the samples before `at`: dying away, silent after `MAX_LIVE`."""
        count = round(MAX_LIVE * self._rate)
        past = self._signal[:, max(at - self._context, 0) : at]
        fill = [limited(continued(channel, count, self._rate, _DECAY_LIVE), channel) for channel in past]
        self._fill = np.pad(np.stack(fill), ((0, 0), (0, fade))).astype(np.float32)
        self._used = 0

    def _next(self, count: int) -> Signal:
        part = self._fill[:, self._used : self._used + count]
        self._used += count
        return np.pad(part, ((0, 0), (0, count - part.shape[1])))


def concealed(signal: Signal, rate: int, live: bool = False) -> Signal:
    """A whole signal without gaps. Shape: (channels, samples) in and out."""
    concealer = Concealer(signal.shape[0], rate, live)
    return np.concatenate((concealer.push(signal), concealer.finish()), axis=1)


def between(past: npt.NDArray[np.float32], future: npt.NDArray[np.float32], count: int, rate: int) -> Array:
    """The `count` samples of a gap: the past goes on, the future is continued backwards, and the two are cross-faded.

    Shape:
        (samples before,), (samples after,) -> (count,).
    """
    forwards = continued(past, count, rate, _DECAY)
    backwards = continued(future[::-1], count, rate, _DECAY)[::-1]
    weight = np.cos(np.pi / 2 * (np.arange(count) + 0.5) / count) ** 2
    return limited(weight * forwards + (1.0 - weight) * backwards, np.concatenate((past, future)))


def continued(past: npt.NDArray[np.float32], count: int, rate: int, decay: float) -> Array:
    """`count` samples that linear prediction expects after `past`, dying away by e in `decay` seconds.

    Shape:
        (samples,) -> (count,).
    """
    if len(past) < _MIN_CONTEXT:
        return np.zeros(count)
    known = past.astype(np.float64)
    order = min(round(_PERIOD * rate), MAX_ORDER, len(known) // 2)
    denominator = np.concatenate(([1.0], -burg(known, order, _RECENT * rate)))
    state = scipy.signal.lfiltic([1.0], denominator, known[::-1][:order])
    predicted, _ = scipy.signal.lfilter([1.0], denominator, np.zeros(count), zi=state)
    return np.asarray(predicted * np.exp(-np.arange(count) / (decay * rate)))


def limited(fill: Array, beside: npt.NDArray[np.float32]) -> Array:
    """A fill that is nowhere louder than the loudest sample beside its gap."""
    peak = float(np.abs(beside).max(initial=0.0))
    return np.clip(fill, -peak, peak)


def burg(signal: Array, order: int, recent: float) -> Array:
    """Coefficients a of x[n] = sum a[k] x[n - 1 - k], by Burg's method, which always gives a stable predictor.

    Args:
        recent: samples in which the weight of the signal's errors grows by e, towards its end.

    Shape:
        (samples,) -> (order,), zeros from where nothing is left to predict.
    """
    coefficients = np.zeros(order)
    weights = np.exp((np.arange(1, len(signal)) - len(signal)) / recent)
    forward, backward = signal[1:].copy(), signal[:-1].copy()
    for done in range(order):
        weighted = weights[done:] * forward
        power = float(weighted @ forward + (weights[done:] * backward) @ backward)
        if power <= 1e-12:
            break
        reflection = 2.0 * float(weighted @ backward) / power
        coefficients[:done] -= reflection * coefficients[:done][::-1].copy()
        coefficients[done] = reflection
        forward, backward = forward[1:] - reflection * backward[1:], backward[:-1] - reflection * forward[:-1]
    return coefficients
