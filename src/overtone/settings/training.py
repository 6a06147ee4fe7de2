"""The table `train`: the data, how each network learns, the training loop, and the bodies of each family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from overtone.settings.base import NonNegative, PositiveFloat, PositiveInt, Range, Settings, Share


class DataParams(Settings):
    """What networks learn from. `source` is a corpus's folder, or a folder or URL of shards (`overtone shards`).

    Behind an `@` may stand the digest that the shards must have. In the folder `prepared` samples and band levels are kept,
    ready to be drawn from, for the trainings to come.
    """

    source: Annotated[str, Field(min_length=1)] = "work/corpus"
    prepared: Path = Path("work/prepared")


class Ranges(Settings):
    """What the recordings that `extend` learns from are changed by, as levels; uniform in (low, high) unless said otherwise.

    Attributes:
        level: log10 power added to everything.
        tilt: log10 power at the top of the band, rising linearly from 0 Hz, of voices; music_tilt: of music.
        shelf: standard deviation of log10 power above about 10 kHz.
        colour: standard deviation of a smooth random curve over all bands.
        floor: log10 power of a steady noise floor at 1 kHz; floor_fall: how much it falls with each octave.
        raw: share of the voices that are made to look like recordings that nothing has processed: their level and floor
            are `raw_level` and `raw_floor`, all but flat (`floor_tilt` is its change to the top of the band), it rises
            towards the top by `raw_rise` and towards low frequencies by `raw_room` an octave, and their brightness (level
            around 15 kHz against that around 6 kHz) is `raw_brightness`.
        cutoffs: Hz, of the band limit.
        reference: share of the examples that come with a reference; reference_frames: its length.
        foreign: share of the references that are of another source.
        end: share of those with a reference whose chain ends at a random frequency above the cutoff.
    """

    level: Range = (-1.2, 1.2)
    tilt: Range = (-0.1, 0.9)
    music_tilt: Range = (-0.3, 0.3)
    shelf: NonNegative = 0.25
    colour: NonNegative = 0.1
    floor: Range = (-8.5, -2.5)
    floor_fall: Range = (0.15, 0.6)
    raw: Share = 0.85
    raw_level: Range = (-1.8, 0.0)
    raw_floor: Range = (-6.0, -4.2)
    floor_tilt: Range = (-0.2, 0.2)
    raw_room: Range = (0.0, 0.9)
    raw_rise: Range = (0.2, 2.0)
    raw_brightness: Range = (-1.2, 0.4)
    cutoffs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        *(4000, 4000, 5512, 6000, 8000, 8000, 11025, 12000, 16000),
    )
    reference: Share = 0.5
    reference_frames: tuple[PositiveInt, PositiveInt] = (150, 900)
    foreign: Share = 0.1
    end: Share = 0.15


class Mixing(Settings):
    """How the sounds that `restore` learns from are mixed; uniform in (low, high).

    Attributes:
        snr_db: of voice against noise.
        level_dbfs: RMS of the voice.
        clean, noise_alone, music: shares of the examples without noise, without voice, and of music, which stays as it is.
        babble: share of the noises that are other voices.
        synthetic: share of the noises that are made by rule.
        colour_db: standard deviation of a random smooth gain over frequency, of voices and noises each.
        pauses: share of the voices with a stretch of silence put in.
        narrow: share of the examples that end at one of `cutoffs`, Hz.
    """

    snr_db: Range = (-5.0, 17.0)
    level_dbfs: Range = (-38.0, -16.0)
    clean: Share = 0.07
    noise_alone: Share = 0.04
    music: Share = 0.08
    babble: Share = 0.08
    synthetic: Share = 0.4
    colour_db: NonNegative = 4.0
    pauses: Share = 0.2
    narrow: Share = 0.2
    cutoffs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (4000, 5512, 8000, 12000)

    @property
    def unmixed(self) -> float:
        """Share of the examples that are no voice with noise."""
        return self.clean + self.noise_alone + self.music

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.unmixed > 1 or self.babble + self.synthetic > 1:
            raise ValueError("clean + noise_alone + music and babble + synthetic must each be at most 1")
        return self


class ExtendTraining(Settings):
    """How `extend` learns: `steps` batches of `batch` examples of `frames` frames (512 samples each)."""

    steps: PositiveInt
    learning_rate: PositiveFloat
    clip_norm: PositiveFloat
    batch: PositiveInt
    frames: Annotated[int, Field(ge=2)]
    ranges: Ranges = Ranges()


class RestoreTraining(Settings):
    """How `restore` learns: `steps` batches of `batch` mixtures of `seconds`.

    `loss`: `spectral` is a compressed spectral distance minus `snr_weight` times the signal-to-noise ratio in dB; `mse` is
    the classical waveform loss, the mean squared error over the target's power.
    """

    steps: PositiveInt
    learning_rate: PositiveFloat
    clip_norm: PositiveFloat
    batch: PositiveInt
    seconds: Annotated[float, Field(ge=0.1)]
    loss: Literal["spectral", "mse"]
    snr_weight: NonNegative
    mixing: Mixing = Mixing()


class FitParams(Settings):
    """The training loop. `epoch_steps` optimiser steps make one epoch: then validation, a checkpoint, and early stopping.

    `devices` processes on each of `num_nodes` machines; `auto` is what the launcher says (torchrun, Slurm), else all GPUs, or
    one process on a CPU. `strategy` ddp shares the batch out among them. `accumulate` parts of a device's share are computed
    one after the other. `precision` is that of the networks alone, never of spectra and losses. `compile` (torch.compile of
    the network) is for GPUs. `start` is a model folder of the same networks whose weights training begins with, or the name
    of a released model, such as `released`, to fine-tune.
    """

    epoch_steps: PositiveInt
    warmup_steps: Annotated[int, Field(ge=0)]
    weight_decay: NonNegative
    average: Annotated[float, Field(ge=0.0, lt=1.0)]
    patience: PositiveInt
    threads: Annotated[int, Field(ge=0)]
    accelerator: Literal["auto", "cpu", "gpu", "mps"]
    devices: PositiveInt | Literal["auto"]
    num_nodes: PositiveInt | Literal["auto"]
    strategy: Literal["auto", "ddp"]
    accumulate: PositiveInt
    precision: Literal["32-true", "16-mixed", "bf16-mixed"]
    compile: bool
    start: str | None


class CnnParams(Settings):
    """Dilated causal convolutions over frames: `blocks` of them, each looking back twice as far as the one before.

    `context` is the number of past frames whose average or maximum is pooled.
    """

    width: PositiveInt
    # A model's own settings say how much is built before its weights are compared, so each number of layers has an end.
    blocks: Annotated[int, Field(ge=1, le=12)]
    kernel: Annotated[int, Field(ge=2)]
    context: Annotated[int, Field(ge=2, le=4096)]
    pooling: Literal["average", "max"]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class RnnParams(Settings):
    """Recurrent layers over frames."""

    cell: Literal["gru", "lstm"]
    width: PositiveInt
    layers: Annotated[int, Field(ge=1, le=64)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


BodyParams = TypeVar("BodyParams", bound=Settings)


class Bodies(Settings, Generic[BodyParams]):
    """The bodies of a family's two networks."""

    extend: BodyParams
    restore: BodyParams


class TrainParams(Settings):
    """Stages `train`: both networks of each family."""

    data: DataParams
    extend: ExtendTraining
    restore: RestoreTraining
    fit: FitParams
    cnn: Bodies[CnnParams]
    rnn: Bodies[RnnParams]

    def bodies(self, family: str) -> Bodies[Any]:
        """Those of a family."""
        found: Bodies[Any] = getattr(self, family)
        return found


# Names of the families, whose bodies are in `models.families`.
FAMILIES = tuple(
    name
    for name, field in TrainParams.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Bodies)
)
