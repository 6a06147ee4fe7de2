"""Metrics that model a listener: ViSQOL, and PESQ-WB and STOI for speech, which need the extra `overtone[perceptual]`.

Their libraries are heavy, and loaded by the first clip. Channels are averaged to mono first, since all three judge one
channel. All functions take a prediction and a target of one shape (channels, samples) and one rate in Hz.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
from typing import Any

import numpy as np
import numpy.typing as npt

from overtone.audio import Signal, resample
from overtone.errors import needs_extra

VISQOL_RATE = 48_000
SPEECH_RATE = 16_000
# The shortest signal (samples at 48 kHz) of which ViSQOL builds a spectrogram.
_VISQOL_FRAMES = 3840


def available() -> bool:
    """Whether ViSQOL is installed."""
    return importlib.util.find_spec("visqol") is not None


def require() -> None:
    """See now rather than in the middle of an evaluation that PESQ and STOI are installed.

    Raises:
        MissingExtraError: one is not.
    """
    with needs_extra("The setting evaluate.perceptual"):
        _speech()


def _speech() -> tuple[Any, Any]:
    return importlib.import_module("pesq"), importlib.import_module("pystoi")


@functools.cache
def _visqol() -> Any:
    api = importlib.import_module("visqol").VisqolApi()
    api.create(mode="audio")
    return api


def _mono(signal: Signal, rate: int, wanted: int) -> npt.NDArray[np.float64]:
    mono = resample(signal.mean(axis=0, keepdims=True, dtype=np.float32), rate, wanted)
    return np.asarray(mono[0], dtype=np.float64)


def visqol(prediction: Signal, target: Signal, rate: int) -> float | None:
    """ViSQOL's predicted mean opinion score in audio mode, 1 (bad) to about 4.75.

    None where it cannot judge: a signal is silent or shorter than 80 ms.

    Source: Chinen et al., "ViSQOL v3" (2020), through visqol-python.
    """
    reference, degraded = (_mono(signal, rate, VISQOL_RATE) for signal in (target, prediction))
    if len(reference) < _VISQOL_FRAMES or not (reference.any() and degraded.any()):
        return None
    return float(_visqol().measure_from_arrays(reference, degraded, VISQOL_RATE).moslqo)


def speech(prediction: Signal, target: Signal, rate: int) -> dict[str, float]:
    """`pesq`, wide-band, about 1.04 to 4.64, and `stoi`, about 0 to 1, both at 16 kHz.

    PESQ is left out where it finds no utterance or a signal is silent.

    Source: ITU-T P.862.2, through the package pesq; Taal et al. (2011), through pystoi.
    """
    pesq, pystoi = _speech()
    reference, degraded = (_mono(signal, rate, SPEECH_RATE) for signal in (target, prediction))
    values = {"stoi": float(pystoi.stoi(reference, degraded, SPEECH_RATE, extended=False))}
    # On silence the library fails while it levels the signal.
    if reference.any() and degraded.any():
        with contextlib.suppress(pesq.NoUtterancesError, pesq.BufferTooShortError):
            values["pesq"] = float(pesq.pesq(SPEECH_RATE, reference, degraded, "wb"))
    return values
