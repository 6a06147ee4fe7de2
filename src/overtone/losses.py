"""Training losses: pure functions of (prediction, target) waveforms.

All spectral terms work on the prediction's own transform, so that a phase no signal can have is punished, and leave out
bins above each clip's bandwidth, where the target holds nothing to learn.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from overtone.errors import OvertoneError
from overtone.params import LossParams

# Power of a bin below which levels are all alike: rounding of 16-bit audio at a window of 1024 samples, less 6 dB.
POWER_FLOOR = 1e-8
# Share of the target's power below which an error does next to no harm: -40 dB.
HARMLESS = 1e-4
# What to do about a training that diverged.
ADVICE = "try a lower learning_rate or clip_norm"


class DivergedError(OvertoneError, FloatingPointError):
    """A training that came to no number or exploded.

    Attributes:
        reason: what was not finite, or how far above what is usual, and what to try.
        folder: where the batch is kept for inspection; None where it is not.
    """

    def __init__(self, reason: str, folder: Path | None = None) -> None:
        kept = f"; the batch is kept, see: overtone failure {folder}" if folder else ""
        super().__init__(reason + kept)
        self.reason = reason
        self.folder = folder


@functools.lru_cache(maxsize=16)
def _hann(size: int, device: torch.device) -> Tensor:
    return torch.hann_window(size, device=device)


def spectrum(signal: Tensor, size: int) -> Tensor:
    """Short-time Fourier transform, Hann window of `size` samples, hop of half a window (a quarter for the longest, 2048).

    Shape:
        (B, T) -> complex (B, N, size // 2 + 1).
    """
    frames = signal.unfold(-1, size, min(size // 2, 512))
    spectra: Tensor = torch.fft.rfft(frames * _hann(size, signal.device), dim=-1)
    return spectra


def in_band(bandwidth_hz: Tensor, size: int, rate: int, beyond: float = 0.0) -> Tensor:
    """Weights of bins: 1 up to each clip's bandwidth, else `beyond`. Shape: (B,) -> (B, size // 2 + 1)."""
    frequency = torch.arange(size // 2 + 1, device=bandwidth_hz.device) * (rate / size)
    return torch.where(frequency[None] <= bandwidth_hz[:, None], 1.0, beyond)


def log_spectral(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Log-spectral distance: root of the mean squared difference of log10 power over bins, mean over frames.

    Shape:
        prediction, target complex (B, N, F); weight (B, F) -> ().
    """
    difference = torch.log10(_power(prediction) + POWER_FLOOR) - torch.log10(_power(target) + POWER_FLOOR)
    share = (weight / torch.clamp(weight.sum(-1, keepdim=True), min=1.0)).to(difference.dtype)
    return torch.sqrt(torch.einsum("bnf,bf->bn", difference.square(), share) + 1e-6).mean()


def magnitude(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Mean squared difference of magnitudes compressed to the power 0.3. Shapes as in `log_spectral`."""
    difference = (_power(prediction) + POWER_FLOOR).pow(0.15) - (_power(target) + POWER_FLOOR).pow(0.15)
    return (difference.square() * weight[:, None]).mean()


def phase(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Anti-wrapping phase loss (Ai and Ling 2023): instantaneous phase, group delay and instantaneous frequency.

    The wrapped difference of angles is taken as the angle of a product, which needs no rounding; bins count by the
    target's compressed magnitude, since the phase of silence means nothing. Shapes as in `log_spectral`.
    """
    strength = (_power(target) + POWER_FLOOR).pow(0.15) * weight[:, None]
    product = prediction * target.conj()
    turned = product / torch.clamp(product.abs(), min=1e-9)

    def distance(unit: Tensor, strength: Tensor) -> Tensor:
        # 1 - cos of the wrapped difference: smooth, zero where the phases agree.
        return ((1.0 - unit.real) * strength).sum() / torch.clamp(strength.sum(), min=1e-9)

    delay = turned[:, :, 1:] * turned[:, :, :-1].conj()
    frequency = turned[:, 1:] * turned[:, :-1].conj()
    return (
        distance(turned, strength) + distance(delay, strength[:, :, 1:]) + distance(frequency, strength[:, 1:])
    ) / 3.0


def mean_squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Classical waveform loss, in units of the target's own power. Shape: (B, T), (B, T) -> ()."""
    power = torch.clamp(target.square().mean(-1), min=1e-6)
    return ((prediction - target).square().mean(-1) / power).mean()


def error_ratio(prediction: Tensor, target: Tensor) -> Tensor:
    """Root mean square of the error over that of the target: 10^(-SNR / 20). Shape: (B, T), (B, T) -> ().

    Between the mean squared error, to which only clips that are nearly lost matter, and SNR in dB, to which only those
    that are nearly right do: an error counts the same whatever is wrong already.
    """
    power = torch.clamp(target.square().mean(-1), min=1e-8)
    return torch.sqrt((prediction - target).square().mean(-1) / power + 1e-6).mean()


def harm(prediction: Tensor, target: Tensor, given: Tensor, restore: Tensor) -> Tensor:
    """By how much the error of what was to be repaired exceeds the input's, log10 power; nothing where it does not.

    40 dB below the target are added to both, so that of a clean input no more than that is asked.

    Args:
        given: the input.
        restore: which signals were to be repaired; the others count as 0.

    Shape:
        prediction, target, given (B, T); restore bool (B,) -> ().
    """
    power = torch.clamp(target.square().mean(-1), min=1e-8)
    ours, theirs = ((signal - target).square().mean(-1) / power + HARMLESS for signal in (prediction, given))
    return (nn.functional.relu(torch.log10(ours / theirs)) * restore).mean()


def total(
    prediction: Tensor,
    target: Tensor,
    given: Tensor,
    restore: Tensor,
    bandwidth_hz: Tensor,
    rate: int,
    params: LossParams,
    start: int = 0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the terms whose weight is above zero, and each term by name.

    Args:
        prediction, target: waveforms, full scale 1.0.
        given: the network's input.
        restore: bool, whether it was to be repaired.
        bandwidth_hz: frequency up to which the target means something, Hz.
        rate: Hz.
        start: sample at which the first frame of the spectra begins. Where it is always 0, frames of the loss lie on those
            of the network, and pulses in the middle of each frame look like a flat spectrum but sound like a buzz.

    Shape:
        (B, T), (B, T), (B, T), (B,), (B,) -> (), name -> ().
    """
    terms: dict[str, Tensor] = {}
    if params.mse:
        terms["mse"] = mean_squared_error(prediction, target)
    if params.error_ratio:
        terms["error_ratio"] = error_ratio(prediction, target)
    if params.harm:
        terms["harm"] = harm(prediction, target, given, restore)
    weights = {"log_spectral": params.log_spectral, "magnitude": params.magnitude, "phase": params.phase}
    functions = {"log_spectral": log_spectral, "magnitude": magnitude, "phase": phase}
    wanted = [name for name, weight in weights.items() if weight]
    if wanted:
        for size in params.windows:
            mask = in_band(bandwidth_hz, size, rate, params.beyond)
            ours, theirs = spectrum(prediction[:, start:], size), spectrum(target[:, start:], size)
            for name in wanted:
                value = functions[name](ours, theirs, mask) / len(params.windows)
                terms[name] = terms[name] + value if name in terms else value
    weights |= {"mse": params.mse, "error_ratio": params.error_ratio, "harm": params.harm}
    return torch.stack([weights[name] * value for name, value in terms.items()]).sum(), terms


def check(loss: float, terms: Mapping[str, float]) -> None:
    """See that a loss is a number.

    Args:
        loss: of `total`.
        terms: of the same, by name.

    Raises:
        DivergedError: it is NaN or infinite; the message names the terms that are.
    """
    if not math.isfinite(loss):
        bad = ", ".join(name for name, value in terms.items() if not math.isfinite(value))
        raise DivergedError(f"loss is not finite: {bad or 'sum'}; {ADVICE}")


def _power(spectrum: Tensor) -> Tensor:
    return spectrum.real.square() + spectrum.imag.square()
