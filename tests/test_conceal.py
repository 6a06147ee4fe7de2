"""Laws of the concealment: gaps go on as the sound did, all else passes as it is, however the signal is cut."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from overtone import conceal
from overtone.audio import Signal
from overtone.conceal import HISTORY, MIN_GAP, Concealer, burg, continued

RATE = 48_000
STEP = 1 / 32_768
PACKET = RATE // 50
SIZES = [[1, 7, 100], [MIN_GAP - 1, MIN_GAP, MIN_GAP + 1], [511, 512, 513], [PACKET], [10_000, 1]]


def noise(samples: int = RATE // 2, channels: int = 1, level: float = 0.1, seed: int = 0) -> Signal:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal((channels, samples))).astype(np.float32)


def tone(*hertz: float, samples: int = RATE // 2) -> Signal:
    """Steady tones at once, 0.5 at their peak together."""
    phases = 2 * np.pi * np.outer(hertz, np.arange(samples)) / RATE
    return np.asarray(0.5 / len(hertz) * np.sin(phases + 1.0).sum(axis=0), dtype=np.float32)[None]


def lossy(signal: Signal, start: int = 12_000, length: int = PACKET, every: int = 10**9) -> Signal:
    out = signal.copy()
    for first in range(start, signal.shape[1], every):
        out[:, first : first + length] = 0.0
    return out


def faded(signal: Signal, shape: str, milliseconds: int, end: int = 20_000) -> Signal:
    """Faded out up to sample `end`, silent from there."""
    length = milliseconds * RATE // 1_000
    ramp = np.linspace(1.0, 0.0, length)
    ramp = {"linear": ramp, "cosine": (1 - np.cos(np.pi * ramp)) / 2, "square": ramp**2}[shape]
    envelope = np.concatenate((np.ones(end - length), ramp, np.zeros(signal.shape[1] - end)))
    return np.asarray(signal * envelope, dtype=np.float32)


def heard(signal: Signal, sizes: list[int] | None = None) -> tuple[Signal, Signal]:
    """`signal` through a concealer, in blocks of the given sizes over and over, and the marks that come with it."""
    concealer, parts, start, turn = Concealer(signal.shape[0]), list[tuple[Signal, Signal]](), 0, 0
    sizes = sizes or [max(signal.shape[1], 1)]
    while start < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        parts.append(concealer.push(signal[:, start : start + size]))
        start, turn = start + size, turn + 1
    parts.append(concealer.finish())
    assert all(part.shape[1:] == marks.shape[1:] for part, marks in parts)
    whole, marks = (np.concatenate(pair, axis=1) for pair in zip(*parts, strict=True))
    return whole, marks


def concealed(signal: Signal, sizes: list[int] | None = None) -> Signal:
    return heard(signal, sizes)[0]


def marks_of(signal: Signal, sizes: list[int] | None = None) -> Signal:
    return heard(signal, sizes)[1]


def snr_db(signal: Signal, reference: Signal) -> float:
    return float(10 * np.log10(np.square(reference).sum() / np.square(signal - reference).sum()))


def peak(signal: npt.NDArray[np.floating]) -> float:
    return float(np.abs(signal).max(initial=0.0))


SOUNDS: dict[str, Signal] = {
    "noise": noise(channels=2),
    "tone": tone(440.0),
    "quiet": noise(level=2 * STEP),
    "loud": np.sign(noise(seed=1)),
    "one channel": np.concatenate((noise(), 0 * noise())),
    "short silences": lossy(noise(), 1_000, MIN_GAP - 1, 1_500),
    "short": noise(17),
    "none": noise(0),
}


# --- what passes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("sizes", [None, *SIZES], ids=str)
def test_sound_without_gaps_passes_bit_for_bit(name: str, sizes: list[int] | None) -> None:
    out = concealed(SOUNDS[name], sizes)
    assert out.dtype == np.float32
    assert np.array_equal(out, SOUNDS[name])


@pytest.mark.parametrize("sizes", [None, *SIZES], ids=str)
@pytest.mark.parametrize("channels", [1, 2])
def test_digital_silence_stays_silent(channels: int, sizes: list[int] | None) -> None:
    silence = np.zeros((channels, 20_000), np.float32)
    assert np.array_equal(concealed(silence, sizes), silence)


def test_what_lies_around_gaps_passes_bit_for_bit() -> None:
    signal = lossy(noise(channels=2), 5_000, PACKET, 4_000)
    kept = (signal != 0).any(axis=0)
    assert 0 < kept.sum() < len(kept)
    assert np.array_equal(concealed(signal)[:, kept], signal[:, kept])


@pytest.mark.parametrize("shape", ["linear", "cosine", "square"])
@pytest.mark.parametrize("milliseconds", [20, 50, 300])
@pytest.mark.parametrize(
    "sound", [tone(440.0), tone(100.0), tone(440.0, 3_111.0), noise()], ids=["a", "b", "c", "noise"]
)
def test_faded_sound_stays_silent(sound: Signal, shape: str, milliseconds: int) -> None:
    """The end of a fade is no loss: what follows it is less than a hundredth of the sound."""
    signal = faded(sound, shape, milliseconds)
    assert peak(concealed(signal) - signal) < 0.01 * peak(signal)


def test_sound_that_decays_into_silence_stays_silent() -> None:
    decay = np.exp(-np.arange(4 * RATE) / (0.1 * RATE))
    quantised = np.round(tone(440.0, samples=4 * RATE) * decay / STEP) * STEP
    signal = quantised.astype(np.float32)
    assert peak(signal[:, -RATE:]) == 0.0
    assert peak(concealed(signal) - signal) <= 2 * STEP


def test_sound_of_too_short_a_past_is_not_continued() -> None:
    signal = lossy(noise(9_000), 500, 9_000)
    assert np.array_equal(concealed(signal), signal)


# --- what is filled -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sound", [(60.0,), (440.0,), (3_000.0,), (15_000.0,), (220.0, 331.0, 4_567.0)], ids=str)
def test_lost_packet_of_a_steady_tone_goes_on(sound: tuple[float, ...]) -> None:
    signal = tone(*sound)
    lost = lossy(signal)
    gap = slice(12_000, 12_000 + PACKET)
    # Silence in its place is 0 dB.
    assert snr_db(concealed(lost)[:, gap], signal[:, gap]) > 6.0
    assert (
        snr_db(concealed(lost)[:, gap.start : gap.start + PACKET // 4], signal[:, gap.start : gap.start + PACKET // 4])
        > 15.0
    )


def test_second_packet_is_heard_in_the_light_of_the_first_fill() -> None:
    signal = tone(440.0)
    lost = lossy(signal, 12_000, PACKET, 2 * PACKET)
    gap = (lost != signal).any(axis=0)
    assert snr_db(concealed(lost)[:, gap], signal[:, gap]) > 3.0


def test_fill_dies_away() -> None:
    """Nobody is made to hold a note for long: a long gap ends in silence, and falls on its way there."""
    out = concealed(lossy(tone(440.0), 12_000, RATE))
    levels = [peak(out[:, start : start + PACKET]) for start in range(12_000, 12_000 + 6 * PACKET, PACKET)]
    assert levels[:4] == sorted(set(levels[:4]), reverse=True)
    assert levels[-1] == 0.0


@pytest.mark.parametrize("length", [MIN_GAP - 1, MIN_GAP])
def test_shortest_gap_is_the_smallest_that_is_filled(length: int) -> None:
    lost = lossy(tone(440.0), 12_000, length)
    assert np.array_equal(concealed(lost), lost) == (length < MIN_GAP)


@pytest.mark.parametrize(
    "sound",
    [
        *(np.sign(noise(seed=1)), np.clip(noise(level=1.0), -1, 1), np.ones((1, RATE // 2), np.float32)),
        *(np.sign(tone(100.3)), 2 * tone(440.0), noise(level=2 * STEP), 1e6 * noise()),
        np.where(np.arange(RATE // 2) % 2, 1.0, -1.0).astype(np.float32)[None],
        np.exp(np.arange(RATE // 2) / 2_000 - 12).astype(np.float32) * tone(440.0),
    ],
    ids=["signs", "noise", "constant", "square", "tone", "quiet", "beyond", "fastest", "growing"],
)
def test_fill_is_finite_and_no_louder_than_the_past(sound: Signal) -> None:
    lost = lossy(sound, 12_000, PACKET, 3_000)
    out = concealed(lost)
    assert np.isfinite(out).all()
    for start in range(12_000, out.shape[1], 3_000):
        past = out[:, max(start - HISTORY, 0) : start]
        assert peak(out[:, start : start + PACKET]) <= 1.001 * peak(past) + STEP


def test_each_channel_goes_on_for_itself() -> None:
    signal = np.concatenate((tone(440.0), tone(1_234.5), noise()))
    lost = lossy(signal, 12_000, PACKET, 4_000)
    both = concealed(lost)
    assert np.array_equal(both, np.concatenate([concealed(channel[None]) for channel in lost]))
    assert peak(both[:, 12_000 : 12_000 + PACKET].min(axis=0)) > 0


def test_silent_channel_beside_a_lost_one_stays_silent() -> None:
    out = concealed(lossy(np.concatenate((tone(440.0), 0 * tone(440.0)))))
    assert peak(out[0, 12_000 : 12_000 + PACKET]) > 0.1
    assert peak(out[1]) == 0.0


# --- marks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [None, *SIZES], ids=str)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_marks_are_1_where_a_lost_packet_was_filled_and_0_elsewhere(channels: int, sizes: list[int] | None) -> None:
    lost = lossy(noise(channels=channels), 5_000, PACKET, 4_000)
    marks = marks_of(lost, sizes)
    assert marks.dtype == np.float32
    assert marks.shape == (1, lost.shape[1])
    assert np.array_equal(marks[0], (lost == 0).all(axis=0))


@pytest.mark.parametrize("name", SOUNDS)
@pytest.mark.parametrize("sizes", [None, *SIZES], ids=str)
def test_sound_without_gaps_is_unmarked(name: str, sizes: list[int] | None) -> None:
    marks = marks_of(SOUNDS[name], sizes)
    assert marks.shape == (1, SOUNDS[name].shape[1])
    assert not marks.any()


def test_long_gap_is_marked_for_as_long_as_something_stands_in() -> None:
    """80 ms of it, after which nothing is made up."""
    lost = lossy(tone(440.0), 12_000, 8_000)
    out, marks = heard(lost)
    assert np.array_equal(np.flatnonzero(marks[0]), np.arange(12_000, 12_000 + 4 * PACKET))
    made = out[0, 12_000:20_000]
    assert made[: 4 * PACKET].any() and not made[4 * PACKET :].any()


@pytest.mark.parametrize("length", [MIN_GAP - 1, MIN_GAP])
def test_shortest_gap_is_the_smallest_that_is_marked(length: int) -> None:
    assert marks_of(lossy(noise(), 12_000, length)).sum() == (length if length >= MIN_GAP else 0)


@pytest.mark.parametrize("shape", ["linear", "cosine", "square"])
@pytest.mark.parametrize("milliseconds", [20, 50, 300])
@pytest.mark.parametrize("sound", [tone(440.0), tone(440.0, 3_111.0), noise()], ids=["tone", "tones", "noise"])
def test_faded_sound_is_unmarked(sound: Signal, shape: str, milliseconds: int) -> None:
    assert not marks_of(faded(sound, shape, milliseconds)).any()


@pytest.mark.parametrize("sound", [0 * noise(), lossy(noise(9_000), 500, 9_000)], ids=["silence", "short past"])
def test_silence_that_stays_is_unmarked(sound: Signal) -> None:
    assert not marks_of(sound).any()


def test_clicks_in_silence_are_unmarked() -> None:
    signal = 0 * noise()
    for start in range(2_000, signal.shape[1], 3_000):
        signal[:, start : start + 100] = 0.5
    out, marks = heard(signal)
    assert np.array_equal(out, signal)
    assert not marks.any()


# --- blocks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("length", [MIN_GAP - 1, MIN_GAP, PACKET, 3_000])
def test_result_does_not_depend_on_how_the_signal_is_cut(length: int, sizes: list[int]) -> None:
    signal = noise(20_011, 2, level=0.01) + tone(440.0, samples=20_011)
    lost = lossy(signal, 5_003, length, 4_001)
    # A gap at the very end, and silences next to gaps.
    lost[:, -500:] = 0.0
    lost[:, 4_990:4_999] = 0.0
    whole, marks = heard(lost)
    assert whole.shape == lost.shape
    assert marks.shape == (1, lost.shape[1])
    cut, marks_of_cut = heard(lost, sizes)
    assert np.array_equal(cut, whole)
    assert np.array_equal(marks_of_cut, marks)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("length", [1, MIN_GAP - 1, MIN_GAP, PACKET])
def test_no_sample_waits_for_more_than_the_shortest_gap(length: int, sizes: list[int]) -> None:
    lost, concealer = lossy(noise(12_000), 997, length, 1_009), Concealer(1)
    received = given = turn = 0
    while received < lost.shape[1]:
        block = lost[:, received : received + sizes[turn % len(sizes)]]
        given, received, turn = given + concealer.push(block)[0].shape[1], received + block.shape[1], turn + 1
        assert received - MIN_GAP <= given <= received
    assert given + concealer.finish()[0].shape[1] == received


def test_empty_blocks_change_nothing() -> None:
    lost, concealer = lossy(tone(440.0)), Concealer(1)
    parts = [concealer.push(part) for piece in np.split(lost, 50, axis=1) for part in (piece[:, :0], piece)]
    whole, marks = (np.concatenate(pair, axis=1) for pair in zip(*parts, concealer.finish(), strict=True))
    assert np.array_equal(whole, concealed(lost))
    assert np.array_equal(marks, marks_of(lost))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("end", [RATE // 2, 12_500, 12_050, 0])
def test_whole_signal_is_concealed_as_its_blocks_are(channels: int, end: int) -> None:
    lost = lossy(noise(channels=channels))[:, :end]
    for one, other in zip(conceal.concealed(lost), heard(lost, [PACKET]), strict=True):
        assert one.shape == other.shape
        assert np.array_equal(one, other)


def test_input_is_left_alone() -> None:
    lost = lossy(tone(440.0))
    before = lost.copy()
    concealed(lost, [PACKET])
    assert np.array_equal(lost, before)


# --- prediction ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_burgs_predictor_is_stable(seed: int) -> None:
    past = np.convolve(noise(2_000, seed=seed)[0], [1.0, -1.8, 0.95])
    roots = np.roots(np.concatenate(([1.0], -burg(past.astype(np.float64), 24))))
    assert np.abs(roots).max() <= 1.0 + 1e-9


def test_burgs_predictor_knows_an_autoregression() -> None:
    known, generator = (1.6, -0.9), np.random.default_rng(0)
    signal = np.zeros(50_000)
    for n, push in enumerate(generator.standard_normal(50_000)[2:], 2):
        signal[n] = known[0] * signal[n - 1] + known[1] * signal[n - 2] + push
    np.testing.assert_allclose(burg(signal, 2), known, atol=0.02)
    np.testing.assert_allclose(burg(signal, 6)[2:], 0.0, atol=0.05)


def test_nothing_is_predicted_of_nothing() -> None:
    assert not burg(np.zeros(4_096), 16).any()
    assert not continued(np.zeros(HISTORY, np.float32), 100).any()
    assert not continued(noise(10)[0], 100).any()
