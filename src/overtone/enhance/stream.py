"""Audio at the canonical rate that arrives block by block, through the networks and out again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import scipy.signal

from overtone.audio import AudioError, Signal, arrays
from overtone.audio import channels as loudspeakers
from overtone.audio.arrays import Samples
from overtone.dsp.backend import namespace, numpy_of
from overtone.dsp.conceal import Concealer
from overtone.dsp.stft import BINS, HOP, WINDOW, overlap_add, spectra
from overtone.enhance.frames import SEAM, ExtendFrames, RestoreFrames
from overtone.enhance.networks import Networks
from overtone.enhance.profile import Profile

# Half the length of the filter that separates what is kept from what is added. Together with one window, what an output
# sample has to wait for: 1024 + 176 samples, 25 ms at 48 kHz.
HALF_FILTER = 176
STOP_BAND_DB = 90.0
# Up to this share of the cutoff an extended signal equals its input to 16-bit accuracy. The change starts four bins (the
# main lobe of the window) above it, and half of it passes the filter at `SEAM`.
UNTOUCHED = 0.9
# A cutoff this close to the top of the band leaves nothing to add.
FULL_BAND = 0.98

# What takes noise out: `restore`, or DeepFilterNet 3 in its place.
Denoiser = Literal["network", "deepfilternet"]


@dataclass(frozen=True)
class Treatment:
    """What is done to a signal.

    Attributes:
        cutoff_hz: above which it holds nothing; what is above is made.
        conceal: whether lost packets are filled.
        declip: whether clipped samples are repaired.
        denoise: whether noise is taken out, and denoiser: by what.
        profile: of the recording chain; None for none.
        brightness_db: added to what is made, at an octave above the cutoff and beyond; less below.
    """

    cutoff_hz: float
    conceal: bool = False
    declip: bool = False
    denoise: bool = False
    profile: Profile | None = None
    brightness_db: float = 0.0
    denoiser: Denoiser = "network"

    @property
    def repairs(self) -> bool:
        """Whether anything below the cutoff may change."""
        return self.conceal or self.declip or self.denoise

    @property
    def mode(self) -> Literal["extend", "restore"]:
        """In a word."""
        return "restore" if self.repairs else "extend"

    def extends(self, rate: int) -> bool:
        """Whether there is a band to fill."""
        return self.cutoff_hz < FULL_BAND * rate / 2


class MidSide:
    """Left and right channels as mid and side, so that what is made of equal channels is equal.

    Args:
        pairs: positions of left and right channels; those that are in no pair stay as they are.
    """

    def __init__(self, pairs: Sequence[tuple[int, int]]) -> None:
        self._left, self._right = ([pair[place] for pair in pairs] for place in (0, 1))

    def encode(self, signal: Signal) -> Signal:
        """Shape: (channels, samples) in and out."""
        out = np.array(signal, dtype=np.float32)
        left, right = signal[self._left], signal[self._right]
        out[self._left], out[self._right] = (left + right) / 2, (left - right) / 2
        return out

    def decode(self, signal: Signal) -> Signal:
        """Shape: (channels, samples) in and out."""
        out = np.array(signal, dtype=np.float32)
        mid, side = signal[self._left], signal[self._right]
        out[self._left], out[self._right] = mid + side, mid - side
        return out


class FrameStage:
    """Samples to frames, through the networks, and the change of the samples out.

    Args:
        networks: of the model.
        stages: what frames go through, in order.
        channels: of the signal.
        first: bin below which nothing changes.
    """

    def __init__(
        self, networks: Networks, stages: Sequence[RestoreFrames | ExtendFrames], channels: int, first: int
    ) -> None:
        self._array, self._stages = networks.array, stages
        self._open = networks.array(np.arange(BINS) >= first)
        # What the next frame starts with, and the last frame's change.
        self._samples = np.zeros((channels, HOP), np.float32)
        self._last = networks.array(np.zeros((channels, 0, BINS), np.complex64))

    def push(self, block: Signal) -> Signal:
        """Take samples; give the change of those before, as far as it is known. Shape: (channels, samples)."""
        self._samples = np.concatenate((self._samples, block), axis=1)
        frames = self._samples.shape[1] // HOP - 1
        return self._advance(frames) if frames > 0 else block[:, :0]

    def finish(self, received: int) -> Signal:
        """The rest of the change, silence assumed beyond the end.

        Args:
            received: samples that were pushed in all.
        """
        self._samples = np.pad(self._samples, ((0, 0), (0, -received % HOP + HOP)))
        return self._advance(self._samples.shape[1] // HOP - 1)

    def _advance(self, frames: int) -> Signal:
        used, self._samples = self._samples[:, : (frames + 1) * HOP], self._samples[:, frames * HOP :]
        given = made = spectra(self._array(used))
        for stage in self._stages:
            made = stage.push(made)
        xp = namespace(given)
        # A side that is silent stays so, and equal channels equal.
        silent = xp.all(given == 0, axis=-1)
        change = xp.where(silent[..., None], 0, (made - given) * self._open)
        change = xp.concatenate((self._last, change), axis=1)
        self._last = change[:, -1:]
        if change.shape[1] < 2:
            return np.zeros((change.shape[0], 0), np.float32)
        return np.asarray(numpy_of(overlap_add(change)), dtype=np.float32)


class Splice:
    """Input plus change; where only the band above the cutoff may change, freed of whatever lies below.

    Args:
        channels: of the signal.
        cutoff_hz: below which nothing changes; None where everything may.
        rate: canonical rate in Hz.
    """

    def __init__(self, channels: int, cutoff_hz: float | None, rate: int) -> None:
        self._filter = None if cutoff_hz is None else _high_pass(cutoff_hz, rate)
        self._waiting = np.zeros((channels, 0), np.float32)
        self._change = np.zeros((channels, 0 if cutoff_hz is None else HALF_FILTER), np.float32)

    @property
    def tail(self) -> int:
        """Samples of silent change that the last input waits for."""
        return 0 if self._filter is None else HALF_FILTER

    def wait(self, block: Signal) -> None:
        """Input whose change is not known yet."""
        self._waiting = np.concatenate((self._waiting, block), axis=1)

    def push(self, change: Signal) -> Signal:
        """Change of the samples that wait; gives those that are done."""
        if self._filter is not None:
            joined = np.concatenate((self._change, change), axis=1)
            self._change = joined[:, -2 * HALF_FILTER :]
            if joined.shape[1] <= 2 * HALF_FILTER:
                return joined[:, :0]
            change = scipy.signal.oaconvolve(joined, self._filter, mode="valid", axes=1)
        change = change[:, : self._waiting.shape[1]]
        ready, self._waiting = self._waiting[:, : change.shape[1]], self._waiting[:, change.shape[1] :]
        return (ready + change).astype(np.float32)


class Stream:
    """Enhances a signal at the canonical rate that arrives in blocks; the result does not depend on how it is cut.

    An output sample waits for at most 25 ms of input where only the band above the cutoff is made; a signal with lost
    packets waits 4 ms more. Left and right channels are modelled as mid and side; a side that is silent stays silent.
    Not for several threads at once: blocks have an order.

    Args:
        networks: of the model.
        channels: of every block.
        treatment: what is done; `declip` is for files, before they come here.
        mask: which channel is which loudspeaker's (see `audio.channels`), 0 for the usual ones of so many.
    """

    def __init__(self, networks: Networks, channels: int, treatment: Treatment, mask: int = 0) -> None:
        rate, cutoff = networks.rate, treatment.cutoff_hz
        self.channels = channels
        self._concealer = Concealer(channels, rate, live=True) if treatment.conceal else None
        self._pairs = MidSide(loudspeakers.pairs(mask, channels))
        stages: list[RestoreFrames | ExtendFrames] = []
        if treatment.denoise:
            stages.append(RestoreFrames(networks, channels, cutoff))
        if treatment.extends(rate):
            stages.append(ExtendFrames(networks, channels, cutoff, treatment.profile, treatment.brightness_db))
        self._idle = not stages
        first = 0 if treatment.denoise else round(UNTOUCHED * cutoff * WINDOW / rate) + 4
        self._frames = FrameStage(networks, stages, channels, first)
        self._splice = Splice(channels, None if treatment.denoise or self._idle else cutoff, rate)
        self._received = 0
        self._kind = arrays.Kind()

    @property
    def lookahead(self) -> int:
        """Samples of input that an output sample waits for, at most."""
        concealing = 0 if self._concealer is None else self._concealer.lookahead
        return concealing if self._idle else concealing + WINDOW + self._splice.tail

    def push(self, block: Samples) -> Samples:
        """Take a block; give the samples that are now known, of the same kind: none at first, later as many as went in.

        Args:
            block: as `Upsampler.enhance` takes it, (samples,) or (channels, samples).

        Raises:
            AudioError: not audio, or of another number of channels than the stream.
        """
        opened, self._kind = arrays.opened(block, "block")
        if len(opened) != self.channels:
            raise AudioError(f"block: expected {self.channels} channels, as the stream has, got {len(opened)}")
        known = opened if self._concealer is None else self._concealer.push(opened)
        return cast(Samples, self._kind.closed(self._push(known)))

    def _push(self, block: Signal) -> Signal:
        self._received += block.shape[1]
        if self._idle:
            return block
        self._splice.wait(block)
        return self._splice.push(self._pairs.decode(self._frames.push(self._pairs.encode(block))))

    def finish(self) -> Any:
        """The remaining samples, of the last block's kind; all outputs together are as long as all inputs."""
        return self._kind.closed(self._finish())

    def _finish(self) -> Signal:
        none = np.zeros((self.channels, 0), np.float32)
        before = none if self._concealer is None else self._push(self._concealer.finish())
        if self._idle or self._received == 0:
            return before
        change = np.pad(self._frames.finish(self._received), ((0, 0), (0, self._splice.tail)))
        return np.concatenate((before, self._splice.push(self._pairs.decode(change))), axis=1)


def _high_pass(cutoff_hz: float, rate: int) -> Signal:
    """Linear-phase high pass (Kaiser window) that parts what is kept from what is added. Shape: (1, 2 * HALF_FILTER + 1)."""
    width = (STOP_BAND_DB - 7.95) / (2.285 * 2 * HALF_FILTER) * rate / (2 * np.pi)
    middle = min(max(cutoff_hz - width / 2, SEAM * cutoff_hz), rate / 2 * 0.999)
    beta = scipy.signal.kaiser_beta(STOP_BAND_DB)
    taps = scipy.signal.firwin(2 * HALF_FILTER + 1, middle, window=("kaiser", beta), pass_zero=False, fs=rate)
    return np.asarray(taps, dtype=np.float32)[None]
