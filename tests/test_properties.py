"""Laws of degradations, metrics and the splice for whatever they are given: drawn signals, settings and seeds.

HYPOTHESIS_PROFILE=long looks at a hundred times as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal as dsp
import torch
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

from overtone import audio
from overtone.audio import Signal
from overtone.data import degrade, noise, variation
from overtone.enhance.stream import UNTOUCHED
from overtone.enhance.upsampler import Upsampler
from overtone.evaluation import metrics
from overtone.models.model import Model
from overtone.settings import BitErrors, Clip, Codec, NarrowBand, Noise, PacketLoss, Params, Quantise, Step

RATE = 48_000
STEP = 1 / 32_768
Array = npt.NDArray[np.float64]


# --- what is drawn ------------------------------------------------------------------------------------------------------


def made(kind: str, samples: int, channels: int, level: float, seed: int) -> Signal:
    """A signal of one of several kinds, `level` at its loudest."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / RATE
    if kind == "noise":
        signal = rng.standard_normal((channels, samples))
    elif kind == "tones":
        hz = rng.uniform(50, 20_000, (channels, 5, 1))
        signal = np.sin(2 * np.pi * hz * time + rng.uniform(0, 6, (channels, 5, 1))).sum(axis=1)
    elif kind == "pulses":
        signal = (rng.random((channels, samples)) < 0.001) * rng.standard_normal((channels, samples))
    elif kind == "steps":
        signal = np.repeat(rng.choice([-1.0, 1.0], (channels, samples // 480 + 1)), 480, axis=1)[:, :samples]
    else:
        signal = np.zeros((channels, samples))
    loudest = float(np.abs(signal).max(initial=0.0))
    return np.asarray(signal * (level / loudest if loudest else 0.0), dtype=np.float32)


def voice(seconds: float, channels: int, level: float, seed: int) -> Signal:
    """Noise of 300 Hz to 3 kHz, louder and softer: what every damage here carries. Its RMS is `level`."""
    rng, samples = np.random.default_rng(seed), round(seconds * RATE)
    sections = dsp.butter(4, (300.0, 3_000.0), "bandpass", fs=RATE, output="sos")
    loudness = 0.6 + 0.4 * np.sin(2 * np.pi * 2.3 * np.arange(samples) / RATE)
    signal = dsp.sosfiltfilt(sections, rng.standard_normal((channels, samples))) * loudness
    return np.asarray(level * signal / np.sqrt(np.mean(signal**2)), dtype=np.float32)


KINDS = ("noise", "tones", "pulses", "steps", "silence")
LENGTHS = st.one_of(st.integers(1, 64), st.integers(65, 12_000))
SIGNALS = st.builds(
    made, st.sampled_from(KINDS), LENGTHS, st.integers(1, 2), st.floats(1e-5, 1.0), st.integers(0, 2**32 - 1)
)
VOICES = st.builds(voice, st.floats(0.4, 0.8), st.integers(1, 2), st.floats(0.01, 0.2), st.integers(0, 2**32 - 1))
SEEDS = st.integers(0, 2**32 - 1)

BANDS = st.builds(
    NarrowBand,
    # Of rates without a common divisor torchaudio's resampler would be a filter of gigabytes.
    rate=st.one_of(st.sampled_from([11_025, 22_050, 44_100]), st.integers(16, 90).map(lambda turn: 500 * turn)),
    filter=st.sampled_from(["sinc", "butterworth", "chebyshev1", "elliptic", "bessel"]),
    order=st.integers(1, 11),
    ripple_db=st.floats(0.05, 1.0).map(lambda value: round(value, 2)),
    cut=st.floats(0.85, 1.0).map(lambda value: round(value, 2)),
)
CODECS = st.one_of(
    st.builds(Codec, codec=st.just("mp3"), kbps=st.floats(24.0, 128.0)),
    st.builds(Codec, codec=st.just("opus"), kbps=st.floats(8.0, 48.0)),
    st.builds(Codec, codec=st.just("vorbis"), quality=st.floats(0.0, 0.5)),
    st.builds(Codec, codec=st.sampled_from(["gsm610", "mulaw", "alaw", "ima_adpcm"])),
)
LOSSES = st.builds(
    PacketLoss, share=st.floats(0.0, 1.0), burst=st.floats(1.0, 10.0), fill=st.sampled_from(["zero", "repeat"])
)
ERRORS = st.builds(BitErrors, rate=st.floats(0.0, 0.01))
NOISES = st.builds(
    Noise,
    snr_db=st.floats(-5.0, 40.0),
    colour=st.sampled_from(["recorded", "white", "pink", "brown", "blue"]),
    layers=st.integers(1, 3),
    speed=st.sampled_from([1.0, 1.2, 1.4]),
    colour_db=st.sampled_from([0.0, 4.0]),
)
CLIPS = st.builds(Clip, share=st.floats(0.001, 0.49))
QUANTISERS = st.builds(Quantise, bits=st.integers(2, 16))
STEPS: dict[str, st.SearchStrategy[Any]] = {
    "narrowband": BANDS,
    "codec": CODECS,
    "packet_loss": LOSSES,
    "bit_errors": ERRORS,
    "noise": NOISES,
    "clip": CLIPS,
    "quantise": QUANTISERS,
}
RECORDINGS = [made("noise", 9_000, 1, 0.3, 1), made("tones", 30_000, 2, 0.5, 2)]


def applied(step: Step, signal: Signal, seed: int) -> Signal:
    return degrade.apply([step], signal, RATE, np.random.default_rng(seed), RECORDINGS)


def power(signal: npt.NDArray[Any]) -> float:
    return float(np.mean(np.square(signal, dtype=np.float64))) if signal.size else 0.0


def lag(late: Signal, signal: Signal) -> int:
    """Samples by which `late` comes after `signal`, at most 2000, by what their channels have in common."""
    total = sum(np.asarray(dsp.correlate(one, other, method="fft")) for one, other in zip(late, signal, strict=True))
    middle = signal.shape[1] - 1
    return int(np.argmax(np.asarray(total)[middle - 2_000 : middle + 2_001])) - 2_000


# --- every degradation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", STEPS)
@given(data=st.data(), signal=SIGNALS, seed=SEEDS)
def test_any_signal_keeps_its_shape_and_is_not_written_to(
    family: str, data: st.DataObject, signal: Signal, seed: int
) -> None:
    step, before = data.draw(STEPS[family]), signal.copy()
    out = applied(step, signal, seed)
    assert out.shape == signal.shape and out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.array_equal(signal, before)
    assert np.array_equal(applied(step, signal, seed), out), "another result of the same seed"


@pytest.mark.parametrize("family", ["packet_loss", "bit_errors", "noise"])
@given(data=st.data(), signal=VOICES, seed=st.integers(0, 2**31))
def test_another_seed_is_another_result(family: str, data: st.DataObject, signal: Signal, seed: int) -> None:
    step = data.draw(STEPS[family])
    # What is lost whole or not at all leaves nothing to chance.
    assume(not isinstance(step, PacketLoss) or 0.2 < step.share < 0.8)
    assume(not isinstance(step, BitErrors) or step.rate > 1e-4)
    results = [applied(step, signal, seed + turn) for turn in range(4)]
    assert any(not np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("family", STEPS)
@given(data=st.data(), signal=VOICES, seed=SEEDS)
def test_nothing_moves(family: str, data: st.DataObject, signal: Signal, seed: int) -> None:
    step = data.draw(STEPS[family])
    # What else is left is no longer mainly the signal.
    assume(not isinstance(step, PacketLoss) or (step.share < 0.5 and step.fill == "zero"))
    assume(not isinstance(step, Quantise) or step.bits >= 8)
    assume(not isinstance(step, NarrowBand) or step.rate >= 8_000)
    out = applied(step, signal, seed)
    assume(power(out) > 0)
    assert abs(lag(out, signal)) <= (1 if isinstance(step, Codec) else 0)


@given(signal=VOICES, step=BANDS, seed=SEEDS)
def test_band_limit_adds_no_power_and_keeps_what_lies_below(signal: Signal, step: NarrowBand, seed: int) -> None:
    out = applied(step, signal, seed)
    # Twice the ripple, forwards and backwards, and as much for the resampler.
    assert power(out) <= power(signal) * 10 ** ((2 * step.ripple_db + 0.1) / 10)
    # A windowed sinc of few crossings, as a Bessel or low order filter, falls slowly: far below its edge nothing does.
    if step.cut * step.rate / 2 > 9_000 and step.filter in ("sinc", "chebyshev1", "elliptic"):
        assert power(out) >= power(signal) * 10 ** (-(2 * step.ripple_db + 0.5) / 10)


@given(signal=VOICES, step=CODECS, seed=SEEDS)
def test_encoders_keep_the_level(signal: Signal, step: Codec, seed: int) -> None:
    out = applied(step, signal, seed)
    change = 10 * np.log10(power(out) / power(signal))
    event(f"{step.codec}: {round(change)} dB")
    assert -6.0 < change < 1.5


@given(signal=SIGNALS, step=LOSSES, seed=SEEDS)
def test_lost_packets_are_silent_or_heard_before(signal: Signal, step: PacketLoss, seed: int) -> None:
    out, size = applied(step, signal, seed), round(0.02 * RATE)
    frames = [signal[:, start : start + size] for start in range(0, signal.shape[1], size)]
    for number, start in enumerate(range(0, signal.shape[1], size)):
        found = out[:, start : start + size]
        length = found.shape[1]
        earlier = [frame[:, :length] for frame in frames[:number]] if step.fill == "repeat" else []
        allowed = (frames[number], np.zeros_like(found), *earlier)
        assert any(np.array_equal(found, one) for one in allowed)
    if step.fill == "zero":
        assert power(out) <= power(signal)


@given(signal=VOICES, step=NOISES, seed=SEEDS)
def test_noise_has_the_ratio_asked_for(signal: Signal, step: Noise, seed: int) -> None:
    added = applied(step, signal, seed).astype(np.float64) - signal
    assert 10 * np.log10(power(signal) / power(added)) == pytest.approx(step.snr_db, abs=0.05)


@given(signal=SIGNALS, step=CLIPS, seed=SEEDS)
def test_clipping_only_lowers_peaks(signal: Signal, step: Clip, seed: int) -> None:
    out = applied(step, signal, seed)
    assert power(out) <= power(signal)
    level = np.abs(out).max(initial=0.0)
    assert np.array_equal(out, np.clip(signal, -level, level))
    clipped = np.mean(np.abs(signal) > level)
    assert clipped <= step.share + 1 / signal.size


@given(signal=SIGNALS, step=QUANTISERS, seed=SEEDS)
def test_rounding_is_at_most_half_a_step_off(signal: Signal, step: Quantise, seed: int) -> None:
    size = 2.0 ** -(step.bits - 1)
    out = applied(step, signal, seed)
    below_full = signal <= 1.0 - size
    assert np.abs(out - signal)[below_full].max(initial=0.0) <= size / 2 * (1 + 1e-6)
    assert np.array_equal(np.round(out / size), out / size)


@given(signal=VOICES, rate=st.floats(0.0, 0.003), seed=SEEDS)
def test_bits_that_flip_cost_what_their_number_says(signal: Signal, rate: float, seed: int) -> None:
    """A flipped bit of mu-law moves a sample by two full scales at most; without any it is 8-bit coding."""
    assume(np.abs(signal).max() <= 1.0)
    error = power(applied(BitErrors(rate=rate), signal, seed).astype(np.float64) - signal)
    coded = power(applied(BitErrors(rate=0.0), signal, seed).astype(np.float64) - signal)
    assert coded < power(signal) / 1000
    assert error <= coded * 1.01 + 4.0 * 8 * (1.5 * rate + 10 / signal.size)


def test_peaks_above_full_scale_clip_in_mulaw() -> None:
    signal = np.linspace(-1.5, 1.5, 4_800, dtype=np.float32)[None]
    assert np.abs(applied(BitErrors(rate=0.0), signal, 0) - np.clip(signal, -1.0, 1.0)).max() < 0.05


@given(
    signal=SIGNALS,
    speed=st.floats(0.5, 2.0),
    tilt=st.floats(-12.0, 12.0),
    colour=st.floats(0.0, 6.0),
    seed=SEEDS,
)
def test_speed_and_colour_of_a_target_are_bounded(
    signal: Signal, speed: float, tilt: float, colour: float, seed: int
) -> None:
    before = signal.copy()
    gains = variation.draw_colour(colour, np.random.default_rng(seed)) if colour else ()
    coloured = variation.filtered(signal, RATE, tilt, gains)
    assert coloured.shape == signal.shape and np.isfinite(coloured).all()
    most = max(tilt, 0.0) + max((*gains, 0.0))
    # The gain between two centres may not pass theirs; padding and rounding of the transform get a tenth of a dB.
    assert power(coloured) <= power(signal) * 10 ** ((most + 0.1) / 10) + 1e-12
    faster = variation.change_speed(signal, RATE, speed)
    assert faster.shape[0] == signal.shape[0] and np.isfinite(faster).all()
    assert abs(faster.shape[1] - signal.shape[1] / speed) <= max(2.0, 1e-4 * signal.shape[1])
    assert np.array_equal(signal, before)


@given(
    colour=st.sampled_from(["white", "pink", "brown", "blue"]),
    channels=st.integers(1, 3),
    frames=st.integers(16, 20_000),
    seed=SEEDS,
)
def test_coloured_noise_has_unit_power(colour: noise.Colour, channels: int, frames: int, seed: int) -> None:
    made = noise.coloured(colour, channels, frames, RATE, np.random.default_rng(seed))
    assert made.shape == (channels, frames)
    assert power(made) == pytest.approx(1.0, rel=1e-4)


@given(
    lengths=st.lists(st.integers(1, 3_000), min_size=1, max_size=3),
    channels=st.integers(1, 2),
    frames=st.integers(1, 20_000),
    seed=SEEDS,
)
def test_excerpt_of_noise_is_as_long_as_asked_and_no_louder(
    lengths: list[int], channels: int, frames: int, seed: int
) -> None:
    recorded = [made("noise", length, 1 + turn % 2, 0.3, seed + turn) for turn, length in enumerate(lengths)]
    copies = [one.copy() for one in recorded]
    out = noise.excerpt(recorded, channels, frames, RATE, np.random.default_rng(seed))
    assert out.shape == (channels, frames) and np.isfinite(out).all()
    # Where the end is faded into the beginning, two samples add up.
    assert np.abs(out).max() <= 0.3 * np.sqrt(2) * (1 + 1e-6)
    assert all(np.array_equal(one, other) for one, other in zip(recorded, copies, strict=True))


@given(
    steps=st.lists(st.one_of(*STEPS.values()), min_size=2, max_size=3),
    signal=SIGNALS,
    seed=SEEDS,
)
def test_any_chain_keeps_shape_and_is_decided_by_its_seed(steps: list[Step], signal: Signal, seed: int) -> None:
    def run() -> tuple[Signal, float]:
        out = degrade.apply(steps, signal, RATE, np.random.default_rng(seed), RECORDINGS)
        return out, degrade.cutoff_of(steps, RATE, len(signal))

    out, cutoff = run()
    again, same = run()
    assert out.shape == signal.shape and np.isfinite(out).all()
    assert np.array_equal(out, again) and cutoff == same
    assert 0.0 < cutoff <= RATE / 2


# --- metrics against formulas written down again ------------------------------------------------------------------------


def rounded(signal: Signal) -> Array:
    return np.clip(np.round(signal * np.float32(32_768)), -32_768, 32_767).astype(np.float64) / 32_768


def spectra(signal: Signal) -> npt.NDArray[np.complex128]:
    """(channels, bins, frames), in double precision, by scipy's transform."""
    samples = rounded(signal)
    if samples.shape[1] <= 1_024:
        samples = np.pad(samples, ((0, 0), (0, 2_048 - samples.shape[1])))
    mirrored = np.pad(samples, ((0, 0), (1_024, 1_024)), mode="reflect")
    window = dsp.get_window("hann", 2_048)
    transform = dsp.ShortTimeFFT(window, 512, RATE, fft_mode="onesided", scale_to=None, phase_shift=None)
    count = 1 + samples.shape[1] // 512
    # Its slice p is centred on sample 512 p.
    found = transform.stft(mirrored, p0=2, p1=2 + count)
    return np.asarray(found)


def log_powers(spectrum: npt.NDArray[np.complex128]) -> Array:
    return np.asarray(np.log10(np.maximum(np.abs(spectrum) ** 2, 1e-8)))


def bins_between(low: float, high: float) -> npt.NDArray[np.bool_]:
    hz = np.arange(1_025) * RATE / 2_048
    return (hz > low) & (hz <= high)


def formula(prediction: Signal, target: Signal, cutoff: float, bandwidth: float) -> dict[str, float]:
    """What `metrics.score` should say, from the words of its docstring alone."""
    difference = log_powers(spectra(prediction)) - log_powers(spectra(target))
    known = cutoff if cutoff >= 0.99 * RATE / 2 else metrics.KNOWN_SHARE * cutoff
    ranges = {"": (-1.0, bandwidth), "_lf": (-1.0, min(known, bandwidth)), "_hf": (cutoff, bandwidth)}
    values: dict[str, float] = {}
    for name, (low, high) in ranges.items():
        chosen = difference[:, bins_between(low, high)]
        if chosen.shape[1]:
            values[f"lsd{name}"] = float(np.sqrt((chosen**2).mean(axis=1)).mean())
            if name == "_hf":
                values["bias_hf_db"] = 10 * float(chosen.mean())
    return values | ratios(prediction, target, cutoff) | image(prediction, target, cutoff, bandwidth)


def band(signal: Array, cutoff: float) -> Array:
    """The part of 16-bit samples that was known."""
    if cutoff >= 0.99 * RATE / 2:
        return signal
    spectrum = np.fft.rfft(signal)
    spectrum[:, np.arange(spectrum.shape[1]) * RATE / signal.shape[1] >= metrics.KNOWN_SHARE * cutoff] = 0
    # Rounded as every signal that is compared.
    return np.clip(np.round(np.fft.irfft(spectrum, signal.shape[1]) * 32768), -32768, 32767) / 32768


def ratios(prediction: Signal, target: Signal, cutoff: float) -> dict[str, float]:
    both = (band(rounded(signal), cutoff) for signal in (prediction, target))
    heard = [(p, t) for p, t in zip(*both, strict=True) if (t**2).sum() > 0]
    if not heard:
        return {}

    def db(wanted: Array, rest: Array) -> float:
        if (wanted**2).sum() == 0:
            return -100.0
        if (rest**2).sum() == 0:
            return 100.0
        return float(np.clip(10 * np.log10((wanted**2).sum() / (rest**2).sum()), -100, 100))

    scaled = [(t * (p @ t) / (t @ t), p) for p, t in heard]
    return {
        "snr": float(np.mean([db(t, p - t) for p, t in heard])),
        "si_sdr": float(np.mean([db(part, p - part) for part, p in scaled])),
    }


def image(prediction: Signal, target: Signal, cutoff: float, bandwidth: float) -> dict[str, float]:
    if len(target) != 2:
        return {}
    chosen = bins_between(cutoff, bandwidth)
    chosen = chosen if chosen.any() else bins_between(-1.0, bandwidth)
    ours, theirs = (spectra(signal)[:, chosen] for signal in (prediction, target))

    def coherence(both: npt.NDArray[np.complex128]) -> npt.NDArray[np.complex128]:
        strength = np.sqrt(np.prod((np.abs(both) ** 2).sum(axis=-1), axis=0))
        return np.asarray((both[0] * both[1].conj()).sum(axis=-1) / np.maximum(strength, 1e-8 * both.shape[-1]))

    def side_mid(both: npt.NDArray[np.complex128]) -> float:
        side, mid = (float(np.mean(np.abs(both[0] + sign * both[1]) ** 2)) for sign in (-1, 1))
        return float(np.clip(10 * np.log10((side + 1e-16) / (mid + 1e-16)), -60, 60))

    loud = (np.abs(theirs) ** 2).mean(axis=-1).min(axis=0) > 1e-8
    values = {"side_mid_error_db": abs(side_mid(ours) - side_mid(theirs))}
    if loud.any():
        values["coherence_error"] = float(np.abs(coherence(ours) - coherence(theirs))[loud].mean())
    return values


PAIRS = st.builds(
    lambda kinds, samples, channels, levels, seed: tuple(
        made(kind, samples, channels, level, seed + turn)
        for turn, (kind, level) in enumerate(zip(kinds, levels, strict=True))
    ),
    st.tuples(st.sampled_from(["noise", "tones"]), st.sampled_from(["noise", "tones", "steps", "silence"])),
    st.one_of(st.integers(1_025, 20_000), st.integers(2, 1_024)),
    st.integers(1, 3),
    st.tuples(st.floats(0.01, 1.0), st.floats(0.01, 1.0)),
    st.integers(0, 2**31),
)


@given(pair=PAIRS, mixed=st.floats(0.0, 1.0), cutoff=st.floats(500.0, 24_000.0), bandwidth=st.floats(9_000.0, 24_000.0))
@example(pair=(made("noise", 9_000, 2, 0.5, 1), made("noise", 9_000, 2, 0.5, 2)), mixed=0.5, cutoff=8e3, bandwidth=24e3)
def test_metrics_are_what_their_words_say(
    pair: tuple[Signal, Signal], mixed: float, cutoff: float, bandwidth: float
) -> None:
    target, other = pair
    prediction = np.asarray(np.float32(1 - mixed) * target + np.float32(mixed) * other)
    found = metrics.score(torch.from_numpy(prediction), torch.from_numpy(target), RATE, cutoff, bandwidth)
    expected = formula(prediction, target, cutoff, bandwidth)
    assert set(found) - {"excess_db", "copies", "tonality_error_db", "hop_line_db"} == set(expected)
    for name, value in expected.items():
        # Single precision of the transform, heard in bins that are nearly silent.
        tolerance = 2e-3 if name.startswith(("lsd", "bias")) else 1e-3 if name == "coherence_error" else 0.02
        assert found[name] == pytest.approx(value, abs=tolerance, rel=1e-3), name


@given(pair=PAIRS, gain=st.floats(0.05, 0.9))
def test_metrics_order_and_symmetry(pair: tuple[Signal, Signal], gain: float) -> None:
    one, other = (torch.from_numpy(signal) for signal in pair)
    there, back = (metrics.log_spectral_distance(*both, RATE) for both in ((one, other), (other, one)))
    assert there == pytest.approx(back, rel=1e-5)
    assert metrics.log_spectral_distance(one, one, RATE) == 0.0
    assert metrics.si_sdr(one, one) == metrics.snr(one, one) == 100.0
    softer = metrics.snr(one * gain, one)
    assert softer == pytest.approx(-20 * np.log10(1 - gain), abs=0.3)


# --- the splice ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upsamplers(params: Params) -> Callable[[str], Upsampler]:
    """Of random weights, that change every frame of whatever they hear, loudly."""

    def make(kind: str) -> Upsampler:
        torch.manual_seed(7)
        model = Model.untrained(kind, params.train.bodies(kind), RATE)
        with torch.no_grad():
            for network in model.networks.values():
                for weight in network.eval().parameters():
                    weight.add_(0.05 * torch.randn(weight.shape))
        return Upsampler(model)

    return make


def below(signal: Signal, cutoff: float) -> Signal:
    """The band below `cutoff` Hz, by a filter of 60 Hz slope, without the ends."""
    taps = dsp.firwin(4_001, cutoff, window=("kaiser", 14.0), fs=RATE)
    return np.asarray(dsp.oaconvolve(signal, taps[None], mode="same", axes=1), dtype=np.float32)[:, 3_000:-3_000]


@given(
    kind=st.sampled_from(["rnn", "cnn"]),
    rate=st.one_of(st.sampled_from([8_000, 16_000, 22_050, 44_100, 48_000]), st.integers(6_000, 48_000)),
    share=st.one_of(st.none(), st.floats(0.2, 0.97)),
    seconds=st.floats(1.0, 5.0),
    channels=st.integers(1, 3),
    level=st.floats(0.01, 0.25),
    seed=SEEDS,
)
@settings(max_examples=15)
def test_extension_leaves_the_known_band_to_16_bit(
    upsamplers: Callable[[str], Upsampler],
    kind: str,
    rate: int,
    share: float | None,
    seconds: float,
    channels: int,
    level: float,
    seed: int,
) -> None:
    """A cutoff of its own, as a share of half the rate, or what follows from the rate."""
    samples = round(seconds * rate)
    signal = (level * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)
    cutoff = rate / 2 * (share or 1.0)
    assume(cutoff > 1_000)
    out = upsamplers(kind).enhance(signal, rate, mode="extend", cutoff_hz=cutoff)
    plain = audio.resample(signal, rate, RATE)
    assert out.shape == plain.shape
    added = out - plain
    loudest = float(np.abs(added).max())
    event("adds something" if loudest > 0.01 else "adds nothing")
    assert loudest > 0.01 or cutoff > 0.9 * RATE / 2
    assert float(np.abs(below(added, UNTOUCHED * cutoff - 60)).max()) < STEP * max(1.0, loudest)
