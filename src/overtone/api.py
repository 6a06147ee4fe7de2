"""What `from overtone import Upsampler` gives: models by name, samples of any kind in and the same kind out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self, cast

from overtone import arrays, upsample
from overtone.arrays import Samples
from overtone.audio import MAX_CHANNELS, AudioError
from overtone.registry import resolve
from overtone.upsample import Mode, Runtime


class Upsampler(upsample.Upsampler):
    """A trained network that turns audio into full-band audio at `rate` (48 kHz).

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
                "released" or "released-cnn"; a model folder; or "auto", the champion, and the released model without one.
                A `Path` is always a folder.
            device: of torch: "cpu", "cuda" or another.
            runtime: "torch"; "onnx", which wants the graph that `overtone export` writes; or "auto", the graph on a CPU
                where there is one.

        Raises:
            OvertoneError: no such model, one that cannot be used, or the extra is missing.
        """
        folder, name = (model, str(model)) if isinstance(model, Path) else resolve.folder(str(model))
        made = cast(Self, super().load(folder, device, runtime))
        made.name = name
        return made

    # Wider than what it overrides: every signal that the room below takes is one of these kinds.
    def enhance(self, signal: Samples, rate: int, *, mode: Mode = "auto", cutoff_hz: float | None = None) -> Samples:
        """Full-band version of some samples, at the upsampler's `rate`, of the same kind.

        Args:
            signal: any length.
            rate: of the signal, Hz.
            mode: "extend" keeps everything below the cutoff as it is; "restore" also repairs it. "auto" is "extend".
            cutoff_hz: frequency above which the signal holds nothing; None takes half the rate of a low-rate signal and
                estimates it for one of 44.1 kHz and more.

        Shape:
            (samples,) or (channels, samples) -> the same with round(samples * 48000 / rate) samples.

        Raises:
            AudioError: not audio as described, NaN or infinite samples, a rate that is none, or a cutoff outside the band.
        """
        opened, kind = arrays.opened(signal)
        if not (rate > 0 and rate == int(rate)):
            raise AudioError(f"rate: expected a whole number of Hz above 0, got {rate}")
        return cast(Samples, kind.closed(super().enhance(opened, int(rate), mode=mode, cutoff_hz=cutoff_hz)))

    def stream(self, channels: int = 1, *, mode: Mode = "auto", cutoff_hz: float) -> Stream:
        """A stream at the upsampler's `rate`, for audio that arrives block by block.

        Args:
            channels: of every block.
            mode, cutoff_hz: as in `enhance`; a cutoff cannot be estimated before the signal is there.

        Raises:
            AudioError: a cutoff outside the band, or no channel.
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"channels: expected 1 to {MAX_CHANNELS}, got {channels}")
        transform = self.graph.transform if self.graph else self.model.transform
        cutoff = self.checked_cutoff(cutoff_hz)
        return Stream(self.model, transform, channels, cutoff, mode == "restore", self.device)


class Stream(upsample.Stream):
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
        if len(opened) != len(self._waiting):
            raise AudioError(f"block: expected {len(self._waiting)} channels, as the stream has, got {len(opened)}")
        return cast(Samples, self._kind.closed(super().push(opened)))

    def finish(self) -> Any:
        """The remaining samples, of the last block's kind; all outputs together are as long as all inputs."""
        return self._kind.closed(super().finish())
