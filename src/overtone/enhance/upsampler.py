"""The `Upsampler`: any length, rate and number of channels, block by block in bounded memory."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np

from overtone import audio
from overtone.audio import MAX_CHANNELS, AudioError, Signal, arrays, tags
from overtone.audio.arrays import Samples
from overtone.dsp.conceal import Concealer
from overtone.dsp.cutoff import find_cutoff
from overtone.dsp.damage import examine
from overtone.dsp.declip import Declipper
from overtone.dsp.stft import HOP, WINDOW
from overtone.enhance import networks, stages
from overtone.enhance.account import account
from overtone.enhance.denoiser import DeepFilterNet
from overtone.enhance.networks import Networks, Runtime
from overtone.enhance.profile import Profile, read_reference
from overtone.enhance.stages import Resampler, Stage
from overtone.enhance.stream import Denoiser, Stream, Treatment

Mode = Literal["auto", "extend", "restore"]
# A profile, or the file of one.
Chain = Profile | Path | str | None

# Samples handed to the networks at a time when a whole signal or file is enhanced: about ten seconds at 48 kHz.
BLOCK = 960 * HOP
# How many excerpts of what length are looked at to find a file's cutoff and damage.
EXCERPTS, EXCERPT_SECONDS = 12, 4.0
# Brightness may be turned by so many dB.
MOST_BRIGHTNESS_DB = 6.0


@dataclass(frozen=True)
class Enhanced:
    """What was done to a file.

    Attributes:
        treatment: what was done, and account: the same with its reasons, in a sentence.
        notes: sentences about what was read otherwise than the file's header says, or was left out.
    """

    treatment: Treatment
    account: str
    notes: tuple[str, ...]


class Upsampler:
    """A trained model that turns audio into full-band audio at `rate` (48 kHz).

    One object serves many threads at once. Samples are NumPy arrays or torch tensors of shape (samples,) or
    (channels, samples), float32 or float64 of full scale 1.0, or int16; what comes out is of the same kind, on the same
    device.

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
    def load(cls, folder: Path, device: str = "cpu", runtime: Runtime = "auto") -> Self:
        """From a model folder (`weights.safetensors` and `config.json`, perhaps ONNX graphs); see `networks.load`.

        Raises:
            ModelError: files missing or unusable.
        """
        return cls(networks.load(folder, device, runtime))

    def enhance(
        self,
        signal: Samples,
        rate: int,
        *,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Chain = None,
        brightness_db: float = 0.0,
    ) -> Samples:
        """Full-band version of some samples, at the upsampler's `rate`, of the same kind.

        Args:
            signal: any length.
            rate: of the signal, Hz.
            mode: "extend" keeps everything below the cutoff as it is; "restore" also fills lost packets, repairs clipping and
                takes noise out; "auto" does of that what the signal is found to need.
            cutoff_hz: frequency above which the signal holds nothing; None to find it.
            profile: of the recording chain, from `profile`, or the file of one.
            brightness_db: turns what is added brighter or duller, -6 to 6.

        Shape:
            (samples,) or (channels, samples) -> the same with round(samples * 48000 / rate) samples.

        Raises:
            AudioError: not audio as described, NaN or infinite samples, a rate that is none, or a setting out of range.
            ProfileError: the file is no profile.
        """
        opened, kind = arrays.opened(signal)
        made = self._enhanced(opened, _checked_rate(rate), mode, cutoff_hz, profile, brightness_db)
        return cast(Samples, kind.closed(made))

    def _enhanced(self, signal: Signal, rate: int, *settings: Any) -> Signal:
        """Full-band version of (channels, samples).

        Args:
            settings: mode, cutoff, profile and brightness, as of `treatment`.
        """
        audio.check_samples("signal", signal)
        found = self.treatment(lambda: _cuts(signal, rate), rate, *settings)
        blocks = (signal[:, start : start + BLOCK] for start in range(0, signal.shape[1], BLOCK))
        made = np.concatenate([signal[:, :0], *self._through(blocks, rate, len(signal), found, BLOCK)], axis=1)
        return audio.fit_length(made, audio.resampled_length(signal.shape[1], rate, self.rate))

    def decision(self, signal: Signal, rate: int, *, mode: Mode = "auto", cutoff_hz: float | None = None) -> Treatment:
        """What `enhance` would do to a signal; arguments as there."""
        return self.treatment(lambda: _cuts(signal, rate), rate, mode, cutoff_hz)

    def enhance_file(
        self,
        source: Path,
        target: Path,
        *,
        rate: int | None = None,
        progress: Callable[[float], None] | None = None,
        **settings: Any,
    ) -> Enhanced:
        """Enhance a file of any length into another, in memory that does not grow with it, its tags with it.

        The target appears whole or not at all; its format follows its extension, its bit depth the source's.

        Args:
            rate: of the target, Hz; None for the canonical rate.
            progress: called with the share done, 0 to 1, after each block.
            settings: mode, cutoff_hz, profile, brightness_db and denoiser, as of `treatment`.

        Raises:
            AudioError: the source is not usable audio, or the target's format cannot be written.
        """
        info = audio.probe(source)
        found = self.treatment_of(source, info, **settings)
        blocks = self.blocks(source, info, found, rate=rate, progress=progress)
        rate = rate or self.rate
        format, subtype = audio.container_for(target, info, audio.resampled_length(info.frames, info.rate, rate))
        remarks = audio.remarks(source)
        # Of an MP3 file's texts, libsndfile writes those of plain English alone rightly.
        known = {} if format == "MP3" else remarks
        with audio.replacing(target) as temporary:
            try:
                writer = audio.Writer(temporary, rate, info.channels, format, subtype, known, info.mask)
            except AudioError as error:
                # The user's own name, not that of the file that stands for it meanwhile.
                raise AudioError(str(error).replace(str(temporary), str(target))) from None
            with writer as out:
                for block in blocks:
                    out.write(block)
            left_out = tags.copy(source, temporary, remarks)
        mode = settings.get("mode", "auto")
        return Enhanced(found, account(found, mode, self.rate), (*info.notes, *left_out))

    def treatment_of(
        self,
        source: audio.Source,
        info: audio.Info,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Chain = None,
        brightness_db: float = 0.0,
        denoiser: Denoiser = "network",
    ) -> Treatment:
        """What is to be done to a file, by excerpts of it; see `treatment`.

        Raises:
            AudioError: the file is not usable audio, or a setting is out of range.
        """
        check_holds_samples(source, info)
        cuts = functools.partial(excerpts, source, info)
        return self.treatment(cuts, info.rate, mode, cutoff_hz, profile, brightness_db, denoiser)

    def treatment(
        self,
        cuts: Callable[[], Iterable[Signal]],
        rate: int,
        mode: Mode = "auto",
        cutoff_hz: float | None = None,
        profile: Chain = None,
        brightness_db: float = 0.0,
        denoiser: Denoiser = "network",
    ) -> Treatment:
        """What is to be done to a signal.

        `extend` keeps everything below the cutoff as it is. `restore` also fills lost packets, repairs clipped samples
        where there are some, and takes noise out. `auto` does of that only what a look at the signal asks for.

        Args:
            cuts: gives excerpts of the signal, (channels, samples) each.
            rate: of the signal, Hz.
            cutoff_hz: None to find it.
            denoiser: what takes noise out.

        Raises:
            AudioError: the cutoff or the brightness is out of range, or the profile is of another rate.
            ProfileError: the file is no profile.
        """
        if not -MOST_BRIGHTNESS_DB <= brightness_db <= MOST_BRIGHTNESS_DB:
            raise AudioError(f"brightness: expected -6 to 6 dB, got {brightness_db:g}")
        if isinstance(profile, Path | str):
            profile = Profile.load(Path(profile))
        if profile is not None and profile.rate != self.rate:
            raise AudioError(f"profile {profile.name}: made at {profile.rate} Hz; the model works at {self.rate} Hz")
        heard: list[Signal] = [] if cutoff_hz is not None and mode != "auto" else list(cuts())
        if cutoff_hz is None:
            found = find_cutoff(heard, rate)
            # Silence, or a hum: no band to extend.
            cutoff_hz = found if found >= self._lowest_cutoff else rate / 2
        cutoff_hz = self.checked_cutoff(cutoff_hz)
        chosen = Treatment(cutoff_hz, profile=profile, brightness_db=brightness_db, denoiser=denoiser)
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
        tell = progress or (lambda share: None)
        read = 0

        def checked() -> Iterator[Signal]:
            nonlocal read
            for block in audio.blocks(source, max(HOP, audio.BLOCK_FRAMES * 2 // max(2, info.channels))):
                audio.check_samples(audio.name_of(source), block)
                read += block.shape[1]
                yield block
                tell(min(read / info.frames, 1.0))

        def length() -> int:
            audio.check_end(source, info, read)
            return audio.resampled_length(read, info.rate, self.rate)

        # Many channels take no more memory than two.
        size = max(HOP, size * 2 // max(2, info.channels))
        made = self._through(checked(), info.rate, info.channels, treatment, size, info.mask)
        made = stages.fitted(made, length)
        if rate is not None and rate != self.rate:
            made = stages.through([Resampler(self.rate, rate, info.channels)], made)
            made = stages.fitted(made, lambda: audio.resampled_length(length(), self.rate, rate))
        return made

    def _through(
        self, blocks: Iterable[Signal], rate: int, channels: int, treatment: Treatment, size: int, mask: int = 0
    ) -> Iterator[Signal]:
        """Repairs at the signal's own rate, then resampling, then the networks, given at least `size` samples at a time."""
        repairs: list[Stage] = []
        if treatment.conceal:
            repairs.append(Concealer(channels, rate))
        if treatment.declip:
            repairs.append(Declipper(channels, rate))
        if rate != self.rate:
            repairs.append(Resampler(rate, self.rate, channels))
        if treatment.denoise and treatment.denoiser == "deepfilternet":
            repairs.append(DeepFilterNet(channels))
            treatment = replace(treatment, denoise=False)
        stream = Stream(self.model, channels, replace(treatment, conceal=False), mask)
        return stages.through([stream], stages.regrouped(stages.through(repairs, blocks), size))

    def stream(
        self,
        channels: int = 1,
        *,
        mode: Mode = "auto",
        cutoff_hz: float,
        profile: Chain = None,
        brightness_db: float = 0.0,
    ) -> Stream:
        """A stream at the upsampler's `rate`, for audio that arrives block by block.

        Nothing is known of what is to come: `auto` is `extend`, and `restore` fills lost packets from the past alone.

        Args:
            channels: of every block.
            cutoff_hz: cannot be found before the signal is there.
            profile, brightness_db: as in `enhance`.

        Raises:
            AudioError: a setting out of range, or no channel.
            ProfileError: the file is no profile.
        """
        if not 1 <= channels <= MAX_CHANNELS:
            raise AudioError(f"channels: expected 1 to {MAX_CHANNELS}, got {channels}")
        mode = "restore" if mode == "restore" else "extend"
        treatment = self.treatment(list, self.rate, mode, cutoff_hz, profile, brightness_db)
        return Stream(self.model, channels, replace(treatment, declip=False))

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
                signal, rate = arrays.opened(reference[0], "reference")[0], _checked_rate(reference[1])
            else:
                signal, rate = read_reference(Path(reference))
            signals.append(audio.resample(signal, rate, self.rate))
        return Profile.of(signals, self.rate, name)

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


def _checked_rate(rate: int) -> int:
    if not (rate > 0 and rate == int(rate)):
        raise AudioError(f"rate: expected a whole number of Hz above 0, got {rate}")
    return int(rate)
