"""The table `corpus`: what recordings are accepted, how they are cut and split."""

from __future__ import annotations

from pathlib import Path

from pydantic import model_validator

from overtone.settings.base import NonNegative, PositiveFloat, PositiveInt, Settings, Share

SPLITS = ("train", "valid", "test")


class Assign(Settings):
    """Recording chains or sources (names or shell patterns) that go to a split whatever the shares say."""

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
