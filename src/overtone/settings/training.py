"""The table `train`: the data, how each network learns, the training loop, and the bodies of each family."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import Field, model_validator

from overtone.settings.base import NonNegative, PositiveFloat, PositiveInt, Range, Settings, Share


class DataParams(Settings):
    """What the networks learn from."""

    source: Annotated[str, Field(min_length=1)] = "work/corpus"
    prepared: Path = Path("work/prepared")


class Ranges(Settings):
    """How the training examples of `extend` are varied. Levels are log10 power; ranges are uniform.

    Attributes:
        level: added to everything.
        tilt: of voices, at the top of the band; rises linearly from 0 Hz.
        music_tilt: the same, of music.
        shelf: standard deviation, above about 10 kHz.
        colour: standard deviation of a smooth random curve over all bands.
        floor: a steady noise floor at 1 kHz.
        floor_fall: fall of the floor with each octave.
        raw: voices made to look unprocessed, by the settings `raw_...` and `floor_tilt`.
        raw_level: level of such a voice.
        raw_floor: its noise floor.
        floor_tilt: change of that floor to the top of the band.
        raw_room: rise of that floor towards low frequencies, an octave.
        raw_rise: rise of that floor towards the top of the band.
        raw_brightness: level around 15 kHz against that around 6 kHz.
        cutoffs: band limits to draw from, Hz.
        reference: examples with a reference.
        reference_frames: its length.
        foreign: references that come from another source.
        end: examples with a reference that end at a random frequency above the cutoff.
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
    """How the training examples of `restore` are mixed. Ranges are uniform; a share says how many.

    Attributes:
        snr_db: voice against noise.
        level_dbfs: RMS of the voice.
        clean: examples without noise.
        noise_alone: examples without a voice.
        music: examples of music, which has to stay as it is.
        babble: noises that are other voices.
        synthetic: noises that are generated.
        colour_db: mean of the standard deviations of smooth random gains over frequency; these are exponentially distributed.
        voice_speed: how fast voices are played; their pitch and formants move with it.
        pauses: voices with a stretch of silence put in.
        narrow: examples that are band-limited.
        cutoffs: their band limits, Hz.
    """

    snr_db: Range = (-5.0, 17.0)
    level_dbfs: Range = (-38.0, -16.0)
    clean: Share = 0.07
    noise_alone: Share = 0.04
    music: Share = 0.08
    babble: Share = 0.05
    synthetic: Share = 0.3
    colour_db: NonNegative = 5.0
    voice_speed: Range = (0.8, 1.25)
    pauses: Share = 0.2
    narrow: Share = 0.15
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
    """How `restore` learns: `steps` batches of `batch` examples of `seconds`.

    `spectral` is a compressed spectral distance minus `snr_weight` times the signal-to-noise ratio in dB; `mse` is the mean
    squared error over the target's power.
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
    """The training loop. Spectra and losses stay in single precision, whatever the `precision` of the networks."""

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
    """Causal convolutions over frames, each of the `blocks` with twice the dilation of the one before.

    The average or maximum of the last `context` frames is pooled.
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
