"""What a signal is, which samples are audio, and the error of all that is not.

Signals are float32 arrays of shape (channels, samples), full scale 1.0.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from overtone.errors import OvertoneError

Signal = npt.NDArray[np.float32]
Source = Path | BinaryIO

# libsndfile's Vorbis encoder overflows the stack on one long write.
BLOCK_FRAMES = 65_536
# What is read: sound at a rate that recordings are made at, of so many channels, its float samples of full scale 1.0. A file of
# 1 Hz would grow 48,000 fold; no recording reaches this level, 16-bit integers kept in floats do.
LOWEST_RATE, HIGHEST_RATE = 2_000, 768_000
MAX_CHANNELS = 64
MAX_LEVEL = 64.0


class AudioError(OvertoneError):
    """Audio that cannot be used; the message names the file and what was expected."""


def name_of(source: Source) -> str:
    """What messages call a source: a file's path, or just audio."""
    return str(source) if isinstance(source, Path) else "audio"


def check_samples(name: str, samples: Signal) -> None:
    """Refuse samples that are not audio of full scale 1.0.

    Args:
        name: what the message calls them.

    Raises:
        AudioError: NaN or infinite samples, or a peak far above full scale.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not np.isfinite(peak):
        raise AudioError(f"{name}: holds NaN or infinite samples; expected finite audio")
    if peak > MAX_LEVEL:
        raise AudioError(
            f"{name}: holds samples of up to {peak:g}; expected full scale 1.0: divide 16-bit samples by 32768"
        )
