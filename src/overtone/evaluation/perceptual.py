"""Metrics that model a listener: ViSQOL, and PESQ-WB and STOI for speech, which need the extra `overtone[perceptual]`.

Their libraries are heavy, and loaded by the first clip. Channels are averaged to mono first, since all
three judge one channel.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from overtone.audio import Signal, resample
from overtone.errors import OvertoneError

VISQOL_RATE = 48_000
SPEECH_RATE = 16_000
# The shortest signal (samples at 48 kHz) of which ViSQOL builds a spectrogram.
_VISQOL_FRAMES = 3840


class MissingExtraError(OvertoneError):
    """A library of the extra `overtone[perceptual]` is not installed."""


def _library(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"perceptual metrics need {name!r} ({error}): pip install 'overtone[perceptual]', "
            "or set evaluate.perceptual to false in params.yaml"
        ) from None


def available() -> bool:
    """Whether ViSQOL is installed."""
    return importlib.util.find_spec("visqol") is not None


def require() -> None:
    """Raise MissingExtraError now rather than in the middle of an evaluation: PESQ and STOI were asked for."""
    for name in ("pesq", "pystoi"):
        _library(name)


@functools.cache
def _visqol() -> Any:
    api = _library("visqol").VisqolApi()
    api.create(mode="audio")
    return api


def _mono(signal: Signal, rate: int, wanted: int) -> npt.NDArray[np.float64]:
    mono = resample(signal.mean(axis=0, keepdims=True, dtype=np.float32), rate, wanted)
    return np.asarray(mono[0], dtype=np.float64)


def visqol(prediction: Signal, target: Signal, rate: int) -> float | None:
    """ViSQOL's predicted mean opinion score in audio mode, 1 (bad) to about 4.75.

    None where it cannot judge: a signal is silent or shorter than 80 ms.

    Args:
        rate: sample rate of both, Hz.

    Shape:
        both (channels, samples).

    Raises:
        MissingExtraError: visqol-python is not installed.

    Source: Chinen et al., "ViSQOL v3" (2020), through visqol-python.
    """
    reference, degraded = (_mono(signal, rate, VISQOL_RATE) for signal in (target, prediction))
    if len(reference) < _VISQOL_FRAMES or not (reference.any() and degraded.any()):
        return None
    return float(_visqol().measure_from_arrays(reference, degraded, VISQOL_RATE).moslqo)


def pesq(prediction: Signal, target: Signal, rate: int) -> float | None:
    """Wide-band PESQ at 16 kHz, about 1.04 to 4.64; None where it finds no utterance or a signal is silent.

    Shape:
        both (channels, samples).

    Raises:
        MissingExtraError: pesq is not installed.

    Source: ITU-T P.862.2, through the package pesq.
    """
    library = _library("pesq")
    reference, degraded = (_mono(signal, rate, SPEECH_RATE) for signal in (target, prediction))
    # On silence the library fails while it levels the signal.
    if not (reference.any() and degraded.any()):
        return None
    try:
        return float(library.pesq(SPEECH_RATE, reference, degraded, "wb"))
    except (library.NoUtterancesError, library.BufferTooShortError):
        return None


def stoi(prediction: Signal, target: Signal, rate: int) -> float:
    """Short-time objective intelligibility at 16 kHz, about 0 to 1.

    Shape:
        both (channels, samples).

    Raises:
        MissingExtraError: pystoi is not installed.

    Source: Taal et al. (2011), through the package pystoi.
    """
    reference, degraded = (_mono(signal, rate, SPEECH_RATE) for signal in (target, prediction))
    return float(_library("pystoi").stoi(reference, degraded, SPEECH_RATE, extended=False))


def speech(prediction: Signal, target: Signal, rate: int) -> dict[str, float]:
    """`pesq` and `stoi` of one clip of speech; what is undefined is left out.

    Args:
        rate: sample rate of both, Hz.

    Shape:
        both (channels, samples).

    Raises:
        MissingExtraError: a library of the extra is not installed.
    """
    values = {"pesq": pesq(prediction, target, rate), "stoi": stoi(prediction, target, rate)}
    return {name: value for name, value in values.items() if value is not None}
