"""Analysis and synthesis front end, features, and the splice that keeps the known band; shared by both networks.

A signal becomes frames of a short-time Fourier transform. Bins that lie safely below the cutoff are *visible*; the others
are blanked, since a network that sees the filter's edge or the residue above it learns the training filters, not the
sound. The network's body turns features into three values a bin: a change of level and a turn of phase. In the band to be
filled, level is relative to the frame's own mean and phase starts from the known band copied upwards (the pulses and
onsets of the copy stand at the right time); in the known band both are relative to the input itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

WINDOW = 1024
HOP = WINDOW // 2
BINS = WINDOW // 2 + 1

# Bins above this share of the cutoff are blanked and predicted.
VISIBLE = 0.92
# Added to the power of a bin (Hann window, 1024 samples) before the logarithm: a little under the rounding of 16-bit audio.
POWER_FLOOR = 1e-8
# Predicted levels stay within these limits (log10 power of a bin; a full-scale sine reaches 4.8).
MAX_LEVEL = 6.0


def frames_of(samples: int) -> int:
    """Number of frames that cover `samples` samples; frame n is centred on sample n * HOP."""
    return -(-samples // HOP) + 1


def analyse(signal: Tensor, window: Tensor) -> Tensor:
    """Spectra of frames centred on multiples of HOP, with silence beyond both ends.

    Shape:
        signal (B, T) -> complex (B, frames_of(T), BINS).
    """
    samples = signal.shape[-1]
    padded = nn.functional.pad(signal, (HOP, (frames_of(samples) - 1) * HOP - samples + HOP))
    spectrum: Tensor = torch.fft.rfft(padded.unfold(-1, WINDOW, HOP) * window, dim=-1)
    return spectrum


def overlap_add(spectrum: Tensor, window: Tensor) -> Tensor:
    """Signal of frames, least-squares inverse of `analyse` (Griffin and Lim 1984, equation 6).

    Shape:
        complex (B, N, BINS) -> (B, (N - 1) * HOP): from the centre of the first frame to that of the last.
    """
    frames = torch.fft.irfft(spectrum, n=WINDOW, dim=-1) * window
    weight = window.square()
    weight = weight[:HOP] + weight[HOP:]
    joined = frames[:, 1:, :HOP] + frames[:, :-1, HOP:]
    signal: Tensor = (joined / weight).flatten(1)
    return signal


def visible_bins(cutoff_hz: Tensor, rate: int) -> Tensor:
    """Which bins the network may see.

    Shape:
        cutoff_hz (B,) -> bool (B, BINS).
    """
    frequency = torch.arange(BINS, device=cutoff_hz.device) * (rate / WINDOW)
    full = cutoff_hz[:, None] >= rate / 2
    return (frequency < VISIBLE * cutoff_hz[:, None]) | full


def copy_up(phasor: Tensor, visible: Tensor) -> Tensor:
    """Fill blanked bins with the upper half of the visible band, repeated upwards.

    The shift is a whole even number of bins, so that with a hop of half a window a steady tone's copy keeps turning at
    its new frequency from frame to frame.

    Shape:
        phasor complex (B, N, BINS), visible bool (B, BINS) -> complex (B, N, BINS).
    """
    count = visible.sum(-1, keepdim=True)
    period = torch.clamp(count // 4 * 2, min=2)
    index = torch.arange(BINS, device=visible.device)[None]
    shifts = torch.clamp(torch.div(index - count, period, rounding_mode="floor") + 1, min=0)
    origin = torch.where(visible, index, torch.clamp(index - shifts * period, min=0))
    return torch.gather(phasor, 2, origin[:, None].expand(-1, phasor.shape[1], -1))


class SpectralUpsampler(nn.Module):
    """A body between features and splice: waveform in, waveform of the full band out, same rate and length.

    Args:
        body: module (B, N, width) -> (B, N, width), see `models.cnn` and `models.rnn`; it has the attribute `width`.
        rate: canonical rate in Hz.
    """

    window: Tensor

    def __init__(self, body: nn.Module, width: int, rate: int) -> None:
        super().__init__()
        self.rate = rate
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.stem = nn.Linear(3 * BINS + 1, width)
        self.condition = nn.Linear(BINS + 1, width)
        self.body = body
        self.norm = nn.LayerNorm(width)
        self.level = nn.Linear(width, BINS)
        self.turn = nn.Linear(width, 2 * BINS)
        self.gate = nn.Linear(width, BINS)
        for head in (self.level, self.turn, self.gate):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        # An untrained network keeps nearly all of what it is asked to repair.
        nn.init.constant_(self.gate.bias, 3.0)

    def forward(self, signal: Tensor, cutoff_hz: Tensor, restore: Tensor) -> Tensor:
        """Enhance whole signals.

        Args:
            signal: band-limited or damaged input at the canonical rate, full scale 1.0.
            cutoff_hz: frequency above which the input holds nothing, Hz.
            restore: bool, whether the band below the cutoff is damaged and may be changed.

        Shape:
            signal (B, T), cutoff_hz (B,), restore (B,) -> (B, T).
        """
        spectrum = analyse(signal, self.window)
        visible = visible_bins(cutoff_hz, self.rate)
        hidden, _ = self.body(self.features(spectrum, visible, restore), None)
        return overlap_add(self.fill(spectrum, hidden, visible, restore), self.window)[:, : signal.shape[-1]]

    def features(self, spectrum: Tensor, visible: Tensor, restore: Tensor) -> Tensor:
        """What the body sees of each frame: levels and compressed spectrum of the visible bins, cutoff and mode.

        Shape:
            spectrum complex (B, N, BINS), visible (B, BINS), restore (B,) -> (B, N, width).
        """
        levels, mean = self._levels(spectrum, visible)
        seen = visible[:, None]
        # |X|^0.3 with the phase of X, at the frame's own scale.
        power = spectrum.real.square() + spectrum.imag.square() + POWER_FLOOR
        scale = torch.where(seen, power.pow(-0.35) * torch.pow(10.0, -0.15 * mean), 0.0)
        shape = torch.where(seen, levels - mean, 0.0) / 2
        parts = (shape, spectrum.real * scale, spectrum.imag * scale, (mean + 3) / 3)
        condition = torch.cat((visible.to(levels.dtype), restore[:, None].to(levels.dtype)), dim=-1)
        features: Tensor = self.stem(torch.cat(parts, dim=-1)) + self.condition(condition)[:, None]
        return features

    def fill(self, spectrum: Tensor, hidden: Tensor, visible: Tensor, restore: Tensor) -> Tensor:
        """The output's spectrum: predicted where the band is to be filled or repaired, the input's own elsewhere.

        Shape:
            spectrum complex (B, N, BINS), hidden (B, N, width) -> complex (B, N, BINS).
        """
        hidden = self.norm(hidden)
        levels, mean = self._levels(spectrum, visible)
        base = torch.where(visible[:, None], levels, mean)
        level = torch.clamp(base + self.level(hidden), max=MAX_LEVEL)
        turn = torch.complex(*self.turn(hidden).chunk(2, dim=-1))
        magnitude = spectrum.abs()
        phasor = torch.where(magnitude > 0, spectrum / torch.clamp(magnitude, min=1e-12), 1.0)
        # +1: an untrained head leaves the phase as it is.
        phasor = copy_up(phasor, visible) * (1.0 + turn)
        phasor = phasor / torch.clamp(phasor.abs(), min=1e-6)
        made = phasor * torch.pow(10.0, level / 2)
        untouched = (visible & ~restore[:, None])[:, None]
        repaired = made + torch.sigmoid(self.gate(hidden)) * visible[:, None] * (spectrum - made)
        return torch.where(untouched, spectrum, repaired)

    @staticmethod
    def _levels(spectrum: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
        levels = torch.log10(spectrum.real.square() + spectrum.imag.square() + POWER_FLOOR)
        seen = visible[:, None].to(levels.dtype)
        mean = (levels * seen).sum(-1, keepdim=True) / torch.clamp(seen.sum(-1, keepdim=True), min=1.0)
        return levels, mean
