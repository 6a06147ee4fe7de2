"""Sounds and pictures as text that a page can hold: Opus and WebP in data URIs. The same signal gives the same text."""

from __future__ import annotations

import base64
import io
import struct
from functools import cache

import numpy as np
from matplotlib import colormaps
from matplotlib.image import imsave

from overtone import audio, figures
from overtone.audio import Signal
from overtone.data import codecs
from overtone.params import Codec

# A channel: the whole of Opus's band, up to 20 kHz, without audible coding.
KBPS = 64.0
_ROWS = 256
_WEBP_QUALITY = 75
_SERIAL = 1
_MAGIC = b"OggS"
_POLYNOMIAL = 0x04C11DB7


def sound(signal: Signal, rate: int) -> str:
    """A signal (channels, samples) as Ogg Opus, level and channels untouched."""
    step = Codec(op="codec", codec="opus", kbps=KBPS * signal.shape[0])
    (encoded,) = codecs.encode(audio.resample(signal, rate, 48_000), 48_000, step)
    return _uri("audio/ogg", with_serial(encoded, _SERIAL))


def picture(signal: Signal) -> str:
    """The spectrogram of a signal (channels, samples) as WebP: time to the right, 0 to half the rate upwards."""
    low, high = figures.LEVELS_DB
    level = figures.spectrogram_db(signal)
    bins = level.shape[0] - 1
    pooled = level[:bins].reshape(_ROWS, bins // _ROWS, -1).mean(axis=1)
    shade = np.clip((pooled - low) / (high - low), 0.0, 1.0)[::-1]
    colours = np.round(255 * colormaps["magma"](shade)[..., :3]).astype(np.uint8)
    buffer = io.BytesIO()
    imsave(buffer, colours, format="webp", pil_kwargs={"quality": _WEBP_QUALITY, "method": 6})
    return _uri("image/webp", buffer.getvalue())


def with_serial(stream: bytes, serial: int) -> bytes:
    """An Ogg stream with another serial number: encoders draw it, which would make each file differ from the last.

    Source:
        RFC 3533, section 6: the page's header, and its CRC (polynomial 0x04C11DB7, over the page with the CRC set to zero).
    """
    pages = []
    start = 0
    while start < len(stream):
        if stream[start : start + 4] != _MAGIC:
            raise ValueError(f"expected an Ogg page at byte {start}")
        segments = stream[start + 26]
        end = start + 27 + segments + sum(stream[start + 27 : start + 27 + segments])
        page = bytearray(stream[start:end])
        page[14:18] = struct.pack("<I", serial)
        page[22:26] = bytes(4)
        page[22:26] = struct.pack("<I", _crc(page))
        pages.append(bytes(page))
        start = end
    return b"".join(pages)


def _crc(page: bytearray) -> int:
    table = _crc_table()
    crc = 0
    for byte in page:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ table[(crc >> 24) ^ byte]
    return crc


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ (_POLYNOMIAL if crc & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(crc)
    return tuple(table)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
