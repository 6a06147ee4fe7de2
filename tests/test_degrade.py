"""Laws of the degradations: what they remove, what they leave where it was, and that they do as asked."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import signal as dsp

from overtone.audio import Signal
from overtone.data import bandlimit, codecs, degrade, noise, variation
from overtone.settings import (
    BitErrors,
    Clip,
    Codec,
    Filter,
    NarrowBand,
    Noise,
    PacketLoss,
    Quantise,
    Step,
)

RATE = 48_000
FILTERS: tuple[Filter, ...] = ("sinc", "butterworth", "chebyshev1", "elliptic", "bessel")
CODECS = (
    *(Codec(codec="mp3", kbps=kbps) for kbps in (24, 32, 40, 48, 56, 64, 96, 128)),
    *(Codec(codec="opus", kbps=kbps) for kbps in (8, 16, 24, 32, 48)),
    *(Codec(codec="vorbis", quality=quality) for quality in (0.0, 0.5)),
    *(Codec(codec=name) for name in ("gsm610", "mulaw", "alaw", "ima_adpcm")),
)
EVERY: tuple[Step, ...] = (
    NarrowBand(rate=16_000, filter="elliptic"),
    Codec(codec="mp3", kbps=48),
    Codec(codec="gsm610"),
    PacketLoss(share=0.2, fill="repeat"),
    BitErrors(rate=0.001),
    Noise(snr_db=10),
    Noise(snr_db=10, layers=3, speed=1.5, colour_db=4.0),
    Noise(snr_db=10, colour="blue"),
    Clip(share=0.1),
    Quantise(bits=8),
)


def name_of(step: Step) -> str:
    return "-".join(str(value) for value in step.model_dump(exclude_none=True).values())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def white(seconds: float = 1.0, channels: int = 1, seed: int = 0) -> Signal:
    return (rng(seed).standard_normal((channels, round(seconds * RATE))) * 0.1).astype(np.float32)


def voice(seconds: float = 2.0, channels: int = 1, seed: int = 0, edge: float = 3_000.0) -> Signal:
    """Noise of 200 Hz to `edge`, louder and softer: what every codec here carries; channels differ."""
    sections = dsp.butter(4, (200.0, edge), "bandpass", fs=RATE, output="sos")
    loudness = 0.5 + 0.5 * np.sin(2 * np.pi * 2.3 * np.arange(round(seconds * RATE)) / RATE)
    return np.asarray(dsp.sosfiltfilt(sections, white(seconds, channels, seed)) * loudness, dtype=np.float32)


def tone(hz: float, seconds: float = 0.5) -> Signal:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)[None]


def lag(late: Signal, signal: Signal) -> int:
    """Samples by which `late` comes after `signal`."""
    correlation = np.asarray(dsp.correlate(late[0], signal[0], method="fft"))
    shift: int = int(np.argmax(correlation)) - (signal.shape[1] - 1)
    return shift


def power_db(signal: Signal) -> float:
    return float(20 * np.log10(noise.rms(signal) + 1e-12))


# --- narrow band ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "filter"), itertools.product((8_000, 11_025, 24_000, 32_000), FILTERS))
@pytest.mark.parametrize("cut", [0.9, 1.0])
def test_tone_above_cutoff_is_removed_and_tone_below_is_kept(rate: int, filter: str, cut: float) -> None:
    step = NarrowBand.model_validate({"rate": rate, "filter": filter, "cut": cut})
    cutoff = degrade.cutoff_of((step,), RATE)
    assert cutoff == cut * rate / 2
    inner = slice(4_800, -4_800)
    low, high = tone(0.3 * cutoff), tone(1.3 * cutoff)
    kept, removed = (bandlimit.narrowband(signal, RATE, step)[:, inner] for signal in (low, high))
    # Bessel falls slowly; the others are down by 40 dB.
    assert power_db(removed) - power_db(high) < (-10 if filter == "bessel" else -40)
    if filter == "bessel":
        assert abs(power_db(kept) - power_db(low)) < 3
    else:
        assert np.abs(kept - low[:, inner]).max() < 0.02


@pytest.mark.parametrize("rate", [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000])
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("order", [3, 11])
def test_no_filter_moves_the_signal(rate: int, filter: str, order: int) -> None:
    step = NarrowBand.model_validate({"rate": rate, "filter": filter, "order": order, "cut": 0.87})
    signal = white()
    assert lag(bandlimit.narrowband(signal, RATE, step), signal) == 0


def test_nothing_of_the_original_is_left_above_half_the_rate() -> None:
    # Not even where the signal is short.
    for frames in (1, 7, 100, 2_000, 48_000):
        signal = white()[:, :frames]
        assert bandlimit.narrowband(signal, RATE, NarrowBand(rate=8_000)).shape == signal.shape
    out = bandlimit.narrowband(white(), RATE, NarrowBand(rate=8_000))
    spectrum = np.abs(np.fft.rfft(out[0] * np.hanning(out.shape[1])))
    assert spectrum[4_100:].max() < 1e-3 * spectrum[:3_800].max()


def test_a_rate_not_below_the_signals_changes_nothing() -> None:
    signal = white()
    assert bandlimit.narrowband(signal, RATE, NarrowBand(rate=RATE)) is signal


# --- codecs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("step", CODECS, ids=name_of)
def test_no_codec_moves_lengthens_or_mixes_the_signal(step: Codec, channels: int) -> None:
    signal = voice(channels=channels, edge=1_800.0 if channels == 2 else 3_000.0)[:, :-37]
    out = codecs.round_trip(signal, RATE, step)
    assert out.shape == signal.shape
    for late, channel in zip(out, signal, strict=True):
        assert lag(late[None], channel[None]) == 0
        assert np.corrcoef(late, channel)[0, 1] > (
            0.5 if (step.kbps or 99) / channels <= 16 or step.codec == "gsm610" else 0.75
        )
    assert power_db(out) == pytest.approx(power_db(signal), abs=2.5)


@pytest.mark.parametrize("step", CODECS, ids=name_of)
def test_stereo_stays_stereo(step: Codec) -> None:
    left = voice(seed=1)[0]
    out = codecs.round_trip(np.stack([left, np.zeros_like(left)]), RATE, step)
    assert noise.rms(out[1:]) < 0.3 * noise.rms(out[:1])


@pytest.mark.parametrize("kbps", [24, 32, 48, 64, 96, 128])
@pytest.mark.parametrize("channels", [1, 2])
def test_mp3_has_the_bit_rate_asked_for(kbps: float, channels: int) -> None:
    step = Codec(codec="mp3", kbps=kbps)
    rate = codecs.codec_rate(step, channels)
    signal = np.resize(voice(4.0, channels), (channels, 10 * rate))
    (data,) = codecs.encode(signal, rate, step)
    assert len(data) * 8 / 10 / 1000 == pytest.approx(kbps, rel=0.03)


@pytest.mark.parametrize("kbps", [12, 16, 24, 32, 48])
@pytest.mark.parametrize("channels", [1, 2])
def test_opus_has_about_the_bit_rate_asked_for(kbps: float, channels: int) -> None:
    step = Codec(codec="opus", kbps=kbps)
    rate = codecs.codec_rate(step, channels)
    signal = np.resize(voice(4.0, channels), (channels, 10 * rate))
    size = sum(len(data) for data in codecs.encode(signal, rate, step))
    # The container's own 1 to 3 kbit/s come on top.
    assert kbps * 0.9 <= size * 8 / 10 / 1000 <= kbps * 1.1 + 3


def test_lower_bit_rates_cut_lower() -> None:
    signal = white(3.0)
    found = []
    for kbps in (24, 32, 64, 128):
        *_, cutoff = degrade.received((Codec(codec="mp3", kbps=kbps),), signal, RATE, rng())
        found.append(cutoff)
    assert found == sorted(found)
    assert found[0] < 6_500
    assert found[-1] > 15_000


def test_loud_signals_come_back_unclipped() -> None:
    signal = voice() * 30
    out = codecs.round_trip(signal, RATE, Codec(codec="mulaw"))
    assert np.abs(out - signal).max() < 0.1 * np.abs(signal).max()


def test_silence_stays_silence() -> None:
    for step in EVERY:
        if not isinstance(step, BitErrors):
            silence = np.zeros((2, 4_800), np.float32)
            assert np.abs(degrade.apply((step,), silence, RATE, rng(), [])).max() < 0.01, step


# --- transmission -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "burst"), [(0.05, 1.0), (0.1, 2.0), (0.25, 5.0), (0.2, 8.0)])
def test_loss_has_share_and_burst_as_asked(share: float, burst: float) -> None:
    lost = degrade.lost_frames(200_000, share, burst, rng())
    runs = [len(list(group)) for value, group in itertools.groupby(lost) if value]
    assert lost.mean() == pytest.approx(share, rel=0.05)
    assert np.mean(runs) == pytest.approx(burst, rel=0.05)
    assert max(runs) <= degrade.MAX_BURST


def test_lost_frames_are_silent_in_both_channels_and_the_others_untouched() -> None:
    signal = white(2.0, channels=2)
    out = degrade.packet_loss(signal, RATE, PacketLoss(share=0.3), rng())
    frames = out[:, : out.shape[1] // 960 * 960].reshape(2, -1, 960)
    silent = np.asarray((frames == 0).all(axis=-1))
    assert (silent[0] == silent[1]).all()
    assert 0.1 < silent[0].mean() < 0.5
    whole = signal[:, : frames.shape[1] * 960].reshape(frames.shape)
    good = np.flatnonzero(~silent[0])
    assert (frames[:, good] == whole[:, good]).all()


def test_repeat_plays_the_last_good_frame_again() -> None:
    signal = np.repeat(np.arange(1, 51) / 100, 960)[None].astype(np.float32)
    zero = degrade.packet_loss(signal, RATE, PacketLoss(share=0.4, fill="zero"), rng(3))[0, ::960]
    repeat = degrade.packet_loss(signal, RATE, PacketLoss(share=0.4, fill="repeat"), rng(3))[0, ::960]
    last = np.float32(0.0)
    for silent, repeated in zip(zero, repeat, strict=True):
        last = silent or last
        assert repeated == last


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_loss_of_nothing_and_of_everything(share: float) -> None:
    assert degrade.lost_frames(50, share, 2.0, rng()).mean() == share


def test_bits_flip_at_the_rate_asked_for() -> None:
    signal = white(4.0, channels=2)
    clean = degrade.bit_errors(signal, RATE, BitErrors(rate=0.0), rng())
    dirty = degrade.bit_errors(signal, RATE, BitErrors(rate=0.01), rng())
    # A byte survives when none of its 8 bits flips.
    assert (clean != dirty).mean() == pytest.approx(1 - 0.99**8, rel=0.05)
    assert np.abs(clean - signal).max() < 0.02


# --- noise and level --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [-5.0, 10.0, 40.0])
@pytest.mark.parametrize("colour", ["recorded", "white", "pink", "brown", "blue"])
def test_noise_has_the_ratio_asked_for(snr: float, colour: str) -> None:
    signal = voice(channels=2)
    step = Noise.model_validate({"snr_db": snr, "colour": colour})
    added = degrade.add_noise(signal, RATE, step, rng(), [white(5.0, seed=8)]) - signal
    assert power_db(signal) - power_db(added) == pytest.approx(snr, abs=0.05)


def test_mono_noise_is_the_same_in_both_channels() -> None:
    signal = voice(channels=2)
    added = degrade.add_noise(signal, RATE, Noise(snr_db=0), rng(), [white(5.0)]) - signal
    assert np.abs(added[0] - added[1]).max() < 1e-5


def test_short_noise_is_looped_without_a_seam() -> None:
    hum = tone(100.0, 0.4)
    looped = noise.excerpt([hum], 1, 3 * RATE, RATE, rng())
    assert looped.shape == (1, 3 * RATE)
    assert np.abs(np.diff(looped)).max() < 2 * np.abs(np.diff(hum)).max()


def test_without_recordings_noise_is_still_added() -> None:
    signal = voice()
    out = degrade.add_noise(signal, RATE, Noise(snr_db=10), rng(), [])
    assert power_db(signal) - power_db(out - signal) == pytest.approx(10, abs=0.05)


VARIED: tuple[dict[str, Any], ...] = (
    {"layers": 3},
    {"speed": 1.5},
    {"colour_db": 6.0},
    {"layers": 2, "speed": 4.0, "colour_db": 3.0},
)


def varied(signal: Signal, noises: list[Signal], seed: int = 0, **changes: Any) -> Signal:
    """The noise alone, as strong as the signal."""
    step = Noise.model_validate({"snr_db": 0.0} | changes)
    return degrade.add_noise(signal, RATE, step, rng(seed), noises) - signal


def recordings(count: int = 4, channels: int = 1) -> list[Signal]:
    return [white(1.5 + index, channels, seed=20 + index) for index in range(count)]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_noise_that_asks_for_no_variation_is_the_plain_excerpt_to_the_byte(channels: int, seed: int) -> None:
    """On this the evaluation's conditions rest."""
    signal, noises = voice(channels=channels), [*recordings(), *recordings(2, 2)]
    excerpt = noise.excerpt(noises, channels, signal.shape[1], RATE, rng(seed))
    expected, used = noise.mix(signal, excerpt, 7.0), rng(seed)
    for step in (Noise(snr_db=7.0), Noise(snr_db=7.0, layers=1, speed=1.0, colour_db=0.0)):
        used = rng(seed)
        out = degrade.add_noise(signal, RATE, step, used, noises)
        assert out.tobytes() == expected.tobytes()
    following = rng(seed)
    noise.excerpt(noises, channels, signal.shape[1], RATE, following)
    assert used.random() == following.random(), "no more is drawn than the excerpt draws"


@pytest.mark.parametrize("changes", VARIED, ids=str)
@pytest.mark.parametrize("snr", [-5.0, 10.0, 40.0])
@pytest.mark.parametrize("channels", [1, 2])
def test_varied_noise_has_the_ratio_asked_for(changes: dict[str, Any], snr: float, channels: int) -> None:
    signal = voice(channels=channels)
    added = varied(signal, recordings(), snr_db=snr, **changes)
    assert added.shape == signal.shape
    assert added.dtype == np.float32
    assert power_db(signal) - power_db(added) == pytest.approx(snr, abs=0.05)
    if channels == 2:
        assert np.abs(added[0] - added[1]).max() < 1e-4 * np.abs(added).max() + 1e-6, "mono noise stays mono"


@pytest.mark.parametrize("changes", VARIED, ids=str)
def test_varied_noise_is_decided_by_its_generator(changes: dict[str, Any]) -> None:
    signal = voice()
    first, again, other = (varied(signal, recordings(), seed, **changes) for seed in (4, 4, 5))
    plain = varied(signal, recordings(), 4)
    assert np.array_equal(first, again)
    for one in (other, plain):
        assert abs(np.corrcoef(first[0], one[0])[0, 1]) < 0.999


@pytest.mark.parametrize("changes", VARIED, ids=str)
@pytest.mark.parametrize("frames", [1, 37, 5_000])
def test_varied_noise_is_as_long_as_the_signal_however_short_either_is(changes: dict[str, Any], frames: int) -> None:
    signal = voice()[:, :frames]
    for noises in (recordings(), [white(0.01)]):
        out = degrade.add_noise(signal, RATE, Noise.model_validate({"snr_db": 0.0} | changes), rng(), noises)
        assert out.shape == signal.shape
        assert np.isfinite(out).all()


def test_each_layer_is_heard() -> None:
    """Of eight tones as many sound as there are layers, or fewer where one is drawn twice; of two none is 12 dB softer."""
    tones, signal = [tone(1_000.0 * (1 + index), 4.0) for index in range(8)], white(2.0)
    for layers in (1, 2, 4):
        counts, softest = [], 0.0
        for seed in range(12):
            power = np.abs(np.fft.rfft(varied(signal, tones, seed, layers=layers)[0] * np.hanning(2 * RATE)))
            levels = 20 * np.log10(power[2_000:18_000:2_000] / power.max() + 1e-9)
            heard = levels[levels > -60.0]
            counts.append(len(heard))
            softest = min(softest, heard.min())
        assert set(counts) <= set(range(1, layers + 1))
        assert max(counts) == layers
        if layers == 2:
            assert -12.1 <= softest < -6.0


@pytest.mark.parametrize("speed", [1.2, 2.0])
def test_speed_moves_noise_up_and_down_within_its_limits(speed: float) -> None:
    signal, found = white(2.0), []
    for seed in range(40):
        added = varied(signal, [tone(1_000.0, 9.0)], seed, speed=speed)
        # Nothing is left silent where a faster one would have ended.
        assert power_db(added[:, -RATE // 4 :]) == pytest.approx(power_db(added), abs=1.0)
        found.append(float(np.argmax(np.abs(np.fft.rfft(added[0]))) / 2))
    assert 1_000 / speed - 1 <= min(found) <= 1_000 * (1 / speed + 0.15)
    assert 1_000 * (speed - 0.15) <= max(found) <= 1_000 * speed + 1
    assert 10 < sum(hz > 1_000 for hz in found) < 30


@pytest.mark.parametrize("deviation", [2.0, 6.0])
def test_colour_of_noise_deviates_as_asked_octave_by_octave(deviation: float) -> None:
    signal, source = white(2.0), [white(2.0, seed=3)]
    octaves = []
    for seed in range(40):
        added, plain = varied(signal, source, seed, colour_db=deviation), varied(signal, source, seed)
        power = [np.abs(np.fft.rfft(one[0])) ** 2 for one in (added, plain)]
        gains = [
            10 * np.log10(power[0][int(1.9 * hz) : int(2.1 * hz)].sum() / power[1][int(1.9 * hz) : int(2.1 * hz)].sum())
            for hz in variation.COLOUR_HZ[2:]
        ]
        octaves.append(np.array(gains) - np.mean(gains))
    # Around the mean of seven bands, and within two deviations.
    assert np.std(octaves) == pytest.approx(0.96 * np.sqrt(6 / 7) * deviation, rel=0.15)
    assert np.abs(octaves).max() < 4 * deviation


@pytest.mark.parametrize("changes", VARIED, ids=str)
def test_silent_recordings_are_no_noise_of_their_own(changes: dict[str, Any]) -> None:
    """Where all that sounds is silent, there is pink noise instead; a silent layer leaves the others as they are."""
    signal, silence = voice(), np.zeros((1, 3 * RATE), np.float32)
    assert power_db(varied(signal, [silence], **changes)) == pytest.approx(power_db(signal), abs=0.05)
    for seed in range(6):
        added = varied(signal, [silence, white(3.0)], seed, **changes)
        assert np.isfinite(added).all()
        assert power_db(added) == pytest.approx(power_db(signal), abs=0.05)


@pytest.mark.parametrize("colour", ["white", "pink", "brown", "blue"])
def test_noise_that_is_not_recorded_is_not_varied(colour: str) -> None:
    plain, other = (
        degrade.add_noise(voice(), RATE, Noise.model_validate({"snr_db": 3, "colour": colour} | changes), rng(), [])
        for changes in ({}, {"layers": 3, "speed": 2.0, "colour_db": 6.0})
    )
    assert np.array_equal(plain, other)


@pytest.mark.parametrize(("colour", "slope"), [("white", 0), ("pink", -3), ("brown", -6), ("blue", 3)])
def test_colours_have_their_slope(colour: noise.Colour, slope: float) -> None:
    made = noise.coloured(colour, 1, 10 * RATE, RATE, rng())
    hz, power = dsp.welch(made[0], RATE, nperseg=4_096)
    octave = [10 * np.log10(power[(hz > low) & (hz < 2 * low)].mean()) for low in (500, 4_000)]
    assert (octave[1] - octave[0]) / 3 == pytest.approx(slope, abs=0.4)


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_the_share_asked_for_is_clipped(share: float) -> None:
    signal = white(channels=2)
    out = degrade.clip(signal, Clip(share=share))
    assert (out != signal).mean() == pytest.approx(share, abs=0.001)
    assert np.abs(out).max() < np.abs(signal).max()


def test_quantised_signal_has_no_more_levels_than_bits_allow() -> None:
    out = degrade.quantise(white() * 5, Quantise(bits=4))
    assert len(np.unique(out)) == 16
    assert np.abs(degrade.quantise(white(), Quantise(bits=8)) - white()).max() <= 0.5 / 128 + 1e-6


# --- chains -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", EVERY, ids=name_of)
def test_same_seed_same_signal_and_input_untouched(step: Step) -> None:
    signal = voice(0.5, channels=2)
    before = signal.copy()
    first, second = (degrade.apply((step,), signal, RATE, rng(4), [white(seed=2)]) for _ in range(2))
    assert first.dtype == np.float32
    assert first.shape == signal.shape
    assert (first == second).all()
    assert (signal == before).all()
    assert not np.array_equal(first, signal)


def test_the_lowest_band_limit_decides_the_cutoff() -> None:
    steps = (NarrowBand(rate=16_000), PacketLoss(share=0.1), Codec(codec="mulaw"), Codec(codec="ima_adpcm"))
    assert degrade.cutoff_of(steps, RATE) == 4_000
    assert degrade.cutoff_of((Noise(snr_db=0),), RATE) == 24_000
    assert degrade.cutoff_of((NarrowBand(rate=16_000, filter="bessel", cut=0.9),), RATE) == 7_200


def test_generators_depend_on_their_whole_key() -> None:
    assert degrade.generator(1, "a").random() == degrade.generator(1, "a").random()
    draws = {degrade.generator(*key).random() for key in ((1, "a"), (1, "b"), (2, "a"), (1, "a", 0), ("1a",))}
    assert len(draws) == 5


# --- other speeds and microphones --------------------------------------------------------------------------------------


def test_speed_moves_tones_and_length() -> None:
    out = variation.change_speed(tone(1_000.0, 1.0), RATE, 1.2)
    assert out.shape == (1, 40_000)
    spectrum = np.abs(np.fft.rfft(out[0, :40_000]))
    assert np.argmax(spectrum) * RATE / 40_000 == pytest.approx(1_200, abs=2)


def test_tilt_is_linear_in_frequency_and_moves_nothing() -> None:
    signal = white()
    out = variation.filtered(signal, RATE, -6.0)
    gain = 20 * np.log10(np.abs(np.fft.rfft(out[0])) / np.abs(np.fft.rfft(signal[0])))
    assert np.median(gain[11_900:12_100]) == pytest.approx(-3, abs=0.2)
    assert np.median(gain[23_800:]) == pytest.approx(-6, abs=0.2)
    assert lag(out, signal) == 0


COLOURS: tuple[tuple[float, ...], ...] = (
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (6.0, -3.0, 4.5, 0.0, -6.0, -1.0, 2.0, 5.0, -6.0),
    (-6.0, 6.0, -6.0, 6.0, -6.0, 6.0, -6.0, 6.0, -6.0),
)


def response(tilt_db: float, colour_db: tuple[float, ...] = ()) -> Signal:
    """What `filtered` makes of an impulse in the middle of two seconds."""
    signal = np.zeros((1, 2 * RATE), np.float32)
    signal[0, RATE] = 1.0
    return variation.filtered(signal, RATE, tilt_db, colour_db)


def gains_db(tilt_db: float, colour_db: tuple[float, ...] = ()) -> Signal:
    """Gains at every whole frequency in Hz, 0 to half the rate."""
    return np.asarray(20 * np.log10(np.abs(np.fft.rfft(response(tilt_db, colour_db)[0])[::2])))


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("tilt_db", [0.0, -6.0])
def test_colour_is_the_gain_asked_for_at_each_centre(colour: tuple[float, ...], tilt_db: float) -> None:
    found = gains_db(tilt_db, colour)
    for hz, gain in zip(variation.COLOUR_HZ, colour, strict=True):
        assert found[round(hz)] == pytest.approx(gain + tilt_db * hz / (RATE / 2), abs=0.1), hz


@pytest.mark.parametrize("colour", COLOURS, ids=str)
def test_colour_between_two_centres_is_between_their_gains(colour: tuple[float, ...]) -> None:
    found, edges = gains_db(0.0, colour), [round(hz) for hz in variation.COLOUR_HZ]
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        assert (
            min(colour[i : i + 2]) - 0.1
            <= found[low:high].min()
            <= found[low:high].max()
            <= max(colour[i : i + 2]) + 0.1
        )
    np.testing.assert_allclose(found[edges[-1] :], colour[-1], atol=0.1)
    np.testing.assert_allclose(found[10 : edges[0]], colour[0], atol=0.1)


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("tilt_db", [0.0, 6.0])
def test_filter_has_no_phase(colour: tuple[float, ...], tilt_db: float) -> None:
    out = response(tilt_db, colour)[0]
    np.testing.assert_allclose(out[RATE - 4_000 : RATE], out[RATE + 4_000 : RATE : -1], atol=1e-6)
    assert lag(variation.filtered(white(), RATE, tilt_db, colour), white()) == 0


def test_filter_without_tilt_and_colour_changes_nothing() -> None:
    signal = white(channels=2)
    np.testing.assert_allclose(variation.filtered(signal, RATE, 0.0), signal, atol=1e-6)
    np.testing.assert_allclose(variation.filtered(signal, RATE, 0.0, COLOURS[0]), signal, atol=1e-6)


def test_colour_by_itself_is_drawn_as_a_targets_is() -> None:
    generator = rng()
    drawn = np.array([variation.draw_colour(2.0, generator) for _ in range(500)])
    assert drawn.shape == (500, len(variation.COLOUR_HZ))
    assert np.abs(drawn).max() <= 4.0
    np.testing.assert_allclose(drawn.std(axis=0), 0.96 * 2.0, rtol=0.1)
    assert (
        variation.draw_colour(2.0, rng(5)) == variation.draw_colour(2.0, rng(5)) != variation.draw_colour(2.0, rng(6))
    )
    assert set(variation.draw_colour(0.0, rng())) == {0.0}
