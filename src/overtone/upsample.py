"""The `Upsampler`: any length, rate and number of channels, block by block in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.signal
import soxr
import torch
from torch import Tensor

from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.dsp.conceal import Concealer
from overtone.dsp.bandwidth import estimate_bandwidth
from overtone.models import build, export
from overtone.models.build import ModelError
from overtone.models.spectral import (
    BINS,
    HOP,
    WINDOW,
    SpectralUpsampler,
    Transform,
    marked_share,
    overlap_add,
    spectra,
    visible_bins,
)

Mode = Literal["extend", "restore", "auto"]
Runtime = Literal["auto", "torch", "onnx"]

# Samples handed to the network at a time when a whole signal or file is enhanced: about ten seconds at 48 kHz.
BLOCK = 960 * HOP
# Half the length of the filter that separates what is kept from what is added. Together with one window, what an output
# sample has to wait for: 1024 + 176 samples, 25 ms at 48 kHz.
HALF_FILTER = 176
STOP_BAND_DB = 90.0
# Up to this share of the cutoff an extended signal equals its input to 16-bit accuracy. The change starts four bins (the
# main lobe of the window) above it, and half of it passes the filter at the second share.
UNTOUCHED, SEAM = 0.9, 0.95
# A cutoff this close to the top of the band leaves nothing to add.
FULL_BAND = 0.98
# How many excerpts of what length are listened to when a file's cutoff has to be estimated.
EXCERPTS, EXCERPT_SECONDS = 12, 4.0


class Upsampler:
    """A trained network with everything around it that a user's audio needs.

    Example:
        >>> upsampler = Upsampler.load(Path("models/rnn"))  # doctest: +SKIP
        >>> full_band = upsampler.enhance(signal, 16_000)  # doctest: +SKIP

    Args:
        model: network in evaluation mode.
        config: the `config.json` that it came with.
        device: of torch.
        graph: runs in the network's place, on the CPU.
    """

    def __init__(
        self,
        model: SpectralUpsampler,
        config: dict[str, Any],
        device: str = "cpu",
        graph: export.Session | None = None,
    ) -> None:
        self.model = model.to(device)
        self.config = config
        self.device = device
        self.graph = graph
        self.rate = model.rate

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", runtime: Runtime = "auto") -> Upsampler:
        """From a model folder (`weights.safetensors` and `config.json`, perhaps `model.onnx`).

        Args:
            device: of torch; "cpu", "cuda" or another.
            runtime: `torch`; `onnx`, which wants the folder's graph; or `auto`, the graph on a CPU where there is one of the
                folder's own weights.

        Raises:
            ModelError: files missing or unusable.
        """
        model, config = build.load(folder)
        graph = export.open_graph(folder) if runtime == "onnx" or (runtime == "auto" and device == "cpu") else None
        if runtime == "onnx" and (graph is None or device != "cpu"):
            raise ModelError(
                f"{folder / export.GRAPH}: expected the graph of the folder's weights, to be run on the CPU; "
                "`overtone export` writes it"
            )
        return cls(model, config, device, graph)

    def enhance(self, signal: Signal, rate: int, *, mode: Mode = "auto", cutoff_hz: float | None = None) -> Signal:
        """Full-band version of a signal, at the canonical rate.

        Args:
            signal: any length and number of channels, full scale 1.0.
            rate: of the signal, Hz.
            mode: `extend` keeps everything below the cutoff as it is; `restore` also repairs it. `auto` is `extend`.
            cutoff_hz: frequency above which the signal holds nothing; None takes half the rate of a low-rate signal and
                estimates it for one of 44.1 kHz and more.

        Shape:
            (channels, samples) -> (channels, round(samples * 48000 / rate)).

        Raises:
            AudioError: wrong shape, NaN or infinite samples, or a cutoff outside the band.
        """
        signal = np.asarray(signal, dtype=np.float32)
        if signal.ndim != 2 or signal.shape[0] < 1:
            raise AudioError(f"signal: expected shape (channels, samples), got {signal.shape}")
        audio.check_samples("signal", signal)
        if cutoff_hz is None:
            cutoff_hz = self._cutoff(rate, lambda: [signal])
        whole = audio.resample(signal, rate, self.rate)
        stream = self.stream(whole.shape[0], mode=mode, cutoff_hz=self.checked_cutoff(cutoff_hz))
        parts = [stream.push(whole[:, start : start + BLOCK]) for start in range(0, whole.shape[1], BLOCK)]
        return np.concatenate([*parts, stream.finish()], axis=1)

    def enhance_file(
        self,
        source: Path,
        target: Path,
        *,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        rate: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> None:
        """Enhance a file of any length into another, in memory that does not grow with it.

        The target appears whole or not at all; its format follows its extension, its bit depth the source's.

        Args:
            rate: of the target, Hz; None for the canonical rate.
            progress: called with the share done, 0 to 1, after each block.

        Raises:
            AudioError: the source is not usable audio, or the target's format cannot be written.
        """
        info = audio.probe(source)
        blocks = self.blocks(source, info, mode=mode, cutoff_hz=cutoff_hz, rate=rate, progress=progress)
        format, subtype = audio.container(target, info.subtype)
        with (
            audio.replacing(target) as temporary,
            audio.Writer(temporary, rate or self.rate, info.channels, format, subtype) as out,
        ):
            for block in blocks:
                out.write(block)

    def cutoff_of(self, source: audio.Source, info: audio.Info) -> float:
        """Hz above which a file holds nothing: half of a low rate; for 44.1 kHz and more what excerpts of it show.

        Raises:
            AudioError: the file is not usable audio.
        """
        _check_holds_samples(source, info)
        return self._cutoff(info.rate, lambda: _excerpts(source, info))

    def blocks(
        self,
        source: audio.Source,
        info: audio.Info,
        *,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        rate: int | None = None,
        size: int = BLOCK,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Signal]:
        """The enhanced samples of a file in order, each block as soon as it is known.

        Args:
            info: the file's header.
            cutoff_hz: frequency above which the file holds nothing; None to find it (see `enhance`).
            rate: of the blocks, Hz; None for the canonical rate.
            size: samples at the canonical rate that the network is given at a time.
            progress: called with the share done, 0 to 1, after each block.

        Shape:
            (channels, samples) each; together `audio.resampled_length` of the file's samples.

        Raises:
            AudioError: the file holds no samples, is not usable audio, or the cutoff is outside the band.
        """
        _check_holds_samples(source, info)
        cutoff_hz = self.cutoff_of(source, info) if cutoff_hz is None else cutoff_hz
        stream = self.stream(info.channels, mode=mode, cutoff_hz=self.checked_cutoff(cutoff_hz))
        # Many channels take no more memory than two.
        size = max(HOP, size * 2 // max(2, info.channels))
        known = self._blocks(source, info, stream, size, progress)
        return known if rate in (None, self.rate) else _at_rate(known, info, self.rate, rate)

    def _blocks(
        self,
        source: audio.Source,
        info: audio.Info,
        stream: Stream,
        size: int,
        progress: Callable[[float], None] | None,
    ) -> Iterator[Signal]:
        read = written = 0

        def checked() -> Iterator[Signal]:
            nonlocal read
            for block in audio.blocks(source, max(HOP, audio.BLOCK_FRAMES * 2 // max(2, info.channels))):
                audio.check_samples(audio.name_of(source), block)
                read += block.shape[1]
                yield block

        for block in _regrouped(_resampled(checked(), info.rate, self.rate, info.channels), size):
            enhanced = stream.push(block)
            written += enhanced.shape[1]
            yield enhanced
            if progress is not None:
                progress(min(read / info.frames, 1.0))
        audio.check_end(source, info, read)
        length = audio.resampled_length(read, info.rate, self.rate)
        yield audio.fit_length(stream.finish(), length - written)
        if progress is not None:
            progress(1.0)

    def stream(self, channels: int, *, mode: Mode = "auto", cutoff_hz: float) -> Stream:
        """A stream at the canonical rate: blocks of any size in, enhanced samples out as soon as they are known."""
        transform = self.graph.transform if self.graph else self.model.transform
        return Stream(self.model, transform, channels, cutoff_hz, mode == "restore", self.device)

    def _cutoff(self, rate: int, excerpts: Callable[[], Iterable[Signal]]) -> float:
        """Half the rate, or for rates that any recording may be stored at, what the signal itself shows."""
        if rate < 44_100:
            return rate / 2
        found = max(estimate_bandwidth(excerpt, rate) for excerpt in excerpts())
        # Silence, or a hum: no band to extend.
        return min(found, rate / 2) if found >= self._lowest_cutoff else rate / 2

    @property
    def _lowest_cutoff(self) -> float:
        return 4 * self.rate / WINDOW

    def checked_cutoff(self, cutoff_hz: float) -> float:
        """A cutoff in Hz, at most half the canonical rate.

        Raises:
            AudioError: it is below the lowest that can be worked with.
        """
        if not self._lowest_cutoff <= cutoff_hz:
            raise AudioError(f"cutoff: expected at least {self._lowest_cutoff:.0f} Hz, got {cutoff_hz:g}")
        return min(cutoff_hz, self.rate / 2)


class Stream:
    """Enhances a signal that arrives in blocks; the result does not depend on how it is cut.

    With a uni-directional recurrent network an output sample waits for at most 25 ms of input. A convolutional network
    waits for its context too. Before restoration, gaps of lost packets are filled from what came before them.

    Pairs of channels are modelled as mid and side; a side that is silent stays silent, so that equal channels stay equal.
    """

    def __init__(
        self,
        model: SpectralUpsampler,
        transform: Transform,
        channels: int,
        cutoff_hz: float,
        restore: bool,
        device: str,
    ) -> None:
        self._model = model
        self._transform = transform
        self._pairs = channels // 2
        self._restore = restore
        self._idle = not restore and cutoff_hz >= FULL_BAND * model.rate / 2
        cutoff = torch.full((channels,), cutoff_hz, device=device)
        self._visible = visible_bins(cutoff, model.rate)
        self._restore_flags = torch.full((channels,), restore, device=device)
        side = torch.arange(channels, device=device) < 2 * self._pairs
        self._side = (torch.arange(channels, device=device) % 2 == 1) & side
        untouched = round(UNTOUCHED * cutoff_hz * WINDOW / model.rate) + 4
        self._open = torch.arange(BINS, device=device) >= (0 if restore else untouched)
        self._filter = None if restore else _high_pass(cutoff_hz, model.rate)
        self._concealer = Concealer(channels, model.rate, live=True) if restore else None
        self._device = device
        # Input whose output is not out yet; input that the next frame starts with, in the last row marks of what is
        # concealed; change that the filter needs again.
        self._waiting = np.zeros((channels, 0), np.float32)
        self._samples = np.zeros((channels + 1, HOP), np.float32)
        self._change = np.zeros((channels, 0 if restore else HALF_FILTER), np.float32)
        # Spectra of the frames whose output is not out yet, and for the body's context of those before.
        self._spectra = torch.zeros((channels, 0, BINS), dtype=torch.complex64, device=device)
        self._concealed = torch.zeros((1, 0), device=device)
        self._first = 0
        self._done = 0
        self._state: list[Tensor] = model.body.initial(channels)
        self._last_change: Tensor | None = None
        self._received = 0

    def push(self, block: Signal) -> Signal:
        """Take a block (channels, samples) of any size; give the samples that are now known."""
        return self._push(*(self._unmarked(block) if self._concealer is None else self._concealer.push(block)))

    def _push(self, block: Signal, marks: Signal) -> Signal:
        self._received += block.shape[1]
        if self._idle:
            return block
        self._waiting = np.concatenate((self._waiting, block), axis=1)
        rows = np.concatenate((self._to_mid_side(block), marks))
        self._samples = np.concatenate((self._samples, rows), axis=1)
        frames = self._samples.shape[1] // HOP - 1
        if frames <= 0:
            return block[:, :0]
        return self._emit(self._advance(frames, last=False))

    def finish(self) -> Signal:
        """The remaining samples; all outputs together are as long as all inputs."""
        before = self._waiting[:, :0] if self._concealer is None else self._push(*self._concealer.finish())
        return np.concatenate((before, self._flush()), axis=1)

    def _flush(self) -> Signal:
        if self._idle or self._received == 0:
            return self._waiting
        short = -self._received % HOP
        self._samples = np.pad(self._samples, ((0, 0), (0, short + HOP)))
        change = self._advance(self._samples.shape[1] // HOP - 1, last=True)
        tail = 0 if self._filter is None else HALF_FILTER
        return self._emit(np.pad(change, ((0, 0), (0, tail))))

    @torch.inference_mode()
    def _advance(self, frames: int, last: bool) -> Signal:
        """Analyse `frames` new frames, run the body where its context allows; the change of the signal that is now known."""
        used = self._samples[:, : (frames + 1) * HOP]
        self._samples = self._samples[:, frames * HOP :]
        signal = torch.from_numpy(used).to(self._device)
        window = self._model.window
        heard = torch.cat((self._spectra, spectra(signal[:-1], window)), dim=1)
        concealed = torch.cat((self._concealed, marked_share(signal[-1:], window)), dim=1)
        body = self._model.body
        end = self._first + heard.shape[1] - (0 if last else body.context)
        if end > self._done:
            filled, self._state = self._model.enhance(
                heard,
                self._visible,
                self._restore_flags,
                concealed.expand(len(heard), -1),
                self._state,
                self._transform,
            )
            chosen = slice(self._done - self._first, end - self._first)
            change = self._opened(heard[:, chosen], filled[:, chosen])
            self._done = end
        else:
            change = heard[:, :0]
        keep = max(self._done - body.context, 0) // body.alignment * body.alignment
        self._spectra, self._concealed = heard[:, keep - self._first :], concealed[:, keep - self._first :]
        self._first = keep
        if self._last_change is not None:
            change = torch.cat((self._last_change, change), dim=1)
        self._last_change = change[:, -1:]
        if change.shape[1] < 2:
            return np.zeros((change.shape[0], 0), np.float32)
        return np.asarray(overlap_add(change, self._model.window).cpu().numpy())

    def _opened(self, heard: Tensor, filled: Tensor) -> Tensor:
        """The change of spectra where there may be one: above what stays untouched, and not in a silent side."""
        change = (filled - heard) * self._open
        # Looking at one bin first spares most signals the look at all.
        if bool((heard[..., 1] == 0).any()):
            silent = (heard == 0).all(dim=-1) & (self._side | (not self._restore))[:, None]
            change = torch.where(silent[..., None], 0, change)
        return change

    def _emit(self, change: Signal) -> Signal:
        """Input plus change, the change freed of whatever lies below the cutoff."""
        if self._filter is not None:
            joined = np.concatenate((self._change, change), axis=1)
            self._change = joined[:, -2 * HALF_FILTER :]
            if joined.shape[1] <= 2 * HALF_FILTER:
                return joined[:, :0]
            change = scipy.signal.oaconvolve(joined, self._filter, mode="valid", axes=1)
        change = self._from_mid_side(change[:, : self._waiting.shape[1]])
        ready, self._waiting = self._waiting[:, : change.shape[1]], self._waiting[:, change.shape[1] :]
        return (ready + change).astype(np.float32)

    @staticmethod
    def _unmarked(block: Signal) -> tuple[Signal, Signal]:
        return block, np.zeros((1, block.shape[1]), np.float32)

    def _to_mid_side(self, signal: Signal) -> Signal:
        out = np.array(signal, dtype=np.float32)
        left, right = signal[0 : 2 * self._pairs : 2], signal[1 : 2 * self._pairs : 2]
        out[0 : 2 * self._pairs : 2], out[1 : 2 * self._pairs : 2] = (left + right) / 2, (left - right) / 2
        return out

    def _from_mid_side(self, signal: Signal) -> Signal:
        out = np.array(signal, dtype=np.float32)
        mid, side = signal[0 : 2 * self._pairs : 2], signal[1 : 2 * self._pairs : 2]
        out[0 : 2 * self._pairs : 2], out[1 : 2 * self._pairs : 2] = mid + side, mid - side
        return out


def _high_pass(cutoff_hz: float, rate: int) -> Signal:
    """Linear-phase high pass (Kaiser window) that parts what is kept from what is added. Shape: (1, 2 * HALF_FILTER + 1)."""
    width = (STOP_BAND_DB - 7.95) / (2.285 * 2 * HALF_FILTER) * rate / (2 * np.pi)
    middle = min(max(cutoff_hz - width / 2, SEAM * cutoff_hz), rate / 2 * 0.999)
    beta = scipy.signal.kaiser_beta(STOP_BAND_DB)
    taps = scipy.signal.firwin(2 * HALF_FILTER + 1, middle, window=("kaiser", beta), pass_zero=False, fs=rate)
    return np.asarray(taps, dtype=np.float32)[None]


def _check_holds_samples(source: audio.Source, info: audio.Info) -> None:
    if info.frames == 0:
        raise AudioError(f"{audio.name_of(source)}: holds no samples; expected audio")
    if not info.length_known:
        raise AudioError(audio.endless(source))


def _excerpts(source: audio.Source, info: audio.Info) -> Iterator[Signal]:
    length = round(EXCERPT_SECONDS * info.rate)
    starts = np.unique(np.linspace(0, max(info.frames - length, 0), EXCERPTS).astype(int))
    for start in starts:
        excerpt, _ = audio.read(source, int(start), length)
        audio.check_samples(audio.name_of(source), excerpt)
        yield excerpt


def _at_rate(blocks: Iterable[Signal], info: audio.Info, source: int, target: int) -> Iterator[Signal]:
    """The same signal at another rate, as long as the file is there; the last block waits until the length is known."""
    read, written = 0, 0
    last = np.zeros((info.channels, 0), np.float32)

    def counted() -> Iterator[Signal]:
        nonlocal read
        for block in blocks:
            read += block.shape[1]
            yield block

    for block in _resampled(counted(), source, target, info.channels):
        yield last
        written, last = written + last.shape[1], block
    yield audio.fit_length(last, audio.resampled_length(read, source, target) - written)


def _resampled(blocks: Iterable[Signal], source: int, target: int, channels: int) -> Iterator[Signal]:
    """The same signal at another rate."""
    if source == target:
        yield from blocks
        return
    resampler = soxr.ResampleStream(source, target, channels, quality="VHQ")
    for block in blocks:
        yield resampler.resample_chunk(block.T).T
    yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True).T


def _regrouped(blocks: Iterable[Signal], size: int) -> Iterator[Signal]:
    """The same samples in blocks of at least `size`, but the last."""
    held: list[Signal] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += block.shape[1]
        if count >= size:
            yield np.concatenate(held, axis=1)
            held, count = [], 0
    if count:
        yield np.concatenate(held, axis=1)
