"""How far a prediction is from its target: pure functions of two signals, nothing normalised first.

Both signals are rounded to 16 bit before any spectrum is taken: in float, digital silence is minus infinity and log
distances mean nothing. Spectra use a periodic Hann window of 2048 samples and a hop of 512.
Source: LSD as defined by AERO (Mandel et al., 2023) and AP-BWE (Lu et al., 2024).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio, signal_noise_ratio

from overtone.evaluation.texture import MIN_BINS, copies, hop_lines_db, tonality_db

N_FFT = 2048
HOP = 512
POWER_FLOOR = 1e-8
# Ratios beyond this say nothing about 16-bit audio, whose own rounding lies 98 dB below full scale.
MAX_RATIO_DB = 100.0
# Side/mid ratios are held to this range, so that two equal channels (no side at all) have a finite one.
MAX_SIDE_MID_DB = 60.0
# The known band of `si_sdr` and `snr` ends at this share of the cutoff: above it the input's own filter has its slope.
KNOWN_SHARE = 0.9
# Level above the bandwidth is compared in groups of so many bins (750 Hz); the first group is left to the target's own slope.
EXCESS_BINS = 32
# Metrics of what is unnatural above the cutoff.
TEXTURE = ("copies", "hop_line_db", "tonality_error_db")
# Lines in the envelope differ by so much (dB) by chance alone.
CHANCE_DB = 3.0


def round_16_bit(signal: Tensor) -> Tensor:
    """The signal as 16-bit integers would hold it, full scale still 1.0; what exceeds full scale is clipped."""
    return torch.clamp(torch.round(signal * 32768.0), -32768.0, 32767.0) / 32768.0


def spectrum(signal: Tensor) -> Tensor:
    """Short-time Fourier transform, frames centred on their samples, ends mirrored.

    Signals too short to be mirrored (1024 samples or fewer) are zero-padded to one window.

    Shape:
        (channels, samples) -> (channels, 1025, 1 + samples // 512), complex.
    """
    short = N_FFT - signal.shape[-1]
    if signal.shape[-1] <= N_FFT // 2:
        signal = torch.nn.functional.pad(signal, (0, short))
    window = torch.hann_window(N_FFT, periodic=True, dtype=signal.dtype, device=signal.device)
    return torch.stft(signal, N_FFT, HOP, window=window, center=True, return_complex=True)


def log_power(spectra: Tensor) -> Tensor:
    """log10 of the power of complex bins, powers below 1e-8 raised to it."""
    return torch.log10(torch.clamp(spectra.real.square() + spectra.imag.square(), min=POWER_FLOOR))


def _check(prediction: Tensor, target: Tensor) -> None:
    if prediction.ndim != 2 or prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)}: "
            "expected the same shape (channels, samples)"
        )
    for name, signal in (("prediction", prediction), ("target", target)):
        if signal.numel() == 0:
            raise ValueError(f"{name}: expected at least one sample")
        if not bool(torch.isfinite(signal).all()):
            raise ValueError(f"{name}: holds NaN or infinite samples")


def _bins(rate: int, bandwidth_hz: float | None, low_hz: float | None, high_hz: float | None) -> slice:
    """Bins with low_hz < frequency <= min(high_hz, bandwidth_hz); from 0 Hz on where low_hz is None."""
    step = rate / N_FFT
    tops = [edge for edge in (high_hz, bandwidth_hz) if edge is not None]
    stop = min([N_FFT // 2, *(math.floor(edge / step) for edge in tops)]) + 1
    start = 0 if low_hz is None else math.floor(low_hz / step) + 1
    return slice(start, max(start, stop))


def _distance(difference: Tensor, bins: slice) -> float | None:
    """LSD of log-power differences (channels, bins, frames) over some bins; None where there are none."""
    part = difference[:, bins]
    return float(part.square().mean(dim=1).sqrt().mean()) if part.shape[1] else None


def _bias(difference: Tensor, bins: slice) -> float | None:
    part = difference[:, bins]
    return float(part.mean()) if part.shape[1] else None


def log_spectral_distance(
    prediction: Tensor,
    target: Tensor,
    rate: int,
    bandwidth_hz: float | None = None,
    low_hz: float | None = None,
    high_hz: float | None = None,
) -> float | None:
    """Log-spectral distance, in log10 power; 0 for equal signals.

    `mean_t sqrt(mean_f (log10 max(|T|^2, 1e-8) - log10 max(|P|^2, 1e-8))^2)`, averaged over channels.

    Args:
        rate: sample rate, Hz.
        bandwidth_hz: the target's bandwidth; bins above it are left out.
        low_hz: only bins above it (LSD-HF with the cutoff here).
        high_hz: only bins up to it (LSD-LF with the cutoff here).

    Shape:
        both (channels, samples), full scale 1.0, aligned.

    Returns:
        None where no bin lies in the range.

    Raises:
        ValueError: the shapes differ, or a sample is not finite.

    Source: AERO, AP-BWE (see the module's head).
    """
    _check(prediction, target)
    spectra = spectrum(round_16_bit(torch.cat([prediction, target])))
    powers = log_power(spectra)
    channels = target.shape[0]
    return _distance(powers[:channels] - powers[channels:], _bins(rate, bandwidth_hz, low_hz, high_hz))


def _ratio(prediction: Tensor, target: Tensor, *, scale_invariant: bool) -> float | None:
    _check(prediction, target)
    prediction, target = round_16_bit(prediction).double(), round_16_bit(target).double()
    audible = target.square().sum(dim=-1) > 0
    if not bool(audible.any()):
        return None
    prediction, target = prediction[audible], target[audible]
    if scale_invariant:
        ratios = scale_invariant_signal_distortion_ratio(prediction, target)
        # All-zero predictions have neither signal nor distortion, which the formula's guard would call 0 dB.
        ratios = torch.where(prediction.square().sum(dim=-1) > 0, ratios, -MAX_RATIO_DB)
    else:
        ratios = signal_noise_ratio(prediction, target)
    return float(torch.clamp(ratios, -MAX_RATIO_DB, MAX_RATIO_DB).mean())


def si_sdr(prediction: Tensor, target: Tensor) -> float | None:
    """Scale-invariant signal-to-distortion ratio, dB, averaged over channels; blind to gain and polarity.

    Held to +-100 dB: equal signals have 100, a silent prediction has -100. Channels whose target is silent are left
    out; None where all are.

    Shape:
        both (channels, samples).
    """
    return _ratio(prediction, target, scale_invariant=True)


def snr(prediction: Tensor, target: Tensor) -> float | None:
    """Signal-to-noise ratio, dB, averaged over channels; catches gain and polarity. Range and silence as in `si_sdr`.

    Shape:
        both (channels, samples).
    """
    return _ratio(prediction, target, scale_invariant=False)


def _coherence(spectra: Tensor) -> Tensor:
    """Complex coherence of two channels, by bin, over all frames; 0 where a channel holds no more than the floor."""
    left, right = spectra
    frames = spectra.shape[-1]
    cross: Tensor = (left * right.conj()).sum(dim=-1)
    powers = (spectra.real.square() + spectra.imag.square()).sum(dim=-1)
    return cross / torch.clamp((powers[0] * powers[1]).sqrt(), min=POWER_FLOOR * frames)


def _side_mid_db(spectra: Tensor) -> float:
    """Power of side against mid, dB, within +-60; 0 dB for silence."""
    mid, side = spectra[0] + spectra[1], spectra[0] - spectra[1]
    tiny = POWER_FLOOR**2
    powers = [float((part.real.square() + part.imag.square()).double().mean()) + tiny for part in (side, mid)]
    return max(-MAX_SIDE_MID_DB, min(MAX_SIDE_MID_DB, 10.0 * math.log10(powers[0] / powers[1])))


def _stereo(prediction: Tensor, target: Tensor, bins: slice) -> dict[str, float | None]:
    """Errors of the stereo image over some bins of two-channel spectra (2, bins, frames)."""
    prediction, target = prediction[:, bins], target[:, bins]
    if not target.shape[1]:
        return {}
    power = (target.real.square() + target.imag.square()).mean(dim=-1).amin(dim=0)
    error = (_coherence(prediction) - _coherence(target)).abs()[power > POWER_FLOOR]
    return {
        "coherence_error": float(error.mean()) if error.numel() else None,
        "side_mid_error_db": abs(_side_mid_db(prediction) - _side_mid_db(target)),
    }


def known_band(signal: Tensor, rate: int, cutoff_hz: float) -> Tensor:
    """The signal without what lies above `KNOWN_SHARE` of the cutoff; as it is where the cutoff is half the rate.

    Shape:
        (channels, samples) in and out.
    """
    if cutoff_hz >= 0.99 * rate / 2:
        return signal
    spectra = torch.fft.rfft(signal.double())
    spectra[:, math.ceil(KNOWN_SHARE * cutoff_hz * signal.shape[-1] / rate) :] = 0.0
    kept: Tensor = torch.fft.irfft(spectra, signal.shape[-1]).float()
    return kept


def _excess(powers: Tensor, target: Tensor, first: int) -> float | None:
    """Mean of how much louder (dB, 0 where it is not) a prediction is above the bandwidth than a continuing sound could be.

    Nobody knows what an encoder cut off; natural sound rarely rises there. In each frame the limit is what the target has
    just below its bandwidth, or above it where that is more.

    Args:
        powers, target: log10 power (channels, bins, frames).
        first: the first bin above the bandwidth.

    Returns:
        None where fewer than one group of bins lies above the slope.
    """
    groups = (powers.shape[1] - first) // EXCESS_BINS - 1
    below = target[:, max(first - 2 * EXCESS_BINS, 0) : max(first - EXCESS_BINS // 2, 1)]
    if groups < 1:
        return None

    def levels(one: Tensor) -> Tensor:
        top = one[:, -groups * EXCESS_BINS :]
        return torch.log10((10.0**top).reshape(len(top), groups, EXCESS_BINS, -1).mean(dim=2))

    limit = torch.maximum(levels(target), torch.log10((10.0**below).mean(dim=1, keepdim=True)))
    return float(10.0 * torch.clamp(levels(powers) - limit, min=0.0).mean())


def _texture(prediction: Tensor, target: Tensor, spectra: Tensor, rate: int, high: slice) -> dict[str, float | None]:
    """What is unnatural above the cutoff (bins `high`), each against the target's own: see `score`."""
    channels = target.shape[0]
    half = high.start // 2
    if high.stop - high.start < MIN_BINS:
        return {}
    whole: npt.NDArray[np.complex64] = spectra[:, half : high.stop].numpy()
    made, real = (copies(part) for part in (whole[:channels], whole[channels:]))
    power = spectra.real.square() + spectra.imag.square()
    bands = power[:, high].double().numpy()
    values: dict[str, float | None] = {"copies": max(0.0, made - real)}
    tones, wanted = (tonality_db(part) for part in (bands[:channels], bands[channels:]))
    if tones is not None and wanted is not None:
        values["tonality_error_db"] = abs(tones - wanted)
    low_hz = high.start * rate / N_FFT
    lines, own = (hop_lines_db(one.numpy(), rate, low_hz) for one in (prediction, target))
    values["hop_line_db"] = max(0.0, float((lines - own).max()) - CHANCE_DB)
    return values


def score(
    prediction: Tensor, target: Tensor, rate: int, cutoff_hz: float, bandwidth_hz: float, *, texture: bool = True
) -> dict[str, float]:
    """Every cheap metric of one clip; a metric that is not defined for it is left out.

    - `lsd`, `lsd_hf`, `lsd_lf`: see `log_spectral_distance`; above / up to the cutoff.
    - `bias_hf_db`: mean level above the cutoff, prediction minus target, dB; negative: too dull.
    - `excess_db`: how much louder the prediction is above the target's bandwidth than the target just below it, dB, 0 at best.
    - `si_sdr`, `snr`: dB, of the known band (see `known_band`).
    - texture above the cutoff, 0 at best: `copies`, `hop_line_db`, `tonality_error_db`; see `overtone.evaluation.texture`.
    - two channels only: `coherence_error`, mean over bins of the modulus of the difference of complex inter-channel
      coherence (0 to 2; bins where the target is silent are left out), and `side_mid_error_db`, difference of the side/mid
      power ratio (each ratio held to +-60 dB). Both look above the cutoff; where nothing lies above it, at the whole band.

    Args:
        rate: sample rate, Hz.
        cutoff_hz: frequency above which the input held nothing of the target.
        bandwidth_hz: the target's bandwidth; bins above it are left out of all but `excess_db`.
        texture: whether the metrics `TEXTURE`, a third of the time, are computed.

    Shape:
        both (channels, samples), full scale 1.0, aligned.

    Raises:
        ValueError: the shapes differ, or a sample is not finite.
    """
    _check(prediction, target)
    channels = target.shape[0]
    prediction, target = round_16_bit(prediction), round_16_bit(target)
    spectra = spectrum(torch.cat([prediction, target]))
    powers = log_power(spectra)
    difference = powers[:channels] - powers[channels:]
    full = cutoff_hz >= 0.99 * rate / 2
    whole = _bins(rate, bandwidth_hz, None, None)
    low = whole if full else _bins(rate, bandwidth_hz, None, KNOWN_SHARE * cutoff_hz)
    high = _bins(rate, bandwidth_hz, cutoff_hz, None)
    bias = _bias(difference, high)
    values: dict[str, float | None] = {
        "lsd": _distance(difference, whole),
        "lsd_hf": _distance(difference, high),
        "lsd_lf": _distance(difference, low),
        "bias_hf_db": None if bias is None else 10.0 * bias,
        "excess_db": _excess(powers[:channels], powers[channels:], whole.stop),
    }
    known = [known_band(one, rate, cutoff_hz) for one in (prediction, target)]
    values |= {"si_sdr": si_sdr(*known), "snr": snr(*known)}
    if texture:
        values |= _texture(prediction, target, spectra, rate, high)
    if channels == 2:
        image = high if high.stop > high.start else whole
        values |= _stereo(spectra[:channels], spectra[channels:], image)
    return {name: value for name, value in values.items() if value is not None}
