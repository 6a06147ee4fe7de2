"""What a source of clips holds, ready to be drawn from: samples and band levels in files that are mapped into memory.

Prepared once for all trainings on the same data; a corpus may be larger than memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soxr
from filelock import FileLock

from overtone.audio import Signal
from overtone.data.corpus import Clip, CorpusError, replacing_folder
from overtone.data.shards import Split
from overtone.data.sources import Source
from overtone.dsp.bands import BANDS
from overtone.training.envelopes import Levels, levels_of

# Counted up when what is prepared changes.
_VERSION = 1
_INDEX = "index.json"
# Voices are learned at these speeds: higher voices, and sound up to the top of the band where an encoder cut it off.
SPEEDS = (1.0, 1.12)
# A clip is believed to hold sound up to so much below its bandwidth, Hz, unless that is all of the band.
_MARGIN = 250.0
_WHOLE = 0.98
# Clips that end below this teach nothing about what is above, Hz.
_NARROWEST = 9_000.0
_SPLITS: tuple[Split, ...] = ("train", "valid")


@dataclass(frozen=True)
class _Extent:
    """Where a source's samples and frames lie in the files."""

    split: str
    kind: str
    source: str
    samples: tuple[int, int]
    frames: tuple[int, int]
    clips: tuple[int, ...]


@dataclass(frozen=True)
class Recording:
    """All clips of a source, one after the other, mono.

    Attributes:
        kind: speech, music, noise or other.
        source: its name.
        samples: 16 bit, (T,).
        levels: band levels of its frames at all `SPEEDS`, (frames, BANDS); none of noise and of narrow clips.
        tops: frequency in Hz up to which each frame's clip holds sound, (frames,).
        clips: samples of each clip.
    """

    kind: str
    source: str
    samples: npt.NDArray[np.int16]
    levels: Levels
    tops: npt.NDArray[np.float32]
    clips: tuple[int, ...]


def recordings(source: Source, rate: int, folder: Path) -> dict[Split, list[Recording]]:
    """The recordings of a source by split, prepared in `folder` if they are not there yet.

    Args:
        rate: canonical rate in Hz, which all clips must have.
        folder: a subfolder of it is kept for the data last prepared; those of other data are removed.

    Raises:
        CorpusError: no clips of voices to train or validate with, or clips of another rate.
        ShardsError: the source cannot be read.
    """
    digest = hashlib.sha256(repr((_VERSION, rate)).encode() + source.identity()).hexdigest()[:16]
    target = folder / digest
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not (target / _INDEX).is_file():
            for other in folder.iterdir():
                if other.is_dir():
                    shutil.rmtree(other)
            with replacing_folder(target) as temporary:
                _prepare(source, rate, temporary)
        found = list(_opened(target))
    for split in _SPLITS:
        if not any(name == split and recording.kind != "noise" for name, recording in found):
            raise CorpusError(
                f"{source.name}: no clips of speech or music in the split {split!r}; expected at least one"
            )
    return {split: [recording for name, recording in found if name == split] for split in _SPLITS}


def _prepare(source: Source, rate: int, folder: Path) -> None:
    extents: list[_Extent] = []
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((folder / name).open("wb")) for name in ("samples", "levels", "tops")]
        for split in _SPLITS:
            groups = itertools.groupby(source.clips(split), key=lambda item: (item[0].kind, item[0].source))
            for (kind, name), group in groups:
                begin = _written(files)
                lengths = tuple(_keep(source, clip, signal, rate, *files) for clip, signal in group)
                samples, frames = zip(begin, _written(files), strict=True)
                extents.append(_Extent(split, kind, name, samples, frames, lengths))
    (folder / _INDEX).write_text(json.dumps([asdict(extent) for extent in extents]))


def _written(files: Sequence[BinaryIO]) -> tuple[int, int]:
    """Samples and frames so far."""
    return files[0].tell() // 2, files[2].tell() // 4


def _keep(
    source: Source, clip: Clip, signal: Signal, rate: int, samples: BinaryIO, levels: BinaryIO, tops: BinaryIO
) -> int:
    """Write a clip's samples, levels and tops; its number of samples."""
    if clip.rate != rate:
        raise CorpusError(f"{source.name}: {clip.clip}: {clip.rate} Hz; expected corpus.rate, {rate} Hz")
    mono = np.ascontiguousarray(signal.mean(axis=0, dtype=np.float32))
    samples.write(np.clip(np.round(mono * 32768), -32768, 32767).astype(np.int16).tobytes())
    if clip.kind == "noise" or clip.bandwidth_hz < _NARROWEST:
        return len(mono)
    whole = _WHOLE * clip.rate / 2
    top = clip.bandwidth_hz - _MARGIN if clip.bandwidth_hz < whole else np.inf
    for speed in SPEEDS if clip.kind == "speech" else SPEEDS[:1]:
        faster = mono if speed == 1.0 else soxr.resample(mono, clip.rate * speed, clip.rate, "HQ")
        found = levels_of(faster)
        levels.write(found.tobytes())
        reached = top * speed if top * speed < whole else np.inf
        tops.write(np.full(len(found), reached, np.float32).tobytes())
    return len(mono)


def _opened(folder: Path) -> Iterator[tuple[str, Recording]]:
    samples = _mapped(folder / "samples", np.int16)
    tops = _mapped(folder / "tops", np.float32)
    levels = _mapped(folder / "levels", np.float16).reshape(-1, BANDS)
    for row in json.loads((folder / _INDEX).read_text()):
        heard, frames = slice(*row["samples"]), slice(*row["frames"])
        yield (
            row["split"],
            Recording(row["kind"], row["source"], samples[heard], levels[frames], tops[frames], tuple(row["clips"])),
        )


def _mapped(path: Path, dtype: Any) -> npt.NDArray[Any]:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype, mode="r") if path.stat().st_size else np.zeros(0, dtype)
