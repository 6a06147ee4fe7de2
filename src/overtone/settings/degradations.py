"""The table `degrade`: one typed step for each degradation, chained to the conditions of evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from overtone.settings.base import NonNegative, PositiveFloat, PositiveInt, Settings, Share

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
