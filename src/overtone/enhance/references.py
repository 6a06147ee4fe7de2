"""References: full-band recordings of a chain, read from files and made into a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from overtone import audio
from overtone.audio import Signal
from overtone.enhance.profile import MOST_SECONDS, Profile, ProfileError

# Canonical rate in Hz of profiles that are made without a model.
RATE = 48_000
# Below this rate a recording does not hold the band that is to be made.
LEAST_RATE = 32_000


def read_profile(references: Sequence[audio.Source], rate: int, name: str | None = None) -> Profile:
    """The profile of some audio files of one recording chain.

    Args:
        rate: canonical rate in Hz.
        name: of the profile; None for the files' names.

    Raises:
        AudioError: a file is not usable audio.
        ProfileError: a file's rate is too low, or there is too little sound.
    """
    signals = [audio.resample(*read_reference(source), rate) for source in references]
    return Profile.of(signals, rate, name or ", ".join(Path(audio.name_of(source)).name for source in references))


def read_reference(source: audio.Source) -> tuple[Signal, int]:
    """A reference's samples, the first minute of it, and its rate in Hz.

    Raises:
        AudioError: not usable audio.
        ProfileError: its rate is too low.
    """
    info = audio.probe(source)
    name = audio.name_of(source)
    if info.rate < LEAST_RATE:
        raise ProfileError(
            f"{name}: stored at {info.rate} Hz; expected a full-band recording as a reference, of {LEAST_RATE} Hz or more"
        )
    signal, _ = audio.read(source, 0, round(min(MOST_SECONDS, info.seconds) * info.rate))
    audio.check_samples(name, signal)
    return signal, info.rate
