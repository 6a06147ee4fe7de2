"""Round trips through real encoders (libsndfile's), in memory, aligned to the sample.

The encoders run at the rate that they use in practice: telephone codecs at 8 kHz, MP3 and Opus at one that suits the
bit rate. A round trip keeps length, channels and level; everything else is the encoder's doing.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile
from scipy import fft

from overtone import audio
from overtone.audio import Signal
from overtone.settings import Codec

_HEADROOM = 0.99
# Seconds that every encoder can encode and its decoder recognise; what is shorter is given silence behind it.
_SHORTEST = 0.2
_FIXED_RATES = {"gsm610": 8_000, "mulaw": 8_000, "alaw": 8_000, "ima_adpcm": 16_000, "vorbis": 48_000}
_WAV_SUBTYPES = {"gsm610": "GSM610", "mulaw": "ULAW", "alaw": "ALAW", "ima_adpcm": "IMA_ADPCM"}
# Above full scale libsndfile reads past the tables of these instead of clipping.
_TABLED = ("ULAW", "ALAW")

# libmp3lame's own choices (lame.c: optimum_bandwidth, optimum_samplefreq): low-pass in Hz by kbit/s for two channels
# (half as much again for one), and the lowest rate whose band holds it. libsndfile fixes the rate and leaves this to us.
_MP3_LOWPASS = (
    (8, 2000), (16, 3700), (24, 3900), (32, 5500), (40, 7000), (48, 7500), (56, 10000), (64, 11000), (80, 13500),
    (96, 15100), (112, 15600), (128, 17000), (160, 17500), (192, 18600), (224, 19400), (256, 19700), (320, 20500),
)  # fmt: skip
_MP3_RATES = (
    (3970, 8000), (4510, 11025), (5420, 12000), (7230, 16000), (9970, 22050), (11220, 24000), (15250, 32000),
    (15960, 44100), (20500 * 1.5, 48000),
)  # fmt: skip
# Encoder (576) plus decoder (529) delay: with frames too small for the tag that says so, no decoder can take it off.
_MP3_LAG = 1105
_MP3_KBPS = {1: (320.0, 32.0), 2: (160.0, 8.0), 3: (64.0, 8.0)}
_OPUS_KBPS = (256.0, 6.0)  # a channel: libsndfile's compression levels 0 and 1
_OPUS_LAG = 4
_OPUS_LAG_BAND = (500.0, 3500.0)  # Hz
# Below this libopus makes stereo mono by itself: each channel gets a stream of its own.
_OPUS_STEREO_KBPS = 32.0


def round_trip(signal: Signal, rate: int, step: Codec) -> Signal:
    """Encode and decode.

    Args:
        signal: any level; encoders get it below full scale, and what comes back has the level it had.
        rate: Hz.
        step: codec and its bit rate or quality. The bit rate is that of all channels together; where the encoder does
            not have it, the nearest it has (MP3 has a table, Opus starts at 6 kbit/s a channel).

    Shape:
        (channels, samples) in and out.
    """
    peak = float(np.abs(signal).max(initial=0.0))
    if not peak:
        return signal
    gain = np.float32(min(1.0, _HEADROOM / peak))
    coded_rate = codec_rate(step, signal.shape[0])
    low = audio.resample(signal * gain, rate, coded_rate)
    whole = audio.fit_length(low, max(low.shape[1], round(_SHORTEST * coded_rate)))
    decoded = decode(encode(whole, coded_rate, step), step, whole.shape[1])[:, : low.shape[1]]
    high = audio.fit_length(audio.resample(decoded, coded_rate, rate), signal.shape[1]) / gain
    if step.codec == "opus":
        high = _aligned(high, signal, rate)
    return np.ascontiguousarray(high, dtype=np.float32)


def codec_rate(step: Codec, channels: int) -> int:
    """The rate in Hz that the encoder runs at."""
    if step.codec == "mp3":
        lowpass = mp3_lowpass(step.kbps or 0.0, channels)
        return next(rate for limit, rate in _MP3_RATES if lowpass <= limit)
    if step.codec == "opus":
        share = (step.kbps or 0.0) / channels
        return 16_000 if share <= 12 else 24_000 if share <= 20 else 48_000
    return _FIXED_RATES[step.codec]


def mp3_lowpass(kbps: float, channels: int) -> float:
    """The edge in Hz of the low-pass that LAME puts before its encoder."""
    nearest = min(_MP3_LOWPASS, key=lambda row: abs(row[0] - kbps))
    return nearest[1] * (1.5 if channels == 1 else 1.0)


def encode(signal: Signal, rate: int, step: Codec) -> list[bytes]:
    """The encoder's files: one for all channels; one a channel for GSM, which knows no stereo, and Opus at few kbit/s.

    Shape:
        signal: (channels, samples), at `codec_rate`.
    """
    channels = signal.shape[0]
    if step.codec == "mp3":
        high, low = _MP3_KBPS[1 if rate >= 32_000 else 2 if rate >= 16_000 else 3]
        # libsndfile refuses exactly 1.
        level = float(np.clip((high - (step.kbps or 0.0)) / (high - low), 0.0, 0.9999))
        return [_write(signal, rate, "MP3", "MPEG_LAYER_III", compression_level=level, bitrate_mode="CONSTANT")]
    if step.codec == "opus":
        high, low = _OPUS_KBPS
        level = float(np.clip((high - (step.kbps or 0.0) / channels) / (high - low), 0.0, 1.0))
        streams = _split(signal) if (step.kbps or 0.0) < _OPUS_STEREO_KBPS else [signal]
        return [_write(stream, rate, "OGG", "OPUS", compression_level=level) for stream in streams]
    if step.codec == "vorbis":
        return [_write(signal, rate, "OGG", "VORBIS", compression_level=1.0 - (step.quality or 0.0))]
    subtype = _WAV_SUBTYPES[step.codec]
    streams = _split(signal) if step.codec == "gsm610" else [signal]
    return [_write(stream, rate, "WAV", subtype) for stream in streams]


def _split(signal: Signal) -> list[Signal]:
    return [signal[channel : channel + 1] for channel in range(signal.shape[0])]


def decode(files: list[bytes], step: Codec, frames: int) -> Signal:
    """What `encode` gave, decoded, without the encoder's delay and padding.

    Shape:
        (channels, frames).
    """
    signal = np.concatenate([_read(data) for data in files])
    if step.codec == "mp3" and signal.shape[1] != frames:
        # Without the tag the length is padded too, which tells.
        signal = signal[:, _MP3_LAG:]
    return audio.fit_length(signal, frames)


def _read(data: bytes) -> Signal:
    samples, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    return np.ascontiguousarray(samples.T)


def mulaw_bytes(signal: Signal, rate: int) -> npt.NDArray[np.uint8]:
    """The G.711 mu-law bytes of a signal (channels, samples), channels interleaved, shape (channels * samples,)."""
    return np.frombuffer(_write(signal, rate, "RAW", "ULAW"), dtype=np.uint8).copy()


def from_mulaw_bytes(data: npt.NDArray[np.uint8], rate: int, channels: int) -> Signal:
    """The signal (channels, samples) of G.711 mu-law bytes."""
    samples, _ = soundfile.read(
        io.BytesIO(data.tobytes()), samplerate=rate, channels=channels, format="RAW", subtype="ULAW",
        dtype="float32", always_2d=True,
    )  # fmt: skip
    return np.ascontiguousarray(samples.T)


def _write(signal: Signal, rate: int, format: str, subtype: str, **options: Any) -> bytes:
    if subtype in _TABLED:
        signal = np.clip(signal, -1.0, 1.0)
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", samplerate=rate, channels=signal.shape[0], format=format, subtype=subtype, **options
    ) as file:
        for start in range(0, signal.shape[1], audio.BLOCK_FRAMES):
            file.write(np.ascontiguousarray(signal[:, start : start + audio.BLOCK_FRAMES].T))
    return buffer.getvalue()


def _aligned(late: Signal, signal: Signal, rate: int) -> Signal:
    """`late` shifted by the lag (at most `_OPUS_LAG` samples) that correlates best: Opus's modes differ in theirs.

    Only the band that every mode carries decides: below it the encoder's high-pass turns the phase, above it noise may
    have been put in place of the signal.
    """
    frames = signal.shape[1]
    size = fft.next_fast_len(frames + _OPUS_LAG, real=True)
    band = slice(*(round(hz * size / rate) for hz in _OPUS_LAG_BAND))
    cross = np.zeros(size // 2 + 1, dtype=np.complex64)
    for decoded, original in zip(late, signal, strict=True):
        cross[band] += fft.rfft(decoded, size)[band] * fft.rfft(original, size)[band].conj()
    scores = fft.irfft(cross, size)
    lags = range(-_OPUS_LAG, _OPUS_LAG + 1)
    lag = max(lags, key=lambda lag: float(scores[lag]))
    shifted = late[:, lag:] if lag >= 0 else np.pad(late, ((0, 0), (-lag, 0)))
    return audio.fit_length(shifted, frames)
