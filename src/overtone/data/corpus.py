"""Stage `corpus`: a folder of audio files -> checked 48 kHz clips, a manifest, and a list of what was refused."""

from __future__ import annotations

import fcntl
import hashlib
import math
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from overtone import audio
from overtone.data import manifest, parallel
from overtone.data.catalog import CorpusError as CorpusError
from overtone.data.catalog import File, list_files
from overtone.data.cutting import pieces
from overtone.data.split import Recording, SplitError, split_recordings
from overtone.dsp.bandwidth import dependable_bandwidth, estimate_bandwidth, sound_edge
from overtone.settings import SPLITS, CorpusParams

MANIFEST = "manifest.csv"
REJECTED = "rejected.csv"
# The resampler is flat to 0.95 of the lower Nyquist frequency (-5 dB there) and closed at 0.99.
_RESAMPLER_EDGE = 0.955


@dataclass(frozen=True)
class Clip:
    """One row of the manifest; `path` is relative to the corpus, `origin` (the raw file) to the raw folder.

    `edge_hz` is how far up the clip's loudest moments reach, `bandwidth_hz` how far up it holds its sound dependably.
    """

    clip: str
    path: str
    kind: str
    collection: str
    source: str
    split: str
    rate: int
    channels: int
    seconds: float
    frames: int
    bandwidth_hz: float
    edge_hz: float
    digest: str
    origin: str
    start_seconds: float


@dataclass(frozen=True)
class Rejection:
    """One row of the list of what is not in the corpus."""

    file: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """What `build` did: counts, sentences about what was left out of the folder, and the seconds kept, by (kind, split)."""

    files: int
    left: tuple[str, ...]
    rejected: int
    clips: int
    seconds: Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class _Shared:
    params: CorpusParams
    raw: Path
    out: Path


@dataclass(frozen=True)
class _Result:
    """Clips of one file (without split), why the file was refused, and why single clips were."""

    clips: tuple[Clip, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()


def build(
    params: CorpusParams,
    seed: int,
    out: Path,
    progress: parallel.Progress | None = None,
    workers: int | None = None,
) -> Summary:
    """Check, resample, cut and split a folder of audio into `out`, which is replaced as a whole.

    Args:
        params: what is accepted and how it is split; `params.path` is the raw folder.
        seed: of the split's order.
        out: gets `clips/*.flac`, `manifest.csv` and `rejected.csv`.
        progress: called with (files done, files).
        workers: processes, None for one a core. The result does not depend on it.

    Raises:
        CorpusError: no folder, no audio, a bad catalog, too many bad files, nothing left to train or test on, or a
            recording chain that `params.assign` puts in two splits.
    """
    files, left = list_files(params.path)
    with replacing_folder(out) as folder:
        (folder / "clips").mkdir()
        results = parallel.run(_process, _Shared(params, params.path, folder), files, workers, progress)
        rejected = [(file.path, result.reason) for file, result in zip(files, results, strict=True) if result.reason]
        _check_share(params, len(files), rejected)
        notes = [(file.path, note) for file, result in zip(files, results, strict=True) for note in result.notes]
        clips, repeats = _without_repeats(folder, [clip for result in results for clip in result.clips])
        clips, surplus = _without_surplus(folder, _assign(clips, params, seed), params.clips_per_chain)
        manifest.write(folder / MANIFEST, Clip, clips)
        refused = sorted(rejected + notes + repeats + surplus)
        manifest.write(folder / REJECTED, Rejection, [Rejection(file, reason) for file, reason in refused])
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    for clip in clips:
        seconds[clip.kind, clip.split] += clip.seconds
    return Summary(len(files), tuple(left), len(rejected), len(clips), dict(seconds))


def read_manifest(folder: Path) -> list[Clip]:
    """The clips of a corpus that `build` wrote.

    Raises:
        CorpusError: no manifest, or one with other columns.
    """
    return manifest.read(folder / MANIFEST, Clip, "corpus", CorpusError)


@contextmanager
def replacing_folder(out: Path) -> Iterator[Path]:
    """A temporary sibling of `out` that takes its place when the block ends, and is removed if it fails.

    What processes that were killed left of theirs is removed too.

    Raises:
        OSError: the disk is full or refuses to be written to; `filename` says what was to be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from None
    held = os.open(temporary, os.O_RDONLY)
    try:
        # The system lets go of it however the process ends.
        fcntl.flock(held, fcntl.LOCK_EX)
        _sweep(out)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    except Exception as error:
        if clearer := audio.unwritable(error, out, temporary):
            raise clearer from error
        raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(held)


def _sweep(out: Path) -> None:
    """Remove the temporary siblings of `out` that no process holds any more."""
    for left in out.parent.glob(f".{out.name}.*"):
        if not left.is_dir():
            continue
        found = os.open(left, os.O_RDONLY)
        try:
            fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(left, ignore_errors=True)
        finally:
            os.close(found)


# --- one file ---------------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """Why a file is not in the corpus."""


def _process(shared: _Shared, file: File) -> _Result:
    """Check one file and write its clips."""
    written: list[Path] = []
    try:
        info = audio.probe(shared.raw / file.path)
        return _cut(shared, file, info, written)
    except (audio.AudioError, _Refused) as error:
        for path in written:
            path.unlink()
        return _Result(reason=str(error).removeprefix(f"{shared.raw / file.path}: "))


def _cut(shared: _Shared, file: File, info: audio.Info, written: list[Path]) -> _Result:
    params, raw = shared.params, shared.raw / file.path
    if info.channels > 2:
        raise _Refused(f"{info.channels} channels; expected 1 or 2")
    if not info.frames:
        raise _Refused("empty: no samples")
    if info.seconds < params.min_seconds:
        raise _Refused(f"too short: {info.seconds:.2f} s, expected at least {params.min_seconds:g} s")
    clips: list[Clip] = []
    notes: list[tuple[str, str]] = []
    single = info.seconds <= params.clip_seconds
    for index, (start, signal) in enumerate(pieces(raw, info, params)):
        audio.check_samples(str(raw), signal)
        reason, edge = _judge(signal, info.rate, file.kind, params)
        if reason:
            notes.append((reason, f"clip at {start:g} s: {reason}"))
            continue
        name = file.name if single else f"{file.name}-{index:04d}"
        path = shared.out / "clips" / f"{name}.flac"
        peak = float(np.abs(signal).max())
        audio.write(path, signal / max(1.0, peak), params.rate, "PCM_16")
        written.append(path)
        clips.append(_describe(file, path, signal, params.rate, edge, start))
    if not clips:
        raise _Refused(notes[0][0] if notes else f"too short: no part of {params.min_seconds:g} s")
    return _Result(tuple(clips), notes=(*info.notes, *(note for _, note in notes)))


def _describe(file: File, path: Path, signal: audio.Signal, rate: int, edge: float, start: float) -> Clip:
    return Clip(
        clip=path.stem,
        path=f"clips/{path.name}",
        kind=file.kind,
        collection=file.collection,
        source=file.source,
        split="",
        rate=rate,
        channels=signal.shape[0],
        seconds=round(signal.shape[1] / rate, 6),
        frames=signal.shape[1],
        bandwidth_hz=round(dependable_bandwidth(signal, rate, edge), 1),
        edge_hz=round(edge, 1),
        digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        origin=file.path,
        start_seconds=round(start, 6),
    )


def _judge(signal: audio.Signal, raw_rate: int, kind: str, params: CorpusParams) -> tuple[str, float]:
    """(why a clip is refused or "", how far up its sound goes in Hz; of noise, how far up there is anything)."""
    power = float(np.mean(np.square(signal, dtype=np.float64)))
    level = 10.0 * math.log10(power) if power > 0.0 else -math.inf
    if level < params.silence_dbfs:
        return f"silent: {level:.1f} dBFS, expected at least {params.silence_dbfs:g} dBFS", 0.0
    limit = raw_rate / 2 * (_RESAMPLER_EDGE if raw_rate < params.rate else 1.0)
    reach = min(estimate_bandwidth(signal, params.rate), limit)
    edge = reach if kind == "noise" else min(sound_edge(signal, params.rate), reach)
    if kind != "noise" and edge < params.min_bandwidth_hz:
        above = f" (what goes on to {reach:.0f} Hz is its noise floor)" if reach >= params.min_bandwidth_hz else ""
        return f"narrow-band: {edge:.0f} Hz{above}, expected at least {params.min_bandwidth_hz:g} Hz", edge
    return "", edge


# --- all files --------------------------------------------------------------------------------------------------------


def _check_share(params: CorpusParams, files: int, rejected: list[tuple[str, str]]) -> None:
    if len(rejected) > params.max_bad_share * files or len(rejected) == files:
        first = "; ".join(f"{file}: {reason}" for file, reason in rejected[:5])
        more = f"; and {len(rejected) - 5} more" if len(rejected) > 5 else ""
        raise CorpusError(
            f"{params.path}: {len(rejected)} of {files} files are bad, "
            f"more than corpus.max_bad_share = {params.max_bad_share:g} allows: {first}{more}"
        )


def _without_repeats(folder: Path, clips: list[Clip]) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Clips without second copies of the same audio, which could carry test material into training."""
    first: dict[str, Clip] = {}
    kept, repeats = [], []
    for clip in clips:
        known = first.setdefault(clip.digest, clip)
        if known is clip:
            kept.append(clip)
        else:
            (folder / clip.path).unlink()
            repeats.append((clip.origin, f"clip at {clip.start_seconds:g} s: the same audio as {known.origin}"))
    return kept, repeats


def _assign(clips: list[Clip], params: CorpusParams, seed: int) -> list[Clip]:
    recordings = [Recording(clip.origin, clip.kind, clip.collection, clip.source, clip.seconds) for clip in clips]
    try:
        splits = split_recordings(recordings, params, seed)
    except SplitError as error:
        raise CorpusError(f"{params.path}: {error}") from None
    assigned = sorted((replace(clip, split=splits[clip.source]) for clip in clips), key=lambda clip: clip.clip)
    held = {clip.split for clip in assigned if clip.kind != "noise"}
    empty = [split for split in SPLITS if split not in held]
    if empty:
        chains = {clip.collection for clip in assigned if clip.kind != "noise"}
        raise CorpusError(
            f"{params.path}: nothing to put in split {empty[0]!r}: {len(chains)} recording chain(s) of speech, music or other; "
            "expected at least 3 of a kind (each folder of a kind, or each file of a flat folder, is a chain; "
            "a catalog.csv with a column `collection` says it otherwise)"
        )
    return assigned


def _without_surplus(folder: Path, clips: list[Clip], most: int | None) -> tuple[list[Clip], list[tuple[str, str]]]:
    """Of valid and test at most so many clips a chain, evenly from its sources; noise and training clips all."""
    if most is None:
        return clips, []
    chains: dict[str, dict[str, list[Clip]]] = defaultdict(lambda: defaultdict(list))
    for clip in clips:
        if clip.split != "train" and clip.kind != "noise":
            chains[clip.collection][clip.source].append(clip)
    surplus: dict[str, Clip] = {}
    for sources in chains.values():
        # The first clip of each source, then the second of each, and so on.
        order = sorted((index, clip.clip, clip) for held in sources.values() for index, clip in enumerate(held))
        surplus |= {clip.clip: clip for _, _, clip in order[most:]}
    for clip in surplus.values():
        (folder / clip.path).unlink()
    reason = f"more than corpus.clips_per_chain = {most} allows"
    notes = [(clip.origin, f"clip at {clip.start_seconds:g} s: {reason}") for clip in surplus.values()]
    return [clip for clip in clips if clip.clip not in surplus], notes
