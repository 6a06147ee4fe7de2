"""Laws of finding lost samples: cut out or repeated ones are found at any rate, what pauses or repeats by itself is not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal

from overtone.audio import Signal
from overtone.data import degrade
from overtone.dsp.gaps import GapFinder, find_gaps
from overtone.settings import PacketLoss

RATES = [8_000, 44_100]
STEP = 1 / 32_768


def noise(rate: int, seconds: float = 2.0, channels: int = 1, level: float = 0.1, seed: int = 0) -> Signal:
    """Noise that rises and falls as syllables do, rounded to 16 bits."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    sound = scipy.signal.lfilter([1.0], [1.0, -0.8], generator.standard_normal((channels, len(time))))
    return rounded(level * (0.55 + 0.45 * np.sin(2 * np.pi * 3 * time)) * sound)


def rounded(signal: np.ndarray) -> Signal:
    return np.asarray(np.round(signal / STEP) * STEP, np.float32)


def lossy(rate: int, fill: str, share: float = 0.1, channels: int = 1) -> tuple[Signal, np.ndarray]:
    """Noise with lost packets of 20 ms, and which samples are lost."""
    signal, size = noise(rate, 4.0, channels), rate // 50
    step = PacketLoss(share=share, burst=2.0, fill=fill)  # type: ignore[arg-type]
    lost = np.repeat(degrade.lost_frames(200, share, 2.0, np.random.default_rng(1)), size)
    out = degrade.packet_loss(signal, rate, step, np.random.default_rng(1))
    # Nobody knows of silence at the end whether it is lost sound.
    end = np.flatnonzero(~lost)[-1] + 1
    return out[:, :end], lost[:end]


def in_blocks(signal: Signal, rate: int, sizes: list[int], live: bool) -> Signal:
    finder, marks, start, turn = GapFinder(len(signal), rate, live), [], 0, 0
    while start < signal.shape[1]:
        size = sizes[turn % len(sizes)]
        out, found = finder.push(signal[:, start : start + size])
        start, turn = start + size, turn + 1
        marks.append(found)
        assert out.shape[1] == found.shape[1]
        given = sum(part.shape[1] for part in marks)
        assert min(start, signal.shape[1]) - given < finder.lookahead
    marks.append(finder.finish()[1])
    return np.concatenate(marks, axis=1)


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("fill", ["zero", "repeat"])
@pytest.mark.parametrize("rate", RATES)
def test_lost_packets_are_found_to_the_sample(rate: int, fill: str, live: bool) -> None:
    signal, lost = lossy(rate, fill, channels=2)
    marks = in_blocks(signal, rate, [rate], live)[0] > 0
    assert (marks & lost).sum() >= (0.8 if live else 0.95) * lost.sum()
    assert (marks & ~lost).mean() < 1e-3


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("rate", [8_000, 48_000])
def test_result_does_not_depend_on_blocks_and_comes_in_time(rate: int, live: bool) -> None:
    signal, _ = lossy(rate, "repeat")
    signal[:, rate : rate + rate // 50] = 0.0
    signal = signal[:, : 2 * rate + 17]
    whole = in_blocks(signal, rate, [signal.shape[1]], live)
    assert whole.any() and whole.shape[1] == signal.shape[1]
    for sizes in ([rate // 100], [1_000, 7, 333]):
        assert np.array_equal(in_blocks(signal, rate, sizes, live), whole)


@pytest.mark.parametrize("rate", RATES)
def test_silence_with_dither_is_a_gap(rate: int) -> None:
    signal, size = noise(rate, level=0.3), rate // 50
    dither = np.random.default_rng(2).integers(-1, 2, size) * STEP
    signal[:, rate : rate + size] = dither
    marks = find_gaps(signal, rate)[0]
    assert marks[rate : rate + size].mean() > 0.95
    assert marks.sum() < 1.1 * size


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("rate", RATES)
def test_pause_between_fades_is_no_gap(rate: int, live: bool) -> None:
    signal, fade = noise(rate), rate // 20
    ramp = np.linspace(1.0, 0.0, fade)
    for milliseconds, start in ((50, rate // 2), (120, rate)):
        stop = start + milliseconds * rate // 1000
        signal[:, start - fade : start] *= ramp
        signal[:, start:stop] = 0.0
        signal[:, stop : stop + fade] *= ramp[::-1]
    assert not in_blocks(rounded(signal), rate, [rate], live).any()


@pytest.mark.parametrize("rate", RATES)
def test_pause_longer_than_any_burst_is_no_gap(rate: int) -> None:
    signal = noise(rate)
    signal[:, rate // 2 : rate] = 0.0
    assert not find_gaps(signal, rate).any()


@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("rate", RATES)
def test_tone_and_its_beginning_are_no_repeats(rate: int, live: bool) -> None:
    time = np.arange(rate) / rate
    tone = 0.3 * np.sin(2 * np.pi * 400 * time) + 0.1 * np.sin(2 * np.pi * 800 * time)
    beeps = tone * ((time % 0.4) < 0.1)
    # As a hard-edged beep ends, a stream cannot know that it does not go on.
    for signal in (tone,) if live else (tone, beeps):
        assert not in_blocks(rounded(signal)[None], rate, [rate], live).any()


@pytest.mark.parametrize("rate", RATES)
def test_loop_that_goes_on_is_no_repeat(rate: int) -> None:
    size = rate // 50
    signal = np.tile(noise(rate)[:, :size], 50)
    assert not find_gaps(signal, rate).any()


def test_gap_in_one_channel_alone_is_none() -> None:
    """A packet carries all channels."""
    signal = noise(16_000, channels=2)
    signal[0, 8_000:8_320] = 0.0
    assert not find_gaps(signal, 16_000).any()
