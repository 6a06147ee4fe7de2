"""The `Upsampler`: any length, rate and number of channels, block by block in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soxr

from overtone import audio
from overtone.audio import AudioError, Signal
from overtone.dsp.conceal import Concealer
from overtone.dsp.cutoff import find_cutoff
from overtone.dsp.damage import examine
from overtone.dsp.declip import Declipper
from overtone.dsp.stft import HOP, WINDOW
from overtone.enhance import networks
from overtone.enhance.denoiser import DeepFilterNet
from overtone.enhance.networks import Networks, Runtime
from overtone.enhance.profile import Profile
from overtone.enhance.stream import Stream, Treatment

Mode = Literal["auto", "extend", "restore"]

# Samples handed to the networks at a time when a whole signal or file is enhanced: about ten seconds at 48 kHz.
BLOCK = 960 * HOP
# How many excerpts of what length are looked at to find a file's cutoff and damage.
EXCERPTS, EXCERPT_SECONDS = 12, 4.0
# Brightness may be turned by so many dB.
MOST_BRIGHTNESS_DB = 6.0


class Upsampler:
    """A trained model with everything around it that a user's audio needs.

    Example:
        >>> upsampler = Upsampler.load(Path("models/rnn"))  # doctest: +SKIP
        >>> full_band = upsampler.enhance(signal, 16_000)  # doctest: +SKIP

    Args:
        model: what runs its networks.
    """

    def __init__(self, model: Networks) -> None:
        self.model = model
        self.rate = model.rate

    @property
    def config(self) -> dict[str, Any]:
        """The `config.json` that the model came with."""
        return self.model.config

    @classmethod
    def load(cls, folder: Path, device: str = "cpu", runtime: Runtime = "auto") -> Upsampler:
        """From a model folder (`weights.safetensors` and `config.json`, perhaps ONNX graphs).

        Args:
            device: of torch; "cpu", "cuda" or another.
            runtime: `torch`; `onnx`, which wants the folder's graphs; or `auto`, the graphs on a CPU where there are some of
                the folder's own weights.

        Raises:
            ModelError: files missing or unusable.
        """
        return cls(networks.load(folder, device, runtime))

    def enhance(
        self,
        signal: Signal,
        rate: int,
        *,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Profile | None = None,
        brightness_db: float = 0.0,
    ) -> Signal:
        """Full-band version of a signal, at the canonical rate.

        Args:
            signal: any length and number of channels, full scale 1.0.
            rate: of the signal, Hz.
            mode: see `treatment`.
            cutoff_hz: frequency above which the signal holds nothing; None to find it.
            profile: of the recording chain, see `profile`.
            brightness_db: turns what is added brighter or duller, -6 to 6.

        Shape:
            (channels, samples) -> (channels, round(samples * 48000 / rate)).

        Raises:
            AudioError: wrong shape, NaN or infinite samples, or a setting out of range.
        """
        signal = np.asarray(signal, dtype=np.float32)
        if signal.ndim != 2 or signal.shape[0] < 1:
            raise AudioError(f"signal: expected shape (channels, samples), got {signal.shape}")
        audio.check_samples("signal", signal)
        found = self.treatment(lambda: _cuts(signal, rate), rate, mode, cutoff_hz, profile, brightness_db)
        length = audio.resampled_length(signal.shape[1], rate, self.rate)
        blocks = (signal[:, start : start + BLOCK] for start in range(0, signal.shape[1], BLOCK))
        known = self._enhanced(blocks, rate, signal.shape[0], found, BLOCK)
        return audio.fit_length(np.concatenate([signal[:, :0], *known], axis=1), length)

    def decision(self, signal: Signal, rate: int, *, mode: Mode = "auto", cutoff_hz: float | None = None) -> Treatment:
        """What `enhance` would do to a signal; arguments as there."""
        return self.treatment(lambda: _cuts(signal, rate), rate, mode, cutoff_hz)

    def enhance_file(
        self,
        source: Path,
        target: Path,
        *,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Profile | None = None,
        brightness_db: float = 0.0,
        rate: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Treatment:
        """Enhance a file of any length into another, in memory that does not grow with it; returns what was done.

        The target appears whole or not at all; its format follows its extension, its bit depth the source's.

        Args:
            rate: of the target, Hz; None for the canonical rate.
            progress: called with the share done, 0 to 1, after each block.

        Raises:
            AudioError: the source is not usable audio, or the target's format cannot be written.
        """
        info = audio.probe(source)
        found = self.treatment_of(source, info, mode, cutoff_hz, profile, brightness_db)
        blocks = self.blocks(source, info, found, rate=rate, progress=progress)
        length = audio.resampled_length(info.frames, info.rate, rate or self.rate)
        format, subtype = audio.container_for(target, info, length)
        with (
            audio.replacing(target) as temporary,
            audio.Writer(temporary, rate or self.rate, info.channels, format, subtype, mask=info.mask) as out,
        ):
            for block in blocks:
                out.write(block)
        return found

    def treatment_of(
        self,
        source: audio.Source,
        info: audio.Info,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Profile | None = None,
        brightness_db: float = 0.0,
    ) -> Treatment:
        """What is to be done to a file, by excerpts of it; see `treatment`.

        Raises:
            AudioError: the file is not usable audio, or a setting is out of range.
        """
        check_holds_samples(source, info)
        return self.treatment(lambda: excerpts(source, info), info.rate, mode, cutoff_hz, profile, brightness_db)

    def treatment(
        self,
        cuts: Callable[[], Iterable[Signal]],
        rate: int,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Profile | None = None,
        brightness_db: float = 0.0,
    ) -> Treatment:
        """What is to be done to a signal.

        `extend` keeps everything below the cutoff as it is. `restore` also fills lost packets, repairs clipped samples
        where there are some, and takes noise out. `auto` does of that only what a look at the signal asks for.

        Args:
            cuts: gives excerpts of the signal, (channels, samples) each.
            rate: of the signal, Hz.
            cutoff_hz: None to find it.

        Raises:
            AudioError: the cutoff or the brightness is out of range, or the profile is of another rate.
        """
        if not -MOST_BRIGHTNESS_DB <= brightness_db <= MOST_BRIGHTNESS_DB:
            raise AudioError(f"brightness: expected -6 to 6 dB, got {brightness_db:g}")
        if profile is not None and profile.rate != self.rate:
            raise AudioError(f"profile {profile.name}: made at {profile.rate} Hz; the model works at {self.rate} Hz")
        heard: list[Signal] = [] if cutoff_hz is not None and mode != "auto" else list(cuts())
        if cutoff_hz is None:
            found = find_cutoff(heard, rate)
            # Silence, or a hum: no band to extend.
            cutoff_hz = found if found >= self._lowest_cutoff else rate / 2
        chosen = Treatment(self.checked_cutoff(cutoff_hz), profile=profile, brightness_db=brightness_db)
        if mode == "restore":
            return replace(chosen, conceal=True, declip=True, denoise=True)
        if mode == "auto":
            damage = examine(heard, rate)
            return replace(chosen, conceal=damage.conceal, declip=damage.declip, denoise=damage.denoise)
        return chosen

    def blocks(
        self,
        source: audio.Source,
        info: audio.Info,
        treatment: Treatment,
        *,
        rate: int | None = None,
        size: int = BLOCK,
        progress: Callable[[float], None] | None = None,
    ) -> Iterator[Signal]:
        """The enhanced samples of a file in order, each block as soon as it is known.

        Args:
            info: the file's header.
            treatment: from `treatment_of`.
            rate: of the blocks, Hz; None for the canonical rate.
            size: samples at the canonical rate that the networks are given at a time.
            progress: called with the share done, 0 to 1, after each block.

        Shape:
            (channels, samples) each; together `audio.resampled_length` of the file's samples.

        Raises:
            AudioError: the file holds no samples or is not usable audio.
        """
        check_holds_samples(source, info)
        known = self._file_blocks(source, info, treatment, size, progress)
        return known if rate in (None, self.rate) else _at_rate(known, info, self.rate, rate)

    def _file_blocks(
        self,
        source: audio.Source,
        info: audio.Info,
        treatment: Treatment,
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

        # Many channels take no more memory than two.
        size = max(HOP, size * 2 // max(2, info.channels))
        held: Signal | None = None
        for block in self._enhanced(checked(), info.rate, info.channels, treatment, size, info.mask):
            if held is not None:
                written += held.shape[1]
                yield held
                if progress is not None:
                    progress(min(read / info.frames, 1.0))
            held = block
        audio.check_end(source, info, read)
        length = audio.resampled_length(read, info.rate, self.rate)
        yield audio.fit_length(np.zeros((info.channels, 0), np.float32) if held is None else held, length - written)
        if progress is not None:
            progress(1.0)

    def _enhanced(
        self, blocks: Iterable[Signal], rate: int, channels: int, treatment: Treatment, size: int, mask: int = 0
    ) -> Iterator[Signal]:
        """Repairs at the signal's own rate, then resampling, then the networks."""
        if treatment.conceal:
            blocks = _through(Concealer(channels, rate), blocks)
        if treatment.declip:
            blocks = _through(Declipper(channels, rate), blocks)
        blocks = _resampled(blocks, rate, self.rate, channels)
        if treatment.denoise and treatment.denoiser == "deepfilternet":
            blocks, treatment = _denoised(blocks, channels), replace(treatment, denoise=False)
        stream = Stream(self.model, channels, replace(treatment, conceal=False), mask)
        for block in _regrouped(blocks, size):
            yield stream.push(block)
        yield stream.finish()

    def stream(
        self,
        channels: int,
        *,
        mode: Mode = "auto",
        cutoff_hz: float,
        profile: Profile | None = None,
        brightness_db: float = 0.0,
    ) -> Stream:
        """A stream at the canonical rate: blocks of any size in, enhanced samples out as soon as they are known.

        Nothing is known of what is to come: `auto` is `extend`, and `restore` fills lost packets from the past alone.
        """
        return Stream(self.model, channels, self.stream_treatment(mode, cutoff_hz, profile, brightness_db))

    def stream_treatment(
        self, mode: Mode, cutoff_hz: float, profile: Profile | None = None, brightness_db: float = 0.0
    ) -> Treatment:
        """What a stream does to its signal; see `stream`.

        Raises:
            AudioError: as of `treatment`.
        """
        mode = "restore" if mode == "restore" else "extend"
        return replace(self.treatment(list, self.rate, mode, cutoff_hz, profile, brightness_db), declip=False)

    def profile(self, references: Iterable[tuple[Signal, int]], name: str = "reference") -> Profile:
        """A profile of full-band sound of one recording chain.

        Args:
            references: signals (channels, samples) and their rates in Hz.

        Raises:
            ProfileError: too little sound.
        """
        return Profile.of([audio.resample(signal, rate, self.rate) for signal, rate in references], self.rate, name)

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


def check_holds_samples(source: audio.Source, info: audio.Info) -> None:
    """Raise AudioError for a file without samples, or one whose length nobody knows."""
    if info.frames == 0:
        raise AudioError(f"{audio.name_of(source)}: holds no samples; expected audio")
    if not info.length_known:
        raise AudioError(audio.endless(source))


def excerpts(source: audio.Source, info: audio.Info) -> Iterator[Signal]:
    """`EXCERPTS` pieces of a file, evenly from its beginning to its end; all of a short one."""
    length, starts = _excerpted(info.frames, info.rate)
    for start in starts:
        excerpt, _ = audio.read(source, int(start), length)
        audio.check_samples(audio.name_of(source), excerpt)
        yield excerpt


def _cuts(signal: Signal, rate: int) -> Iterator[Signal]:
    """As `excerpts`, of a signal in memory."""
    length, starts = _excerpted(signal.shape[1], rate)
    return (signal[:, start : start + length] for start in starts)


def _excerpted(frames: int, rate: int) -> tuple[int, Any]:
    """Length of an excerpt, and where each begins."""
    length = round(EXCERPT_SECONDS * rate)
    if frames <= EXCERPTS * length:
        return length, np.arange(0, frames, length)
    return length, np.unique(np.linspace(0, frames - length, EXCERPTS).astype(int))


def _through(stage: Concealer | Declipper, blocks: Iterable[Signal]) -> Iterator[Signal]:
    for block in blocks:
        yield stage.push(block)[0]
    yield stage.finish()[0]


def _denoised(blocks: Iterable[Signal], channels: int) -> Iterator[Signal]:
    denoiser = DeepFilterNet(channels)
    for block in blocks:
        yield denoiser.push(block)
    yield denoiser.finish()


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
