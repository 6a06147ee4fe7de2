"""Laws of the upsampler: exact length, nothing changed below the cutoff, no seams, bounded memory, whatever the audio."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal
import torch

from overtone import audio, conceal
from overtone.audio import AudioError, Signal
from overtone.models import build
from overtone.models.spectral import Phase
from overtone.params import CnnParams, Params, RnnParams
from overtone.upsample import BLOCK, UNTOUCHED, Mode, Upsampler

RATE = 48_000
STEP = 1 / 32_768

# (kind, what differs from the tiny settings, scale of the random change to every weight) -> upsampler
Maker = Callable[..., Upsampler]


@pytest.fixture(scope="module")
def make(params: Params) -> Maker:
    """Upsamplers of random weights; `wild` ones change every frame of whatever they hear, loudly."""

    def maker(kind: str = "rnn", wild: float = 0.0, **changes: object) -> Upsampler:
        settings: CnnParams | RnnParams = params.train.cnn if kind == "cnn" else params.train.rnn
        settings = settings.model_copy(update=changes)
        torch.manual_seed(7)
        model = build.network(settings, RATE)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(wild * torch.randn(parameter.shape))
        return Upsampler(model.eval(), {"model": kind, "network": settings.model_dump(mode="json")})

    return maker


def noise(samples: int, channels: int = 1, level: float = 0.1, seed: int = 0) -> Signal:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal((channels, samples))).astype(np.float32)


def narrow(signal: Signal, cutoff: float, rate: int = RATE) -> Signal:
    """Freed of everything above `cutoff` Hz, by a filter far steeper than any that is tested."""
    taps = scipy.signal.firwin(4001, cutoff, window=("kaiser", 14.0), fs=rate)
    return np.asarray(scipy.signal.oaconvolve(signal, taps[None], mode="same", axes=1), dtype=np.float32)


def below(signal: Signal, cutoff: float) -> Signal:
    """The band below `cutoff` Hz, without the ends: what begins or stops at once is in every band."""
    return narrow(signal, cutoff)[:, 3_000:-3_000]


def pushed(upsampler: Upsampler, signal: Signal, sizes: list[int], mode: Mode, cutoff: float) -> Signal:
    """`signal` through a stream, in blocks of the given sizes over and over."""
    stream = upsampler.stream(signal.shape[0], mode=mode, cutoff_hz=cutoff)
    parts, start, turn = [], 0, 0
    while start < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        parts.append(stream.push(signal[:, start : start + size]))
        start, turn = start + size, turn + 1
    return np.concatenate([*parts, stream.finish()], axis=1)


def peak(signal: npt.NDArray[np.floating]) -> float:
    return float(np.abs(signal).max(initial=0.0))


# --- length and channels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_output_is_as_long_as_the_input(make: Maker, kind: str, rate: int) -> None:
    upsampler = make(kind)
    for samples in (1, 2, 175, 511, 512, 513, 1024, 1025, 4_999):
        out = upsampler.enhance(noise(samples), rate, cutoff_hz=3_000.0)
        assert out.shape == (1, audio.resampled_length(samples, rate, RATE)), samples
        assert out.dtype == np.float32


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("mode", ["extend", "restore", "auto"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_as_many_channels_come_out(make: Maker, kind: str, mode: Mode, channels: int) -> None:
    out = make(kind).enhance(noise(3_000, channels), 16_000, mode=mode)
    assert out.shape == (channels, 9_000)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("mode", ["extend", "restore"])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_no_samples_in_none_out(make: Maker, mode: Mode, rate: int) -> None:
    assert make().enhance(np.zeros((2, 0), np.float32), rate, mode=mode).shape == (2, 0)


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_equal_channels_stay_exactly_equal(make: Maker, kind: str, mode: Mode) -> None:
    one = noise(20_000)
    out = make(kind, wild=0.1).enhance(np.repeat(one, 2, axis=0), 16_000, mode=mode)
    assert peak(out) > 0
    assert np.array_equal(out[0], out[1])


def test_equal_channels_give_what_one_channel_gives(make: Maker) -> None:
    one = noise(20_000)
    upsampler = make(wild=0.05)
    both = upsampler.enhance(np.repeat(one, 2, axis=0), 16_000)
    np.testing.assert_allclose(both[:1], upsampler.enhance(one, 16_000), atol=1e-5)


def test_channels_of_different_level_stay_different(make: Maker) -> None:
    signal = noise(20_000, 2)
    signal[1] = 0.25 * signal[0]
    out = make().enhance(signal, 16_000)
    assert float(np.std(out[1])) < 0.6 * float(np.std(out[0]))


def test_each_pair_of_channels_is_enhanced_for_itself(make: Maker) -> None:
    signal = noise(12_000, 5)
    upsampler = make(wild=0.05)
    whole = upsampler.enhance(signal, 16_000)
    parts = [upsampler.enhance(signal[i : i + 2], 16_000) for i in (0, 2)] + [upsampler.enhance(signal[4:], 16_000)]
    np.testing.assert_allclose(whole, np.concatenate(parts), atol=1e-5)


# --- what may not change ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 24_000, 32_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_extend_keeps_what_lies_below_the_cutoff_to_16_bit(make: Maker, kind: str, rate: int, channels: int) -> None:
    signal = noise(rate, channels, level=0.2)
    out = make(kind, wild=0.05).enhance(signal, rate)
    plain = audio.resample(signal, rate, RATE)
    added = peak(out - plain)
    assert added > 0.05, "a network that adds nothing proves nothing"
    # 60 Hz for the slope of the filter that looks.
    assert peak(below(out - plain, UNTOUCHED * rate / 2 - 60)) < STEP * max(1.0, added)


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("phase", ["copied", "free", "mixed"])
def test_extend_keeps_what_lies_below_the_cutoff_whatever_the_phase(make: Maker, kind: str, phase: Phase) -> None:
    signal, source = noise(16_000, 2, level=0.2), noise(RATE, 2, level=0.2)
    upsampler = make(kind, wild=0.05, phase=phase)
    out = upsampler.enhance(signal, 16_000)
    added = out - audio.resample(signal, 16_000, RATE)
    assert peak(added) > 0.05
    assert peak(below(added, UNTOUCHED * 8_000 - 60)) < STEP * max(1.0, peak(added))
    assert np.array_equal(upsampler.enhance(source, RATE, cutoff_hz=RATE / 2), source)
    assert peak(upsampler.enhance(np.zeros((2, 8_000), np.float32), 16_000)) == 0.0


def test_quiet_network_adds_nothing_audible_below_the_cutoff(make: Maker) -> None:
    signal = noise(RATE, level=0.2)
    source = narrow(signal, 5_000)
    out = make(wild=0.02).enhance(source, RATE, mode="extend", cutoff_hz=8_000.0)
    assert peak(below(out - source, 6_700)) < STEP


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_polarity_of_the_known_band_is_kept(make: Maker, kind: str, mode: Mode) -> None:
    """An untrained network changes next to nothing below the cutoff, so what is around it must not flip either."""
    signal = noise(16_000)
    out = make(kind).enhance(signal, 16_000, mode=mode)
    plain = audio.resample(signal, 16_000, RATE)
    assert np.corrcoef(narrow(out, 6_000)[0], narrow(plain, 6_000)[0])[0, 1] > 0.99


@pytest.mark.parametrize("gain", [0.01, 0.5, 8.0])
def test_gain_of_the_input_is_the_gain_of_the_output_below_the_cutoff(make: Maker, gain: float) -> None:
    signal, upsampler = noise(16_000), make()
    loud = below(upsampler.enhance(np.float32(gain) * signal, 16_000), 6_700)
    plain = below(audio.resample(signal, 16_000, RATE), 6_700)
    np.testing.assert_allclose(loud / gain, plain, atol=STEP * max(1.0, 1.0 / gain))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_full_band_recording_comes_back_as_it_is(make: Maker, channels: int) -> None:
    signal = noise(2 * RATE, channels)
    assert np.array_equal(make(wild=0.1).enhance(signal, RATE), signal)


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000])
def test_silence_stays_silent(make: Maker, kind: str, rate: int) -> None:
    out = make(kind).enhance(np.zeros((2, rate), np.float32), rate)
    assert out.shape == (2, RATE)
    assert peak(out) == 0.0


def test_silent_channel_beside_a_loud_one_gains_nothing_of_its_own(make: Maker) -> None:
    signal = noise(16_000, 2)
    signal[1] = 0.0
    out = make().enhance(signal, 16_000)
    assert peak(out[1]) < 0.1 * peak(out[0])


def test_silence_between_sounds_stays_silent_when_extended(make: Maker) -> None:
    signal = noise(RATE)
    signal[:, 16_000:32_000] = 0.0
    out = make(wild=0.1).enhance(signal, RATE, cutoff_hz=8_000.0)
    assert peak(out[:, 16_000 + 1_500 : 32_000 - 1_500]) < 1e-6


# --- seams --------------------------------------------------------------------------------------------------------------

SIZES = [[1, 7, 100], [511, 512, 513], [10_000], [23_333, 1]]


@pytest.mark.parametrize("mode", ["extend", "restore"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("rnn", {}),
        ("rnn", {"cell": "lstm", "layers": 2}),
        ("cnn", {}),
        ("cnn", {"pooling": "max", "depths": (1, 1, 1)}),
        ("rnn", {"phase": "free", "width": 24, "expansion": 1}),
        ("cnn", {"phase": "mixed"}),
    ],
    ids=["gru", "lstm", "cnn", "deep cnn", "free gru", "mixed cnn"],
)
def test_result_does_not_depend_on_how_the_signal_is_cut(
    make: Maker, kind: str, changes: dict[str, object], sizes: list[int], mode: Mode
) -> None:
    # A convolution hears the ends of its context only faintly unless its weights are large.
    upsampler = make(kind, wild=0.02 if kind == "rnn" else 0.15, **changes)
    signal = noise(30_077, 2)
    if sizes[0] == 1:
        signal = signal[:, :9_001]
    whole = pushed(upsampler, signal, [signal.shape[1]], mode, 8_000.0)
    assert whole.shape == signal.shape
    assert peak(whole - signal) > 0.01
    cut = pushed(upsampler, signal, sizes, mode, 8_000.0)
    np.testing.assert_allclose(cut, whole, atol=1e-5 * max(1.0, peak(whole)))


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_long_signal_has_no_seam_at_the_inner_blocks(make: Maker, kind: str, mode: Mode) -> None:
    upsampler = make(kind, wild=0.02)
    signal = noise(BLOCK + 9_000)
    whole = pushed(upsampler, signal, [signal.shape[1]], mode, 6_000.0)
    out = upsampler.enhance(signal, RATE, mode=mode, cutoff_hz=6_000.0)
    np.testing.assert_allclose(out, whole, atol=1e-5 * max(1.0, peak(whole)))


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_stream_in_restore_mode_is_the_network_itself(make: Maker, kind: str) -> None:
    upsampler = make(kind, wild=0.02)
    signal = noise(20_000)
    with torch.inference_mode():
        whole = upsampler.model(torch.from_numpy(signal), torch.tensor([6_000.0]), torch.tensor([True])).numpy()
    out = pushed(upsampler, signal, [3_001], "restore", 6_000.0)
    np.testing.assert_allclose(out, whole, atol=1e-5 * max(1.0, peak(whole)))


# --- lost packets -------------------------------------------------------------------------------------------------------

PACKET = 960


def tone(samples: int, channels: int = 1) -> Signal:
    phase = 2 * np.pi * 440.0 * np.arange(samples) / RATE
    return np.stack([0.2 * np.sin(phase + channel) for channel in range(channels)]).astype(np.float32)


def lossy(signal: Signal, every: int = 12_000) -> Signal:
    """Without a packet now and then."""
    out = signal.copy()
    for start in range(every - PACKET, signal.shape[1], every):
        out[:, start : start + PACKET] = 0.0
    return out


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_restore_fills_lost_packets_and_extend_leaves_them(make: Maker, kind: str) -> None:
    signal, upsampler = tone(RATE), make(kind)
    lost = lossy(signal)
    gap = (lost == 0).all(axis=0) & (signal != 0).any(axis=0)
    modes: tuple[Mode, ...] = ("restore", "extend")
    before, restored, extended = (
        float(np.square(out - signal)[:, gap].sum())
        for out in (lost, *(pushed(upsampler, lost, [RATE], mode, 8_000.0) for mode in modes))
    )
    assert restored < 0.5 * before
    assert extended > 0.9 * before


@pytest.mark.parametrize("mode", ["extend", "restore"])
@pytest.mark.parametrize("sizes", [[1, 7, 100], [511, 512, 513], [PACKET], [10_000, 1]], ids=str)
@pytest.mark.parametrize("kind", ["rnn", "cnn"])
def test_lost_packets_are_the_same_however_the_signal_is_cut(
    make: Maker, kind: str, sizes: list[int], mode: Mode
) -> None:
    upsampler, signal = make(kind, wild=0.02 if kind == "rnn" else 0.15), lossy(tone(25_000, 2), 6_000)
    whole = pushed(upsampler, signal, [signal.shape[1]], mode, 8_000.0)
    assert whole.shape == signal.shape
    cut = pushed(upsampler, signal, sizes, mode, 8_000.0)
    np.testing.assert_allclose(cut, whole, atol=1e-5 * max(1.0, peak(whole)))


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize("sizes", [[480], [3_001, 1]], ids=str)
@pytest.mark.parametrize("channels", [1, 2])
def test_stream_tells_the_network_where_a_packet_was_lost(
    make: Maker, kind: str, sizes: list[int], channels: int
) -> None:
    """What comes out is the network's own answer to the concealed signal and its marks, mid and side apart."""
    upsampler, lost = make(kind, wild=0.02 if kind == "rnn" else 0.15), lossy(tone(25_000, channels), 6_000)
    whole, marks = conceal.concealed(lost)
    assert marks.any()
    heard = whole if channels == 1 else np.stack([whole[0] + whole[1], whole[0] - whole[1]]) / np.float32(2)
    given = torch.from_numpy(heard), torch.full((channels,), 6_000.0), torch.ones(channels, dtype=torch.bool)
    with torch.inference_mode():
        told, untold = (
            upsampler.model(*given, known).numpy() for known in (torch.from_numpy(marks).expand(channels, -1), None)
        )
    assert peak(told - untold) > 2e-4 * max(1.0, peak(told))
    out = pushed(upsampler, lost, sizes, "restore", 6_000.0)
    expected = told if channels == 1 else np.stack([told[0] + told[1], told[0] - told[1]])
    np.testing.assert_allclose(out, expected, atol=1e-5 * max(1.0, peak(expected)))


def test_extended_stream_has_no_marks(make: Maker) -> None:
    """Silences are part of a signal that nothing is to be changed in."""
    upsampler, lost = make(wild=0.02), lossy(tone(25_000), 6_000)
    shares: list[torch.Tensor] = []
    plain = upsampler.model.enhance

    def noted(*arguments: Any) -> Any:
        shares.append(arguments[3])
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(upsampler.model, "enhance", noted)
        pushed(upsampler, lost, [3_001], "extend", 6_000.0)
        assert shares and not any(share.any() for share in shares)
        pushed(upsampler, lost, [3_001], "restore", 6_000.0)
        assert any(share.any() for share in shares)


@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_recurrent_stream_waits_for_at_most_1200_samples_with_lost_packets_too(make: Maker, mode: Mode) -> None:
    stream, signal = make("rnn").stream(2, mode=mode, cutoff_hz=8_000.0), lossy(tone(30_000, 2), 3_000)
    signal[:, 20_000:20_090] = 0.0
    received = given = 0
    for size in [*([480] * 30), *([64] * 60), *([1] * 2_000)]:
        given += stream.push(signal[:, received : received + size]).shape[1]
        received += size
        assert received - 1_200 <= given <= received
    assert given + stream.finish().shape[1] == received


def test_bidirectional_network_works_block_by_block(make: Maker) -> None:
    signal = noise(BLOCK + 9_000)
    out = make("rnn", wild=0.02, bidirectional=True).enhance(signal, RATE, cutoff_hz=6_000.0)
    assert out.shape == signal.shape
    assert np.isfinite(out).all()


@pytest.mark.parametrize("mode", ["extend", "restore"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent_stream_waits_for_at_most_1200_samples(make: Maker, cell: str, mode: Mode) -> None:
    stream = make("rnn", cell=cell).stream(2, mode=mode, cutoff_hz=8_000.0)
    received = given = 0
    for size in [*([480] * 20), *([64] * 60), *([1] * 40)]:
        given += stream.push(noise(size, 2)).shape[1]
        received += size
        assert received - 1_200 <= given <= received
    assert given + stream.finish().shape[1] == received


def test_each_user_of_a_network_has_a_stream_of_their_own(make: Maker) -> None:
    upsampler = make(wild=0.02)
    first, second = (upsampler.stream(1, mode="restore", cutoff_hz=8_000.0) for _ in range(2))
    signal = noise(20_000)
    alone = pushed(upsampler, signal, [2_000], "restore", 8_000.0)
    parts = []
    for start in range(0, 20_000, 2_000):
        parts.append(first.push(signal[:, start : start + 2_000]))
        second.push(noise(1_000, seed=start))
    np.testing.assert_allclose(np.concatenate([*parts, first.finish()], axis=1), alone, atol=1e-6 * max(1, peak(alone)))


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(make: Maker, bad: float, tmp_path: Path) -> None:
    signal = noise(9_000)
    signal[0, 4_321] = bad
    with pytest.raises(AudioError, match="NaN or infinite"):
        make().enhance(signal, 16_000)
    audio.write(tmp_path / "in.wav", signal, 16_000, "FLOAT")
    with pytest.raises(AudioError, match=r"in\.wav: holds NaN or infinite samples"):
        make().enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


@pytest.mark.parametrize("shape", [(100,), (0, 100), (1, 2, 3)])
def test_wrong_shape_is_refused(make: Maker, shape: tuple[int, ...]) -> None:
    with pytest.raises(AudioError, match=r"expected shape \(channels, samples\)"):
        make().enhance(np.zeros(shape, np.float32), 16_000)


@pytest.mark.parametrize("cutoff", [0.0, -5.0, 1.0, float("nan")])
def test_impossible_cutoff_is_refused(make: Maker, cutoff: float) -> None:
    with pytest.raises(AudioError, match="cutoff: expected at least"):
        make().enhance(noise(1_000), 16_000, cutoff_hz=cutoff)


# --- cutoff -------------------------------------------------------------------------------------------------------------


def test_shelf_inside_a_high_rate_is_found(make: Maker) -> None:
    """A recording at 48 kHz that holds nothing above 8 kHz is extended from there, without being told."""
    signal = narrow(noise(3 * RATE), 7_500)
    upsampler = make()
    out = upsampler.enhance(signal, RATE)
    told = upsampler.enhance(signal, RATE, cutoff_hz=7_700.0)
    assert peak(below(out - signal, 6_000)) < STEP
    high = scipy.signal.firwin(1001, 10_000, pass_zero=False, fs=RATE)[None]
    levels = [float(np.std(scipy.signal.oaconvolve(x, high, axes=1))) for x in (signal, out, told)]
    assert levels[1] > 100 * levels[0]
    assert levels[1] == pytest.approx(levels[2], rel=0.3)


def test_cutoff_of_a_low_rate_is_half_the_rate(make: Maker) -> None:
    signal, upsampler = narrow(noise(8_000), 2_000, rate=8_000), make(wild=0.02)
    assert np.array_equal(upsampler.enhance(signal, 8_000), upsampler.enhance(signal, 8_000, cutoff_hz=4_000.0))


def test_cutoff_above_the_band_means_full_band(make: Maker) -> None:
    signal = noise(9_000)
    assert np.array_equal(make(wild=0.1).enhance(signal, RATE, cutoff_hz=90_000.0), signal)


# --- files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["rnn", "cnn"])
@pytest.mark.parametrize(
    ("name", "rate", "channels"),
    [("a.wav", 8_000, 1), ("a.flac", 48_000, 2), ("a.ogg", 22_050, 2), ("a.mp3", 44_100, 2), ("a.wav", 96_000, 1)],
)
def test_file_is_enhanced_as_its_samples_are(
    make: Maker, tmp_path: Path, kind: str, name: str, rate: int, channels: int
) -> None:
    source, target = tmp_path / name, tmp_path / "out.wav"
    audio.write(source, narrow(noise(2 * rate + 123, channels, level=0.02), 3_000, rate), rate)
    upsampler, shares = make(kind), list[float]()
    upsampler.enhance_file(source, target, mode="extend", cutoff_hz=3_500.0, progress=shares.append)
    signal, _ = audio.read(source)
    expected = upsampler.enhance(signal, rate, mode="extend", cutoff_hz=3_500.0)
    out, out_rate = audio.read(target)
    assert out_rate == RATE
    assert out.shape == expected.shape
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert peak(out - expected) < 2 * STEP


@pytest.mark.parametrize("name", ["out.wav", "out.flac", "out.ogg", "out.opus", "out.mp3"])
def test_each_format_can_be_written_at_its_length(make: Maker, tmp_path: Path, name: str) -> None:
    audio.write(tmp_path / "in.wav", noise(16_000 + 5, 2), 16_000)
    make().enhance_file(tmp_path / "in.wav", tmp_path / name)
    info = audio.probe(tmp_path / name)
    assert (info.rate, info.channels) == (RATE, 2)
    if not name.endswith(".mp3"):
        assert info.frames == 3 * (16_000 + 5)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_bit_depth_of_the_source_is_kept(make: Maker, tmp_path: Path, subtype: str) -> None:
    audio.write(tmp_path / "in.wav", noise(4_000), 16_000, subtype)
    make().enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    assert audio.probe(tmp_path / "out.wav").subtype == subtype


@pytest.mark.parametrize("rate", [8_000, 11_025, 32_000, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("cutoff", [3_000.0, 24_000.0])
def test_file_of_any_rate_keeps_its_length(make: Maker, tmp_path: Path, rate: int, cutoff: float) -> None:
    for samples in (1, 1_001, 70_001):
        audio.write(tmp_path / "in.wav", noise(samples), rate)
        make().enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", cutoff_hz=cutoff)
        assert audio.probe(tmp_path / "out.wav").frames == audio.resampled_length(samples, rate, RATE)


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_silent_file_gives_a_silent_file(make: Maker, tmp_path: Path, rate: int) -> None:
    audio.write(tmp_path / "in.flac", np.zeros((2, rate), np.float32), rate)
    make().enhance_file(tmp_path / "in.flac", tmp_path / "out.flac")
    out, _ = audio.read(tmp_path / "out.flac")
    assert out.shape == (2, RATE)
    assert peak(out) == 0.0


def test_clean_full_band_file_comes_back_bit_for_bit(make: Maker, tmp_path: Path) -> None:
    audio.write(tmp_path / "in.flac", noise(3 * RATE, 2), RATE)
    make(wild=0.1).enhance_file(tmp_path / "in.flac", tmp_path / "out.flac")
    assert np.array_equal(audio.read(tmp_path / "in.flac")[0], audio.read(tmp_path / "out.flac")[0])


def test_file_without_samples_is_refused_by_name(make: Maker, tmp_path: Path) -> None:
    audio.write(tmp_path / "in.wav", np.zeros((1, 0), np.float32), 16_000)
    with pytest.raises(AudioError, match=r"in\.wav: holds no samples"):
        make().enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()


def test_failed_enhancement_leaves_the_old_target(make: Maker, tmp_path: Path) -> None:
    (tmp_path / "in.wav").write_bytes(b"not audio at all")
    (tmp_path / "out.wav").write_bytes(b"precious")
    with pytest.raises(AudioError, match=r"in\.wav: not readable as audio"):
        make().enhance_file(tmp_path / "in.wav", tmp_path / "out.wav")
    assert (tmp_path / "out.wav").read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 2


def test_truncated_file_gives_what_it_holds_or_a_clear_error(make: Maker, tmp_path: Path) -> None:
    source = tmp_path / "in.flac"
    audio.write(source, noise(3 * RATE), RATE)
    source.write_bytes(source.read_bytes()[:-20_000])
    try:
        make().enhance_file(source, tmp_path / "out.wav", cutoff_hz=8_000.0)
    except AudioError as error:
        assert "in.flac" in str(error)
        assert not (tmp_path / "out.wav").exists()
    else:
        assert 0 < audio.probe(tmp_path / "out.wav").frames <= 3 * RATE


MEASURE = """
import json, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from overtone.upsample import Upsampler
folder, source, target = map(Path, sys.argv[1:])
Upsampler.load(folder).enhance_file(source, target)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


def long_file(path: Path, seconds: int, rate: int) -> None:
    with audio.Writer(path, rate, 2, "FLAC", "PCM_16") as file:
        for second in range(seconds):
            file.write(noise(rate, 2, seed=second % 5))


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "rate"), [("rnn", 16_000), pytest.param("cnn", 44_100, marks=pytest.mark.long)])
def test_memory_does_not_grow_with_the_file(
    params: Params, tmp_path: Path, environment: dict[str, str], kind: build.Kind, rate: int
) -> None:
    settings = params.train.cnn if kind == "cnn" else params.train.rnn
    build.save(build.network(settings, RATE), tmp_path / "model", kind, settings)
    peaks = []
    for seconds in (30, 300):
        source, target = tmp_path / f"{seconds}.flac", tmp_path / f"{seconds}.out.flac"
        long_file(source, seconds, rate)
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "model"), str(source), str(target)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert audio.probe(target).frames == seconds * RATE
        peaks.append(json.loads(done.stdout))
    assert peaks[1] <= 1.2 * peaks[0], f"kilobytes: {peaks}"
