"""How a target is stored: container, bit depth, room for more than 4 GB, which channel is which loudspeaker's."""

from __future__ import annotations

import struct
from pathlib import Path

import soundfile

from overtone.audio.reading import Info
from overtone.audio.samples import AudioError

_FORMATS = {".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", "MPEG_LAYER_III")}
# Subtypes that are a bit depth, not an encoder: what a target may take over from its source.
_DEPTHS = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
# libsndfile's kinds of WAV file.
WAVE = ("WAV", "WAVEX", "RF64")
# Sizes in a WAV file's header are numbers of 32 bits; a megabyte is left for all that is not samples.
WAV_BYTES = 2**32 - 2**20
_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_DEEP = ("PCM_32", "FLOAT", "DOUBLE")
_EXTENSIBLE = 0xFFFE
# Where an extensible header keeps its tag and its mask, `fmt ` being the first chunk.
_TAG, _MASK = 20, 40


def container(path: Path, subtype: str | None = None) -> tuple[str, str]:
    """libsndfile's format and subtype for a file name; `subtype` is kept if it is a bit depth that the format can hold.

    Raises:
        AudioError: the extension is not one that can be written.
    """
    extension = path.suffix.lower()
    if extension in _FORMATS:
        return _FORMATS[extension]
    name = {".aif": "AIFF", ".wave": "WAV"}.get(extension, extension[1:].upper())
    if name not in soundfile.available_formats():
        raise AudioError(
            f"{path}: cannot write {extension or 'a file without extension'}; expected .wav, .flac, .ogg, .opus or .mp3"
        )
    if subtype not in _DEPTHS or not soundfile.check_format(name, subtype):
        subtype = "PCM_16" if soundfile.check_format(name, "PCM_16") else str(soundfile.default_subtype(name))
    return name, subtype


def extension(info: Info) -> str:
    """The extension for audio that has no name: that of its own container."""
    if info.format == "OGG":
        return ".opus" if info.subtype == "OPUS" else ".ogg"
    return ".wav" if info.format in WAVE else f".{info.format.lower()}"


def container_for(target: Path, info: Info, frames: int) -> tuple[str, str]:
    """libsndfile's format and subtype for a target of `frames` samples a channel made of a source with this header.

    Raises:
        AudioError: the extension is not one that can be written.
    """
    format, subtype = container(target, info.subtype)
    # 24 bits where the container cannot hold the source's own precision.
    if info.subtype in _DEEP and subtype == "PCM_16":
        subtype = container(target, "PCM_24")[1]
    if format == "WAV":
        if frames * info.channels * _BYTES[subtype] > WAV_BYTES:
            format = "RF64"
        elif info.channels > 2 or info.format == "WAVEX":
            format = "WAVEX"
    return format, subtype


def keep_loudspeakers(source: Path, target: Path) -> None:
    """Copy the mask that says which channel is which loudspeaker's, if both are WAV files that have one."""
    mask = _mask(source)
    if mask is not None and _mask(target) is not None:
        with target.open("r+b") as file:
            file.seek(_MASK)
            file.write(mask)


def _mask(path: Path) -> bytes | None:
    with path.open("rb") as file:
        head = file.read(_MASK + 4)
    found = head[:4] == b"RIFF" and head[8:16] == b"WAVEfmt " and len(head) == _MASK + 4
    return head[_MASK:] if found and struct.unpack_from("<H", head, _TAG)[0] == _EXTENSIBLE else None


def wav_header(rate: int, channels: int, frames: int, subtype: str) -> bytes:
    """A WAV file's bytes before its samples, for a length known beforehand; RF64 beyond 4 GB.

    Args:
        subtype: PCM_16, PCM_24, PCM_32, FLOAT or DOUBLE.
    """
    width = _BYTES[subtype]
    size = frames * channels * width
    tag = 1 if subtype.startswith("PCM") else 3
    form = struct.pack("<HHIIHH", tag, channels, rate, rate * channels * width, channels * width, 8 * width)
    if channels > 2:
        # An extensible header: valid bits, no loudspeakers named, and the tag once more within a fixed GUID.
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<H", _EXTENSIBLE) + form[2:] + struct.pack("<HHI", 22, 8 * width, 0) + guid
    chunk = b"WAVEfmt " + struct.pack("<I", len(form)) + form
    padded = size + size % 2
    if size <= WAV_BYTES:
        return b"RIFF" + struct.pack("<I", len(chunk) + 8 + padded) + chunk + b"data" + struct.pack("<I", size)
    sizes = struct.pack("<IQQQI", 28, len(chunk) + 36 + 8 + padded, size, frames, 0)
    chunk = b"WAVEds64" + sizes + chunk[4:]
    return b"RF64" + struct.pack("<I", 2**32 - 1) + chunk + b"data" + struct.pack("<I", 2**32 - 1)
