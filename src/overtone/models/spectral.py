"""Analysis and synthesis front end, features, and the splice that keeps the known band; shared by both networks.

A signal becomes frames of a short-time Fourier transform. Bins that lie safely below the cutoff are *visible*; the others
are blanked, since a network that sees the filter's edge or the residue above it learns the training filters, not the
sound. The network's body turns features into values for each bin: a level, relative to the frame's own mean, and a turn
of phase. In the band to be filled, phase starts from the known band copied upwards (the pulses and onsets of the copy
stand at the right time). In the known band it starts from the input's own; how much of the input gives way is the product
of the damage of the frame and that of the bin, so that one number keeps a whole frame as it is.

Between transform and inverse all arithmetic is real, so that it is one graph for other runtimes too (`models.export`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from overtone.models.body import Body

Phase = Literal["copied", "free", "mixed"]
# `SpectralUpsampler.transform`, or what computes the same.
Transform = Callable[
    [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, list[Tensor]], tuple[Tensor, Tensor, list[Tensor]]
]

WINDOW = 1024
HOP = WINDOW // 2
BINS = WINDOW // 2 + 1

# Bins above this share of the cutoff are blanked and predicted.
VISIBLE = 0.92
# Added to the power of a bin (Hann window, 1024 samples) before the logarithm: a little under the rounding of 16-bit audio.
POWER_FLOOR = 1e-8
# The gate's logits are divided by this, so that it is slow to shut for good: where it is shut, repair is not learned.
GATE_SOFTNESS = 4.0
# In training so many signals are made wholly anew where they may be repaired: a prediction that was never heard could not
# get good enough to be preferred to the input.
OPENED = 0.2
# Predicted levels stay within these limits (log10 power of a bin; a full-scale sine reaches 4.8).
MAX_LEVEL = 6.0
_LN10 = math.log(10.0)


def frames_of(samples: int) -> int:
    """Number of frames that cover `samples` samples; frame n is centred on sample n * HOP."""
    return -(-samples // HOP) + 1


def analyse(signal: Tensor, window: Tensor) -> Tensor:
    """Spectra of frames centred on multiples of HOP, with silence beyond both ends.

    Shape:
        signal (B, T) -> complex (B, frames_of(T), BINS).
    """
    return spectra(_padded(signal), window)


def spectra(signal: Tensor, window: Tensor) -> Tensor:
    """Spectra of the frames that lie whole within a signal. Shape: (B, (N + 1) * HOP) -> complex (B, N, BINS)."""
    spectrum: Tensor = torch.fft.rfft(signal.unfold(-1, WINDOW, HOP) * window, dim=-1)
    return spectrum


def marked_share(marks: Tensor, window: Tensor) -> Tensor:
    """How much of each frame is marked, 0 to 1, as the window weighs it. Shape: (B, (N + 1) * HOP) -> (B, N)."""
    share: Tensor = marks.unfold(-1, WINDOW, HOP) @ (window / window.sum())
    return share


def _padded(signal: Tensor) -> Tensor:
    samples = signal.shape[-1]
    return nn.functional.pad(signal, (HOP, (frames_of(samples) - 1) * HOP - samples + HOP))


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


def origins(visible: Tensor) -> Tensor:
    """The visible bin that each bin is copied from: itself, or for blanked ones the upper half of the visible band, repeated.

    The shift is a whole even number of bins, so that with a hop of half a window a steady tone's copy keeps turning at
    its new frequency from frame to frame.

    Shape:
        bool (B, BINS) -> indices (B, BINS).
    """
    count = visible.sum(-1, keepdim=True)
    period = torch.clamp(count // 4 * 2, min=2)
    index = torch.arange(BINS, device=visible.device)[None]
    shifts = torch.clamp(torch.div(index - count, period, rounding_mode="floor") + 1, min=0)
    return torch.where(visible, index, torch.clamp(index - shifts * period, min=0))


class SpectralUpsampler(nn.Module):
    """A body between features and splice: waveform in, waveform of the full band out, same rate and length.

    Args:
        body: see `models.cnn` and `models.rnn`.
        rate: canonical rate in Hz.
        phase: of what is filled in: the known band's, `copied` upwards and turned; predicted `free`ly; or the sum of both.
    """

    body: Body
    window: Tensor

    def __init__(self, body: Body, rate: int, phase: Phase = "copied") -> None:
        super().__init__()
        width = body.width
        self.rate = rate
        self.phase = phase
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)
        self.stem = nn.Linear(3 * BINS + 1, width)
        self.condition = nn.Linear(BINS + 1, width)
        self.concealed = nn.Linear(1, width, bias=False)
        self.body = body
        self.norm = nn.LayerNorm(width)
        self.level = nn.Linear(width, BINS)
        self.turn = nn.Linear(width, (4 if phase == "mixed" else 2) * BINS)
        self.gate = nn.Linear(width, BINS)
        self.damage = nn.Linear(width, 1)
        for head in (self.level, self.turn, self.gate, self.damage):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        # An untrained network keeps most of what it is asked to repair, and may learn both to keep and to change.
        nn.init.constant_(self.damage.bias, -1.5)

    def forward(self, signal: Tensor, cutoff_hz: Tensor, restore: Tensor, concealed: Tensor | None = None) -> Tensor:
        """Enhance whole signals.

        Args:
            signal: band-limited or damaged input at the canonical rate, full scale 1.0.
            cutoff_hz: frequency above which the input holds nothing, Hz.
            restore: bool, whether the band below the cutoff is damaged and may be changed.
            concealed: 1 where a sample stands in for a lost one, else 0; None for nowhere.

        Shape:
            signal (B, T), cutoff_hz (B,), restore (B,), concealed (B, T) -> (B, T).
        """
        spectrum = analyse(signal, self.window)
        visible = visible_bins(cutoff_hz, self.rate)
        share = spectrum.real.new_zeros(spectrum.shape[:2])
        if concealed is not None:
            share = marked_share(_padded(concealed), self.window)
        out, _ = self.enhance(spectrum, visible, restore, share, self.body.initial(signal.shape[0]))
        return overlap_add(out, self.window)[:, : signal.shape[-1]]

    def enhance(
        self,
        spectrum: Tensor,
        visible: Tensor,
        restore: Tensor,
        concealed: Tensor,
        state: list[Tensor],
        transform: Transform | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The output's spectrum: predicted where the band is to be filled or repaired, the input's own elsewhere.

        Args:
            visible: which bins the network may see.
            concealed: `marked_share` of the samples that stand in for lost ones.
            state: of the body, from `body.initial` or the previous call.
            transform: stands in for `self.transform`, such as the same graph in another runtime.

        Shape:
            spectrum complex (B, N, BINS), visible bool (B, BINS), restore bool (B,), concealed (B, N)
            -> complex (B, N, BINS).
        """
        frames = spectrum.shape[1]
        short = -frames % self.body.alignment
        parts = [nn.functional.pad(part, (0, 0, 0, short)) for part in (spectrum.real, spectrum.imag)]
        concealed = nn.functional.pad(concealed, (0, short))
        transform = transform or self.transform
        real, imag, state = transform(parts[0], parts[1], visible, restore, concealed, origins(visible), state)
        return torch.complex(real, imag)[:, :frames], state

    def transform(
        self,
        real: Tensor,
        imag: Tensor,
        visible: Tensor,
        restore: Tensor,
        concealed: Tensor,
        origin: Tensor,
        state: list[Tensor],
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """`enhance` in real arithmetic, for a number of frames that is a multiple of the body's alignment.

        Args:
            origin: `origins(visible)`.
        """
        seen = visible[:, None]
        log_power = torch.log(real.square() + imag.square() + POWER_FLOOR)
        share = seen.to(real.dtype) / torch.clamp(visible.sum(-1)[:, None, None], min=1).to(real.dtype)
        mean = (log_power * share).sum(-1, keepdim=True)

        # Levels, and the spectrum compressed to |X|^0.3, both at the frame's own scale.
        relative = torch.where(seen, log_power - mean, 0.0)
        scale = torch.where(seen, torch.exp(-0.35 * log_power - 0.15 * mean), 0.0)
        parts = (relative / (2 * _LN10), real * scale, imag * scale, (mean / _LN10 + 3) / 3)
        condition = torch.cat((visible.to(real.dtype), restore[:, None].to(real.dtype)), dim=-1)
        features = self.stem(torch.cat(parts, dim=-1)) + self.condition(condition)[:, None]
        features = features + self.concealed(concealed[..., None])
        hidden, state = self.body(features, state)
        hidden = self.norm(hidden)

        turns = self.turn(hidden).chunk(4 if self.phase == "mixed" else 2, dim=-1)
        inverse = torch.exp(-0.5 * log_power)
        spread = origin[:, None].expand(-1, real.shape[1], -1)
        unit_real, unit_imag = (torch.gather(part * inverse, 2, spread) for part in (real, imag))
        # +1: an untrained head leaves the phase as it is.
        keep = 1.0 + turns[0]
        turned_real = unit_real * keep - unit_imag * turns[1]
        turned_imag = unit_real * turns[1] + unit_imag * keep
        if self.phase == "free":
            turned_real, turned_imag = (
                torch.where(seen, turned_real, turns[0]),
                torch.where(seen, turned_imag, turns[1]),
            )
        elif self.phase == "mixed":
            turned_real, turned_imag = turned_real + turns[2], turned_imag + turns[3]
        level = mean / _LN10 + self.level(hidden)
        magnitude = torch.exp(torch.clamp(level, max=MAX_LEVEL) * (_LN10 / 2))
        gain = magnitude * torch.rsqrt(turned_real.square() + turned_imag.square() + 1e-12)

        # Untouched: visible and not to be repaired. Repaired: a mixture of input and prediction.
        damage = torch.sigmoid(self.damage(hidden)) * torch.sigmoid(-self.gate(hidden) / GATE_SOFTNESS)
        if self.training:
            damage = torch.where(torch.rand_like(mean[:, :1]) < OPENED, 1.0, damage)
        kept = seen * torch.where(restore[:, None, None], 1.0 - damage, 1.0)
        made_real, made_imag = turned_real * gain, turned_imag * gain
        untouched = (visible & ~restore[:, None])[:, None]
        out_real = torch.where(untouched, real, made_real + kept * (real - made_real))
        out_imag = torch.where(untouched, imag, made_imag + kept * (imag - made_imag))
        return out_real, out_imag, state
