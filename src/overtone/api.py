"""What `from overtone import Upsampler` gives: models by name, samples of any kind in and the same kind out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, cast

from overtone.audio import MAX_CHANNELS, AudioError, arrays
from overtone.audio.arrays import Samples
from overtone.enhance import stream, upsampler
from overtone.enhance.networks import Runtime
from overtone.enhance.profile import Profile
from overtone.enhance.references import read_reference
from overtone.enhance.upsampler import Mode
from overtone.registry import resolve

__all__ = ["Profile", "Stream", "Upsampler"]


class Upsampler(upsampler.Upsampler):
    """A trained model that turns audio into full-band audio at `rate` (48 kHz).

    One object serves many threads at once. Samples are NumPy arrays or torch tensors of shape (samples,) or
    (channels, samples), float32 or float64 of full scale 1.0, or int16; what comes out is of the same kind, on the same
    device.

    Example:
        >>> from overtone import Upsampler
        >>> upsampler = Upsampler.load("released")
        >>> full_band = upsampler.enhance(narrow, 16_000)
    """

    # What the model is called: "champion", "3", "released" or the folder as it was given.
    name: str = ""

    @classmethod
    def load(cls, model: str | int | Path = "auto", device: str = "cpu", runtime: Runtime = "auto") -> Self:
        """A model by name.

        Args:
            model: "champion", "challenger", another alias or a version number of the registry, which need the extra `train`;
                "released" or "released-rnn"; a model folder; or "auto", the champion, and the released model without one.
                A `Path` is always a folder.
            device: of torch: "cpu", "cuda" or another.
            runtime: "torch"; "onnx", which wants the graphs that `overtone export` writes; or "auto", the graphs on a CPU
                where there are some.

        Raises:
            OvertoneError: no such model, one that cannot be used, or the extra is missing.
        """
        folder, name = (model, str(model)) if isinstance(model, Path) else resolve.folder(str(model))
        made = cast(Self, super().load(folder, device, runtime))
        made.name = name
        return made

    # Wider than what it overrides: every signal that the base class takes is one of these kinds.
    def enhance(
        self,
        signal: Samples,
        rate: int,
        *,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Profile | Path | str | None = None,
        brightness_db: float = 0.0,
    ) -> Samples:
        """Full-band version of some samples, at the upsampler's `rate`, of the same kind.

        Args:
            signal: any length.
            rate: of the signal, Hz.
            mode: "extend" keeps everything below the cutoff as it is; "restore" also fills lost packets, repairs clipping and
                takes noise out; "auto" does of that what the signal is found to need.
            cutoff_hz: frequency above which the signal holds nothing; None to find it.
            profile: of the recording chain, from `profile`, or the file of one, or its name in the registry.
            brightness_db: turns what is added brighter or duller, -6 to 6.

        Shape:
            (samples,) or (channels, samples) -> the same with round(samples * 48000 / rate) samples.

        Raises:
            AudioError: not audio as described, NaN or infinite samples, a rate that is none, or a setting out of range.
            ProfileError: the file is no profile.
        """
        opened, kind = arrays.opened(signal)
        made = super().enhance(
            opened,
            _checked(rate),
            mode=mode,
            cutoff_hz=cutoff_hz,
            profile=_profile(profile),
            brightness_db=brightness_db,
        )
        return cast(Samples, kind.closed(made))

    def stream(
        self,
        channels: int = 1,
        *,
        mode: Mode = "auto",
        cutoff_hz: float,
        profile: Profile | Path | str | None = None,
        brightness_db: float = 0.0,
    ) -> Stream:
        """A stream at the upsampler's `rate`, for audio that arrives block by block.

        Args:
            channels: of every block.
            mode: as in `enhance`, but "auto" is "extend": nothing is known of what is to come.
            cutoff_hz: cannot be found before the signal is there.
            profile, brightness_db: as in `enhance`.

        Raises:
            AudioError: a setting out of range, or no channel.
            ProfileError: the file is no profile.
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"channels: expected 1 to {MAX_CHANNELS}, got {channels}")
        treatment = self.stream_treatment(mode, cutoff_hz, _profile(profile), brightness_db)
        return Stream(self.model, channels, treatment)

    # Wider, as `enhance` is.
    def profile(self, references: Iterable[tuple[Samples, int] | Path | str], name: str = "reference") -> Profile:
        """A profile of full-band sound of one recording chain, for `enhance` and `stream`.

        Args:
            references: samples and their rate in Hz, or audio files; some seconds are enough, up to a minute is used.
            name: of the profile.

        Raises:
            AudioError: a reference is not usable audio.
            ProfileError: too little sound, or a file of a rate that does not hold the band.
        """
        signals = []
        for reference in references:
            if isinstance(reference, tuple):
                opened, rate = arrays.opened(reference[0], "reference")[0], _checked(reference[1])
                signals.append((opened, rate))
            else:
                signals.append(read_reference(Path(reference)))
        return super().profile(signals, name)


class Stream(stream.Stream):
    """Enhances audio that arrives in blocks of any size; the result does not depend on how it is cut.

    Not for several threads at once: blocks have an order.
    """

    _kind = arrays.Kind()

    def push(self, block: Samples) -> Samples:
        """Take a block; give the samples that are now known, of the same kind: none at first, later as many as went in.

        Raises:
            AudioError: not audio, or of another number of channels than the stream.
        """
        opened, self._kind = arrays.opened(block, "block")
        if len(opened) != self.channels:
            raise AudioError(f"block: expected {self.channels} channels, as the stream has, got {len(opened)}")
        return cast(Samples, self._kind.closed(super().push(opened)))

    def finish(self) -> Any:
        """The remaining samples, of the last block's kind; all outputs together are as long as all inputs."""
        return self._kind.closed(super().finish())


def _checked(rate: int) -> int:
    if not (rate > 0 and rate == int(rate)):
        raise AudioError(f"rate: expected a whole number of Hz above 0, got {rate}")
    return int(rate)


def _profile(given: Profile | Path | str | None) -> Profile | None:
    return Profile.load(resolve.profile(Path(given))) if isinstance(given, Path | str) else given
