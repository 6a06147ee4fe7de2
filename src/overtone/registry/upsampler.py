"""What `from overtone import Upsampler` gives: a model by its name in the registry, a released one, or a folder."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Self

from overtone.enhance import upsampler
from overtone.enhance.networks import Runtime
from overtone.enhance.profile import Profile
from overtone.enhance.stream import Stream, Treatment
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
                where there are some, which need no torch.

        Raises:
            OvertoneError: no such model, one that cannot be used, or the extra is missing.
        """
        folder, name = (model, str(model)) if isinstance(model, Path) else resolve.folder(str(model))
        made = super().load(folder, device, runtime)
        made.name = name
        return made

    def treatment(self, *settings: Any, **named: Any) -> Treatment:
        """As of every upsampler; a profile may also be named as the registry keeps it."""
        found = inspect.signature(super().treatment).bind(*settings, **named)
        if isinstance(given := found.arguments.get("profile"), Path | str):
            found.arguments["profile"] = resolve.profile(Path(given))
        return super().treatment(*found.args, **found.kwargs)
