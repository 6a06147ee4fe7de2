"""Spectrogram figures of a clip before and after, beside its reference."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from overtone.audio import Signal, replacing

# dB below a full-scale sine: from 16-bit rounding's neighbourhood to loud speech.
LEVELS_DB = (-120.0, -20.0)
_WINDOW = 2048
COLOURS = 96
# More columns than the panel has pixels would only be thrown away.
_COLUMNS = 700


def spectrogram_db(signal: Signal) -> npt.NDArray[np.float32]:
    """Power in dB against a full-scale sine, averaged over channels, in at most about 700 columns.

    Shape:
        (channels, samples) -> (1025, columns).
    """
    window = torch.hann_window(_WINDOW, periodic=True)
    padded = np.pad(signal, ((0, 0), (0, max(0, _WINDOW - signal.shape[1]))))
    hop = max(_WINDOW // 4, signal.shape[1] // _COLUMNS)
    spectra = torch.stft(torch.from_numpy(padded), _WINDOW, hop, window=window, center=True, return_complex=True)
    power = spectra.abs().square().mean(dim=0) / (window.sum() / 2) ** 2
    level: npt.NDArray[np.float32] = (10.0 * torch.log10(power.clamp(min=1e-15))).numpy()
    return level


def draw(path: Path, panels: dict[str, Signal], rate: int, *, title: str, cutoff_hz: float) -> None:
    """Write spectrograms side by side, on one colour scale, as a PNG; the cutoff is marked in each.

    The same signals give the same bytes.

    Args:
        path: the PNG file.
        panels: heading -> signal (channels, samples), left to right.
        rate: sample rate of all, Hz.
        title: one line above them.
        cutoff_hz: frequency above which the input holds nothing of the target, Hz; not marked at half the rate.
    """
    figure = Figure(figsize=(4.2 * len(panels) + 0.8, 4.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (heading, signal) in zip(axes, panels.items(), strict=True):
        extent = (0.0, signal.shape[1] / rate, 0.0, rate / 2000)
        mesh = axis.imshow(
            spectrogram_db(signal), origin="lower", aspect="auto", extent=extent, cmap="magma",
            vmin=LEVELS_DB[0], vmax=LEVELS_DB[1], interpolation="antialiased",
        )  # fmt: skip
        axis.set_title(heading, fontsize=10)
        axis.set_xlabel("time (s)")
        axis.set_yticks(range(0, int(rate / 2000) + 1, 4))
        if cutoff_hz < 0.99 * rate / 2:
            axis.axhline(cutoff_hz / 1000, color="white", linewidth=0.9, linestyle=(0, (4, 4)), alpha=0.8)
    axes[0].set_ylabel("frequency (kHz)")
    bar = figure.colorbar(mesh, ax=list(axes), pad=0.01, fraction=0.03)
    bar.set_label("level (dB)")
    figure.suptitle(title, fontsize=11)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    # One colour scale needs no more colours, and the file is a third of the size.
    image = Image.open(drawn).convert("RGB").quantize(COLOURS)
    with replacing(path) as temporary:
        image.save(temporary, format="png", optimize=True)
