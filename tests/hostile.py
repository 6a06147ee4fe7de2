"""Hostile and odd audio files, some 440 of them, made from fixed seeds, each with what the documentation says of it.

`docs/reference/formats.md` states the rules; a `Case` names the verdict that they give. Only damage inside a file's
sound or head may end in either: what a decoder can still make sense of is not ours to say, that it ends well is.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

Verdict = Literal["accepted", "refused", "either"]

RATE = 8_000
FRAMES = 3_200
# Container -> libsndfile's format and subtype.
CONTAINERS = {
    "wav": ("WAV", "PCM_16"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
}
# These hold no number of samples that could be missed when the end is.
_NO_LENGTH = ("ogg", "opus", "mp3")
_PLAIN = ("wav", "aiff", "au", "caf", "w64", "rf64")


@dataclass(frozen=True)
class Case:
    """A file to make: its bytes, or what makes it in a folder (a pipe, a link) or nothing where it cannot be made."""

    name: str
    verdict: Verdict
    data: bytes | Callable[[Path], None]

    @property
    def is_file(self) -> bool:
        return isinstance(self.data, bytes)


def sound(frames: int = FRAMES, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Noise with a slow swell, shape (frames, channels), well below full scale."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (frames, channels))
    return (noise * (0.5 + 0.5 * np.sin(np.arange(frames) / 400))[:, None]).astype(np.float32)


def encoded(
    samples: np.ndarray | None = None,
    format: str = "WAV",
    subtype: str = "PCM_16",
    rate: int = RATE,
    endian: str = "FILE",
) -> bytes:
    """A whole, sound file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, sound() if samples is None else samples, rate, subtype, endian, format)
    return buffer.getvalue()


def cases() -> list[Case]:
    """All of them; names are unique."""
    parts = (
        *(_sound_ones, _signals, _encodings, _truncated, _not_audio, _riff, _odd_riff),
        *(_aiff, _au, _caf, _flac, _mp3, _ogg, _names, _no_files),
    )
    return [case for part in parts for case in part()]


def make(folder: Path, chosen: list[Case]) -> list[Case]:
    """Write cases into a folder; those that this machine can make."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for case in chosen:
        path = folder / case.name
        try:
            if isinstance(case.data, bytes):
                path.write_bytes(case.data)
            else:
                case.data(path)
        except OSError:
            # Names and kinds of file that not every file system holds.
            continue
        made.append(case)
    return made


# --- what is well formed ------------------------------------------------------------------------------------------------


def _sound_ones() -> Iterator[Case]:
    for name, (format, subtype) in CONTAINERS.items():
        yield Case(f"whole.{name}", "accepted", encoded(format=format, subtype=subtype))
        yield Case(f"stereo.{name}", "accepted", encoded(sound(channels=2), format, subtype))
    wrong = {"wav": "FLAC", "flac": "WAV", "mp3": "OGG", "ogg": "MP3", "aiff": "AU"}
    for name, format in wrong.items():
        subtype = str(soundfile.default_subtype(format))
        yield Case(f"really_{format.lower()}.{name}", "accepted", encoded(format=format, subtype=subtype))


def _signals() -> Iterator[Case]:
    time = np.arange(FRAMES)
    plain = {
        "direct_current": np.full(FRAMES, 0.5),
        "full_scale_square": np.sign(np.sin(time / 20) + 1e-9),
        "silence": np.zeros(FRAMES),
        "impulse": (time == 1_000).astype(float),
        "denormal": np.full(FRAMES, 1e-40),
        "one_sample": np.full(1, 0.5),
        "two_samples": np.full(2, 0.5),
        "seven_samples": np.full(7, -0.5),
        "above_full_scale": 7.0 * np.sin(time / 3),
        "far_above_full_scale": 60.0 * np.sin(time / 3),
    }
    for name, samples in plain.items():
        yield Case(f"{name}.wav", "accepted", encoded(samples.astype(np.float32), subtype="FLOAT"))
    holed = {
        "nan": np.nan,
        "infinite": np.inf,
        "minus_infinite": -np.inf,
        "of_integer_scale": 32_767.0,
        "beyond_any_sound": 1e30,
        "greatest_float": np.finfo(np.float32).max,
    }
    for name, value in holed.items():
        yield Case(f"all_{name}.wav", "refused", encoded(np.full(FRAMES, value, np.float32), subtype="FLOAT"))
        for where in (0, FRAMES // 2, FRAMES - 1):
            samples = sound()
            samples[where] = value
            yield Case(f"one_{name}_{where}.wav", "refused", encoded(samples, subtype="FLOAT"))
    yield Case("nan.caf", "refused", encoded(np.full(FRAMES, np.nan, np.float32), "CAF", "FLOAT"))
    yield Case("beyond_float.wav", "refused", encoded(np.full(FRAMES, 1e300), subtype="DOUBLE"))
    yield Case("no_samples.wav", "refused", encoded(sound(0)))
    yield Case("no_samples.flac", "refused", encoded(sound(0), "FLAC"))
    yield Case("no_samples.aiff", "refused", encoded(sound(0), "AIFF"))
    for rate, verdict in _RATES.items():
        yield Case(f"at_{rate}.wav", verdict, encoded(rate=rate))
    # What FLAC can say of a rate.
    yield Case("at_1.flac", "refused", encoded(format="FLAC", rate=1))
    yield Case("at_655350.flac", "accepted", encoded(format="FLAC", rate=655_350))
    for channels, verdict in _CHANNELS.items():
        yield Case(f"{channels}_channels.wav", verdict, encoded(sound(400, channels)))


_RATES: dict[int, Verdict] = {
    **dict.fromkeys((1, 2, 100, 1_999, 768_001, 1_000_000, 2**31 - 1), "refused"),
    **dict.fromkeys((2_000, 5_512, 11_025, 44_101, 47_999, 96_000, 192_000, 768_000), "accepted"),
}
_CHANNELS: dict[int, Verdict] = {3: "accepted", 8: "accepted", 64: "accepted", 65: "refused", 1024: "refused"}


def _encodings() -> Iterator[Case]:
    for format, subtypes in {
        "WAV": (
            "PCM_U8",
            "PCM_24",
            "PCM_32",
            "FLOAT",
            "DOUBLE",
            "ULAW",
            "ALAW",
            "IMA_ADPCM",
            "MS_ADPCM",
            "GSM610",
            "G721_32",
        ),
        "WAVEX": ("PCM_16", "PCM_24", "FLOAT"),
        "AIFF": ("PCM_24", "PCM_U8", "FLOAT", "ULAW", "ALAW", "IMA_ADPCM", "GSM610"),
        "AU": ("PCM_24", "FLOAT", "ULAW", "G721_32", "G723_24"),
        "CAF": ("PCM_24", "ALAC_16", "ALAC_32", "ULAW"),
        "W64": ("PCM_24", "GSM610", "MS_ADPCM"),
        "FLAC": ("PCM_S8", "PCM_24"),
    }.items():
        for subtype in subtypes:
            yield Case(f"{format}-{subtype}.{_extension(format)}", "accepted", encoded(format=format, subtype=subtype))
    for format in ("WAV", "AIFF"):
        for endian in ("LITTLE", "BIG"):
            yield Case(f"{endian}.{_extension(format)}", "accepted", encoded(format=format, endian=endian))


def _extension(format: str) -> str:
    return "wav" if format == "WAVEX" else format.lower()


# --- what was whole once ------------------------------------------------------------------------------------------------


def _truncated() -> Iterator[Case]:
    for name, (format, subtype) in CONTAINERS.items():
        whole = encoded(format=format, subtype=subtype)
        for size in (0, 1, 4, 11, 20):
            yield Case(f"cut_to_{size}.{name}", "refused", whole[:size])
        for share in (0.5, 0.9):
            verdict: Verdict = (
                "either"
                if name == "caf"
                else "accepted"
                if name in _PLAIN
                else "either"
                if name in _NO_LENGTH
                else "refused"
            )
            yield Case(f"cut_to_{share}.{name}", verdict, whole[: int(share * len(whole))])
        yield Case(f"one_byte_short.{name}", "accepted" if name in _PLAIN[:3] else "either", whole[:-1])
        yield Case(f"junk_behind.{name}", "accepted" if name in _PLAIN else "either", whole + b"\x5a" * 5_000)


def _not_audio() -> Iterator[Case]:
    rng = np.random.default_rng(7)
    others = {
        "text.wav": b"This is no sound.\n" * 100,
        "page.mp3": b"<!doctype html><title>404</title>" * 50,
        "picture.flac": b"\x89PNG\r\n\x1a\n" + rng.bytes(2_000),
        "archive.ogg": b"PK\x03\x04" + rng.bytes(2_000),
        "packed.wav": b"\x1f\x8b\x08\x00" + rng.bytes(500),
        "program.wav": b"\x7fELF\x02\x01\x01" + rng.bytes(2_000),
        "settings.aiff": b'{"rate": 48000}',
        "zeros.wav": bytes(100_000),
        "ones.wav": b"\xff" * 10_000,
        "riff_of_pictures.wav": b"RIFF\x00\x10\x00\x00WEBP" + rng.bytes(2_000),
        "film.wav": b"RIFF\x00\x10\x00\x00AVI LIST" + rng.bytes(2_000),
        "text.au": b"This is no sound.\n" * 100,
        "text.raw": b"This is no sound.\n" * 100,
        "text.vox": b"This is no sound.\n" * 100,
        "text.gsm": b"This is no sound.\n" * 100,
        "midi.wav": b"MThd\x00\x00\x00\x06\x00\x01\x00\x01\x00\x60MTrk\x00\x00\x00\x04\x00\xff\x2f\x00",
    }
    for name, data in others.items():
        yield Case(name, "refused", data)
    for extension in CONTAINERS:
        yield Case(f"empty.{extension}", "refused", b"")
        # An MP3 decoder finds frames in anything, if it looks long enough.
        yield Case(f"noise.{extension}", "either", rng.bytes(20_000))


# --- WAV ----------------------------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes, size: int | None = None) -> bytes:
    """A RIFF chunk, padded to even length; `size` is what it claims to hold."""
    return name + struct.pack("<I", len(data) if size is None else size) + data + b"\x00" * (len(data) % 2)


def wave_format(
    tag: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, block: int | None = None, more: bytes = b""
) -> bytes:
    """The content of a WAV file's `fmt ` chunk."""
    block = channels * bits // 8 if block is None else block
    return struct.pack("<HHIIHH", tag, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits) + more


def riff(*chunks: bytes, size: int | None = None, name: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return name + struct.pack("<I", len(body) if size is None else size) + body


def samples16(frames: int = FRAMES) -> bytes:
    return (sound(frames) * 32_767).astype("<i2").tobytes()


def _riff() -> Iterator[Case]:
    fmt, data = chunk(b"fmt ", wave_format()), chunk(b"data", samples16())
    info = chunk(
        b"LIST", b"INFO" + chunk(b"INAM", b"a title\x00") + chunk(b"IART", "\u00fcml\u00e4ut".encode("latin-1"))
    )
    junk = chunk(b"JUNK", bytes(4_096))
    good = {
        "info": riff(fmt, info, data),
        "info_behind": riff(fmt, data, info),
        "junk_first": riff(junk, fmt, junk, data, junk),
        "thousand_chunks": riff(fmt, *[chunk(b"junk", b"odd")] * 1_000, data),
        "unknown_chunk": riff(fmt, chunk(b"zZ9 ", b"?" * 77), data),
        "size_0": riff(fmt, data, size=0),
        "size_all_ones": riff(fmt, data, size=2**32 - 1),
        "data_claims_4_gb": riff(fmt, chunk(b"data", samples16(), 2**32 - 1)),
        "data_claims_2_gb": riff(fmt, chunk(b"data", samples16(), 2**31)),
        "data_claims_a_little_more": riff(fmt, chunk(b"data", samples16(), 2 * FRAMES + 100)),
        "format_of_18_bytes": riff(chunk(b"fmt ", wave_format(more=b"\x00\x00")), data),
        "broadcast": riff(chunk(b"bext", bytes(602)), fmt, data),
        "cues": riff(
            fmt, chunk(b"cue ", struct.pack("<I", 1) + struct.pack("<IIIIII", 1, 5, 0x61746164, 0, 0, 5)), data
        ),
    }
    bad = {
        "no_format": riff(data),
        "no_data": riff(fmt),
        "only_riff": b"RIFF",
        "only_head": riff(),
        "empty_data": riff(fmt, chunk(b"data", b"")),
        "rate_0": riff(chunk(b"fmt ", wave_format(rate=0)), data),
        "rate_all_ones": riff(chunk(b"fmt ", wave_format(rate=2**32 - 1)), data),
        "rate_negative": riff(chunk(b"fmt ", wave_format(rate=2**31)), data),
        "no_channels": riff(chunk(b"fmt ", wave_format(channels=0)), data),
        "65535_channels": riff(chunk(b"fmt ", wave_format(channels=65_535)), data),
        "unknown_tag": riff(chunk(b"fmt ", wave_format(tag=0x7777)), data),
    }
    for name, content in good.items():
        yield Case(f"riff_{name}.wav", "accepted", content)
    for name, content in bad.items():
        yield Case(f"riff_{name}.wav", "refused", content)


def _odd_riff() -> Iterator[Case]:
    """Heads that contradict themselves: readers differ about them."""
    fmt, data = chunk(b"fmt ", wave_format()), chunk(b"data", samples16())
    odd = {
        "data_first": riff(data, fmt),
        "two_formats": riff(fmt, chunk(b"fmt ", wave_format(channels=2, rate=48_000)), data),
        "two_datas": riff(fmt, data, data),
        "big_endian_name": riff(fmt, data, name=b"RIFX"),
        "format_of_2_bytes": riff(chunk(b"fmt ", b"\x01\x00"), data),
        "format_claims_2_gb": riff(chunk(b"fmt ", wave_format(), 2**31 - 1), data),
        "junk_claims_4_gb": riff(fmt, chunk(b"JUNK", b"", 2**32 - 8), data),
        "list_claims_4_gb": riff(fmt, chunk(b"LIST", b"INFO", 2**32 - 1), data),
        "info_item_claims_4_gb": riff(fmt, chunk(b"LIST", b"INFO" + chunk(b"INAM", b"abcd", 2**32 - 1)), data),
        "cue_claims_many": riff(fmt, chunk(b"cue ", struct.pack("<I", 2**32 - 1)), data),
        "sampler_claims_many": riff(fmt, chunk(b"smpl", struct.pack("<9I", *[2**32 - 1] * 9)), data),
        "block_of_0": riff(chunk(b"fmt ", wave_format(block=0)), data),
        "block_too_large": riff(chunk(b"fmt ", wave_format(block=65_535)), data),
        "zero_fact": riff(fmt, chunk(b"fact", bytes(4)), data),
        "adpcm_block_of_0": riff(chunk(b"fmt ", wave_format(0x11, bits=4, block=0, more=b"\x02\x00\x00\x00")), data),
        "adpcm_samples_of_0": riff(
            chunk(b"fmt ", wave_format(2, bits=4, block=256, more=struct.pack("<HHH", 32, 0, 0))), data
        ),
        "adpcm_many_coefficients": riff(
            chunk(b"fmt ", wave_format(2, bits=4, block=256, more=struct.pack("<HHH", 32, 500, 65_535))), data
        ),
        "gsm_block_of_1": riff(chunk(b"fmt ", wave_format(0x31, bits=0, block=1, more=b"\x02\x00\x40\x01")), data),
        "mp3_in_wav": riff(
            chunk(b"fmt ", wave_format(0x55, bits=0, block=1)), chunk(b"data", encoded(None, "MP3", "MPEG_LAYER_III"))
        ),
    }
    for bits in (0, 1, 7, 12, 20, 24, 33, 64, 255, 65_535):
        odd[f"{bits}_bits"] = riff(chunk(b"fmt ", wave_format(bits=bits)), data)
    for bits in (8, 16, 24, 33):
        odd[f"float_of_{bits}_bits"] = riff(chunk(b"fmt ", wave_format(3, bits=bits)), data)
    guid = bytes.fromhex("0000000010008000 00aa00389b71".replace(" ", ""))
    for name, more in {
        "extensible_plain": struct.pack("<HHIH", 22, 16, 4, 1) + guid,
        "extensible_more_valid_bits": struct.pack("<HHIH", 22, 77, 4, 1) + guid,
        "extensible_all_loudspeakers": struct.pack("<HHIH", 22, 16, 2**32 - 1, 1) + guid,
        "extensible_other_guid": struct.pack("<HHIH", 22, 16, 4, 1) + b"\xee" * 14,
        "extensible_short": struct.pack("<HHI", 22, 16, 4),
        "extensible_size_lies": struct.pack("<HHIH", 9_999, 16, 4, 1) + guid,
        "extensible_in_itself": struct.pack("<HHIH", 22, 16, 4, 0xFFFE) + guid,
    }.items():
        odd[name] = riff(chunk(b"fmt ", wave_format(0xFFFE, more=more)), data)
    for name, sizes in {"zero": (0, 0, 0), "huge": (2**63 - 1,) * 3, "negative": (2**64 - 1,) * 3}.items():
        ds64 = chunk(b"ds64", struct.pack("<QQQI", *sizes, 0))
        odd[f"rf64_sizes_{name}"] = riff(
            ds64, fmt, chunk(b"data", samples16(), 2**32 - 1), size=2**32 - 1, name=b"RF64"
        )
    odd["rf64_without_ds64"] = riff(fmt, chunk(b"data", samples16(), 2**32 - 1), size=2**32 - 1, name=b"RF64")
    for name, content in odd.items():
        yield Case(f"odd_{name}.wav", "either", content)


# --- others that hold plain samples -------------------------------------------------------------------------------------


def _aiff() -> Iterator[Case]:
    def big(name: bytes, data: bytes, size: int | None = None) -> bytes:
        return name + struct.pack(">I", len(data) if size is None else size) + data + b"\x00" * (len(data) % 2)

    def form(common: bytes, kind: bytes = b"AIFF", sound_size: int | None = None, offset: int = 0) -> bytes:
        samples = struct.pack(">II", offset, 0) + (sound() * 32_767).astype(">i2").tobytes()
        body = kind + big(b"COMM", common) + big(b"SSND", samples, sound_size)
        return b"FORM" + struct.pack(">I", len(body)) + body

    def common(channels: int = 1, frames: int = FRAMES, bits: int = 16, rate: bytes = _extended(RATE)) -> bytes:
        return struct.pack(">HIH", channels, frames, bits) + rate

    named = {
        "plain": form(common()),
        "no_channels": form(common(channels=0)),
        "many_channels": form(common(channels=40_000)),
        "many_frames": form(common(frames=2**32 - 1)),
        "no_frames": form(common(frames=0)),
        "77_bits": form(common(bits=77)),
        "rate_zero": form(common(rate=bytes(10))),
        "rate_infinite": form(common(rate=b"\x7f\xff" + b"\x80" + bytes(7))),
        "rate_nan": form(common(rate=b"\xff\xff" + b"\xff" * 8)),
        "rate_negative": form(common(rate=b"\xc0\x0b\xfa" + bytes(7))),
        "sound_claims_4_gb": form(common(), sound_size=2**32 - 1),
        "sound_claims_nothing": form(common(), sound_size=0),
        "offset_beyond": form(common(), offset=2**31),
        "short_common": form(common()[:7]),
    }
    for kind in (b"NONE", b"sowt", b"ulaw", b"GSM ", b"XXXX", b"ima4", b"fl32"):
        named[f"aifc_{kind.decode().strip()}"] = form(common() + kind + b"\x00\x00", b"AIFC")
    sure: dict[str, Verdict] = {
        "plain": "accepted",
        "aifc_XXXX": "refused",
        "no_channels": "refused",
        "aifc_sowt": "accepted",
    }
    for name, data in named.items():
        yield Case(f"aiff_{name}.aiff", sure.get(name, "either"), data)


def _extended(rate: int) -> bytes:
    """A whole number as an 80-bit float."""
    exponent = rate.bit_length() - 1
    return struct.pack(">HQ", 16_383 + exponent, rate << (63 - exponent))


def _au() -> Iterator[Case]:
    def au(offset: int = 24, size: int = 2 * FRAMES, encoding: int = 3, rate: int = RATE, channels: int = 1) -> bytes:
        head = struct.pack(">4sIIIII", b".snd", offset, size, encoding, rate, channels)
        return head + (sound() * 32_767).astype(">i2").tobytes()

    yield Case("au_plain.au", "accepted", au())
    yield Case("au_size_unknown.au", "accepted", au(size=2**32 - 1))
    yield Case("au_unknown_encoding.au", "refused", au(encoding=99))
    for name, data in {
        "offset_0": au(0),
        "offset_huge": au(2**32 - 1),
        "encoding_0": au(encoding=0),
        "rate_0": au(rate=0),
        "rate_huge": au(rate=2**32 - 1),
        "no_channels": au(channels=0),
        "many_channels": au(channels=2**31),
    }.items():
        yield Case(f"au_{name}.au", "either" if name == "offset_0" else "refused", data)


def _caf() -> Iterator[Case]:
    whole = encoded(format="CAF")
    place = whole.index(b"data") + 4
    for name, size in {"unknown": -1, "negative": -12, "huge": 2**62, "nothing": 0}.items():
        yield Case(f"caf_data_{name}.caf", "either", whole[:place] + struct.pack(">q", size) + whole[place + 8 :])
    for name, rate in {"nan": np.nan, "infinite": np.inf, "negative": -48_000.0, "tiny": 1e-300}.items():
        place = whole.index(b"desc") + 12
        yield Case(f"caf_rate_{name}.caf", "refused", whole[:place] + struct.pack(">d", rate) + whole[place + 8 :])
    wave64 = encoded(format="W64")
    for name, size in {"nothing": 0, "huge": 2**63 - 1, "negative": 2**64 - 1}.items():
        yield Case(f"w64_size_{name}.w64", "either", wave64[:16] + struct.pack("<Q", size) + wave64[24:])
        place = wave64.index(b"fmt ") + 16
        yield Case(f"w64_format_{name}.w64", "either", wave64[:place] + struct.pack("<Q", size) + wave64[place + 8 :])


# --- packed -------------------------------------------------------------------------------------------------------------


def flac_of_silence(seconds: float, rate: int = 48_000, channels: int = 1, claimed: int | None = None) -> bytes:
    """Silence, packed as hard as FLAC allows: some fourteen bytes for 65,535 samples.

    Args:
        claimed: samples that the head tells of; None tells the truth.
    """
    size = 65_535
    count = max(1, round(seconds * rate / size))
    total = count * size if claimed is None else claimed
    facts = (rate << 44 | (channels - 1) << 41 | 15 << 36 | total).to_bytes(8, "big")
    info = struct.pack(">HH", size, size) + bytes(6) + facts + bytes(16)
    frames = [_silent_frame(number, size, channels) for number in range(count)]
    return b"fLaC\x80\x00\x00\x22" + info + b"".join(frames)


def _silent_frame(number: int, size: int, channels: int) -> bytes:
    head = b"\xff\xf8\x70" + bytes([(channels - 1) << 4 | 8]) + _as_utf8(number) + struct.pack(">H", size - 1)
    head += bytes([_crc(head, 8, 0x07)])
    frame = head + b"\x00\x00\x00" * channels
    return frame + struct.pack(">H", _crc(frame, 16, 0x8005))


def _as_utf8(number: int) -> bytes:
    return chr(number).encode("utf-8", "surrogatepass")


def _crc(data: bytes, bits: int, polynomial: int) -> int:
    register, top = 0, 1 << (bits - 1)
    for byte in data:
        register ^= byte << (bits - 8)
        for _ in range(8):
            register = (register << 1 ^ (polynomial if register & top else 0)) & ((1 << bits) - 1)
    return register


def _flac() -> Iterator[Case]:
    whole = encoded(format="FLAC")
    yield Case("bomb.flac", "accepted", flac_of_silence(600.0))
    yield Case("claims_years.flac", "refused", flac_of_silence(1.0, claimed=2**36 - 1))
    yield Case("claims_more.flac", "refused", flac_of_silence(2.0, claimed=48_000 * 10))
    yield Case("claims_less.flac", "either", flac_of_silence(4.0, claimed=48_000))
    # What went through a pipe: how long it is, its head does not say.
    yield Case("length_unknown.flac", "accepted", flac_of_silence(2.0, claimed=0))
    yield Case("rate_0.flac", "refused", flac_of_silence(1.0, rate=0))
    yield Case("wrong_checksum_of_sound.flac", "either", whole[:26] + b"\x55" * 16 + whole[42:])
    yield Case("id3_in_front.flac", "accepted", id3(b"TIT2", b"\x00title") + whole)
    yield Case("metadata_claims_16_mb.flac", "refused", whole[:4] + b"\x01\xff\xff\xff" + whole[8:])
    yield Case("no_stream_info.flac", "refused", b"fLaC\x84\x00\x00\x04" + bytes(4) + whole[42:])
    yield Case("only_head.flac", "refused", whole[:42])
    padding = b"\x01" + (1_000_000).to_bytes(3, "big") + bytes(1_000_000)
    yield Case("megabyte_of_padding.flac", "accepted", whole[:42] + padding + whole[42:])
    first, second = encoded(sound(), "FLAC"), encoded(sound(channels=2), "FLAC", rate=48_000)
    yield Case("two_in_one.flac", "either", first + second)


def id3(frame: bytes = b"TIT2", data: bytes = b"\x00title", claimed: int | None = None, version: int = 3) -> bytes:
    """An ID3v2 tag of one frame."""
    body = frame + struct.pack(">IH", len(data), 0) + data
    size = len(body) if claimed is None else claimed
    packed = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + packed + body


def _mp3() -> Iterator[Case]:
    whole = encoded(format="MP3", subtype="MPEG_LAYER_III")
    rng = np.random.default_rng(3)
    cover = id3(b"APIC", b"\x00image/jpeg\x00\x03\x00" + rng.bytes(500_000))
    named: dict[str, tuple[Verdict, bytes]] = {
        "id3": ("accepted", id3() + whole),
        "id3_cover": ("accepted", cover + whole),
        "id3_twice": ("either", id3() + id3() + whole),
        "id3_version_9": ("either", id3(version=9) + whole),
        "id3_claims_256_mb": ("either", id3(claimed=2**28 - 1) + whole),
        "id3_only": ("refused", id3()),
        "id3v1_behind": ("accepted", whole + b"TAG" + bytes(125)),
        "ape_behind": ("accepted", whole + b"APETAGEX" + struct.pack("<IIII8x", 2_000, 32, 0, 0)),
        "garbage_in_front": ("either", rng.bytes(700) + whole),
        "zeros_in_front": ("either", bytes(3_000) + whole),
        "much_garbage_in_front": ("either", rng.bytes(200_000) + whole),
        "garbage_within": ("either", whole[:700] + rng.bytes(900) + whole[700:]),
        "two_rates": ("either", whole + encoded(rate=44_100, format="MP3", subtype="MPEG_LAYER_III")),
        "two_channel_counts": ("either", whole + encoded(sound(channels=2), "MP3", "MPEG_LAYER_III")),
        "first_frame_alone": ("either", whole[:150]),
        "sync_only": ("refused", b"\xff\xfb\x90\x64"),
        "syncs": ("either", b"\xff\xfb\x90\x64" * 2_000),
        "free_format": ("either", b"\xff\xfb\x00\x64" + whole[4:]),
    }
    for name, (verdict, data) in named.items():
        yield Case(f"{name}.mp3", verdict, data)


def _ogg() -> Iterator[Case]:
    for subtype, extension in (("VORBIS", "ogg"), ("OPUS", "opus")):
        one = encoded(format="OGG", subtype=subtype)
        other = encoded(sound(seed=1), "OGG", subtype)
        wide = encoded(sound(channels=2), "OGG", subtype, 16_000)
        pages = [place for place in range(len(one)) if one.startswith(b"OggS", place)]
        last = pages[-1]
        named: dict[str, bytes] = {
            "chained": one + other,
            "chained_of_another_shape": one + wide,
            "chained_of_another_kind": one + encoded(format="OGG", subtype="OPUS" if subtype == "VORBIS" else "VORBIS"),
            "wrong_page_checksum": one[: last + 22] + b"\xde\xad\xbe\xef" + one[last + 26 :],
            "first_page_lost": one[pages[1] :],
            "end_lost": one[:last],
            "ends_in_eternity": one[: last + 6] + struct.pack("<q", 2**62) + one[last + 14 :],
            "ends_before_it_began": one[: last + 6] + struct.pack("<q", -5) + one[last + 14 :],
            "pages_swapped": one[: pages[1]] + one[last:] + one[pages[1] : last],
        }
        for name, data in named.items():
            yield Case(f"{name}.{extension}", "either", data)
    yield Case("flac_within.ogg", "either", b"OggS\x00\x02" + bytes(20) + b"\x01\x33\x7fFLAC" + encoded(format="FLAC"))


# --- names, and what is no file -------------------------------------------------------------------------------------------


def _names() -> Iterator[Case]:
    data = encoded(sound(800))
    for name in (
        "two\nlines.wav",
        "tab\there.wav",
        "bell\a and escape\x1b[31m.wav",
        "-leading dash.wav",
        "--help.wav",
        "[red]markup[bold].wav",
        "100% {braces} $HOME `echo`.wav",
        "quote'and\"quote.wav",
        "comma, semicolon; colon:.wav",
        "back\\slash.wav",
        "\u00fcml\u00e4ut \u97f3\u58f0 \U0001f3b5.wav",
        "decomposed u\u0308.wav",
        "right\u202eto left.wav",
        "UPPER.WAV",
        "dots...wav",
        "trailing space .wav",
        "=cmd|formula.wav",
        "no_extension_at_all_but_long" + "g" * 190 + ".wav",
        "x" * 251 + ".wav",
        os.fsdecode(b"latin-1 \xfcml\xe4ut.wav"),
        os.fsdecode(b"\xff\xfe\x80.wav"),
    ):
        yield Case(name, "accepted", data)


def _no_files() -> Iterator[Case]:
    """What a folder may hold besides files. A run over the folder passes over them; named alone they are refused."""

    def unreadable(path: Path) -> None:
        path.write_bytes(encoded())
        path.chmod(0)

    yield Case("folder.wav", "refused", lambda path: path.mkdir())
    yield Case("pipe.wav", "refused", lambda path: os.mkfifo(path))
    yield Case("loop.wav", "refused", lambda path: path.symlink_to(path.name))
    yield Case("dangling.wav", "refused", lambda path: path.symlink_to("nowhere.wav"))
    yield Case("endless.wav", "refused", lambda path: path.symlink_to("/dev/zero"))
    if os.geteuid():
        yield Case("unreadable.wav", "refused", unreadable)
    yield Case("linked.wav", "accepted", lambda path: path.symlink_to("whole.wav"))
