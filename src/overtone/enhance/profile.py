"""A profile: what full-band sound of a recording chain looks like, to extend other recordings of the same chain by.

It is kept as band levels of its frames, so that it serves any cutoff and any later model.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from overtone import audio
from overtone.audio import Signal, replacing
from overtone.dsp import bands, stft
from overtone.errors import OvertoneError

FORMAT = "overtone-profile"
VERSION = 1
# Seconds of a reference that are kept, and the least that there must be.
MOST_SECONDS, LEAST_SECONDS = 60.0, 1.0
# Canonical rate in Hz of profiles that are made without a model.
RATE = 48_000
# Below this rate a recording does not hold the band that is to be made.
LEAST_RATE = 32_000
# Levels are kept in steps of this (log10 power), from `_LOWEST` on.
_STEP, _LOWEST = 0.05, -10.0


class ProfileError(OvertoneError):
    """A profile or reference that cannot be used; the message names it and what was expected."""


@dataclass(frozen=True)
class Profile:
    """Band levels of a reference.

    Attributes:
        name: what it was made of.
        rate: canonical rate in Hz of its frames.
        levels: log10 power of bands (frames, BANDS), from `dsp.bands`.
    """

    name: str
    rate: int
    levels: npt.NDArray[np.float32]

    @classmethod
    def of(cls, signals: list[Signal], rate: int, name: str) -> Profile:
        """From references at the canonical rate, (channels, samples) each.

        Raises:
            ProfileError: less than a second of sound.
        """
        parts = [_levels(signal) for signal in signals]
        levels = np.concatenate(parts)[: round(MOST_SECONDS * rate / stft.HOP)] if parts else np.zeros((0, bands.BANDS))
        sounding = levels[levels.max(axis=1) > bands.ROUNDING + 1]
        if len(sounding) * stft.HOP < LEAST_SECONDS * rate:
            raise ProfileError(
                f"{name}: {len(sounding) * stft.HOP / rate:.1f} s of sound; a reference needs at least {LEAST_SECONDS:g} s"
            )
        return cls(name, rate, _levels_of(_steps(levels)))

    @property
    def seconds(self) -> float:
        """Of the reference that are kept."""
        return len(self.levels) * stft.HOP / self.rate

    def save(self, path: Path) -> None:
        """Write it as JSON."""
        steps = _steps(self.levels)
        packed = base64.b64encode(zlib.compress(steps.tobytes(), 9)).decode()
        text = {"format": FORMAT, "version": VERSION, "name": self.name, "rate": self.rate}
        text |= {"bands": bands.BANDS, "frames": len(steps), "levels": packed}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(text, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Profile:
        """What `save` wrote.

        Raises:
            ProfileError: no such file, or not a profile.
        """
        try:
            tree = json.loads(path.read_text())
        except OSError as error:
            raise ProfileError(f"{path}: cannot be read ({error.strerror}); expected a profile") from None
        except ValueError:
            raise ProfileError(f"{path}: not JSON; expected what `overtone profile` writes") from None
        return cls.parse(tree, str(path))

    @classmethod
    def parse(cls, tree: object, name: str) -> Profile:
        """From the content of a profile's file.

        Args:
            name: of the file, for messages.

        Raises:
            ProfileError: not a profile, or of a later version.
        """
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise ProfileError(f"{name}: not a profile; expected what `overtone profile` writes")
        if tree.get("version") != VERSION or tree.get("bands") != bands.BANDS:
            raise ProfileError(f"{name}: a profile of another version; make it again from the reference")
        try:
            frames, rate = int(tree["frames"]), int(tree["rate"])
            if not 0 < frames <= MOST_SECONDS * rate / stft.HOP + 1:
                raise ValueError
            decoder = zlib.decompressobj()
            raw = decoder.decompress(base64.b64decode(tree["levels"], validate=True), frames * bands.BANDS)
            steps = np.frombuffer(raw, np.uint8).reshape(frames, bands.BANDS)
        except (KeyError, TypeError, ValueError, zlib.error):
            raise ProfileError(f"{name}: a damaged profile; make it again from the reference") from None
        return cls(str(tree.get("name", "")), rate, _levels_of(steps))


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


def _steps(levels: npt.NDArray[np.floating]) -> npt.NDArray[np.uint8]:
    return np.clip(np.round((levels - _LOWEST) / _STEP), 0, 255).astype(np.uint8)


def _levels_of(steps: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return np.asarray(steps * np.float32(_STEP) + np.float32(_LOWEST), dtype=np.float32)


def _levels(signal: Signal) -> npt.NDArray[np.float32]:
    return bands.band_levels(stft.analyse(signal.mean(axis=0, dtype=np.float32)))
