"""Laws of readers: all sound of a file comes out, as long as an independent decoder finds it, each loudspeaker in its place.

PyAV is that decoder: FFmpeg's own parsers, where ours are libsndfile and what mends heads for it.
"""

from __future__ import annotations

import builtins
import io
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import hostile
from hostile import chunk, riff, wave_format
from overtone import audio
from overtone.audio import AudioError, channels, wav

av: Any = pytest.importorskip("av", reason="PyAV is missing: pip install -e '.[media]'")

FMT = chunk(b"fmt ", wave_format())
SOUND = hostile.samples16()
DATA = chunk(b"data", SOUND)


def independent(data: bytes | Path) -> tuple[int, audio.Signal]:
    """Rate and samples (channels, samples) as PyAV decodes them."""
    with av.open(str(data) if isinstance(data, Path) else io.BytesIO(data)) as container:
        stream = container.streams.audio[0]
        count = stream.codec_context.layout.nb_channels
        packed = av.AudioResampler(format="flt")
        parts = [one.to_ndarray() for frame in container.decode(stream) for one in packed.resample(frame)]
        return stream.rate, np.concatenate([part.reshape(-1, count) for part in parts]).T


def check_like_independent(data: bytes) -> audio.Info:
    rate, expected = independent(data)
    info = audio.probe(io.BytesIO(data))
    signal, own_rate = audio.decode(data)
    assert (own_rate, signal.shape) == (rate, expected.shape)
    assert info.frames == signal.shape[1] == sum(part.shape[1] for part in audio.blocks(io.BytesIO(data), 777))
    if signal.shape[1] > 1_000:
        excerpt, _ = audio.read(io.BytesIO(data), 500, 300)
        np.testing.assert_allclose(excerpt, signal[:, 500:800], atol=2e-3)
    return info


# --- WAV ----------------------------------------------------------------------------------------------------------------

JUNK = chunk(b"JUNK", bytes(100))
ODD = chunk(b"odd ", b"odd")
INFO = chunk(b"LIST", b"INFO" + chunk(b"INAM", b"a title\x00"))
UNFINISHED = (0, 2**32 - 1, 2**31 - 1)


@pytest.mark.parametrize("before", [(FMT, JUNK, ODD), (ODD, FMT, JUNK), (JUNK, ODD, FMT)], ids=range(3))
@pytest.mark.parametrize("size", [None, *UNFINISHED])
@pytest.mark.parametrize("whole", [None, 0, 36, 2**32 - 1])
def test_wav_is_read_to_its_end_whatever_its_sizes_and_the_order_of_its_chunks(
    before: tuple[bytes, ...], size: int | None, whole: int | None
) -> None:
    data = riff(*before, chunk(b"data", SOUND, size), size=whole)
    assert check_like_independent(data).frames == hostile.FRAMES


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("bits", [8, 24])
@pytest.mark.parametrize("rate", [11_025, 96_000])
def test_wav_of_no_size_is_read_in_every_shape(count: int, bits: int, rate: int) -> None:
    samples = np.random.default_rng(bits).bytes(count * bits // 8 * 500)
    info = check_like_independent(
        riff(chunk(b"fmt ", wave_format(1, count, rate, bits)), INFO, chunk(b"data", samples, 0))
    )
    assert (info.frames, info.rate, info.channels) == (500, rate, count)
    assert "gives no length" in info.notes[0]


@pytest.mark.parametrize("behind", [b"", INFO, JUNK + INFO])
def test_empty_data_before_other_chunks_is_no_sound(behind: bytes) -> None:
    assert audio.probe(io.BytesIO(riff(FMT, chunk(b"data", b""), behind))).frames == 0


@pytest.mark.parametrize(
    "parts", [(FMT, DATA, DATA), (FMT, DATA, INFO, DATA), (DATA, FMT, DATA), (FMT, DATA, FMT, DATA)], ids=range(4)
)
def test_all_data_chunks_are_read(parts: tuple[bytes, ...]) -> None:
    info = audio.probe(io.BytesIO(riff(*parts)))
    assert info.frames == 2 * hostile.FRAMES
    assert "2 parts" in info.notes[0]
    signal, _ = audio.decode(riff(*parts))
    once, _ = audio.decode(riff(FMT, DATA))
    assert np.array_equal(signal, np.concatenate([once, once], axis=1))


def test_format_behind_the_sound_is_found() -> None:
    assert np.array_equal(audio.decode(riff(DATA, FMT))[0], audio.decode(riff(FMT, DATA))[0])


def test_sound_of_two_formats_is_refused() -> None:
    other = chunk(b"fmt ", wave_format(channels=2, rate=48_000))
    with pytest.raises(AudioError, match="two formats"):
        audio.decode(riff(FMT, DATA, other, DATA))


def test_joined_wav_files_are_read_on() -> None:
    joined = riff(FMT, DATA) + riff(FMT, INFO, DATA)
    assert audio.probe(io.BytesIO(joined)).frames == 2 * hostile.FRAMES


@pytest.mark.parametrize("lead", [b"", JUNK])
@pytest.mark.parametrize("beyond", [1, 2])
def test_size_that_wrapped_at_4_gb_is_unwrapped(tmp_path: Path, lead: bytes, beyond: int) -> None:
    """Sparse files: nothing of their gigabytes is stored or decoded."""
    size = beyond * 2**32 + 6_400
    head = riff(lead, FMT, chunk(b"data", b"", size % 2**32), size=(size + 36) % 2**32)
    path = tmp_path / "long.wav"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)
    info = audio.probe(path)
    assert info.frames == size // 2
    assert f"{info.seconds:.2f} s are there" in info.notes[0]
    assert audio.read(path, info.frames - 10, 10)[0].shape == (1, 10)


@pytest.mark.parametrize("said", [2, 1_000, 5_000])
def test_size_that_is_too_small_within_its_file_is_not_believed(said: int) -> None:
    info = audio.probe(io.BytesIO(riff(FMT, chunk(b"data", SOUND, said))))
    assert info.frames == hostile.FRAMES
    assert "0.40 s are there" in info.notes[0]


@pytest.mark.parametrize("name", ["ds64_of_zeros", "ds64_of_ones", "ds64_too_small"])
def test_rf64_is_read_to_its_end(name: str) -> None:
    sizes = {"ds64_of_zeros": (0, 0, 0), "ds64_of_ones": (2**64 - 1,) * 3, "ds64_too_small": (6_500, 1_000, 500)}[name]
    ds64 = chunk(b"ds64", struct.pack("<QQQI", *sizes, 0))
    data = riff(ds64, FMT, chunk(b"data", SOUND, 2**32 - 1), size=2**32 - 1, name=b"RF64")
    assert np.array_equal(audio.decode(data)[0], audio.decode(riff(FMT, DATA))[0])


@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_big_endian_wav_of_no_size_keeps_its_byte_order(size: int) -> None:
    whole = hostile.encoded(endian="BIG")
    place = whole.index(b"data") + 4
    broken = whole[:place] + struct.pack(">I", size) + whole[place + 4 :]
    assert np.array_equal(audio.decode(broken)[0], audio.decode(whole)[0])


def test_what_is_missing_is_told_and_what_lies_behind_too() -> None:
    whole = riff(FMT, DATA)
    assert "its header says 0.40 s, 0.20 s are there" in audio.probe(io.BytesIO(whole[: 44 + 3_200])).notes[0]
    assert "5000 bytes behind" in audio.probe(io.BytesIO(whole + b"\x5a" * 5_000)).notes[0]
    assert audio.probe(io.BytesIO(whole)).notes == ()


def test_mended_wav_keeps_its_texts() -> None:
    assert audio.remarks(io.BytesIO(riff(FMT, INFO, chunk(b"data", SOUND, 0)))) == {"title": "a title"}


@pytest.mark.parametrize("frames", [0, 999, 1_001])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_header_written_beforehand_makes_a_whole_file(frames: int, subtype: str, count: int) -> None:
    """Odd bytes get their pad."""
    from overtone.audio import sending

    encoder = sending.Encoder("wav", 48_000, count, frames, subtype, channels.USUAL[count] if count > 2 else 0)
    signal = 0.1 * np.random.default_rng(0).standard_normal((count, frames)).astype(np.float32)
    data = b"".join(sending.encoded(encoder, iter([signal])))
    assert len(data) % 2 == 0
    assert struct.unpack("<I", data[4:8])[0] == len(data) - 8
    if frames:
        assert check_like_independent(data).frames == frames


def test_walk_over_chunks_ends_on_any_bytes() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        wav.plan(io.BytesIO(b"RIFF" + rng.bytes(4) + b"WAVE" + rng.bytes(int(rng.integers(300)))), "x")


# --- AU, CAF, AIFF, W64 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("format", "size"), [("AU", ">I"), ("CAF", ">q")])
@pytest.mark.parametrize("said", [0, -1])
def test_other_containers_of_no_size_are_read_to_their_end(format: str, size: str, said: int) -> None:
    whole = hostile.encoded(format=format)
    place = 8 if format == "AU" else whole.index(b"data") + 4
    number = struct.pack(size, said % 2**32 if format == "AU" else said)
    broken = whole[:place] + number + whole[place + len(number) :]
    assert np.array_equal(audio.decode(broken)[0], audio.decode(whole)[0])
    assert bool(audio.probe(io.BytesIO(broken)).notes) == (said == 0)


@pytest.mark.parametrize("format", ["AIFF", "AU", "W64"])
def test_what_is_missing_in_other_containers_is_told(format: str) -> None:
    whole = hostile.encoded(format=format)
    assert audio.probe(io.BytesIO(whole)).notes == ()
    assert "are there and were read" in audio.probe(io.BytesIO(whole[: len(whole) // 2])).notes[0]


# --- MP3 ----------------------------------------------------------------------------------------------------------------


def mp3(seconds: float = 1.0, rate: int = 16_000, count: int = 1, **options: Any) -> bytes:
    """An MP3 file that begins softly, so that its first frames tell little of the others."""
    frames = round(seconds * rate)
    noise = np.random.default_rng(3).normal(0.0, 0.2, (frames, count)) * np.linspace(0.0, 1.0, frames)[:, None] ** 2
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, count, "MPEG_LAYER_III", format="MP3", **options) as file:
        file.write(noise)
    return buffer.getvalue()


def tag_of(data: bytes) -> int:
    return max(data.find(b"Xing"), data.find(b"Info"))


def without_head(data: bytes) -> bytes:
    """The same frames without the one that counts them."""
    sync = data[:2]
    return data[data.index(sync, 4) :]


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("count", [1, 2])
def test_right_mp3_head_gives_the_length_that_was_encoded(rate: int, count: int) -> None:
    info = audio.probe(io.BytesIO(mp3(1.0, rate, count)))
    assert (info.frames, info.notes) == (rate, ())


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize("front", [b"", hostile.id3()])
def test_mp3_of_no_or_wrong_count_is_counted_by_decoding(rate: int, mode: str, front: bytes) -> None:
    whole = mp3(2.0, rate, bitrate_mode=mode)
    place = tag_of(whole) + 8
    counted = check_like_independent(front + whole[:place] + bytes(4) + whole[place + 4 :])
    assert (0 <= counted.frames - 2 * rate < 2_500, counted.notes) == (True, ())
    for count in (3, 2**20):
        # FFmpeg cuts the padding out where the head says that the end is.
        info = audio.probe(io.BytesIO(front + whole[:place] + struct.pack(">I", count) + whole[place + 4 :]))
        assert info.frames == counted.frames
        assert "are there and were read" in info.notes[0]
    flags = whole[: place - 4] + struct.pack(">I", 0) + bytes(120) + whole[place + 120 :]
    assert 0 <= audio.probe(io.BytesIO(flags)).frames - 2 * rate < 4_000
    bare = check_like_independent(front + without_head(whole))
    assert 0 <= bare.frames - 2 * rate < 4_000


@pytest.mark.parametrize(("one", "other"), [(0.5, 1.5), (1.5, 0.5)])
@pytest.mark.parametrize("between", [b"", hostile.id3()])
def test_joined_mp3_files_are_read_on(one: float, other: float, between: bytes) -> None:
    info = audio.probe(io.BytesIO(mp3(one) + between + mp3(other)))
    assert 0 <= info.frames - 32_000 < 3_500
    assert "are there and were read" in info.notes[0]


@pytest.mark.parametrize("behind", [bytes(3_000), b"Z" * 5_000, b"\xff" * 2_000, b"TAG" + bytes(125)])
@pytest.mark.parametrize("bare", [False, True])
def test_junk_behind_an_mp3_file_costs_no_sound(behind: bytes, bare: bool) -> None:
    whole = without_head(mp3()) if bare else mp3()
    expected, _ = audio.decode(whole)
    signal, _ = audio.decode(whole + behind)
    np.testing.assert_array_equal(signal, expected)


@pytest.mark.parametrize(
    ("one", "other"), [((16_000, 1), (44_100, 1)), ((44_100, 1), (16_000, 1)), ((16_000, 1), (16_000, 2))]
)
@pytest.mark.parametrize("bare", [False, True])
def test_joined_mp3_files_of_two_shapes_are_refused(one: tuple[int, int], other: tuple[int, int], bare: bool) -> None:
    """A decoder would stop without a word where the second begins."""
    parts = [without_head(mp3(2.0, *shape)) if bare else mp3(2.0, *shape) for shape in (one, other)]
    with pytest.raises(AudioError, match=r"of . channels at .* Hz and . at .* Hz; expected one"):
        audio.probe(io.BytesIO(b"".join(parts)))


def test_headless_mp3_that_was_cut_off_is_read_as_far_as_it_goes() -> None:
    whole = without_head(mp3(4.0))
    info = audio.probe(io.BytesIO(whole[: len(whole) // 2]))
    assert 1.0 < info.seconds < 3.5
    assert audio.decode(whole[: len(whole) // 2])[0].shape[1] == info.frames


def test_mp3_that_was_cut_off_is_read_as_far_as_it_goes_and_told() -> None:
    whole = mp3(4.0)
    half = whole[: len(whole) // 2]
    info = audio.probe(io.BytesIO(half))
    assert abs(info.frames - independent(half)[1].shape[1]) <= 576, "but for the frame that is cut"
    assert 1.0 < info.seconds < 3.5
    assert "its header says 4.00 s" in info.notes[0]


# --- FLAC and Ogg -------------------------------------------------------------------------------------------------------


def with_length(data: bytes, frames: int) -> bytes:
    place = data.index(b"fLaC") + 21
    field = int.from_bytes(data[place : place + 5], "big") >> 36 << 36 | frames
    return data[:place] + field.to_bytes(5, "big") + data[place + 5 :]


@pytest.mark.parametrize("frames", [4_097, 20_000])
@pytest.mark.parametrize("front", [b"", hostile.id3()])
def test_flac_of_no_or_too_small_length_is_read_to_its_end(frames: int, front: bytes) -> None:
    whole = front + hostile.encoded(hostile.sound(frames, 2), "FLAC", rate=44_100)
    for said in (0, 1, frames - 1):
        info = check_like_independent(with_length(whole, said))
        assert (info.frames, bool(info.notes)) == (frames, bool(said))
    assert audio.probe(io.BytesIO(whole)).notes == ()


def test_right_flac_is_not_decoded_to_be_probed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips are probed many times."""
    from overtone.audio import flac, libsndfile

    counted = libsndfile.decodable

    def last(*given: Any) -> int:
        count = counted(*given)
        assert count <= 1
        return count

    monkeypatch.setattr(flac, "decodable", last)
    for frames, count in ((100, 1), (4_096, 1), (50_001, 2), (300_000, 1)):
        whole = hostile.encoded(hostile.sound(frames, count), "FLAC", rate=48_000)
        assert audio.probe(io.BytesIO(whole)).frames == frames


def test_mp3_that_was_counted_in_steps_is_not_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from overtone.audio import mp3 as reader

    data = without_head(mp3(100.0))
    expected, file = audio.probe(io.BytesIO(data)), io.BytesIO(data)
    steps = list(audio.counting(file))
    assert [round(step / expected.rate / 30) for step in steps] == [1, 2, 3]
    monkeypatch.setattr(reader, "counted", None)
    assert audio.probe(file) == expected


@pytest.mark.parametrize("format", ["FLAC", "MP3"])
def test_counting_ends_where_more_would_be_refused(format: str) -> None:
    data = with_length(hostile.flac_of_silence(600.0), 0) if format == "FLAC" else without_head(mp3(60.0))
    info = audio.probe(io.BytesIO(data), 10.0)
    assert 10.0 < info.seconds < 20.0


@pytest.mark.parametrize(("format", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("OGG", "OPUS")])
@pytest.mark.parametrize("count", [2, 3])
def test_joined_streams_are_read_on(format: str, subtype: str, count: int) -> None:
    parts = [hostile.encoded(hostile.sound(4_000 + 999 * n, seed=n), format, subtype) for n in range(count)]
    info = audio.probe(io.BytesIO(b"".join(parts)))
    signal, rate = audio.decode(b"".join(parts))
    assert info.frames == signal.shape[1] == sum(audio.decode(part)[0].shape[1] for part in parts)
    np.testing.assert_allclose(signal[:, : 4_000 * rate // 8_000], audio.decode(parts[0])[0], atol=1e-6)
    last, _ = audio.decode(parts[-1])
    np.testing.assert_allclose(signal[:, -last.shape[1] :], last, atol=1e-6)
    place = signal.shape[1] - last.shape[1] + 100
    np.testing.assert_allclose(audio.read(io.BytesIO(b"".join(parts)), place, 500)[0], last[:, 100:600], atol=2e-3)
    assert str(count) in info.notes[0]


@pytest.mark.parametrize(("format", "subtype"), [("FLAC", "PCM_16"), ("OGG", "VORBIS")])
def test_joined_streams_of_two_shapes_are_refused_with_both(format: str, subtype: str) -> None:
    other = hostile.encoded(hostile.sound(channels=2), format, subtype, 16_000)
    with pytest.raises(AudioError, match="1 channels at 8000 Hz and 2 at 16000 Hz"):
        audio.decode(hostile.encoded(format=format, subtype=subtype) + other)


@pytest.mark.parametrize("noted", [8_000, 24_000, 48_000])
@pytest.mark.parametrize("count", [1, 2])
def test_opus_is_decoded_at_48_khz_whatever_rate_its_head_notes(noted: int, count: int) -> None:
    data = hostile.encoded(hostile.sound(noted // 2, count), "OGG", "OPUS", noted)
    info = check_like_independent(data)
    assert (info.rate, info.frames) == (48_000, 24_000)


def test_opus_whose_head_is_wrong_keeps_what_lies_above_the_noted_rate() -> None:
    time = np.arange(48_000) / 48_000
    tone = np.stack([0.3 * np.sin(2 * np.pi * 15_000 * time)]).T
    data = bytearray(hostile.encoded(tone.astype(np.float32), "OGG", "OPUS", 48_000))
    from mutagen.ogg import OggPage

    page = OggPage(io.BytesIO(bytes(data)))
    first = len(page.write())
    for noted in (8_000, 16_000, 44_100, 0):
        page.packets = [page.packets[0][:12] + struct.pack("<I", noted) + page.packets[0][16:]]
        signal, rate = audio.decode(page.write() + bytes(data[first:]))
        spectrum = np.abs(np.fft.rfft(signal[0, :48_000]))
        assert (rate, int(spectrum.argmax())) == (48_000, 15_000)


# --- loudspeakers -------------------------------------------------------------------------------------------------------

# Encoders cut the low-frequency channel off early.
TONES = {name: 110.0 + 70 * index for index, name in enumerate(channels.NAMES)} | {"LFE": 60.0}
MASKS = (0x7, 0x37, 0x3F, 0x60F, 0x63F)
TARGETS = ("wav", "flac", "ogg", "opus", "caf")


def tones(mask: int, rate: int = 48_000) -> audio.Signal:
    time = np.arange(rate) / rate
    return np.stack([0.3 * np.sin(2 * np.pi * TONES[name] * time) for name in channels.names(mask)]).astype(np.float32)


def frequencies(signal: audio.Signal) -> list[float]:
    return [float(np.abs(np.fft.rfft(channel[:48_000])).argmax()) for channel in signal]


def as_back(names: list[str]) -> list[str]:
    """Containers with one kind of 5.1 do not tell side from rear loudspeakers."""
    return [{"SL": "BL", "SR": "BR"}.get(name, name) for name in names] if len(names) < 7 else names


@pytest.mark.parametrize("mask", MASKS, ids=hex)
@pytest.mark.parametrize("extension", TARGETS)
def test_loudspeakers_never_change_places(tmp_path: Path, mask: int, extension: str) -> None:
    count, path = mask.bit_count(), tmp_path / f"a.{extension}"
    info = audio.Info(48_000, count, 48_000, "WAVEX", "PCM_16", mask)
    format, subtype = audio.container_for(path, info, 48_000)
    with audio.Writer(path, 48_000, count, format, subtype, mask=mask) as file:
        file.write(tones(mask))
    expected = dict(zip(as_back(channels.names(mask)), frequencies(tones(mask)), strict=True))
    ours = channels.names(audio.probe(path).mask or mask)
    assert dict(zip(as_back(ours), frequencies(audio.read(path)[0]), strict=True)) == expected
    with av.open(str(path)) as container:
        theirs = [one.name for one in container.streams.audio[0].codec_context.layout.channels]
    if "NONE" not in theirs:
        assert dict(zip(as_back(theirs), frequencies(independent(path)[1]), strict=True)) == expected
    if extension in ("wav", "flac"):
        assert audio.probe(path).mask == mask, "kept as it is"


@pytest.mark.parametrize("before", [(), (JUNK,), (ODD, INFO)], ids=["first", "behind junk", "behind texts"])
@pytest.mark.parametrize("size", [None, 0])
def test_mask_is_read_wherever_the_format_stands(before: tuple[bytes, ...], size: int | None) -> None:
    guid = bytes.fromhex("0100000000001000800000aa00389b71")
    extensible = chunk(b"fmt ", wave_format(0xFFFE, 6, 48_000, 16, more=struct.pack("<HHI", 22, 16, 0x60F) + guid))
    samples = (tones(0x60F).T * 32_767).astype("<i2").tobytes()
    data = riff(*before, extensible, chunk(b"data", samples, size))
    assert audio.probe(io.BytesIO(data)).mask == 0x60F
    assert frequencies(audio.decode(data)[0]) == frequencies(tones(0x60F))


@pytest.mark.parametrize(("mask", "target"), [(0xF, "a.ogg"), (0x107, "a.opus"), (0x3F3, "a.opus")])
def test_loudspeakers_that_a_container_has_no_place_for_are_refused(mask: int, target: str) -> None:
    info = audio.Info(48_000, mask.bit_count(), 1_000, "WAVEX", "PCM_16", mask)
    with pytest.raises(AudioError, match=f"{target}: cannot hold the loudspeakers FL FR"):
        audio.container_for(Path(target), info, 1_000)


@pytest.mark.parametrize("mask", [*MASKS, 0xF, 0xFF, 0x6FF])
def test_centre_and_low_frequencies_are_in_no_pair(mask: int) -> None:
    names = channels.names(mask)
    paired = [(names[left], names[right]) for left, right in channels.pairs(mask, len(names))]
    assert ("FL", "FR") in paired
    assert not {"FC", "LFE", "BC"} & {name for pair in paired for name in pair}
    assert all(left.replace("L", "R") == right for left, right in paired)


def test_pairs_without_a_mask_are_those_of_the_usual_loudspeakers() -> None:
    assert channels.pairs(0, 1) == []
    assert channels.pairs(0, 2) == [(0, 1)]
    assert channels.pairs(0, 6) == [(0, 1), (4, 5)]
    assert channels.pairs(0, 12) == []


# --- video and phone files ----------------------------------------------------------------------------------------------


def media(name: str, codec: str, rate: int, layout: str, format: str, seconds: float = 1.0) -> bytes:
    """A file that FFmpeg writes."""
    count = av.AudioLayout(layout).nb_channels
    time = np.arange(round(seconds * rate)) / rate
    signal = np.stack([0.3 * np.sin(2 * np.pi * 220 * (n + 1) * time) for n in range(count)], axis=1)
    buffer = io.BytesIO()
    buffer.name = name
    with av.open(buffer, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        packed = np.ascontiguousarray(signal, dtype=np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


MEDIA = {
    "a.m4a": ("aac", 48_000, "stereo", "ipod"),
    "six.m4a": ("aac", 48_000, "5.1", "ipod"),
    "lossless.m4a": ("alac", 44_100, "stereo", "ipod"),
    "film.mp4": ("aac", 44_100, "mono", "mp4"),
    "film.mov": ("aac", 48_000, "stereo", "mov"),
    "film.webm": ("libopus", 48_000, "stereo", "webm"),
    "film.mkv": ("flac", 48_000, "7.1", "matroska"),
    "note.aac": ("aac", 16_000, "mono", "adts"),
}


@pytest.mark.parametrize("name", MEDIA)
def test_media_file_is_read_as_long_as_it_is(tmp_path: Path, name: str) -> None:
    codec, rate, layout, format = MEDIA[name]
    data = media(name, codec, rate, layout, format)
    found, expected = independent(data)
    for source in (io.BytesIO(data), tmp_path / name):
        if isinstance(source, Path):
            source.write_bytes(data)
        info = audio.probe(source)
        signal, _ = audio.read(source)
        assert (info.rate, info.channels, info.frames) == (found, len(expected), expected.shape[1])
        np.testing.assert_allclose(signal, expected, atol=1e-6)
        assert sum(block.shape[1] for block in audio.blocks(source, 1_000)) == info.frames
        excerpt, _ = audio.read(source, rate // 2, 2_000)
        assert np.abs(np.fft.rfft(excerpt[0])).argmax() == np.abs(np.fft.rfft(signal[0, :2_000])).argmax()


def test_damaged_media_file_is_read_around_its_damage() -> None:
    data = bytearray(media("note.aac", *MEDIA["note.aac"]))
    middle = data.index(b"\xff\xf1", len(data) // 2)
    data[middle + 7 : middle + 60] = bytes(53)
    info = audio.probe(io.BytesIO(bytes(data)))
    assert info.seconds > 0.8
    assert audio.decode(bytes(data))[0].shape[1] == info.frames


def test_phone_recording_is_read() -> None:
    data = media("a.amr", "libopencore_amrnb", 8_000, "mono", "amr")
    info = audio.probe(io.BytesIO(data))
    assert (info.rate, info.channels) == (8_000, 1)
    assert info.frames == independent(data)[1].shape[1]


@pytest.mark.parametrize("name", ["a.m4a", "note.aac", "film.webm"])
def test_without_the_extra_a_media_file_names_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(media(name, *MEDIA[name]))
    plain: Callable[..., Any] = builtins.__import__

    def lacking(module: str, *rest: Any, **more: Any) -> Any:
        if module == "av":
            raise ModuleNotFoundError("No module named 'av'", name="av")
        return plain(module, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(AudioError, match=r"pip install '\.\[media\]'"):
        audio.probe(path)
    with pytest.raises(AudioError, match=r"pip install '\.\[media\]'"):
        audio.write(tmp_path / "b.m4a", np.zeros((1, 100), np.float32), 48_000)


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("frames", [1, 1_000, 50_001])
def test_m4a_is_written_from_the_first_sample_on(tmp_path: Path, count: int, frames: int) -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.01, (count, frames)).astype(np.float32)
    signal = noise + np.tile(tones(channels.USUAL[count]), 2)[:, :frames]
    audio.write(tmp_path / "a.m4a", signal, 48_000)
    back, rate = audio.read(tmp_path / "a.m4a")
    assert rate == 48_000
    assert 0 <= back.shape[1] - frames < 2_048
    if frames > 48_000:
        rough, sharp = (np.diff(one[0, :50_000], n=3) for one in (back, signal))
        lags = [float(rough[2_000 + lag : 40_000 + lag] @ sharp[2_000:40_000]) for lag in range(-200, 200)]
        assert int(np.argmax(lags)) == 200
        assert frequencies(back) == frequencies(signal)


@pytest.mark.parametrize("start", [b"\x00\x00\x00\x20ftypM4A ", b"\x1a\x45\xdf\xa3", b"#!AMR\n", b"\xff\xf1\x50\x80"])
def test_broken_media_file_is_a_sentence(start: bytes) -> None:
    with pytest.raises(AudioError, match="audio: not readable as audio"):
        audio.decode(start + np.random.default_rng(0).bytes(500))
