"""The networks at work on frames of the short-time Fourier transform, with the state that they carry along."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from overtone.dsp import bands, stft
from overtone.dsp.bands import BANDS
from overtone.enhance.excitation import Excitation
from overtone.enhance.profile import Profile
from overtone.models import extend, restore
from overtone.models.extend import PROFILE, Trackers
from overtone.models.restore import TAPS, Past

# (features, profile, state) -> (levels, state), and (features, state) -> (values, state): a network or its ONNX graph.
RunExtend = Callable[[Tensor, Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
RunRestore = Callable[[Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]
# Bins from this share of the cutoff on are made anew.
SEAM = 0.95
# Brightness is turned in dB at 16 kHz against the cutoff: log10 power an octave above the cutoff.
_BRIGHT_OCTAVES = 1.0
# Neighbouring frames say much the same: so many count as one.
_ALIKE = 10.0


class RestoreFrames:
    """Takes noise out of frames, channel by channel.

    Args:
        run: the network.
        state: before the first frame, see `Body.initial`.
        channels: of the signal.
        cutoff_hz: above which the input holds nothing.
        rate: canonical rate in Hz.
    """

    def __init__(self, run: RunRestore, state: list[Tensor], channels: int, cutoff_hz: float, rate: int) -> None:
        self._run, self._state = run, state
        hz = torch.arange(stft.BINS) * (rate / stft.WINDOW)
        self._visible = (hz < 0.97 * cutoff_hz) | (cutoff_hz >= rate / 2)
        self._groups = restore.group_visible(self._visible)[None].expand(channels, -1)
        self._past = Past.start(channels)
        self._before = torch.zeros(channels, TAPS, stft.BINS, dtype=torch.complex64)

    def push(self, spectrum: Tensor) -> Tensor:
        """Shape: complex (C, N, BINS) in and out."""
        spectrum = spectrum * self._visible
        features, ratio = restore.features(spectrum, self._groups, self._past)
        values, self._state = self._run(features, self._state)
        made = restore.apply(values, ratio, spectrum, self._before)
        self._before = torch.cat((self._before, spectrum), dim=1)[:, -TAPS:]
        return made * self._visible


class ExtendFrames:
    """Fills the band above the cutoff, channel by channel.

    Args:
        run: the network.
        initial: state of the network's body for a number of channels, see `Body.initial`.
        channels: of the signal.
        cutoff_hz: above which the input holds nothing.
        rate: canonical rate in Hz.
        profile: of the recording chain; None for none.
        brightness_db: added to what is made, at an octave above the cutoff and beyond; less below.
        seed: of the noise.
    """

    def __init__(
        self,
        run: RunExtend,
        initial: Callable[[int], list[Tensor]],
        channels: int,
        cutoff_hz: float,
        rate: int,
        profile: Profile | None = None,
        brightness_db: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._run, self._state = run, initial(channels)
        self._visible = bands.visible_bands(torch.full((channels,), cutoff_hz), rate).float()
        self._trackers = Trackers.start(channels)
        self._excitation = Excitation(channels, cutoff_hz, rate, seed)
        self._first = int(SEAM * cutoff_hz * stft.WINDOW / rate)
        octaves = torch.log2(bands.band_middles(rate) / cutoff_hz).clamp(0, _BRIGHT_OCTAVES) / _BRIGHT_OCTAVES
        self._bright = brightness_db / 10 * octaves
        self._condition = torch.zeros(channels, PROFILE)
        self._correction: Correction | None = None
        if profile is not None:
            condition = extend.profile_of(profile.tensor(), self._visible[:1])
            self._correction = Correction.learn(run, initial(1), profile, condition, self._visible[:1])
            self._condition = condition.expand(channels, -1)

    def levels(self, spectrum: Tensor) -> Tensor:
        """Levels of all bands, those above the cutoff predicted. Shape: complex (C, N, BINS) -> (C, N, BANDS)."""
        known = bands.band_levels(spectrum)
        features, mean = extend.features(known, self._visible, self._trackers)
        made, self._state = self._run(features, self._condition, self._state)
        made = made + mean + self._bright
        if self._correction is not None:
            made = made + self._correction.of(loudness(features))
        return torch.where(self._visible[:, None] > 0, known, made)

    def push(self, spectrum: Tensor) -> Tensor:
        """The frames with the band above the cutoff filled. Shape: complex (C, N, BINS) in and out."""
        amplitude = 10 ** (0.5 * bands.to_bins(self.levels(spectrum))[..., self._first :])
        made = self._excitation.push(spectrum)[..., self._first :] * amplitude
        return torch.cat((spectrum[..., : self._first], made), dim=-1)


def loudness(features: Tensor) -> Tensor:
    """How a frame's mean level lies against its slow peaks, log10 power. Shape: (C, N, FEATURES) -> (C, N, 1)."""
    _, _, peak, seen, mean = torch.split(features, [BANDS, BANDS, BANDS, BANDS, 1], dim=-1)
    count = (seen > 0).sum(-1, keepdim=True).clamp(min=1)
    relative: Tensor = 3 * (mean - peak.sum(-1, keepdim=True) / count)
    return relative


class Correction:
    """What the network's levels lack on the reference itself: a curve each for loud, middling and quiet frames.

    Args:
        knots: mean loudness of each class, falling. Shape: (CLASSES,).
        curves: log10 power to add. Shape: (CLASSES, BANDS).
    """

    def __init__(self, knots: Tensor, curves: Tensor) -> None:
        self._knots, self._curves = knots, curves

    @classmethod
    def learn(
        cls, run: RunExtend, state: list[Tensor], profile: Profile, condition: Tensor, visible: Tensor
    ) -> Correction:
        """Compare the network's levels on a reference with what the reference has; short references count less.

        Shape:
            condition (1, PROFILE), visible (1, BANDS).
        """
        known = profile.tensor()
        features, mean = extend.features(known, visible, Trackers.start(1))
        made, _ = run(features, condition, state)
        error = (known.clamp(min=bands.ROUNDING - 0.6) - made - mean)[0]
        loud = loudness(features)[0, :, 0]
        order = loud.argsort(descending=True)
        edges = [round(i * len(order) / extend.CLASSES) for i in range(extend.CLASSES + 1)]
        parts = [order[a:b] for a, b in itertools.pairwise(edges)]
        curves = torch.stack([_believed(error[part]) for part in parts])
        return cls(torch.stack([loud[part].mean() for part in parts]), curves)

    def of(self, loud: Tensor) -> Tensor:
        """What to add to some frames, interpolated between the classes. Shape: (C, N, 1) -> (C, N, BANDS)."""
        out = self._curves[0].expand(*loud.shape[:-1], -1)
        for i in range(1, len(self._knots)):
            span = (self._knots[i - 1] - self._knots[i]).clamp(min=1e-3)
            share = ((self._knots[i - 1] - loud) / span).clamp(0, 1)
            out = out + share * (self._curves[i] - self._curves[i - 1])
        return out


def _believed(error: Tensor) -> Tensor:
    """Mean error of some frames, shrunk the more the less sure it is (James and Stein). Shape: (M, BANDS) -> (BANDS,)."""
    mean = error.mean(0)
    doubt = error.var(0, correction=0) / max(len(error) / _ALIKE, 1.0)
    return mean * mean.square() / (mean.square() + doubt + 1e-6)
