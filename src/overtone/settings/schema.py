"""`params.yaml` -> frozen, strict, typed settings. The only reader of that file."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from overtone import migration
from overtone.errors import OvertoneError

Share = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Range = tuple[float, float]

SPLITS = ("train", "valid", "test")


class ParamsError(OvertoneError):
    """Settings that cannot be used; the message names the file, the field and what was expected."""


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# --- corpus -----------------------------------------------------------------------------------------------------------


class Assign(Settings):
    """Recording chains or sources (shell patterns on their names) that go to a split whatever the shares say."""

    train: tuple[str, ...] = ()
    valid: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class CorpusParams(Settings):
    """Stage `corpus`: what is accepted, how it is cut and split."""

    path: Path
    rate: PositiveInt
    min_seconds: PositiveFloat
    clip_seconds: PositiveFloat
    silence_dbfs: float
    min_bandwidth_hz: NonNegative
    max_bad_share: Share
    valid_share: Share
    test_share: Share
    clips_per_chain: PositiveInt | None = None
    assign: Assign = Assign()

    @model_validator(mode="after")
    def _check(self) -> CorpusParams:
        if self.clip_seconds < self.min_seconds:
            raise ValueError("clip_seconds must be at least min_seconds")
        if self.valid_share + self.test_share >= 1.0:
            raise ValueError("valid_share + test_share must leave something to train on (below 1)")
        return self


# --- degradations: one typed step each, chained to recipes ------------------------------------------------------------

Filter = Literal["sinc", "butterworth", "chebyshev1", "elliptic", "bessel"]


class NarrowBand(Settings):
    """Low-pass and decimate to `rate` (Hz), then bring back; `cut` is the filter's edge as a share of the new Nyquist."""

    op: Literal["narrowband"] = "narrowband"
    rate: PositiveInt
    filter: Filter = "sinc"
    order: Annotated[int, Field(ge=1, le=20)] = 8
    ripple_db: PositiveFloat = 0.1
    cut: Annotated[float, Field(gt=0.5, le=1.0)] = 1.0


class Codec(Settings):
    """Round trip through a real encoder. `kbps` for mp3 and opus, `quality` in [0, 1] (1 best) for vorbis; others have none."""

    op: Literal["codec"] = "codec"
    codec: Literal["mp3", "vorbis", "opus", "gsm610", "mulaw", "alaw", "ima_adpcm"]
    kbps: PositiveFloat | None = None
    quality: Share | None = None

    @model_validator(mode="after")
    def _check(self) -> Codec:
        wants = {"mp3": "kbps", "opus": "kbps", "vorbis": "quality"}.get(self.codec)
        for field in ("kbps", "quality"):
            if (getattr(self, field) is not None) != (field == wants):
                raise ValueError(f"codec {self.codec!r} takes {wants or 'neither kbps nor quality'}")
        return self


class PacketLoss(Settings):
    """Frames lost in Gilbert-Elliott bursts; `share` of frames lost, `burst` the mean burst length in frames (at most 10)."""

    op: Literal["packet_loss"] = "packet_loss"
    share: Share
    burst: Annotated[float, Field(ge=1.0, le=10.0)] = 2.0
    fill: Literal["zero", "repeat"] = "zero"
    frame_ms: PositiveFloat = 20.0


class BitErrors(Settings):
    """Each bit of the signal's mu-law bytes flips with probability `rate`."""

    op: Literal["bit_errors"] = "bit_errors"
    rate: Share


class Noise(Settings):
    """Noise added at `snr_db` (dB, over the whole clip): recorded (from the corpus's noise of the same split) or coloured.

    Recorded noise may be the sum of several `layers`, each played at a random speed up to `speed` times faster or slower
    and with random gains of a standard deviation of `colour_db` octave by octave: few recordings are then many noises.
    """

    op: Literal["noise"] = "noise"
    snr_db: float
    colour: Literal["recorded", "white", "pink", "brown", "blue"] = "recorded"
    layers: Annotated[int, Field(ge=1, le=8)] = 1
    speed: Annotated[float, Field(ge=1.0, le=4.0)] = 1.0
    colour_db: NonNegative = 0.0


class Clip(Settings):
    """Hard clipping at the level that `share` of the samples exceed."""

    op: Literal["clip"] = "clip"
    share: Annotated[float, Field(gt=0.0, lt=0.5)]


class Quantise(Settings):
    """Uniform quantisation to `bits` bits."""

    op: Literal["quantise"] = "quantise"
    bits: Annotated[int, Field(ge=2, le=16)] = 8


class Resample(Settings):
    """From here on the signal is at `rate` (Hz), and stays there: the rate of a transmission or a file."""

    op: Literal["resample"] = "resample"
    rate: PositiveInt


Step = Annotated[
    NarrowBand | Codec | PacketLoss | BitErrors | Noise | Clip | Quantise | Resample, Field(discriminator="op")
]


class Condition(Settings):
    """A fixed evaluation condition: whether the input is merely band-limited (`extend`), damaged (`restore`) or `clean`.

    `kinds` it is for (empty: all); `channels` 1 mixes clips down first, 2 leaves mono clips out; `highpass_hz` is taken off
    the original first. A clean clip has no steps, and should stay as it is.
    """

    mode: Literal["extend", "restore", "clean"]
    steps: tuple[Step, ...] = ()
    kinds: tuple[str, ...] = ()
    channels: Literal[1, 2] | None = None
    highpass_hz: NonNegative = 0.0

    @model_validator(mode="after")
    def _check(self) -> Condition:
        if (self.mode == "clean") == bool(self.steps):
            raise ValueError("expected steps, or the mode clean and none")
        ops = [step.op for step in self.steps]
        if "noise" in ops and "resample" in ops[: ops.index("noise")]:
            raise ValueError("noise is recorded at the full rate: expected it before resample")
        return self


class DegradeParams(Settings):
    """Stage `degrade`: the fixed conditions under which clips of the validation and the test split are judged.

    Of each source in those at most `clips` are used, of each clip at most `seconds`.
    """

    clips: PositiveInt
    seconds: PositiveFloat
    conditions: Annotated[dict[str, Condition], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> DegradeParams:
        reserved = {"extend", "restore", "overall", "train", "oracle", "interval", "test_set"} & set(self.conditions)
        if reserved:
            raise ValueError(f"a condition may not be called {sorted(reserved)[0]!r}: the report uses that name")
        return self


# --- training ---------------------------------------------------------------------------------------------------------


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
        tilt: log10 power at the top of the band, rising linearly from 0 Hz.
        shelf: standard deviation of log10 power above about 10 kHz.
        colour: standard deviation of a smooth random curve over all bands.
        floor: log10 power of a steady noise floor at 1 kHz; floor_fall: how much it falls with each octave.
        raw: share of the examples that are made to look like recordings that nothing has processed: their level and floor
            are `raw_level` and `raw_floor`, all but flat (`floor_tilt` is its change to the top of the band), it rises
            from 8 kHz to the top by `raw_rise`, and their brightness (level around 15 kHz against that around 6 kHz) is
            `raw_brightness`.
        cutoffs: Hz, of the band limit.
        reference: share of the examples that come with a reference; reference_frames: its length.
        foreign: share of the references that are of another source.
        end: share of those with a reference whose chain ends at a random frequency above the cutoff.
    """

    level: Range = (-1.2, 1.2)
    tilt: Range = (-0.1, 0.9)
    shelf: NonNegative = 0.25
    colour: NonNegative = 0.1
    floor: Range = (-8.5, -2.5)
    floor_fall: Range = (0.15, 0.6)
    raw: Share = 0.85
    raw_level: Range = (-1.8, 0.0)
    raw_floor: Range = (-6.0, -4.2)
    floor_tilt: Range = (-0.2, 0.2)
    raw_rise: Range = (0.6, 2.0)
    raw_brightness: Range = (-0.4, 1.0)
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
        coloured: share of the noises that are synthetic.
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
    coloured: Share = 0.15
    colour_db: NonNegative = 4.0
    pauses: Share = 0.2
    narrow: Share = 0.2
    cutoffs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (4000, 5512, 8000, 12000)


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


# --- evaluation and registry ------------------------------------------------------------------------------------------


class EvaluateParams(Settings):
    """Stages `evaluate@...`. ViSQOL judges one clip of each source under the conditions `visqol`, where it is installed.

    `perceptual` adds PESQ and STOI for every clip of speech.
    """

    baselines: tuple[Literal["sinc", "sbr", "concealer", "wiener"], ...]
    figures: Annotated[int, Field(ge=0)]
    visqol: tuple[str, ...]
    perceptual: bool


class Guard(Settings):
    """A metric on which a new champion may not be worse than the old one by more than `tolerance`."""

    metric: str
    better: Literal["lower", "higher"]
    tolerance: NonNegative


class RegisterParams(Settings):
    """Stage `register`. Metrics are dotted paths into `reports/<model>/metrics.json`: group.kind.metric.

    `promote`: `auto` makes a version that passes the gate champion, `never` leaves that to `overtone promote`, `clean-tree`
    does it only for a model that was trained without uncommitted changes, from a folder that has none now.

    `on_champion` is a command, as a list of arguments or as a line for the shell, that runs after each change of champion.
    """

    name: str
    metric: str
    better: Literal["lower", "higher"]
    margin: NonNegative = 0.0
    samples: Annotated[int, Field(ge=2)] = 2
    guards: tuple[Guard, ...] = ()
    promote: Literal["auto", "never", "clean-tree"] = "auto"
    on_champion: Annotated[tuple[str, ...], Field(min_length=1)] | str | None = None
    on_champion_seconds: PositiveFloat = 60.0


# --- tuning -----------------------------------------------------------------------------------------------------------

Scalar = bool | int | float | str
Value = Scalar | tuple[Scalar, ...]


class WholeRange(Settings):
    """Whole numbers from `low` to `high`, every `step`; `log` draws evenly over their logarithm."""

    type: Literal["int"]
    low: int
    high: int
    step: PositiveInt = 1
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> WholeRange:
        if self.high < self.low or (self.high - self.low) % self.step:
            raise ValueError("high must be low plus a whole number of steps")
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError("log needs low from 1 and step 1")
        return self


class RealRange(Settings):
    """Numbers from `low` to `high`, every `step` if one is given; `log` draws evenly over their logarithm."""

    type: Literal["float"]
    low: float
    high: float
    step: PositiveFloat | None = None
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> RealRange:
        if self.high < self.low:
            raise ValueError("high must be at least low")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log needs low above 0 and no step")
        return self


class Choice(Settings):
    """One of `choices`: numbers, texts, truth values or lists of them."""

    type: Literal["categorical"]
    choices: Annotated[tuple[Value, ...], Field(min_length=1)]


Dimension = Annotated[WholeRange | RealRange | Choice, Field(discriminator="type")]


class TuneParams(Settings):
    """`overtone tune`: the search for better settings. No stage of the line depends on it.

    A study is named after its `study`, the family and the `task`, which says which of the two networks a trial trains;
    `storage` holds it. `space` has for each family settings of `train` (dotted keys) and the values they may take. A trial
    trains for `steps` with a validation every
    `epoch_steps`. The first `random_trials` draw at random, later ones where earlier ones did well. When
    `prune_after_trials` are complete, a trial that has had `prune_after_epochs` and is worse than the median is ended. A
    trial whose worker was killed is tried again up to `retries` times; one on another machine counts as killed when it was
    silent for four times `heartbeat` seconds.
    """

    study: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    task: Literal["extend", "restore"]
    storage: str
    trials: Annotated[int, Field(ge=0)]
    workers: PositiveInt
    steps: PositiveInt
    epoch_steps: PositiveInt
    objectives: Annotated[tuple[Literal["quality", "speed"], ...], Field(min_length=1)]
    random_trials: Annotated[int, Field(ge=0)]
    prune_after_trials: Annotated[int, Field(ge=0)]
    prune_after_epochs: Annotated[int, Field(ge=0)]
    retries: Annotated[int, Field(ge=0)]
    heartbeat: PositiveInt
    space: dict[str, dict[str, Dimension]]

    @model_validator(mode="after")
    def _check(self) -> TuneParams:
        for family in FAMILIES:
            if family not in self.space:
                raise ValueError(f"space: {family}: missing; expected a table of settings, which may be empty")
        if unknown := self.space.keys() - set(FAMILIES):
            raise ValueError(f"space: {min(unknown)}: no such family; expected {', '.join(FAMILIES)}")
        if self.objectives not in (("quality",), ("quality", "speed")):
            raise ValueError("objectives must be [quality] or [quality, speed]")
        return self


class Params(Settings):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    corpus: CorpusParams
    degrade: DegradeParams
    train: TrainParams
    evaluate: EvaluateParams
    register_: RegisterParams = Field(alias="register")
    tune: TuneParams

    @model_validator(mode="after")
    def _check(self) -> Params:
        for kind in FAMILIES:
            for key, dimension in self.tune.space[kind].items():
                try:
                    self._check_dimension(kind, key, dimension)
                except ValueError as error:
                    raise ValueError(f"tune.space.{kind}.{key}: {error}") from None
        return self

    def _check_dimension(self, kind: str, key: str, dimension: Dimension) -> None:
        tables = (f"train.{kind}.", "train.extend.", "train.restore.", "train.fit.")
        if not key.startswith(tables):
            raise ValueError(f"expected a setting of {', '.join(table[:-1] for table in tables)}")
        if key in ("train.extend.steps", "train.restore.steps", "train.fit.epoch_steps"):
            raise ValueError("the length of a trial is tune.steps and tune.epoch_steps, and not searched")
        for value in _samples(dimension):
            tree = {"train": self.train.model_dump(mode="json")}
            if not _put(tree, key, value):
                raise ValueError("params.yaml has no such setting")
            try:
                TrainParams.model_validate(tree["train"])
            except ValidationError as error:
                # What does not go together may go with another trial's values.
                own = [
                    e["msg"] for e in error.errors() if ".".join(map(str, e["loc"])).startswith(key[len("train.") :])
                ]
                if own:
                    raise ValueError(f"{value} is no value of this setting: {own[0]}") from None


def _samples(dimension: Dimension) -> list[Any]:
    """Values of a dimension that show whether all are allowed: its ends and those next to them, or every choice."""
    if isinstance(dimension, Choice):
        return list(dimension.choices)
    if isinstance(dimension, WholeRange):
        return sorted({dimension.low, min(dimension.low + dimension.step, dimension.high), dimension.high})
    return [dimension.low, dimension.high]


def _put(tree: dict[str, Any], key: str, value: Any) -> bool:
    """Replace a value of a tree by its dotted key; False where there is none."""
    *parents, leaf = key.split(".")
    node: Any = tree
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or leaf not in node or isinstance(node[leaf], dict):
        return False
    node[leaf] = list(value) if isinstance(value, tuple) else value
    return True


def load(path: Path = Path("params.yaml"), overrides: tuple[str, ...] = ()) -> Params:
    """Read and check the settings.

    Args:
        path: the YAML file.
        overrides: `dotted.key=value` texts, the value in YAML, applied over the file.

    Raises:
        ParamsError: no such file, not YAML, or a field that is missing, unknown or out of range.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ParamsError(f"{path}: no such file; run from the project's root") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # Numbers and dates that are none, bytes that are no text, and tables within tables without end.
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: expected a mapping of settings at the top level")
    for text in overrides:
        _override(tree, text)
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError("\n".join(f"{path}: {line}" for line in _told(error))) from None


def changed(params: Params, changes: Mapping[str, Any]) -> Params:
    """Settings with some replaced, by dotted key.

    Raises:
        ParamsError: a key that there is not, or values that are out of range or do not go together.
    """
    tree = params.model_dump(mode="json", by_alias=True)
    for key, value in changes.items():
        if not _put(tree, key, value):
            raise ParamsError(f"params.yaml has no setting {key!r}")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        raise ParamsError("\n".join(_told(error))) from None


def _told(error: ValidationError) -> list[str]:
    lines = []
    for e in error.errors():
        key, message = ".".join(str(part) for part in e["loc"]), e["msg"]
        if e["type"] == "extra_forbidden":
            message = f"no such setting{migration.instead(key, _known())}"
        elif e["type"] == "missing":
            message = migration.missing(key)
        lines.append(": ".join(filter(None, (key, message))))
    return lines


@functools.cache
def _known() -> tuple[str, ...]:
    """Dotted keys of all settings, and of the tables that they stand in."""

    def walk(prefix: str, table: type[BaseModel]) -> Iterator[str]:
        for name, field in table.model_fields.items():
            key = f"{prefix}{field.alias or name}"
            yield key
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(f"{key}.", field.annotation)

    return tuple(walk("", Params))


def edited(text: str, changes: Mapping[str, Any]) -> str:
    """The text of a settings file with some values replaced, by dotted key, and not a letter else.

    Comments behind the values stay in their column where there is room.

    Raises:
        ParamsError: a key that there is not, or one whose value cannot be replaced by itself.
    """
    expected = yaml.safe_load(text)
    root = yaml.compose(text, yaml.SafeLoader)
    spots = []
    for key, value in changes.items():
        node: Any = root
        for part in key.split("."):
            children = node.value if isinstance(node, yaml.MappingNode) else []
            node = next((child for name, child in children if name.value == part), None)
        if node is None or not _put(expected, key, value):
            raise ParamsError(f"params.yaml has no setting {key!r}")
        spots.append((node.start_mark.index, node.end_mark.index, written(value)))
    for start, end, new in sorted(spots, reverse=True):
        rest = text[end:]
        if gap := re.match(r"( +)#", rest):
            rest = " " * max(1, len(gap[1]) + (end - start) - len(new)) + rest[len(gap[1]) :]
        text = text[:start] + new + rest
    try:
        exact = yaml.safe_load(text) == expected
    except yaml.YAMLError:
        exact = False
    if not exact:
        names = ", ".join(changes)
        raise ParamsError(
            f"params.yaml: expected plain values on one line each, to replace them by themselves: {names}"
        )
    return text


def written(value: Any) -> str:
    """A value as params.yaml writes it: numbers without exponents, lists on one line."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(written(one) for one in value)}]"
    if isinstance(value, float):
        return format(Decimal(repr(value)), "f")
    if isinstance(value, str) and yaml.safe_load(value) == value and not set(value) & set(",[]{}#:"):
        return value
    return json.dumps(value)


def _override(tree: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator:
        raise ParamsError(f"override {text!r}: expected dotted.key=value")
    *parents, leaf = key.strip().split(".")
    node: Any = tree
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or leaf not in node:
        better = migration.instead(key.strip(), _known())
        raise ParamsError(f"override {text!r}: params.yaml has no setting {key.strip()!r}{better}")
    try:
        node[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ParamsError(f"override {text!r}: expected a value in YAML, such as 2, text or [1, 2]") from None


def flatten(settings: Settings) -> dict[str, Any]:
    """Settings of the line as `dotted.key -> plain value`, for tracking; those of the search are not part of it."""

    def walk(prefix: str, value: Any) -> dict[str, Any]:
        if isinstance(value, dict) and value:
            return {k: v for key, child in value.items() for k, v in walk(f"{prefix}{key}.", child).items()}
        return {prefix[:-1]: value}

    return walk("", settings.model_dump(mode="json", by_alias=True, exclude={"tune"}))
