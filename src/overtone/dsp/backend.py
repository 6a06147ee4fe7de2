"""NumPy and torch under one name, for functions that are written once and run on the arrays of either.

Training computes with torch. Enhancing on a CPU with the networks' ONNX graphs needs no more than NumPy: importing torch
takes longer than enhancing a minute of sound, and more memory than anything else. What both libraries call alike, arguments
included, is called by way of `namespace`; the few other functions are here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# One or the other in all arguments of a function.
Array = TypeVar("Array", npt.NDArray[Any], "Tensor")


def namespace(array: Any) -> Any:
    """The library that an array is of: the module `numpy` or `torch`."""
    if isinstance(array, np.ndarray):
        return np
    import torch

    return torch


def like(values: npt.NDArray[Any], other: Array) -> Array:
    """Values as an array of the same library as another, on its device."""
    if isinstance(other, np.ndarray):
        return values
    made: Array = namespace(other).from_numpy(values).to(other.device)
    return made


def numpy_of(array: Any) -> npt.NDArray[Any]:
    """An array as NumPy's."""
    found: npt.NDArray[Any] = array if isinstance(array, np.ndarray) else array.cpu().numpy()
    return found


def constant(make: Callable[[], npt.NDArray[Any]], other: Array) -> Array:
    """What a function without arguments gives, made once and kept, as `like` gives it.

    Args:
        make: cached by itself.
    """
    if isinstance(other, np.ndarray):
        return make()
    return _tensor(make, other.device)


@functools.cache
def _tensor(make: Callable[[], npt.NDArray[Any]], device: torch.device) -> Tensor:
    import torch

    # To be of use in training, whoever asks first.
    with torch.inference_mode(False):
        return torch.from_numpy(make()).to(device)


def single(array: Array) -> Array:
    """In float32."""
    if isinstance(array, np.ndarray):
        return array.astype(np.float32)
    return array.float()


def running_minimum(array: Array) -> Array:
    """Of all values so far. Shape: (B, N, ...) in and out, along N."""
    if isinstance(array, np.ndarray):
        return np.minimum.accumulate(array, axis=1)
    return array.cummin(dim=1).values


def running_maximum(array: Array) -> Array:
    """Of all values so far. Shape: (B, N, ...) in and out, along N."""
    if isinstance(array, np.ndarray):
        return np.maximum.accumulate(array, axis=1)
    return array.cummax(dim=1).values


def sliding(array: Array, size: int, axis: int) -> Array:
    """Windows that begin at each place along an axis. Shape: (..., N, ...) -> (..., N - size + 1, ..., size)."""
    if isinstance(array, np.ndarray):
        return np.lib.stride_tricks.sliding_window_view(array, size, axis=axis)
    return array.unfold(axis, size, 1)


def ramp(array: Array, step: float) -> Array:
    """One step, two steps, and so on. Shape: (B, N, ...) -> (N, 1)."""
    return like(np.arange(1, array.shape[1] + 1, dtype=np.float32)[:, None] * np.float32(step), array)


def sigmoid(array: Array) -> Array:
    """1 / (1 + exp(-x))."""
    if isinstance(array, np.ndarray):
        return np.asarray(1 / (1 + np.exp(-array)))
    return array.sigmoid()


def complex_of(real: Array, imaginary: Array) -> Array:
    """Complex numbers of two parts, float32 each."""
    if isinstance(real, np.ndarray):
        return np.asarray(real + 1j * imaginary, dtype=np.complex64)
    out: Array = namespace(real).complex(real, imaginary)
    return out


def inverse_root(array: Array) -> Array:
    """1 / sqrt(x)."""
    if isinstance(array, np.ndarray):
        return np.asarray(1 / np.sqrt(array))
    return array.rsqrt()
