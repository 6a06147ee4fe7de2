"""Train, valid and test by recording chain: no voice, piece, microphone or drum kit is in two of them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from overtone.errors import OvertoneError
from overtone.settings import SPLITS, Assign, CorpusParams

_UNASSIGNED = "unassigned"
_NAMED = 5  # files of a split that a message names


class SplitError(OvertoneError):
    """A recording chain that the settings put in more than one split; the message names it and its files."""


@dataclass(frozen=True)
class Recording:
    """What decides a clip's split: the file it was cut from, its kind, chain and source, and its length."""

    file: str
    kind: str
    collection: str
    source: str
    seconds: float


@dataclass
class _Chain:
    name: str
    pinned: str | None
    seconds: float
    split: str = ""


def split_recordings(recordings: Iterable[Recording], params: CorpusParams, seed: int) -> dict[str, str]:
    """The split of each source, that of its recording chain.

    A chain is all that shares a collection or a source. Chains that `params.assign` names, or of which it names every
    source, go where it says; the others fill up the shares as `split_chains` says.

    Args:
        recordings: of the whole corpus.
        params: shares and assigned patterns.
        seed: of the order in which chains are taken.

    Returns:
        source -> "train", "valid" or "test".

    Raises:
        SplitError: `params.assign` puts parts of one chain into different splits, or only some of its sources into one.
    """
    chains = _chains(recordings)
    pinned = {name: split for name, members in chains.items() if (split := _pin(name, members, params.assign))}
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name, members in chains.items():
        for member in members:
            seconds[member.kind][name] += member.seconds
    splits = split_chains(seconds, pinned, params, seed)
    return {member.source: splits[name] for name, members in chains.items() for member in members}


def split_chains(
    seconds: Mapping[str, Mapping[str, float]], pinned: Mapping[str, str], params: CorpusParams, seed: int
) -> dict[str, str]:
    """The split of each recording chain.

    Those that are not pinned are taken in an order that depends on nothing but the seed and their own name (so that a new
    chain moves few others) and fill test and valid up to their shares of each kind's seconds. From three chains of a kind
    on, every split gets one.

    Args:
        seconds: kind -> chain -> seconds. A chain found in two kinds has one split.
        pinned: chain -> split, whatever the shares say.
        params: the shares.
        seed: of the order.

    Returns:
        chain -> "train", "valid" or "test".
    """
    splits: dict[str, str] = dict(pinned)
    for kind in sorted(seconds):
        chains = [_Chain(name, splits.get(name), length) for name, length in seconds[kind].items()]
        chains.sort(key=lambda chain: hashlib.sha256(f"{seed}:{chain.name}".encode()).digest())
        _fill(chains, params)
        _leave_none_empty(chains)
        splits.update({chain.name: chain.split for chain in chains})
    return splits


def _chains(recordings: Iterable[Recording]) -> dict[str, list[Recording]]:
    """Recordings by chain, under the name of one of its collections."""
    members: dict[str, list[Recording]] = {}
    chain_of: dict[tuple[str, str], str] = {}
    for recording in sorted(recordings, key=lambda recording: (recording.collection, recording.file)):
        keys = ("collection", recording.collection), ("source", recording.source)
        name, *others = sorted({chain_of[key] for key in keys if key in chain_of}) or [recording.collection]
        for other in others:
            members[name] += members.pop(other)
            chain_of.update({key: name for key, held in chain_of.items() if held == other})
        members.setdefault(name, []).append(recording)
        chain_of.update(dict.fromkeys(keys, name))
    return members


def _pin(name: str, members: list[Recording], assign: Assign) -> str | None:
    """Where `assign` sends a chain, None where it says nothing of it."""
    files: dict[str, list[str]] = defaultdict(list)
    for member in members:
        names = member.source, member.collection
        splits = [split for split in SPLITS if any(fnmatchcase(n, p) for n in names for p in getattr(assign, split))]
        for split in splits or [_UNASSIGNED]:
            files[split].append(member.file)
    if len(files) > 1:
        parts = "; ".join(f"{split}: {_first_few(held)}" for split, held in sorted(files.items()))
        raise SplitError(
            f"recording chain {name!r} straddles the splits in corpus.assign: {parts}; "
            f"a chain belongs to one split: name it whole, by its collection, in one of corpus.assign's lists"
        )
    (split,) = files
    return None if split == _UNASSIGNED else split


def _first_few(files: list[str]) -> str:
    different = sorted(set(files))
    return ", ".join(different[:_NAMED]) + (f" and {len(different) - _NAMED} more" if len(different) > _NAMED else "")


def _fill(chains: list[_Chain], params: CorpusParams) -> None:
    total = sum(chain.seconds for chain in chains)
    missing = {"test": params.test_share * total, "valid": params.valid_share * total, "train": 0.0}
    for chain in chains:
        if chain.pinned:
            chain.split = chain.pinned
            missing[chain.split] -= chain.seconds
    for chain in chains:
        if not chain.pinned:
            # At least half of the chain must still fit, so that the share is overshot by less than it was missed.
            chain.split = next((name for name in ("test", "valid") if missing[name] >= chain.seconds / 2), "train")
            missing[chain.split] -= chain.seconds


def _leave_none_empty(chains: list[_Chain]) -> None:
    """Train has a chain of every kind, and from three chains on so have test and valid."""
    for split in ("train", "test", "valid") if len(chains) >= 3 else ("train",):
        counts = Counter(chain.split for chain in chains)
        # Another split than train gives one up only if it keeps one.
        movable = [c for c in chains if not c.pinned and (counts[c.split] > 1 or split == "train")]
        if not counts[split] and movable:
            max(reversed(movable), key=lambda chain: counts[chain.split]).split = split
