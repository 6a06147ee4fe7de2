"""The networks at work on frames of the short-time Fourier transform, with the state that they carry along."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from overtone.dsp import bands, stft
from overtone.dsp.backend import Array, namespace
from overtone.dsp.bands import BANDS
from overtone.enhance.excitation import Excitation
from overtone.enhance.networks import Networks
from overtone.enhance.profile import Profile
from overtone.models import envelope, gains
from overtone.models.envelope import PROFILE, Trackers
from overtone.models.gains import TAPS, Past

# Bins from this share of the cutoff on are made anew.
SEAM = 0.95
# Brightness is turned in dB at 16 kHz against the cutoff: log10 power an octave above the cutoff.
_BRIGHT_OCTAVES = 1.0
# Neighbouring frames say much the same: so many count as one.
_ALIKE = 10.0


class RestoreFrames:
    """Takes noise out of frames, channel by channel.

    Args:
        networks: of which `restore` runs.
        channels: of the signal.
        cutoff_hz: above which the input holds nothing.
    """

    def __init__(self, networks: Networks, channels: int, cutoff_hz: float) -> None:
        self._networks, self._state = networks, networks.restore_state(channels)
        rate = networks.rate
        visible = (stft.bin_hz(rate) < 0.97 * cutoff_hz) | (cutoff_hz >= rate / 2)
        groups = gains.group_visible(visible)[None]
        self._visible: Any = networks.array(visible)
        self._groups: Any = networks.array(np.repeat(groups, channels, axis=0))
        self._past = Past()
        self._before: Any = networks.array(np.zeros((channels, TAPS, stft.BINS), np.complex64))

    def push(self, spectrum: Array) -> Array:
        """Shape: complex (C, N, BINS) in and out."""
        spectrum = spectrum * self._visible
        features, ratio = gains.features(spectrum, self._groups, self._past)
        values, self._state = self._networks.run_restore(features, self._state)
        made = gains.apply(values, ratio, spectrum, self._before)
        self._before = namespace(spectrum).concatenate((self._before, spectrum), axis=1)[:, -TAPS:]
        out: Array = made * self._visible
        return out


class ExtendFrames:
    """Fills the band above the cutoff, channel by channel.

    Args:
        networks: of which `extend` runs.
        channels: of the signal.
        cutoff_hz: above which the input holds nothing.
        profile: of the recording chain; None for none.
        brightness_db: added to what is made, at an octave above the cutoff and beyond; less below.
        seed: of the noise.
    """

    def __init__(
        self,
        networks: Networks,
        channels: int,
        cutoff_hz: float,
        profile: Profile | None = None,
        brightness_db: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._networks, self._state = networks, networks.extend_state(channels)
        rate = networks.rate
        visible = bands.visible_bands(np.full(channels, cutoff_hz, np.float32), rate).astype(np.float32)
        self._visible: Any = networks.array(visible)
        self._trackers = Trackers()
        self._excitation = Excitation(channels, cutoff_hz, rate, seed)
        self._first = int(SEAM * cutoff_hz * stft.WINDOW / rate)
        above = networks.array(bands.band_middles(rate)) / cutoff_hz
        octaves = namespace(above).log2(above).clip(0, _BRIGHT_OCTAVES) / _BRIGHT_OCTAVES
        self._bright = brightness_db / 10 * octaves
        self._condition: Any = networks.array(np.zeros((channels, PROFILE), np.float32))
        self._correction: Correction | None = None
        if profile is not None:
            known = networks.array(profile.levels[None])
            condition = envelope.profile_of(known, self._visible[:1])
            self._correction = Correction.learn(networks, known, condition, self._visible[:1])
            self._condition = namespace(condition).broadcast_to(condition, (channels, PROFILE))

    def levels(self, spectrum: Array) -> Array:
        """Levels of all bands, those above the cutoff predicted. Shape: complex (C, N, BINS) -> (C, N, BANDS)."""
        known = bands.band_levels(spectrum)
        features, mean = envelope.features(known, self._visible, self._trackers)
        made, self._state = self._networks.run_extend(features, self._condition, self._state)
        made = made + mean + self._bright
        if self._correction is not None:
            made = made + self._correction.of(loudness(features))
        levels: Array = namespace(known).where(self._visible[:, None] > 0, known, made)
        return levels

    def push(self, spectrum: Array) -> Array:
        """The frames with the band above the cutoff filled. Shape: complex (C, N, BINS) in and out."""
        amplitude = 10 ** (0.5 * bands.to_bins(self.levels(spectrum))[..., self._first :])
        made = self._excitation.push(spectrum)[..., self._first :] * amplitude
        out: Array = namespace(spectrum).concatenate((spectrum[..., : self._first], made), axis=-1)
        return out


def loudness(features: Array) -> Array:
    """How a frame's mean level lies against its slow peaks, log10 power. Shape: (C, N, FEATURES) -> (C, N, 1)."""
    xp = namespace(features)
    peak, seen, mean = (
        features[..., 2 * BANDS : 3 * BANDS],
        features[..., 3 * BANDS : 4 * BANDS],
        features[..., 4 * BANDS :],
    )
    count = xp.clip(xp.sum(seen > 0, axis=-1, keepdims=True), min=1)
    relative: Array = 3 * (mean - xp.sum(peak, axis=-1, keepdims=True) / count)
    return relative


class Correction:
    """What the network's levels lack on the reference itself: a curve each for loud, middling and quiet frames.

    Args:
        knots: mean loudness of each class, falling. Shape: (CLASSES,).
        curves: log10 power to add. Shape: (CLASSES, BANDS).
    """

    def __init__(self, knots: Any, curves: Any) -> None:
        self._knots, self._curves = knots, curves

    @classmethod
    def learn(cls, networks: Networks, known: Array, condition: Array, visible: Array) -> Correction:
        """Compare the network's levels on a reference with what the reference has; short references count less.

        Shape:
            known (1, M, BANDS), condition (1, PROFILE), visible (1, BANDS).
        """
        xp = namespace(known)
        features, mean = envelope.features(known, visible, Trackers())
        made, _ = networks.run_extend(features, condition, networks.extend_state(1))
        error = (xp.clip(known, min=bands.ROUNDING - 0.6) - made - mean)[0]
        loud = loudness(features)[0, :, 0]
        order = xp.argsort(-loud)
        edges = [round(i * len(order) / envelope.CLASSES) for i in range(envelope.CLASSES + 1)]
        parts = [order[a:b] for a, b in itertools.pairwise(edges)]
        curves = xp.stack([_believed(error[part]) for part in parts])
        return cls(xp.stack([xp.mean(loud[part]) for part in parts]), curves)

    def of(self, loud: Array) -> Array:
        """What to add to some frames, interpolated between the classes. Shape: (C, N, 1) -> (C, N, BANDS)."""
        xp = namespace(loud)
        out = xp.broadcast_to(self._curves[0], (*loud.shape[:-1], BANDS))
        for i in range(1, len(self._knots)):
            span = xp.clip(self._knots[i - 1] - self._knots[i], min=1e-3)
            share = xp.clip((self._knots[i - 1] - loud) / span, 0, 1)
            out = out + share * (self._curves[i] - self._curves[i - 1])
        added: Array = out
        return added


def _believed(error: Array) -> Array:
    """Mean error of some frames, shrunk the more the less sure it is (James and Stein). Shape: (M, BANDS) -> (BANDS,)."""
    xp = namespace(error)
    mean = xp.mean(error, axis=0)
    doubt = xp.var(error, axis=0, correction=0) / max(len(error) / _ALIKE, 1.0)
    believed: Array = mean * xp.square(mean) / (xp.square(mean) + doubt + 1e-6)
    return believed
