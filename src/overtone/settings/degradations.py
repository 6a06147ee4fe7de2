"""The table `degrade`: one typed step for each degradation, chained to the conditions of evaluation."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from overtone.settings.base import NonNegative, PositiveFloat, PositiveInt, Settings, Share

Filter = Literal["sinc", "butterworth", "chebyshev1", "elliptic", "bessel"]


class NarrowBand(Settings):
    """Low-pass and decimation to `rate` (Hz) and back; `cut` is the filter's edge as a share of the new Nyquist."""

    op: Literal["narrowband"] = "narrowband"
    rate: PositiveInt
    filter: Filter = "sinc"
    order: Annotated[int, Field(ge=1, le=20)] = 8
    ripple_db: PositiveFloat = 0.1
    cut: Annotated[float, Field(gt=0.5, le=1.0)] = 1.0


class Codec(Settings):
    """An encoder and its decoder. MP3 and Opus take `kbps`, Vorbis takes `quality` (1 is best)."""

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
    """A `share` of the frames is lost, in Gilbert-Elliott bursts of `burst` frames on average, 10 at most."""

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
    """Noise at `snr_db` over the whole clip: recorded noise of the same split, or coloured noise.

    Recorded noise is the sum of `layers`, each played up to `speed` times faster or slower and with random gains by octave
    (standard deviation `colour_db`).
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
    """From here on the signal has the `rate` (Hz) of a transmission or a file."""

    op: Literal["resample"] = "resample"
    rate: PositiveInt


Step = Annotated[
    NarrowBand | Codec | PacketLoss | BitErrors | Noise | Clip | Quantise | Resample, Field(discriminator="op")
]


class Condition(Settings):
    """A condition of evaluation: the input is band-limited (`extend`), damaged (`restore`) or, without steps, `clean`.

    Empty `kinds` are all. `channels: 1` mixes clips down, `2` leaves mono clips out. `highpass_hz` filters the original.
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
    """Stage `degrade`: the conditions under which clips of the validation and the test split are judged."""

    clips: PositiveInt
    seconds: PositiveFloat
    conditions: Annotated[dict[str, Condition], Field(min_length=1)]

    @model_validator(mode="after")
    def _check(self) -> DegradeParams:
        reserved = {"extend", "restore", "overall", "train", "oracle", "interval", "test_set"} & set(self.conditions)
        if reserved:
            raise ValueError(f"a condition may not be called {sorted(reserved)[0]!r}: the report uses that name")
        return self
