"""The kinds of samples that callers hand over, and the same kind handed back: NumPy or torch, mono or not, float or 16 bit."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from overtone.audio.samples import MAX_CHANNELS, MAX_LEVEL, AudioError, Signal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# (samples,) or (channels, samples); float32, float64 or int16.
Samples = TypeVar("Samples", npt.NDArray[Any], "Tensor")

_FULL_SCALE = 32_768.0
_FLOAT = np.dtype(np.float32)


@dataclass(frozen=True)
class Kind:
    """What samples were: without a channel axis or with one, of which type, on which torch device (None: NumPy)."""

    flat: bool = False
    dtype: np.dtype[Any] = _FLOAT
    device: torch.device | None = None

    def closed(self, signal: Signal) -> Any:
        """A signal (channels, samples) as this kind; 16 bit is rounded, and clipped at full scale."""
        values: npt.NDArray[Any] = signal[0] if self.flat else signal
        if self.dtype == np.int16:
            values = np.clip(np.rint(values * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1)
        values = values.astype(self.dtype, copy=False)
        if self.device is None:
            return values
        return sys.modules["torch"].from_numpy(np.ascontiguousarray(values)).to(self.device)


def opened(samples: Any, name: str = "signal") -> tuple[Signal, Kind]:
    """Samples of any kind as a signal (channels, samples) of float32, full scale 1.0, and the kind that they were.

    Args:
        name: what a message calls them.

    Raises:
        AudioError: neither array nor tensor, another type, another shape, or not of full scale 1.0.
    """
    # Whoever hands over a tensor has imported torch.
    is_tensor = "torch" in sys.modules and isinstance(samples, sys.modules["torch"].Tensor)
    if not is_tensor and not isinstance(samples, np.ndarray):
        raise AudioError(f"{name}: expected a NumPy array or a torch tensor, got {type(samples).__name__}")
    if str(samples.dtype).removeprefix("torch.") not in ("float32", "float64", "int16"):
        raise AudioError(f"{name}: expected samples of float32, float64 or int16, got {samples.dtype}")
    device = samples.device if is_tensor else None
    samples = samples.detach().cpu().numpy() if is_tensor else samples
    if samples.ndim not in (1, 2) or 0 in samples.shape[:-1]:
        raise AudioError(f"{name}: expected shape (samples,) or (channels, samples), got {samples.shape}")
    kind = Kind(samples.ndim == 1, samples.dtype, device)
    signal = samples[None] if kind.flat else samples
    if len(signal) > MAX_CHANNELS:
        raise AudioError(f"{name}: expected (channels, samples), got {signal.shape}: transpose it")
    if kind.dtype == np.int16:
        return (signal / np.float32(_FULL_SCALE)).astype(np.float32), kind
    if signal.size and (peak := float(np.abs(signal).max())) > MAX_LEVEL and np.isfinite(peak):
        raise AudioError(f"{name}: expected full scale 1.0, got a peak of {peak:g}: divide 16-bit samples by 32768")
    return np.asarray(signal, dtype=np.float32), kind
