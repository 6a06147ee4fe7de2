"""What `extend` learns from: band levels of whole sources, augmented as levels; no transform runs while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from overtone.dsp import bands, stft
from overtone.dsp.bands import BANDS, ROUNDING
from overtone.models.envelope import CLASSES, profile_of
from overtone.settings import Ranges

Levels = npt.NDArray[np.float16]
# A source's brightness is known if its clips reach this, Hz.
_BRIGHT_HZ = 17_000.0
# A source that is duller is not made to look like an unprocessed recording.
_DULLEST = -2.3
# Noise is taken out up to so much (log10 power) above its level in quiet frames, and to this share of the power at most.
_OWN, _LEAST = 0.4, 0.01


@dataclass(frozen=True)
class Source:
    """The frames of one source, clip after clip: one voice or collection in one recording chain.

    Attributes:
        name: of the source.
        speech: whether it is a voice, not music.
        levels: log10 power of bands (frames, BANDS).
        tops: frequency in Hz up to which each frame's clip holds sound (frames,).
        weight: how often it is drawn, relative to others.
        brightness: level around 15 kHz against that around 6 kHz, log10 power, mean of its strongest moments there and of
            its loud frames; None where the clips end below that.
        quiet: level of its quiet frames, log10 power (BANDS,).
    """

    name: str
    speech: bool
    levels: Levels
    tops: npt.NDArray[np.float32]
    weight: float
    brightness: float | None
    quiet: npt.NDArray[np.float32]


def quiet_of(levels: Levels) -> npt.NDArray[np.float32]:
    """See `Source`. Shape: (frames, BANDS) -> (BANDS,)."""
    return np.percentile(levels.astype(np.float32), 10, axis=0).astype(np.float32)


def brightness_of(levels: Levels, tops: npt.NDArray[np.float32], rate: int) -> float | None:
    """See `Source`. Shape: (frames, BANDS), (frames,) -> ()."""
    whole = levels[tops > _BRIGHT_HZ].astype(np.float32)
    if len(whole) < 100:
        return None
    middles = bands.band_middles(rate)
    low, high = (whole[:, (middles > 0.85 * hz) & (middles < 1.15 * hz)] for hz in (6000.0, 15_000.0))
    loudness = whole[:, middles < 3000].mean(1)
    loud = loudness > np.quantile(loudness, 2 / 3)
    moments = float(np.percentile(high, 98)) - float(np.percentile(low, 98))
    return (moments + float(high[loud].mean()) - float(low[loud].mean())) / 2


def levels_of(signal: npt.NDArray[np.float32]) -> Levels:
    """Band levels of a mono signal. Shape: (T,) -> (frames, BANDS)."""
    with torch.inference_mode():
        spectrum = stft.analyse(torch.from_numpy(np.ascontiguousarray(signal)))
        return bands.band_levels(spectrum).numpy().astype(np.float16)


class Batch(NamedTuple):
    """Levels to learn from.

    Shapes: target (B, N, BANDS) log10 power; asked (B, N, BANDS) 1 where it is to be learned; visible (B, BANDS);
    profile (B, PROFILE), zeros for no reference.
    """

    target: Tensor
    asked: Tensor
    visible: Tensor
    profile: Tensor


class _Changes(NamedTuple):
    """What is done to examples, log10 power (size, 1, BANDS): gain; noise floor to add; own noise to take out before."""

    gain: Tensor
    floor: Tensor
    own: Tensor

    def first(self, count: int) -> _Changes:
        return _Changes(*(values[:count] for values in self))


class Draw:
    """Draws batches.

    Args:
        sources: at least one, each of more frames than an example.
        ranges: of augmentation.
        batch: examples.
        frames: of an example.
        rate: canonical rate in Hz.
        rng: decides everything random.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        ranges: Ranges,
        batch: int,
        frames: int,
        rate: int,
        rng: np.random.Generator,
    ) -> None:
        self.sources = [source for source in sources if len(source.levels) > frames]
        weights = np.array([source.weight for source in self.sources])
        self._shares = weights / weights.sum()
        self.ranges, self.batch, self.frames, self.rate, self.rng = ranges, batch, frames, rate, rng
        self._middles = torch.from_numpy(bands.band_middles(rate)) / (rate / 2)
        self._tops = torch.from_numpy(bands.band_tops(rate))
        self._bins = bands.WIDTHS.astype(np.float32)

    def _uniform(self, limits: tuple[float, float], size: int) -> Tensor:
        values = self.rng.uniform(*limits, (size, 1, 1))
        return torch.from_numpy(values.astype(np.float32))

    def _normal(self, deviation: float, size: int, width: int = 1) -> Tensor:
        return torch.from_numpy((deviation * self.rng.standard_normal((size, 1, width))).astype(np.float32))

    def _changes(self, chosen: npt.NDArray[np.int64]) -> _Changes:
        ranges, size = self.ranges, len(chosen)
        sources = [self.sources[i] for i in chosen]
        bright = np.array([-9.0 if s.brightness is None else s.brightness for s in sources], np.float32)
        # How bright a voice is depends on its recording chain; an instrument is as bright as it is.
        speech = np.array([s.speech for s in sources])
        # A flat floor is that of an unprocessed recording, which is bright too; the floor of others falls with frequency.
        drawn = (self.rng.random(size) < ranges.raw) & (bright > _DULLEST) & speech
        raw, voice = (torch.from_numpy(which).float()[:, None, None] for which in (drawn, speech))
        level = raw * self._uniform(ranges.raw_level, size) + (1 - raw) * self._uniform(ranges.level, size)
        wanted = self._uniform(ranges.raw_brightness, size) - torch.from_numpy(bright)[:, None, None]
        tilt = voice * self._uniform(ranges.tilt, size) + (1 - voice) * self._uniform(ranges.music_tilt, size)
        gain = level + (tilt * (1 - raw) + 0.1 * raw) * self._middles
        shelf = raw * wanted + (1 - raw) * self._normal(ranges.shelf, size)
        # Where it begins is drawn, or the known band would give away how bright the other one is.
        khz = self._middles * self.rate / 2000
        begins, width = self._uniform((7.0, 13.0), size), self._uniform((0.4, 1.5), size)
        shelf = shelf * torch.sigmoid((khz - begins) / width)
        knots = self._normal(ranges.colour, size, 8)
        colour = torch.nn.functional.interpolate(knots, BANDS, mode="linear", align_corners=True)
        octaves = torch.log2(self._middles.clamp(min=0.01) * 24)
        fallen = self._uniform(ranges.floor, size) - self._uniform(ranges.floor_fall, size) * octaves
        # Its own noise would be boosted with the voice: it is taken out first.
        quiet = torch.from_numpy(np.stack([s.quiet for s in sources]))[:, None]
        own = torch.where(raw > 0, quiet + _OWN, -torch.inf)
        return _Changes(gain + shelf + colour, raw * self._raw_floor(size) + (1 - raw) * fallen, own)

    def _raw_floor(self, size: int) -> Tensor:
        """The noise of rooms, louder at low frequencies, and of converters. Shape: (size, 1, BANDS)."""
        ranges = self.ranges
        khz = self._middles * self.rate / 2000
        level = self._uniform(ranges.raw_floor, size)
        below = torch.log2(self._uniform((1.0, 3.0), size) / khz.clamp(min=0.05)).clamp(min=0)
        rise = torch.sigmoid((khz - self._uniform((12.0, 20.0), size)) / self._uniform((0.8, 2.5), size))
        slope = self._uniform(ranges.floor_tilt, size) * self._middles
        return (
            level + slope + self._uniform(ranges.raw_room, size) * below + self._uniform(ranges.raw_rise, size) * rise
        )

    def __call__(self) -> Batch:
        """The next batch."""
        chosen = self.rng.choice(len(self.sources), self.batch, p=self._shares)
        starts = [int(self.rng.integers(0, len(self.sources[i].levels) - self.frames)) for i in chosen]
        clean, tops = self._cut(chosen, starts, self.frames)
        changes = self._changes(chosen)
        floor = changes.floor
        cutoff = torch.from_numpy(self.rng.choice(np.array(self.ranges.cutoffs, np.float32), self.batch))
        visible = bands.visible_bands(cutoff, self.rate).float()
        inside = self._tops <= tops
        target = self._changed(clean, changes)
        # Where an encoder wrote nothing at all there is nothing to learn, not even what the noise floor puts there.
        asked = inside & (clean > ROUNDING) & (visible[:, None] == 0)
        profile = target.new_zeros(self.batch, CLASSES * BANDS + 1)
        if count := int(self.ranges.reference * self.batch):
            end = torch.from_numpy(
                np.where(self.rng.random(count) < self.ranges.end, self.rng.uniform(9e3, 2.2e4, count), 1e9)
            ).float()
            end = torch.maximum(end, 1.2 * cutoff[:count])[:, None, None]
            ended = self._tops > end
            target[:count] = torch.where(ended, torch.minimum(target[:count], floor[:count]), target[:count])
            asked[:count] |= ended & (visible[:count, None] == 0)
            length = int(self.rng.integers(*self.ranges.reference_frames))
            profile[:count] = self._references(chosen[:count], length, changes.first(count), ended, visible)
        return Batch(target, asked.float(), visible, profile)

    def _references(
        self,
        chosen: npt.NDArray[np.int64],
        length: int,
        changes: _Changes,
        ended: Tensor,
        visible: Tensor,
    ) -> Tensor:
        """Profiles from other moments of the same sources, through the same changes; some from sources that do not fit."""
        foreign = self.rng.random(len(chosen)) < self.ranges.foreign
        chosen = np.where(foreign, self.rng.choice(len(self.sources), len(chosen), p=self._shares), chosen)
        length = min(length, *(len(self.sources[i].levels) for i in chosen))
        starts = [int(self.rng.integers(0, len(self.sources[i].levels) - length + 1)) for i in chosen]
        other, _ = self._cut(chosen, starts, length)
        level = self._uniform((-0.5, 0.5), len(chosen))
        floor = changes.floor + level
        reference = self._changed(other, _Changes(changes.gain + level, floor, changes.own))
        reference = torch.where(ended, torch.minimum(reference, floor), reference)
        return profile_of(reference, visible[: len(chosen)])

    def _cut(self, chosen: Iterable[int], starts: Iterable[int], length: int) -> tuple[Tensor, Tensor]:
        cuts = [(self.sources[i], slice(start, start + length)) for i, start in zip(chosen, starts, strict=True)]
        clean = torch.from_numpy(np.stack([source.levels[part] for source, part in cuts]).astype(np.float32))
        tops = torch.from_numpy(np.stack([source.tops[part] for source, part in cuts]))[..., None]
        return clean, tops

    def _changed(self, clean: Tensor, changes: _Changes) -> Tensor:
        power = 10**clean
        voice = torch.maximum(power - 10**changes.own, _LEAST * power)
        # The mean power of n bins of noise, as uneven as it is: a network hears the difference to a smoother one.
        uneven = self.rng.standard_gamma(self._bins, clean.shape, dtype=np.float32) / self._bins
        return torch.log10(voice * 10**changes.gain + 10**changes.floor * torch.from_numpy(uneven))


# Squared log10 distance between two noises of equal level, which no envelope can lower (LSD 0.79).
_NOISE = 0.62
_WIDTHS = torch.from_numpy(bands.WIDTHS.astype(np.float32))


def envelope_loss(made: Tensor, target: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """The log-spectral distance above the cutoff that noise at the predicted levels would have, and the error's RMS.

    `mean_t sqrt(0.62 + mean_f (log10 P - log10 T)^2)`, bands weighted by their bins, over what is asked.

    Shape:
        three times (B, N, BANDS) -> (), ().
    """
    weight = asked * _WIDTHS.to(asked.device)
    count = weight.sum(-1)
    error = (made.clamp(min=ROUNDING) - target.clamp(min=ROUNDING)).square()
    by_frame = (error * weight).sum(-1) / count.clamp(min=1)
    present = (count > 0).float()
    loss = (torch.sqrt(by_frame + _NOISE) * present).sum() / present.sum().clamp(min=1)
    rms = torch.sqrt((error * weight).sum() / weight.sum().clamp(min=1))
    return loss, rms.detach()
