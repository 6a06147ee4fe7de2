"""How a target is stored: container, bit depth, more than 4 GB, which channel is which loudspeaker's."""

from __future__ import annotations

import struct
from pathlib import Path

import soundfile

from overtone.audio import channels, wav
from overtone.audio.reading import Info
from overtone.audio.samples import AudioError

# libsndfile's kinds of WAV file.
WAVE = ("WAV", "WAVEX", "RF64")
# What libsndfile does not write, and the extra `media` does.
MEDIA = "MP4"
# Sizes in a WAV file's header are numbers of 32 bits; a megabyte is left for all that is not samples.
WAV_BYTES = 2**32 - 2**20
_FORMATS = {
    ".opus": ("OGG", "OPUS"),
    **dict.fromkeys((".ogg", ".oga"), ("OGG", "VORBIS")),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
    **dict.fromkeys((".m4a", ".m4b"), (MEDIA, "AAC")),
}
_ALIASES = {".aif": "AIFF", ".aifc": "AIFF", ".wave": "WAV", ".snd": "AU"}
# Subtypes that are a bit depth, not an encoder: what a target may take over from its source.
_BYTES = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}
_DEEP = ("PCM_32", "FLOAT", "DOUBLE")
_EXTENSIBLE = 0xFFFE


def container(path: Path, subtype: str | None = None) -> tuple[str, str]:
    """libsndfile's format and subtype for a file name; `subtype` is kept if it is a bit depth that the format can hold.

    Raises:
        AudioError: the extension is not one that can be written.
    """
    extension = path.suffix.lower()
    if extension in _FORMATS:
        return _FORMATS[extension]
    name = _ALIASES.get(extension, extension[1:].upper())
    if not is_writable(path):
        raise AudioError(
            f"{path}: cannot write {extension or 'a file without extension'}; "
            "expected .wav, .flac, .ogg, .opus, .mp3 or .m4a"
        )
    if subtype not in _BYTES or not soundfile.check_format(name, subtype):
        subtype = "PCM_16" if soundfile.check_format(name, "PCM_16") else str(soundfile.default_subtype(name))
    return name, subtype


def is_writable(path: Path) -> bool:
    """Whether a file of this name's extension can be written."""
    extension = path.suffix.lower()
    name = _ALIASES.get(extension, extension[1:].upper())
    return extension in _FORMATS or name in soundfile.available_formats()


def extension(info: Info) -> str:
    """The extension for audio that has no name: that of its own container, FLAC's where that cannot be written."""
    if info.format == "OGG":
        return ".opus" if info.subtype == "OPUS" else ".ogg"
    if info.format in WAVE:
        return ".wav"
    named = ".m4a" if info.format == MEDIA else f".{info.format.lower()}"
    return named if is_writable(Path(f"audio{named}")) else ".flac"


def container_for(target: Path, info: Info, frames: int) -> tuple[str, str]:
    """libsndfile's format and subtype for a target of `frames` samples a channel made of a source with this header.

    Raises:
        AudioError: the extension is not one that can be written, or loudspeakers would change places.
    """
    format, subtype = container(target, info.subtype)
    channels.check(str(target), format, info.mask, info.channels)
    # 24 bits where the container cannot hold the source's own precision.
    if info.subtype in _DEEP and subtype == "PCM_16":
        subtype = container(target, "PCM_24")[1]
    if format == "WAV":
        if frames * info.channels * _BYTES[subtype] > WAV_BYTES:
            format = "RF64"
        elif info.mask and (info.channels > 2 or info.format == "WAVEX"):
            format = "WAVEX"
    return format, subtype


def wav_header(rate: int, count: int, frames: int, subtype: str, mask: int = 0) -> bytes:
    """A WAV file's bytes before its samples, for a length known beforehand; RF64 beyond 4 GB.

    Args:
        count: of channels.
        subtype: PCM_16, PCM_24, PCM_32, FLOAT or DOUBLE.
        mask: loudspeakers, 0 where nobody says.
    """
    width = _BYTES[subtype]
    tag = 1 if subtype.startswith("PCM") else 3
    form = struct.pack("<HHIIHH", tag, count, rate, rate * count * width, count * width, 8 * width)
    if count > 2:
        # An extensible header: valid bits, loudspeakers, and the tag once more within a fixed GUID.
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        form = struct.pack("<H", _EXTENSIBLE) + form[2:] + struct.pack("<HHI", 22, 8 * width, mask) + guid
    size = frames * count * width
    return wav.header(b"fmt " + struct.pack("<I", len(form)) + form, size, wide=size > WAV_BYTES)
