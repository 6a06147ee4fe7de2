"""What a recording is and what was probably done to it, each finding with its evidence, and how to enhance it.

One pass over the file, in bounded memory, counts levels, gaps and repeated packets; excerpts show spectra.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from overtone import audio
from overtone.audio import AudioError, Info, Signal
from overtone.dsp.cutoff import find_cutoff
from overtone.dsp.damage import NOISY_DB, speech_snr
from overtone.dsp.gaps import LONGEST, repeats, silences

Floats = npt.NDArray[np.float64]

# What is listened to for spectra, as when a file is enhanced.
EXCERPTS, EXCERPT_SECONDS = 12, 4.0
_LEVELS = 32_768
_LOSSY = {"MPEG_LAYER_III": "MP3", "MPEG_LAYER_II": "MP2", "VORBIS": "Vorbis", "OPUS": "Opus"}
_TELEPHONE = {"GSM610": "GSM 6.10", "ULAW": "mu-law", "ALAW": "A-law", "IMA_ADPCM": "IMA ADPCM", "MS_ADPCM": "MS ADPCM"}

# The thresholds; docs/inspect.md says how far sound and damaged recordings lie on either side of each.
# Sound that ends below this share of what the file could hold was band-limited before.
NARROW = 0.72
# Holes: cells of time and frequency so far (log10 power) below the same frequencies just before and just after; their share.
DEPTH, HOLES = 3.0, 0.002
# Samples at a channel's extreme levels, at least so many, and so many times those of the levels next to them.
CLIPPED, CREST = 20, 8.0
# Different levels in use, as a share of those between the extremes.
COARSE = 0.07
# Gaps and repeated packets in all.
LOST = 3
DC = 0.005


@dataclass(frozen=True)
class Finding:
    """Something that was probably done to a recording: what it is called, and what shows it."""

    name: str
    evidence: str


@dataclass(frozen=True)
class Inspection:
    """What a file is. Levels in dB of full scale (-inf for silence), frequencies in Hz.

    `mode` and `cutoff_hz` are for `overtone enhance`; None where there is nothing to enhance.
    """

    path: Path
    info: Info
    peak_dbfs: float
    rms_dbfs: float
    dc: float
    clipped: int
    bandwidth_hz: float
    findings: tuple[Finding, ...]
    mode: Literal["extend", "restore"] | None
    cutoff_hz: float | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON: numbers are rounded, silence's level is null."""

        def level(value: float) -> float | None:
            return round(value, 2) if math.isfinite(value) else None

        return {
            "file": str(self.path),
            "rate": self.info.rate,
            "channels": self.info.channels,
            "seconds": round(self.info.seconds, 3),
            "format": self.info.format,
            "subtype": self.info.subtype,
            "peak_dbfs": level(self.peak_dbfs),
            "rms_dbfs": level(self.rms_dbfs),
            "dc": round(self.dc, 6),
            "clipped_samples": self.clipped,
            "bandwidth_hz": round(self.bandwidth_hz),
            "findings": [{"name": found.name, "evidence": found.evidence} for found in self.findings],
            "enhance": {"mode": self.mode, "cutoff_hz": self.cutoff_hz and round(self.cutoff_hz)},
        }


def inspect(path: Path) -> Inspection:
    """Look at an audio file of any length.

    Raises:
        AudioError: the file is missing, is not audio, or holds no or no finite samples.
    """
    info = audio.probe(path)
    if info.frames == 0:
        raise AudioError(f"{path}: holds no samples; expected audio")
    levels = Levels.of(path, info)
    excerpts = list(_excerpts(path, info))
    bandwidth = find_cutoff(excerpts, info.rate)
    clipped, coarse = levels.clipped(), levels.coarse()
    lost = [] if coarse else _lost(levels, info.rate)
    found = [
        *_band(info, bandwidth),
        # Gaps and coarse levels make holes of their own.
        *_codec(info, [] if lost or coarse else excerpts, bandwidth),
        *_clipping(levels, clipped),
        *([coarse] if coarse else []),
        *lost,
        *_noise(excerpts, info.rate),
        *_channels(levels),
        *_offset(levels),
    ]
    mode, cutoff = _advice({finding.name for finding in found}, bandwidth)
    return Inspection(
        path,
        info,
        _db(levels.peak**2),
        _db(levels.power),
        levels.offset,
        clipped,
        bandwidth,
        tuple(found),
        mode,
        cutoff,
    )


# --- one pass over the samples ----------------------------------------------------------------------------------------


@dataclass
class Levels:
    """Counts of a whole file: how often each 16-bit level occurs in each channel, gaps, repeated packets."""

    counts: npt.NDArray[np.int64]
    sums: Floats
    squares: Floats
    # Power of the sum and of the difference of two channels.
    mid: float = 0.0
    side: float = 0.0
    peak: float = 0.0
    gaps: list[int] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, path: Path, info: Info) -> Levels:
        """Raises AudioError where a sample is not finite."""
        channels = info.channels
        made = cls(np.zeros((channels, 2 * _LEVELS + 1), np.int64), np.zeros(channels), np.zeros(channels))
        packets = _Packets(info.rate, channels)
        for block in audio.blocks(path):
            if not np.isfinite(block).all():
                raise AudioError(f"{path}: holds NaN or infinite samples; expected finite audio")
            made._add(block)
            packets.push(block, made)
        packets.push(np.zeros((channels, 0), np.float32), made, last=True)
        return made

    def _add(self, block: Signal) -> None:
        exact = block.astype(np.float64)
        self.sums += exact.sum(axis=1)
        self.squares += (exact**2).sum(axis=1)
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        if len(block) == 2:
            self.mid += float(((exact[0] + exact[1]) ** 2).sum())
            self.side += float(((exact[0] - exact[1]) ** 2).sum())
        steps = np.clip(np.rint(exact * _LEVELS), -_LEVELS, _LEVELS).astype(np.int64) + _LEVELS
        for channel, row in enumerate(steps):
            self.counts[channel] += np.bincount(row, minlength=2 * _LEVELS + 1)

    @property
    def samples(self) -> int:
        return int(self.counts.sum())

    @property
    def power(self) -> float:
        return float(self.squares.sum()) / self.samples

    @property
    def offset(self) -> float:
        """The largest mean of a channel, full scale 1.0."""
        means = self.sums * len(self.counts) / self.samples
        return float(means[np.abs(means).argmax()])

    def clipped(self) -> int:
        """Samples at extremes that far more samples have than the levels next to them."""
        total = 0
        for row in self.counts:
            used = np.flatnonzero(row)
            if len(used) < 16:
                continue
            for extreme, inner in ((used[-1], used[-9:-1]), (used[0], used[1:9])):
                count = int(row[extreme])
                # Near the middle it is silence that is frequent.
                loud = abs(int(extreme) - _LEVELS) > 64
                if loud and count >= CLIPPED and count >= CREST * row[inner].mean():
                    total += count
        return total

    def coarse(self) -> Finding | None:
        """Few levels in use between the extremes of a channel that had many samples to use more."""
        for row in self.counts:
            used = np.flatnonzero(row)
            reach = int(used[-1] - used[0]) + 1
            if len(used) >= 8 and reach >= 512 and int(row.sum()) >= 4 * reach and len(used) <= COARSE * reach:
                step = int(np.gcd.reduce(np.diff(used)))
                bits = f", all multiples of a {16 - math.log2(step):.0f}-bit step" if step >= 16 else ""
                return Finding("coarse levels", f"{len(used)} of {reach} levels between the extremes occur{bits}")
        return None


class _Packets:
    """Finds gaps, where sound breaks off and begins again at once, and packets that repeat the one before."""

    def __init__(self, rate: int, channels: int) -> None:
        self._rate, self._ahead = rate, round((LONGEST + 0.05) * rate)
        self._past = np.zeros((channels, 0), np.float32)

    def push(self, block: Signal, into: Levels, last: bool = False) -> None:
        signal = np.concatenate((self._past, block), axis=1)
        # A gap is judged when what follows it is known, and once.
        begin, end = self._past.shape[1] - self._ahead, signal.shape[1] - (0 if last else self._ahead)
        for found, runs in ((into.gaps, silences(signal, self._rate)), (into.repeats, repeats(signal, self._rate))):
            found.extend(stop - start for start, stop in sorted(set(runs)) if begin <= start < end)
        self._past = signal[:, -2 * self._ahead :]


# --- findings ---------------------------------------------------------------------------------------------------------


def _band(info: Info, bandwidth: float) -> list[Finding]:
    if info.rate < 32_000:
        return [Finding("narrow band", f"stored at {info.rate} Hz, which holds nothing above {info.rate / 2:.0f} Hz")]
    if 0.0 < bandwidth < NARROW * info.rate / 2:
        return [
            Finding("narrow band", f"nothing above {bandwidth:.0f} Hz in a file that could hold {info.rate / 2:.0f} Hz")
        ]
    return []


def _codec(info: Info, excerpts: list[Signal], bandwidth: float) -> list[Finding]:
    for names, kind in ((_LOSSY, "lossy"), (_TELEPHONE, "telephone")):
        if info.subtype in names:
            return [Finding("lossy codec", f"the file itself is {names[info.subtype]} ({kind})")]
    counts = [holes(excerpt, info.rate, bandwidth) for excerpt in excerpts]
    empty, cells = sum(count for count, _ in counts), sum(count for _, count in counts)
    if cells >= 500 and empty >= HOLES * cells:
        return [
            Finding("lossy codec", f"{empty / cells:.1%} of the spectrum are holes within sound, as an encoder leaves")
        ]
    return []


def holes(signal: Signal, rate: int, bandwidth: float) -> tuple[int, int]:
    """How many cells (a frame of 21 ms by 375 Hz) are holes, and how many could be.

    Encoders such as MP3 leave out what they think inaudible, cell by cell, between frames in which the same frequencies sound;
    rooms, voices and instruments seldom do. Encoders that put noise in place of what they leave out (Opus) make none.

    Shape:
        signal: (channels, samples).
    """
    size = 2 ** round(math.log2(rate / 47.0))
    width = max(round(375.0 * size / rate), 2)
    low, high = round(1500.0 * size / rate), round(0.9 * bandwidth * size / rate)
    count = (high - low) // width
    if count < 2 or signal.shape[1] < 16 * size:
        return 0, 0
    window = np.hanning(size) ** 2
    power = _frames(signal.mean(axis=0), size, window)[:, low : low + count * width]
    cells = np.log10(power.reshape(len(power), count, width).mean(axis=-1) + 1e-30)
    audible = np.log10((window**2).sum() * 2.0**-30 / 12.0) + 2.5
    near = range(1, 4)
    before = np.maximum.reduce([np.roll(cells, step, axis=0) for step in near])
    after = np.maximum.reduce([np.roll(cells, -step, axis=0) for step in near])
    beside = np.minimum(before, after)[3:-3]
    sounding = beside > audible
    return int((sounding & (cells[3:-3] < beside - DEPTH)).sum()), int(sounding.sum())


def _frames(signal: npt.NDArray[np.float32], size: int, window: Floats) -> Floats:
    """Power spectra (frames, bins) of half-overlapping frames."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, size)[:: size // 2]
    return np.asarray(np.abs(np.fft.rfft(frames * window, axis=-1)) ** 2)


def _clipping(levels: Levels, clipped: int) -> list[Finding]:
    if not clipped:
        return []
    share = 100.0 * clipped / levels.samples
    return [
        Finding("clipping", f"{clipped} samples ({share:.2g} %) at the extreme levels, far more than just below them")
    ]


def _lost(levels: Levels, rate: int) -> list[Finding]:
    found = []
    for runs, what in ((levels.gaps, "gaps of silence cut out of the sound"), (levels.repeats, "packets repeated")):
        if len(runs) >= LOST:
            length = 1000.0 * float(np.median(runs)) / rate
            found.append(Finding("lost packets", f"{len(runs)} {what}, typically {length:.0f} ms long"))
    return found


def _noise(excerpts: list[Signal], rate: int) -> list[Finding]:
    snr = speech_snr(excerpts, rate)
    return [Finding("noise", f"steady noise behind a voice, {snr:.0f} dB below it")] if snr <= NOISY_DB else []


def _channels(levels: Levels) -> list[Finding]:
    powers = levels.squares
    if not powers.sum():
        return [Finding("silence", "every sample is zero")]
    if len(powers) == 1:
        return []
    silent = [str(channel + 1) for channel, power in enumerate(powers) if power < 1e-8 * powers.max()]
    if silent:
        return [Finding("silent channel", f"channel {', '.join(silent)} of {len(powers)} holds nothing")]
    if len(powers) == 2 and levels.side < 1e-7 * levels.mid:
        return [Finding("dual mono", f"both channels are equal ({_db(levels.side / levels.mid):.0f} dB of difference)")]
    if len(powers) == 2 and levels.mid < 1e-4 * levels.side:
        return [Finding("opposite polarity", "one channel is the other turned upside down: mono playback cancels them")]
    return []


def _offset(levels: Levels) -> list[Finding]:
    offset = levels.offset
    return [Finding("DC offset", f"mean of {offset:+.4f} of full scale")] if abs(offset) > DC else []


def _advice(names: set[str], cutoff: float) -> tuple[Literal["extend", "restore"] | None, float | None]:
    """The mode and cutoff for `overtone enhance`."""
    if "silence" in names or cutoff < 200.0:
        return None, None
    if names & {"lossy codec", "clipping", "coarse levels", "lost packets", "noise"}:
        return "restore", cutoff
    return ("extend", cutoff) if "narrow band" in names else (None, None)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _excerpts(path: Path, info: Info) -> Iterator[Signal]:
    length = round(EXCERPT_SECONDS * info.rate)
    starts = np.unique(np.linspace(0, max(info.frames - length, 0), EXCERPTS).astype(int))
    for start in starts:
        yield audio.read(path, int(start), length)[0]


def _db(power: float) -> float:
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf
