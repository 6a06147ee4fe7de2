"""Band limits: low-pass, decimate, bring back; zero-phase, so that nothing moves."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import soxr
import torch
from scipy import signal as dsp
from torchaudio.transforms import Resample

from overtone import audio
from overtone.audio import Signal
from overtone.settings import NarrowBand

_STOPBAND_DB = 60.0


def narrowband(signal: Signal, rate: int, step: NarrowBand) -> Signal:
    """Low-pass at `step.cut` of the new Nyquist frequency, decimate to `step.rate`, resample back.

    Filter `sinc` with `cut` 1 is the resampler (soxr) alone; with a lower cut it is another resampler, torchaudio's
    Hann-windowed sinc of `order` zero crossings, which lets aliases and images through near its edge. The recursive
    families run forwards and backwards (zero phase, twice the attenuation: the edge is at -6 dB) before soxr.

    Args:
        signal: full scale 1.0.
        rate: Hz. At `step.rate` or below it the signal is returned as it is.

    Shape:
        (channels, samples) in and out.
    """
    if step.rate >= rate or not signal.size:
        return signal
    if step.filter == "sinc":
        if step.cut < 1.0:
            return _windowed_sinc(signal, rate, step)
        return _decimated(signal, rate, step.rate)
    edge = min(step.cut * step.rate / rate, 0.999)
    sections = _sections(step.filter, step.order, step.ripple_db, edge)
    padding = min(3 * (2 * len(sections) + 1), signal.shape[1] - 1)
    filtered = dsp.sosfiltfilt(sections, signal, axis=1, padlen=padding)
    return _decimated(np.asarray(filtered, dtype=np.float32), rate, step.rate)


def _decimated(signal: Signal, rate: int, low: int) -> Signal:
    """Down to `low` Hz and back with soxr's high quality, which is faster than its very high one and as steep."""
    x = np.ascontiguousarray(signal.T)
    back = soxr.resample(soxr.resample(x, rate, low, quality="HQ"), low, rate, quality="HQ")
    return np.ascontiguousarray(audio.fit_length(back.T, signal.shape[1]), dtype=np.float32)


@lru_cache(maxsize=4096)
def _sections(family: str, order: int, ripple_db: float, edge: float) -> npt.NDArray[np.float64]:
    """Second-order sections; `edge` as a share of the Nyquist frequency."""
    if family == "butterworth":
        return np.asarray(dsp.butter(order, edge, output="sos"))
    if family == "chebyshev1":
        return np.asarray(dsp.cheby1(order, ripple_db, edge, output="sos"))
    if family == "elliptic":
        return np.asarray(dsp.ellip(order, ripple_db, _STOPBAND_DB, edge, output="sos"))
    return np.asarray(dsp.bessel(order, edge, output="sos", norm="mag"))


def _windowed_sinc(signal: Signal, rate: int, step: NarrowBand) -> Signal:
    down, up = _resamplers(rate, step.rate, step.order, step.cut)
    with torch.inference_mode():
        back = up(down(torch.from_numpy(np.ascontiguousarray(signal)))).numpy()
    return np.ascontiguousarray(audio.fit_length(back, signal.shape[1]))


@lru_cache(maxsize=64)
def _resamplers(rate: int, low: int, crossings: int, cut: float) -> tuple[Resample, Resample]:
    def resampler(source: int, target: int) -> Resample:
        return Resample(source, target, lowpass_filter_width=crossings, rolloff=cut)

    return resampler(rate, low), resampler(low, rate)
