"""What a recording is and what was probably done to it, each finding with its evidence, and how to enhance it.

Cutoff, lost packets, clipping and noise are found by the code that `overtone enhance` goes by, in the same excerpts; levels are
counted over the whole file, in bounded memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from overtone import audio
from overtone.audio import Info, Signal
from overtone.dsp.cutoff import find_cutoff
from overtone.dsp.damage import Damage, examine
from overtone.enhance.profile import RATE
from overtone.enhance.stream import Treatment
from overtone.enhance.upsampler import check_holds_samples, excerpts

Floats = npt.NDArray[np.float64]

_LOSSY = {"MPEG_LAYER_III": "MP3", "MPEG_LAYER_II": "MP2", "VORBIS": "Vorbis", "OPUS": "Opus", "AAC": "AAC"}
_TELEPHONE = {"GSM610": "GSM 6.10", "ULAW": "mu-law", "ALAW": "A-law", "IMA_ADPCM": "IMA ADPCM", "MS_ADPCM": "MS ADPCM"}
# Sound that ends below this share of what the file could hold was band-limited before.
NARROW = 0.72
# Holes: cells of time and frequency so far (log10 power) below the same frequencies just before and just after; their share.
DEPTH, HOLES = 3.0, 0.002
# Different levels in use, as a share of those between the extremes.
COARSE = 0.07
DC = 0.005


@dataclass(frozen=True)
class Finding:
    """Something that was probably done to a recording: what it is called, and what shows it."""

    name: str
    evidence: str


@dataclass(frozen=True)
class Inspection:
    """What a file is. Levels in dB of full scale (-inf for silence), frequencies in Hz.

    `mode` is what `overtone enhance` does to it by itself, above `bandwidth_hz`; None where that is nothing. `damage` is
    what it goes by.
    """

    path: Path
    info: Info
    peak_dbfs: float
    rms_dbfs: float
    dc: float
    bandwidth_hz: float
    damage: Damage
    findings: tuple[Finding, ...]
    mode: Literal["extend", "restore"] | None

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
            "notes": self.info.notes,
            "peak_dbfs": level(self.peak_dbfs),
            "rms_dbfs": level(self.rms_dbfs),
            "dc": round(self.dc, 6),
            "bandwidth_hz": round(self.bandwidth_hz),
            "clipped_share": round(self.damage.clipped, 6),
            "lost_share": round(self.damage.lost, 6),
            "snr_db": level(self.damage.snr_db),
            "findings": [{"name": found.name, "evidence": found.evidence} for found in self.findings],
            "enhance": {"mode": self.mode, "cutoff_hz": round(self.bandwidth_hz) if self.mode else None},
        }


def inspect(path: Path) -> Inspection:
    """Look at an audio file of any length.

    Raises:
        AudioError: the file is missing, is not audio, or holds no or no finite samples.
    """
    info = audio.probe(path)
    check_holds_samples(path, info)
    levels = Levels.of(path, info)
    heard = list(excerpts(path, info))
    bandwidth, damage = find_cutoff(heard, info.rate), examine(heard, info.rate)
    coarse = _coarse(heard)
    found = [
        *_band(info, bandwidth),
        # Gaps and coarse levels make holes of their own.
        *_codec(info, [] if damage.conceal or coarse else heard, bandwidth),
        *_damage(damage),
        *coarse,
        *_channels(levels),
        *_offset(levels),
    ]
    mode: Literal["extend", "restore"] | None = None
    if levels.peak and bandwidth:
        mode = "restore" if damage.any else "extend" if Treatment(bandwidth).extends(RATE) else None
    peak, rms = _db(levels.peak**2), _db(levels.power)
    return Inspection(path, info, peak, rms, levels.offset, bandwidth, damage, tuple(found), mode)


@dataclass
class Levels:
    """Of all samples of a file: sums and sums of squares by channel, the peak, powers of two channels' sum and difference."""

    sums: Floats
    squares: Floats
    samples: int = 0
    peak: float = 0.0
    mid: float = 0.0
    side: float = 0.0

    @classmethod
    def of(cls, path: Path, info: Info) -> Levels:
        """Raises AudioError where a sample is not finite."""
        made = cls(np.zeros(info.channels), np.zeros(info.channels))
        for block in audio.blocks(path):
            audio.check_samples(str(path), block)
            exact = block.astype(np.float64)
            made.samples += block.shape[1]
            made.sums += exact.sum(axis=1)
            made.squares += (exact**2).sum(axis=1)
            made.peak = max(made.peak, float(np.abs(block).max(initial=0.0)))
            if len(block) == 2:
                made.mid += float(((exact[0] + exact[1]) ** 2).sum())
                made.side += float(((exact[0] - exact[1]) ** 2).sum())
        return made

    @property
    def power(self) -> float:
        return float(self.squares.mean()) / self.samples

    @property
    def offset(self) -> float:
        """The largest mean of a channel, full scale 1.0."""
        means = self.sums / self.samples
        return float(means[np.abs(means).argmax()])


# --- findings ---------------------------------------------------------------------------------------------------------


def _band(info: Info, bandwidth: float) -> list[Finding]:
    if info.rate < 32_000 and bandwidth >= NARROW * info.rate / 2:
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
    frames = np.lib.stride_tricks.sliding_window_view(signal.mean(axis=0), size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * window, axis=-1)[:, low : low + count * width]) ** 2
    cells = np.log10(power.reshape(len(power), count, width).mean(axis=-1) + 1e-30)
    audible = np.log10((window**2).sum() * 2.0**-30 / 12.0) + 2.5
    near = range(1, 4)
    before = np.maximum.reduce([np.roll(cells, step, axis=0) for step in near])
    after = np.maximum.reduce([np.roll(cells, -step, axis=0) for step in near])
    beside = np.minimum(before, after)[3:-3]
    sounding = beside > audible
    return int((sounding & (cells[3:-3] < beside - DEPTH)).sum()), int(sounding.sum())


def _damage(damage: Damage) -> list[Finding]:
    """What `--mode auto` repairs."""
    found = []
    if damage.conceal:
        evidence = f"{damage.lost:.2%} of the samples are silence cut out of the sound, or repeat a packet before"
        found.append(Finding("lost packets", evidence))
    if damage.declip:
        evidence = f"{damage.clipped:.2%} of the samples lie at the extreme levels, far more than just below them"
        found.append(Finding("clipping", evidence))
    if damage.denoise:
        found.append(Finding("noise", f"noise behind a voice, about {damage.snr_db:.0f} dB below it"))
    return found


def _coarse(heard: list[Signal]) -> list[Finding]:
    """Few 16-bit levels in use between the extremes of a channel that had many samples to use more."""
    for channel in range(len(heard[0])):
        row = np.concatenate([excerpt[channel] for excerpt in heard])
        used = np.unique(np.rint(row * 32_768.0)).astype(np.int64)
        reach = int(used[-1] - used[0]) + 1
        if len(used) >= 8 and reach >= 512 and len(row) >= 4 * reach and len(used) <= COARSE * reach:
            step = int(np.gcd.reduce(np.diff(used)))
            bits = f", all multiples of a {16 - math.log2(step):.0f}-bit step" if step >= 16 else ""
            return [Finding("coarse levels", f"{len(used)} of {reach} levels between the extremes occur{bits}")]
    return []


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


def _db(power: float) -> float:
    return 10.0 * math.log10(power) if power > 0.0 else -math.inf
