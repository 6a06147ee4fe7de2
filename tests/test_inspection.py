"""Laws of looking at a recording: what was done to it is found on made signals, and nothing where nothing was done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.signal

from conftest import ModelMaker
from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.data import codecs, degrade
from overtone.enhance.inspection import HOLES, Inspection, holes, inspect
from overtone.enhance.upsampler import Upsampler
from overtone.settings import Clip, Codec, PacketLoss, Quantise, Step

RATE = 48_000
SECONDS = 4
# When each begins, and how fast it dies away.
_DRUMS = ((0.0, 12.0), (0.21, 25.0))


def voice(channels: int = 1, rate: int = RATE) -> Signal:
    """Something like speech: harmonics and breath in syllables, over a soft room."""
    rng = np.random.default_rng(5)
    time = np.arange(SECONDS * rate) / rate
    pitch = 2 * np.pi * np.cumsum(140 * (1 + 0.1 * np.sin(2 * np.pi * 0.7 * time))) / rate
    harmonics = sum(np.sin(k * pitch) / k for k in range(1, int(rate / 2 / 160)))
    syllables = np.clip(np.sin(2 * np.pi * 3.1 * time), 0.003, None) ** 2
    breath = scipy.signal.lfilter([1.0, -0.7], [1.0], rng.standard_normal(len(time)))
    signal = syllables * (0.1 * harmonics + 0.05 * breath) + 2e-4 * rng.standard_normal((channels, len(time)))
    return np.asarray(0.5 * signal / np.abs(signal).max(), dtype=np.float32)


def seen(
    tmp_path: Path, signal: Signal, rate: int = RATE, name: str = "file.wav", subtype: str = "PCM_16"
) -> Inspection:
    audio.write(tmp_path / name, signal, rate, subtype)
    return inspect(tmp_path / name)


def names(found: Inspection) -> list[str]:
    return [finding.name for finding in found.findings]


def done(*steps: Step, channels: int = 1) -> Signal:
    return degrade.apply(steps, voice(channels), RATE, np.random.default_rng(2))


# --- nothing ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "subtype"), [(44_100, "FLOAT"), (48_000, "PCM_16")])
def test_nothing_is_found_where_nothing_was_done(tmp_path: Path, rate: int, subtype: str) -> None:
    found = seen(tmp_path, voice(2, rate), rate, subtype=subtype)
    assert names(found) == []
    assert found.mode == ("extend" if rate < RATE else None)


def test_loud_but_unclipped_sound_is_not_clipped(tmp_path: Path) -> None:
    time = np.arange(RATE) / RATE
    tone = np.float32(0.9999) * np.sin(2 * np.pi * 997 * time, dtype=np.float32)[None]
    assert not seen(tmp_path, tone + 1e-3 * voice()[:, :RATE]).damage.declip


# --- figures ------------------------------------------------------------------------------------------------------------


def test_figures_are_those_of_the_samples(tmp_path: Path) -> None:
    signal = voice(2) + np.array([[0.02], [0.0]], np.float32)
    found = seen(tmp_path, signal, subtype="FLOAT")
    assert found.peak_dbfs == pytest.approx(20 * np.log10(np.abs(signal).max()), abs=1e-3)
    assert found.rms_dbfs == pytest.approx(10 * np.log10(np.mean(signal.astype(float) ** 2)), abs=1e-3)
    assert found.dc == pytest.approx(signal[0].mean(), abs=1e-6)
    assert names(found) == ["DC offset"]
    assert json.loads(json.dumps(found.as_dict()))["channels"] == 2


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Clip(share=0.01),),
        (PacketLoss(share=0.1, burst=1.5, fill="zero"),),
        (PacketLoss(share=0.1, fill="repeat"),),
    ],
)
@pytest.mark.parametrize("rate", [16_000, RATE])
def test_what_is_found_is_what_enhancing_goes_by(
    tmp_path: Path, make_model: ModelMaker, steps: tuple[Step, ...], rate: int
) -> None:
    low = audio.resample(audio.resample(done(*steps, channels=2), RATE, 16_000), 16_000, rate)
    found = seen(tmp_path, low, rate)
    treatment = Upsampler.load(make_model()).treatment_of(found.path, found.info)
    assert found.bandwidth_hz == treatment.cutoff_hz == pytest.approx(8_000, rel=0.05)
    damage = found.damage
    assert (damage.conceal, damage.declip, damage.denoise) == (treatment.conceal, treatment.declip, treatment.denoise)
    assert found.mode == ("restore" if treatment.repairs else "extend")
    assert {"lost packets": damage.conceal, "clipping": damage.declip, "noise": damage.denoise} == {
        name: name in names(found) for name in ("lost packets", "clipping", "noise")
    }


# --- damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 22_050])
def test_low_rate_is_a_narrow_band(tmp_path: Path, rate: int) -> None:
    found = seen(tmp_path, audio.resample(voice(), RATE, rate), rate)
    assert names(found) == ["narrow band"]
    assert (found.mode, found.bandwidth_hz) == ("extend", rate / 2)


@pytest.mark.parametrize(("name", "codec"), [("a.mp3", "MP3"), ("a.ogg", "Vorbis"), ("a.opus", "Opus")])
def test_lossy_file_says_so_itself(tmp_path: Path, name: str, codec: str) -> None:
    found = seen(tmp_path, voice(), name=name)
    assert any(finding.name == "lossy codec" and codec in finding.evidence for finding in found.findings)


def test_mp3_is_known_by_its_holes_when_stored_as_wav(tmp_path: Path) -> None:
    rng, time = np.random.default_rng(5), np.arange(4 * RATE) / RATE
    hiss = scipy.signal.lfilter([1.0, -0.5], [1.0], rng.standard_normal((2, len(time))))
    drums = sum(
        np.exp(-((time - at) % 0.5) * k) * ((time - at) % 0.5 < 0.45) * hiss[n] for n, (at, k) in enumerate(_DRUMS)
    )
    fall = np.exp(-6 * (time % 0.7))
    strings = sum(fall * np.sin(2 * np.pi * f * k * time) / k for f in (220, 331) for k in range(1, 20_000 // f))
    clean = drums + strings + 5e-4 * rng.standard_normal((1, len(time)))
    clean = np.asarray(0.5 * clean / np.abs(clean).max(), dtype=np.float32)
    coded = codecs.round_trip(clean, RATE, Codec(codec="mp3", kbps=64))
    assert "lossy codec" not in names(seen(tmp_path, clean))
    assert "lossy codec" in names(seen(tmp_path, coded))
    before, after = (empty / cells for empty, cells in (holes(clean, RATE, 24_000.0), holes(coded, RATE, 17_000.0)))
    assert before < HOLES / 2
    assert after > 1.5 * HOLES


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
def test_clipped_samples_are_counted(tmp_path: Path, subtype: str) -> None:
    found = seen(tmp_path, done(Clip(share=0.1), channels=2), subtype=subtype)
    assert names(found) == ["clipping"]
    assert found.damage.clipped == pytest.approx(0.1, rel=0.2)
    assert found.mode == "restore"


@pytest.mark.parametrize("bits", [6, 8])
@pytest.mark.parametrize("gain", [1.0, 0.61])
def test_few_levels_are_found_at_any_gain(tmp_path: Path, bits: int, gain: float) -> None:
    found = seen(tmp_path, np.float32(gain) * done(Quantise(bits=bits)))
    assert "coarse levels" in names(found)
    assert "clipping" not in names(found)
    if gain == 1.0:
        assert any(f"{bits}-bit step" in finding.evidence for finding in found.findings)


@pytest.mark.parametrize("fill", ["zero", "repeat"])
def test_lost_packets_are_found(tmp_path: Path, fill: str) -> None:
    lost = PacketLoss(share=0.1, burst=1.5, fill=fill)  # type: ignore[arg-type]
    found = seen(tmp_path, done(lost, channels=2))
    assert found.mode == "restore"
    assert names(found) == ["lost packets"]


def test_pauses_and_tones_are_no_lost_packets(tmp_path: Path) -> None:
    time = np.arange(SECONDS * RATE) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 500 * time)[None]
    fading = np.clip(np.abs(np.sin(2 * np.pi * time)) - 0.3, 0, None) * tone
    for signal in (tone, fading):
        assert "lost packets" not in names(seen(tmp_path, signal.astype(np.float32)))


@pytest.mark.parametrize("snr", [3, 10])
def test_steady_noise_is_found(tmp_path: Path, snr: float) -> None:
    noise = np.random.default_rng(3).standard_normal((1, SECONDS * RATE)).astype(np.float32)
    signal = voice()
    level = np.sqrt(np.mean(signal**2)) / 10 ** (snr / 20)
    assert names(seen(tmp_path, signal + np.float32(level) * noise)) == ["noise"]


@pytest.mark.parametrize(
    ("left", "right", "name"),
    [(1.0, 1.0, "dual mono"), (1.0, 0.0, "silent channel"), (1.0, -1.0, "opposite polarity"), (0.0, 0.0, "silence")],
)
def test_channels_that_are_not_two(tmp_path: Path, left: float, right: float, name: str) -> None:
    signal = voice() * np.array([[left], [right]], np.float32)
    assert names(seen(tmp_path, signal)) == [name]


# --- what cannot be looked at -------------------------------------------------------------------------------------------


def test_unusable_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(AudioError, match="not readable as audio"):
        inspect(tmp_path / "text.wav")
    audio.write(tmp_path / "empty.wav", np.zeros((1, 0), np.float32), 8_000)
    with pytest.raises(AudioError, match="holds no samples"):
        inspect(tmp_path / "empty.wav")
    audio.write(tmp_path / "nan.wav", np.full((1, 9_000), np.nan, np.float32), 8_000, "FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        inspect(tmp_path / "nan.wav")


@pytest.mark.parametrize("samples", [1, 7, 100, 2_000])
def test_short_file_is_looked_at(tmp_path: Path, samples: int) -> None:
    assert seen(tmp_path, voice()[:, 9_000 : 9_000 + samples]).info.frames == samples
