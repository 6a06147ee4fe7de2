"""Laws of audio files: what is written is read back, what cannot be used is named, and nothing is half written."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from overtone import audio
from overtone.audio import AudioError, Signal

STEP = 1 / 32_768
LOSSLESS = ["wav", "flac", "aiff", "caf", "rf64"]
LOSSY = ["ogg", "opus", "mp3"]


def tone(samples: int, channels: int = 1, rate: int = 48_000, frequency: float = 440.0) -> Signal:
    time = np.arange(samples) / rate
    return np.stack([0.5 * np.sin(2 * np.pi * frequency * (c + 1) * time) for c in range(channels)]).astype(np.float32)


def noise(samples: int, channels: int = 1, seed: int = 0) -> Signal:
    return (0.1 * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


# --- round trips --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_lossless_format_gives_back_16_bit(tmp_path: Path, extension: str, channels: int) -> None:
    path, signal = tmp_path / f"a.{extension}", noise(5_000, channels)
    audio.write(path, signal, 44_100)
    back, rate = audio.read(path)
    assert (rate, back.shape) == (44_100, signal.shape)
    assert back.dtype == np.float32
    assert np.abs(back - signal).max() <= STEP


@pytest.mark.parametrize("extension", LOSSY)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossy_format_keeps_rate_channels_and_sound(tmp_path: Path, extension: str, channels: int) -> None:
    path, signal = tmp_path / f"a.{extension}", tone(48_000, channels)
    audio.write(path, signal, 48_000)
    back, rate = audio.read(path)
    assert (rate, back.shape[0]) == (48_000, channels)
    inner = slice(8_000, 40_000)
    for ours, theirs in zip(back, signal, strict=True):
        assert np.corrcoef(ours[inner], theirs[inner])[0, 1] > 0.99


@pytest.mark.parametrize(("subtype", "error"), [("PCM_16", STEP), ("PCM_24", STEP / 200), ("FLOAT", 0.0)])
def test_bit_depth_asked_for_is_written(tmp_path: Path, subtype: str, error: float) -> None:
    signal = noise(2_000)
    audio.write(tmp_path / "a.wav", signal, 48_000, subtype)
    assert audio.probe(tmp_path / "a.wav").subtype == subtype
    assert np.abs(audio.read(tmp_path / "a.wav")[0] - signal).max() <= error


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3", "WAV"])
def test_encoded_bytes_decode(format: str) -> None:
    signal = tone(24_000, 2)
    back, rate = audio.decode(audio.encode(signal, 48_000, format))
    assert (rate, back.shape[0]) == (48_000, 2)
    assert abs(back.shape[1] - 24_000) < 2_400


def test_peaks_above_full_scale_clip_and_do_not_wrap(tmp_path: Path) -> None:
    signal = np.float32(3.0) * tone(2_000)
    audio.write(tmp_path / "a.wav", signal, 48_000)
    assert np.abs(audio.read(tmp_path / "a.wav")[0] - np.clip(signal, -1, 1)).max() <= STEP


def test_long_vorbis_is_written_without_a_crash(tmp_path: Path) -> None:
    """One write of this length makes libsndfile overflow the stack."""
    signal = noise(48_000 * 70)
    audio.write(tmp_path / "a.ogg", signal, 48_000)
    assert audio.probe(tmp_path / "a.ogg").frames == signal.shape[1]


# --- parts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg"])
def test_excerpt_is_a_part_of_the_whole(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"a.{extension}"
    audio.write(path, noise(20_000, 2), 48_000)
    whole, _ = audio.read(path)
    np.testing.assert_allclose(audio.read(path, 4_000, 3_000)[0], whole[:, 4_000:7_000], atol=1e-4)
    np.testing.assert_allclose(audio.read(path, 19_000)[0], whole[:, 19_000:], atol=1e-4)
    assert audio.read(path, 19_000, 5_000)[0].shape == (2, 1_000)


@pytest.mark.parametrize("extension", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("size", [999, 20_000, 65_536])
def test_blocks_joined_are_the_whole(tmp_path: Path, extension: str, size: int) -> None:
    path = tmp_path / f"a.{extension}"
    audio.write(path, noise(70_001, 2), 48_000)
    parts = list(audio.blocks(path, size))
    assert all(part.shape[1] == size for part in parts[:-1])
    assert np.array_equal(np.concatenate(parts, axis=1), audio.read(path)[0])


def test_header_says_what_the_file_holds(tmp_path: Path) -> None:
    audio.write(tmp_path / "a.flac", noise(24_000, 2), 16_000)
    info = audio.probe(tmp_path / "a.flac")
    assert (info.rate, info.channels, info.frames, info.seconds) == (16_000, 2, 24_000, 1.5)
    assert (info.format, info.subtype) == ("FLAC", "PCM_16")


# --- container ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "subtype", "expected"),
    [
        ("a.wav", None, ("WAV", "PCM_16")),
        ("a.WAV", "PCM_24", ("WAV", "PCM_24")),
        ("a.wav", "FLOAT", ("WAV", "FLOAT")),
        ("a.flac", "PCM_24", ("FLAC", "PCM_24")),
        ("a.flac", "FLOAT", ("FLAC", "PCM_16")),
        ("a.ogg", "PCM_24", ("OGG", "VORBIS")),
        ("a.opus", None, ("OGG", "OPUS")),
        ("a.mp3", "PCM_16", ("MP3", "MPEG_LAYER_III")),
        ("a.aif", "PCM_16", ("AIFF", "PCM_16")),
        ("a.caf", "DOUBLE", ("CAF", "DOUBLE")),
    ],
)
def test_bit_depth_is_kept_where_the_format_holds_it(name: str, subtype: str | None, expected: tuple[str, str]) -> None:
    assert audio.container(Path(name), subtype) == expected


@pytest.mark.parametrize("subtype", ["MPEG_LAYER_III", "VORBIS", "OPUS", "GSM610", "ULAW", "IMA_ADPCM", "PCM_U8"])
def test_encoder_of_the_source_is_not_taken_over(subtype: str) -> None:
    """An MP3 or a telephone recording that becomes a WAV becomes plain 16 bit."""
    assert audio.container(Path("a.wav"), subtype) == ("WAV", "PCM_16")


@pytest.mark.parametrize("name", ["a.aac", "a.txt", "a", "a.wav.zip"])
def test_format_that_cannot_be_written_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(AudioError, match=rf"{name}: cannot write .*; expected \.wav, \.flac"):
        audio.write(tmp_path / name, noise(10), 48_000)
    assert list(tmp_path.iterdir()) == []


# --- errors -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [audio.probe, audio.read, lambda path: list(audio.blocks(path))])
def test_unusable_file_is_named_with_what_was_expected(tmp_path: Path, call: object) -> None:
    assert callable(call)
    with pytest.raises(AudioError, match=r"none\.wav: no such file"):
        call(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="not a file"):
        call(tmp_path)
    for content in (b"", b"RIFF", b"surely no audio" * 100):
        (tmp_path / "bad.wav").write_bytes(content)
        with pytest.raises(AudioError, match=r"bad\.wav: not readable as audio .*expected WAV, FLAC, Ogg .* MP3"):
            call(tmp_path / "bad.wav")


@pytest.mark.parametrize("data", [b"", b"no audio"])
def test_bytes_that_are_no_audio_are_refused(data: bytes) -> None:
    with pytest.raises(AudioError, match="audio: not readable as audio"):
        audio.decode(data)


@pytest.mark.parametrize(("format", "channels", "rate"), [("mp3", 3, 48_000), ("opus", 1, 44_100), ("flac", 9, 48_000)])
def test_what_a_format_cannot_hold_is_said(tmp_path: Path, format: str, channels: int, rate: int) -> None:
    with pytest.raises(AudioError, match=f"cannot hold {channels} channels at {rate} Hz"):
        audio.write(tmp_path / f"a.{format}", noise(100, channels), rate)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AudioError, match=f"cannot hold {channels} channels at {rate} Hz"):
        audio.encode(noise(100, channels), rate, format)


# --- writing ------------------------------------------------------------------------------------------------------------


def test_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fails() -> None:
        with audio.replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_failing_writer_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = audio.Writer.write

    def fails(self: audio.Writer, block: Signal) -> None:
        plain(self, block[:, :100])
        raise OSError("disk full")

    monkeypatch.setattr(audio.Writer, "write", fails)
    with pytest.raises(OSError, match="disk full"):
        audio.write(tmp_path / "a.wav", noise(1_000), 48_000)
    assert list(tmp_path.iterdir()) == []


def test_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with audio.replacing(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        assert not path.exists()
        inode = temporary.stat().st_ino
    assert path.read_text() == "whole"
    assert path.stat().st_ino == inode, "renamed, not copied"
    assert list(path.parent.iterdir()) == [path]


def test_file_has_the_rights_that_the_umask_grants(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        audio.write(tmp_path / "a.wav", noise(10), 48_000)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == 0o640


def test_block_by_block_is_the_same_file(tmp_path: Path) -> None:
    signal = noise(100_000, 2)
    audio.write(tmp_path / "a.flac", signal, 48_000)
    with audio.Writer(tmp_path / "b.flac", 48_000, 2, "FLAC", "PCM_16") as file:
        for start in range(0, 100_000, 7_777):
            file.write(signal[:, start : start + 7_777])
    assert np.array_equal(audio.read(tmp_path / "a.flac")[0], audio.read(tmp_path / "b.flac")[0])


# --- resampling ---------------------------------------------------------------------------------------------------------

RATES = [8_000, 11_025, 44_100, 96_000]


@pytest.mark.parametrize("source", RATES)
@pytest.mark.parametrize("target", [8_000, 44_100, 48_000])
def test_resampled_length_is_the_nearest_whole_number(source: int, target: int) -> None:
    for samples in (0, 1, 2, 99, 441, 1_000, 12_345):
        out = audio.resample(noise(samples, 2), source, target)
        assert out.shape == (2, audio.resampled_length(samples, source, target))
        assert abs(out.shape[1] - samples * target / source) <= 0.5
        assert out.dtype == np.float32


@pytest.mark.parametrize("source", RATES)
def test_resampling_keeps_every_sample_in_its_place(source: int) -> None:
    """A tone resampled is the tone, not a delayed one."""
    out = audio.resample(tone(source, rate=source), source, 48_000)
    inner = slice(5_000, -5_000)
    np.testing.assert_allclose(out[0, inner], tone(48_000)[0, inner], atol=1e-4)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_up_and_down_again_is_the_identity(rate: int) -> None:
    signal = audio.resample(audio.resample(noise(rate), rate, rate // 2), rate // 2, rate)
    back = audio.resample(audio.resample(signal, rate, 48_000), 48_000, rate)
    assert back.shape == signal.shape
    assert np.abs(back - signal)[:, 1_000:-1_000].max() < 1e-4


def test_tone_above_the_new_band_is_removed() -> None:
    out = audio.resample(tone(48_000, frequency=10_000), 48_000, 16_000)
    assert np.abs(out[:, 500:-500]).max() < 1e-4


def test_channels_are_resampled_alike_and_apart() -> None:
    signal = noise(9_000, 3)
    together = audio.resample(signal, 16_000, 48_000)
    for index in range(3):
        alone = audio.resample(signal[index : index + 1], 16_000, 48_000)
        np.testing.assert_allclose(together[index : index + 1], alone, atol=1e-7)


def test_length_is_cut_or_filled_at_the_end() -> None:
    signal = noise(10, 2)
    assert np.array_equal(audio.fit_length(signal, 7), signal[:, :7])
    longer = audio.fit_length(signal, 12)
    assert np.array_equal(longer[:, :10], signal)
    assert not longer[:, 10:].any()
    assert audio.fit_length(signal, 0).shape == (2, 0)
