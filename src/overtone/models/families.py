"""The model families: what each is called, its settings and its body. A family is one entry here and one file beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from overtone.models.body import Body
from overtone.models.cnn import ConvBody
from overtone.models.rnn import RecurrentBody
from overtone.settings import CnnParams, RnnParams, Settings


@dataclass(frozen=True)
class Family:
    """Settings of a body, and what makes one of them."""

    settings: type[Settings]
    body: Callable[[Any], Body]


FAMILIES: Mapping[str, Family] = {
    "cnn": Family(CnnParams, ConvBody),
    "rnn": Family(RnnParams, RecurrentBody),
}
