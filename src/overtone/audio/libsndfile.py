"""What libsndfile does and python-soundfile has no method for: counting what can be decoded, and naming loudspeakers."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Any, BinaryIO, TypeVar, cast

import soundfile
from soundfile import _ffi, _snd  # type: ignore[attr-defined]

from overtone.audio.spliced import Part, Spliced

T = TypeVar("T")
# Sound that is counted between two steps: a fraction of a second of computing.
_STEP_SECONDS = 30.0
# Of MP3, an error costs all of the block that it comes in: no more than a frame.
BLOCK = 576
_GET_CHANNEL_MAP, _SET_CHANNEL_MAP = 0x1100, 0x1101
# sndfile.h's SF_CHANNEL_MAP_* by the bits of a WAVE_FORMAT_EXTENSIBLE mask, from FRONT_LEFT to TOP_BACK_RIGHT.
_LOUDSPEAKERS = (2, 3, 4, 11, 9, 10, 12, 13, 8, 14, 15, 16, 17, 19, 18, 20, 22, 21)


def opened(file: BinaryIO, parts: Sequence[Part], claimed: int = 1) -> soundfile.SoundFile:
    """Parts of a file as one that libsndfile reads.

    Args:
        claimed: see `Spliced`.

    Raises:
        soundfile.LibsndfileError: it does not.
    """
    return soundfile.SoundFile(cast("BinaryIO", Spliced(file, parts, claimed)))


def counted(file: soundfile.SoundFile, most: float = math.inf) -> Generator[int, None, int]:
    """Samples a channel that follow in a file and can be decoded, whatever its header says; they are read over.

    Args:
        most: seconds after which no more are counted: minutes of silence fit into a few bytes.

    Yields:
        The count so far, every half minute of sound.

    Returns:
        All of it.
    """
    buffer = _ffi.new("float[]", BLOCK * file.channels)
    total, told = 0, 0
    while total <= most * file.samplerate and (frames := _snd.sf_readf_float(file._file, buffer, BLOCK)) > 0:
        total += frames
        if total - told > _STEP_SECONDS * file.samplerate:
            told = total
            yield total
    return total


def decodable(file: soundfile.SoundFile, most: float = math.inf) -> int:
    """What `counted` returns."""
    return result_of(counted(file, most))


def result_of(steps: Generator[Any, None, T]) -> T:
    """What a generator returns, all of its steps made."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: T = end.value
            return found


def loudspeakers(file: soundfile.SoundFile) -> tuple[int, ...]:
    """Bits of a WAVE_FORMAT_EXTENSIBLE mask, one a channel in the file's order; empty where the file does not say."""
    found = _ffi.new("int[]", file.channels)
    if not _snd.sf_command(file._file, _GET_CHANNEL_MAP, found, _ffi.sizeof("int") * file.channels):
        return ()
    if not all(one in _LOUDSPEAKERS for one in found):
        return ()
    return tuple(1 << _LOUDSPEAKERS.index(one) for one in found)


def set_loudspeakers(file: soundfile.SoundFile, bits: tuple[int, ...]) -> None:
    """Say in the header of a file that is being written whose loudspeaker each channel is, where its container can."""
    found = _ffi.new("int[]", [_LOUDSPEAKERS[bit.bit_length() - 1] for bit in bits])
    _snd.sf_command(file._file, _SET_CHANNEL_MAP, found, _ffi.sizeof("int") * len(bits))
