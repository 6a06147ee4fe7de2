"""The two things that are learned, `extend` and `restore`: their batches, losses and validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from overtone.data.corpus import CorpusError
from overtone.dsp import bands, stft
from overtone.models import envelope, gains
from overtone.models.envelope import Trackers
from overtone.models.gains import TAPS, Past
from overtone.settings import ExtendTraining, Params, RestoreTraining
from overtone.training.envelopes import Batch, Draw, Source, brightness_of, envelope_loss, quiet_of
from overtone.training.mixtures import Mixer, Mixture, Sounds, restoration_loss, waveform_loss
from overtone.training.recordings import Recording

# (features, ..., state) -> (values, state): a network, perhaps in another precision.
Run = Callable[..., tuple[Tensor, list[Tensor]]]
# Frames, and seconds, of a source beyond which it is not drawn more often.
_MOST_FRAMES, _MOST_SECONDS = 40_000, 400.0
# A source whose sound ends below this is drawn half as often, Hz.
_BRIGHT_HZ = 18_000.0
# Quiet moments of a voice this far below its loud ones, in dB, are free of noise; noisier voices are not learned from.
_QUIET_DB = 40.0
# Validation: excerpts at most, their length in seconds, and what they are tried with.
_EXCERPTS, _SECONDS = 12, 4.0
CUTOFFS_HZ = (4_000.0, 8_000.0, 12_000.0)
SNRS_DB = (10.0, 5.0, 0.0)
_NAMES = ("10db", "5db", "0db")


class Task(ABC):
    """One network's training, apart from the loop.

    Attributes:
        name: of the task.
        settings: of its training.
        monitor: the figure of validation that decides; mode: whether lower or higher is better.
    """

    name: Literal["extend", "restore"]
    settings: ExtendTraining | RestoreTraining
    monitor: str
    mode: Literal["min", "max"]

    @abstractmethod
    def draw(self, number: int, examples: range) -> Any:
        """Some examples of batch `number`; the same whoever asks for them, and whoever else asks for the others."""

    @abstractmethod
    def loss(self, run: Run, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """A batch's loss, and other figures by name."""

    @abstractmethod
    def validate(self, run: Run, index: int) -> dict[str, Tensor]:
        """Figures of a validation excerpt by name, the monitor among them."""

    @abstractmethod
    def excerpts(self) -> int:
        """Number of validation excerpts."""


class ExtendTask(Task):
    """Learns levels above the cutoff.

    Validation: the log-spectral distance (log10 power) that noise at the predicted levels would have within each clip's
    bandwidth, without a reference, mean over cutoffs of 4, 8 and 12 kHz and clips.

    Args:
        train, valid: recordings of the splits.

    Raises:
        CorpusError: a split has nothing to learn from.
    """

    name = "extend"
    monitor = "extend_valid_lsd"
    mode = "min"

    def __init__(self, params: Params, train: Sequence[Recording], valid: Sequence[Recording]) -> None:
        self.settings = settings = params.train.extend
        self.rate, self.seed = params.corpus.rate, params.seed
        sources = [self._source(one) for one in train if len(one.levels) > settings.frames]
        if not sources:
            raise CorpusError(
                f"split 'train': no source of speech or music with more than train.extend.frames, {settings.frames}, frames "
                "of wide-band sound; expected at least one"
            )
        rng = np.random.default_rng(self.seed)
        self._draw = Draw(sources, settings.ranges, settings.batch, settings.frames, self.rate, rng)
        self._drawn: tuple[int, Batch] | None = None
        frames = round(_SECONDS * self.rate / stft.HOP)
        self._excerpts = [self._excerpt(one, frames) for one in _spread(valid) if len(one.levels)]
        if not self._excerpts:
            raise CorpusError("split 'valid': no wide-band speech or music; expected at least one clip")

    def _source(self, one: Recording) -> Source:
        bright = float(np.median(one.tops)) > _BRIGHT_HZ
        weight = min(len(one.levels), _MOST_FRAMES) ** 0.5 * (1.0 if bright else 0.5)
        brightness = brightness_of(one.levels, one.tops, self.rate)
        speech = one.kind == "speech"
        return Source(one.source, speech, one.levels, one.tops, weight, brightness, quiet_of(one.levels))

    @staticmethod
    def _excerpt(one: Recording, frames: int) -> tuple[Tensor, float]:
        levels = torch.from_numpy(one.levels[:frames].astype(np.float32))
        return levels[None], float(one.tops[:frames].min())

    def draw(self, number: int, examples: range) -> Batch:
        """See `Task`."""
        if self._drawn is None or self._drawn[0] != number:
            self._draw.rng = np.random.default_rng((self.seed, 0, number))
            self._drawn = number, self._draw()
        return Batch(*(values[examples.start : examples.stop] for values in self._drawn[1]))

    def loss(self, run: Run, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Task`."""
        start = Trackers()
        given, mean = envelope.features(batch.target, batch.visible, start)
        made, _ = run(given, batch.profile)
        loss, rms = envelope_loss(made.float() + mean, batch.target, batch.asked)
        return loss, {"rms": rms}

    def validate(self, run: Run, index: int) -> dict[str, Tensor]:
        """See `Task`."""
        known, top = self._excerpts[index]
        # All cutoffs as one batch.
        visible = bands.visible_bands(torch.tensor(CUTOFFS_HZ), self.rate).float()
        known = known.expand(len(visible), -1, -1)
        given, mean = envelope.features(known, visible, Trackers())
        made, _ = run(given, known.new_zeros(len(visible), envelope.PROFILE))
        inside = torch.from_numpy(bands.band_tops(self.rate) <= top) * torch.from_numpy(bands.WIDTHS.astype(np.float32))
        error = (made.float().cpu() + mean).clamp(min=bands.ROUNDING) - known.clamp(min=bands.ROUNDING)
        # Where levels are right two noises still differ.
        unknown = inside * (1 - visible)[:, None]
        distance = torch.sqrt(((error.square() + 0.62) * unknown).sum(-1) / inside.sum()).mean(-1)
        names = (f"extend_valid_lsd_{cutoff / 1000:g}k" for cutoff in CUTOFFS_HZ)
        return {"extend_valid_lsd": distance.mean(), **dict(zip(names, distance, strict=True))}

    def excerpts(self) -> int:
        """See `Task`."""
        return len(self._excerpts)


class RestoreTask(Task):
    """Learns to take out noise.

    Validation: SI-SDR gain in dB of voices of the validation split with noise of the same split at 10, 5 and 0 dB.

    Args:
        train, valid: recordings of the splits.
    """

    name = "restore"
    monitor = "restore_valid_gain_db"
    mode = "max"

    def __init__(self, params: Params, train: Sequence[Recording], valid: Sequence[Recording]) -> None:
        self.settings = self._settings = settings = params.train.restore
        self.rate, self.seed = params.corpus.rate, params.seed
        sounds = _sounds(train, self.rate)
        self._mixer = Mixer(sounds, settings.mixing, settings.batch, settings.seconds, self.rate, self.seed)
        self._excerpts = _noisy(valid, round(_SECONDS * self.rate), np.random.default_rng((self.seed, 2)))

    def draw(self, number: int, examples: range) -> Mixture:
        """See `Task`."""
        return self._mixer(number, examples)

    def loss(self, run: Run, batch: Mixture) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Task`."""
        made = restored(run, batch.noisy, batch.visible)
        loss, gain = restoration_loss(made, batch, self._settings.snr_weight)
        return waveform_loss(made, batch) if self._settings.loss == "mse" else loss, {"gain_db": gain}

    def validate(self, run: Run, index: int) -> dict[str, Tensor]:
        """See `Task`."""
        clean, noisy = self._excerpts[index]
        spectrum = stft.analyse(noisy)
        made = stft.overlap_add(restored(run, spectrum, torch.ones(len(noisy), stft.BINS, dtype=torch.bool)))
        gain = si_sdr(made[:, : noisy.shape[1]], clean) - si_sdr(noisy, clean)
        names = (f"restore_valid_gain_db_{name}" for name in _NAMES)
        return {"restore_valid_gain_db": gain.mean(), **dict(zip(names, gain, strict=True))}

    def excerpts(self) -> int:
        """See `Task`."""
        return len(self._excerpts)


TASKS: dict[str, type[ExtendTask] | type[RestoreTask]] = {"extend": ExtendTask, "restore": RestoreTask}


def restored(run: Run, spectrum: Tensor, visible: Tensor) -> Tensor:
    """What a network makes of whole signals. Shape: complex (B, N, BINS), bool (B, BINS) -> complex (B, N, BINS)."""
    given, ratio = gains.features(spectrum, gains.group_visible(visible), Past())
    values, _ = run(given)
    before = spectrum.new_zeros(len(spectrum), TAPS, stft.BINS)
    return gains.apply(values.float(), ratio, spectrum, before)


def si_sdr(signal: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB. Shape: twice (B, T) -> (B,)."""
    scale = (signal * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True).clamp(min=1e-9)
    aim = scale * target
    ratio = aim.square().sum(-1) / (signal - aim).square().sum(-1).clamp(min=1e-9)
    return 10 * torch.log10(ratio.clamp(min=1e-9))


# --- what of a corpus is used ---------------------------------------------------------------------------------------------


def _spread(recordings: Sequence[Recording]) -> list[Recording]:
    """At most `_EXCERPTS` recordings that are not noise, evenly from all."""
    chosen = [one for one in recordings if one.kind != "noise"]
    step = max(1.0, len(chosen) / _EXCERPTS)
    return [chosen[int(index * step)] for index in range(min(len(chosen), _EXCERPTS))]


def _sounds(train: Sequence[Recording], rate: int) -> Sounds:
    voices = [one for one in train if one.kind == "speech"] or [one for one in train if one.kind != "noise"]
    # Where none is clean, all are learned from.
    voices = [one for one in voices if _range_db(one.samples) > _QUIET_DB] or voices
    return Sounds(
        voices=[one.samples for one in voices],
        voice_weights=[min(len(one.samples) / rate, _MOST_SECONDS) ** 0.5 for one in voices],
        musics=[one.samples for one in train if one.kind == "music"],
        noises=[one.samples for one in train if one.kind == "noise"],
    )


def _range_db(samples: npt.NDArray[np.int16]) -> float:
    """Level of loud against that of quiet moments of 20 ms, in dB."""
    cut = samples[: len(samples) // 960 * 960].reshape(-1, 960)
    power = np.mean(np.square(cut, dtype=np.float32), axis=1) + 0.1
    quiet, loud = np.percentile(power, [10, 90]) if len(power) else (1.0, 1.0)
    return float(10 * np.log10(loud / quiet))


def _noisy(valid: Sequence[Recording], samples: int, rng: np.random.Generator) -> list[tuple[Tensor, Tensor]]:
    """Excerpts of voices, clean and at each of `SNRS_DB`, (3, T) both; the noise is white where there is none recorded."""
    voices = _spread([one for one in valid if one.kind == "speech"]) or _spread(valid)
    noises = [one.samples for one in valid if one.kind == "noise"]
    made = []
    for index, voice in enumerate(voices):
        clean = voice.samples[:samples].astype(np.float32) / 32768
        noise = rng.standard_normal(len(clean)).astype(np.float32)
        if noises:
            recorded = noises[index % len(noises)]
            start = int(rng.integers(len(recorded)))
            noise = (np.resize(np.roll(recorded, -start), len(clean)) / 32768).astype(np.float32)
        ratio = float(np.mean(clean**2)) / (float(np.mean(noise**2)) + 1e-12)
        mixed = [clean + noise * np.float32((ratio / 10 ** (snr / 10)) ** 0.5) for snr in SNRS_DB]
        made.append((torch.from_numpy(np.stack([clean] * len(SNRS_DB))), torch.from_numpy(np.stack(mixed))))
    return made
