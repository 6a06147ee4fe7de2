"""Train, valid and test by source: no voice or piece is in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from overtone.params import CorpusParams


@dataclass
class _Source:
    name: str
    pinned: str | None
    seconds: float
    split: str = ""


def split_sources(seconds: Mapping[str, Mapping[str, float]], params: CorpusParams, seed: int) -> dict[str, str]:
    """The split of each source.

    Sources that match `params.assign` go where it says; the others are taken in an order that depends on nothing but the
    seed and their own name (so that a new source moves few others) and fill test and valid up to their shares of each
    kind's seconds. From three sources of a kind on, every split gets one.

    Args:
        seconds: kind -> source -> seconds. A source found in two kinds has one split.
        params: shares and pinned patterns.
        seed: of the order.

    Returns:
        source -> "train", "valid" or "test".
    """
    splits: dict[str, str] = {}
    for kind in sorted(seconds):
        sources = [
            _Source(name, splits.get(name) or _pin(name, params), length) for name, length in seconds[kind].items()
        ]
        sources.sort(key=lambda source: hashlib.sha256(f"{seed}:{source.name}".encode()).digest())
        _fill(sources, params)
        _leave_none_empty(sources)
        splits.update({source.name: source.split for source in sources})
    return splits


def _pin(name: str, params: CorpusParams) -> str | None:
    for split, patterns in (("test", params.assign.test), ("valid", params.assign.valid)):
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            return split
    return None


def _fill(sources: list[_Source], params: CorpusParams) -> None:
    total = sum(source.seconds for source in sources)
    missing = {"test": params.test_share * total, "valid": params.valid_share * total, "train": 0.0}
    for source in sources:
        if source.pinned:
            source.split = source.pinned
            missing[source.split] -= source.seconds
    for source in sources:
        if not source.pinned:
            # At least half of the source must still fit, so that the share is overshot by less than it was missed.
            source.split = next((name for name in ("test", "valid") if missing[name] >= source.seconds / 2), "train")
            missing[source.split] -= source.seconds


def _leave_none_empty(sources: list[_Source]) -> None:
    """Train has a source of every kind, and from three sources on so have test and valid."""
    for split in ("train", "test", "valid") if len(sources) >= 3 else ("train",):
        counts = Counter(source.split for source in sources)
        # Another split than train gives one up only if it keeps one.
        movable = [s for s in sources if not s.pinned and (counts[s.split] > 1 or split == "train")]
        if not counts[split] and movable:
            max(reversed(movable), key=lambda source: counts[source.split]).split = split
