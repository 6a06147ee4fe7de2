"""Lost samples found at a signal's own rate: silence cut out of a sound, and packets that repeat the one before.

Three things are a gap: a run of zeros, a sudden drop by 40 dB that returns as suddenly within 200 ms (silence with dither),
and an exact repetition of the last 10, 20 or 30 ms. Sound that fades out, a pause, a steady tone and a loop are none.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from overtone.audio import Signal

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Span = tuple[int, int]

STEP = 1.0 / 32_768.0
PACKETS_MS = (10, 20, 30)
# The longest burst: ten packets of 20 ms.
LONGEST = 0.205
_DROP = 0.01  # 40 dB
# Zeros are a gap from so many seconds on, and so is silence with dither; repetition by chance is shorter than the last one.
_SHORTEST, _SHORTEST_DROP, _SHORTEST_REPEAT = 0.004, 0.008, 0.004
_LIVE = 0.002
# The first 2 ms beside a gap have at least this share of the level of the first 20; a linear fade has 0.2 to 0.35. And in all
# so many 16-bit steps.
_EDGE, _CONTEXT = 0.002, 0.02
_ABRUPT, _ABRUPT_LIVE, _FADED, _AUDIBLE = 0.4, 0.55, 0.03, 3.5 * STEP
# A packet so like its own beginning, later, is a tone: its repetition is natural.
_TONAL = 0.9995
# What repeats is not silence's rounding.
_LOUD_REPEAT = 8.0 * STEP


class GapFinder:
    """Marks lost samples of a signal that comes in blocks of any size; the result does not depend on the blocks.

    In a live stream a gap is known by its beginning alone, after 4 ms of it; in a file also by its end.
    """

    def __init__(self, channels: int, rate: int, live: bool = False) -> None:
        """Args: rate: Hz; live: look ahead only by `lookahead` = 6 ms, not 0.7 s."""
        self._rate, self._live = rate, live
        self._hop = max(rate // 500, 1) if live else max(rate // 2, 1)
        ahead = _SHORTEST_REPEAT if live else LONGEST + _CONTEXT
        self._ahead = round(ahead * rate) + 1
        self.lookahead = self._hop + self._ahead
        # What was given back already and is still looked at, then what waits; marks of both.
        self._past = round(0.06 * rate) if live else round(0.1 * rate)
        self._signal = np.zeros((channels, self._past), np.float32)
        self._marks = np.zeros(self._past, np.bool_)
        # Samples before this one are invented: the stream had not begun.
        self._begin = self._past
        # Live: size of the packet that is being repeated (0: silence), or None outside gaps; how long it has been going on.
        self._open: int | None = None
        self._length = 0
        self._level = 0.0

    def push(self, block: Signal) -> tuple[Signal, Signal]:
        """Take (channels, samples), give the samples whose fate is known and their marks (1, samples): 1 lost, 0 not."""
        self._signal = np.concatenate((self._signal, np.asarray(block, np.float32)), axis=1)
        self._marks = np.concatenate((self._marks, np.zeros(block.shape[1], np.bool_)))
        return self._known(last=False)

    def finish(self) -> tuple[Signal, Signal]:
        """The samples still held back, and their marks."""
        return self._known(last=True)

    def _known(self, last: bool) -> tuple[Signal, Signal]:
        start, end = self._past, self._signal.shape[1]
        position = start
        while end - position >= self.lookahead or (last and position < end):
            stop = min(position + self._hop, end)
            self._look(position, stop, last)
            position = stop
        out, marks = self._signal[:, start:position], self._marks[None, start:position].astype(np.float32)
        drop = position - start
        self._signal, self._marks = self._signal[:, drop:], self._marks[drop:]
        self._begin = max(self._begin - drop, 0)
        return out, marks

    def _look(self, start: int, stop: int, last: bool) -> None:
        """Marks the gaps that begin between start and stop; what is seen never depends on how much more has come."""
        begin = max(start - self._past, self._begin)
        seen = self._signal[:, begin : min(stop + self._ahead, self._signal.shape[1])]
        first, end = start - begin, stop - begin
        marks = self._marks[begin:]
        if self._live:
            self._follow(seen, marks, first, end)
            return
        for one, other in (*silences(seen, self._rate), *repeats(seen, self._rate)):
            if first <= one < end:
                marks[one:other] = True

    def _follow(self, seen: Signal, marks: Flags, first: int, end: int) -> None:
        """The live rule from first to end: a gap is open or not, and goes on while its silence or repetition does."""
        rate, envelope = self._rate, np.abs(seen).max(axis=0)
        while first < end:
            if self._open is None:
                found = self._opening(seen, envelope, first, end)
                if found is None:
                    self._level = _rms(envelope[max(end - round(_CONTEXT * rate), 0) : end])
                    return
                first, self._open = found
                self._length = 0
            going = (
                same(seen[:, first - self._open : end], self._open)
                if self._open
                else envelope[first:end] < _quiet(self._level)
            )
            ends = np.flatnonzero(~going)
            stop = first + int(ends[0]) if len(ends) else end
            stop = min(stop, first + round(LONGEST * rate) - self._length)
            marks[first:stop] = True
            self._length += stop - first
            if stop < end:
                self._open = None
            first = stop

    def _opening(self, seen: Signal, envelope: Floats, first: int, end: int) -> tuple[int, int] | None:
        """Where a gap begins between first and end, and what goes on in it: the size of a packet, 0 for silence."""
        rate = self._rate
        found: list[tuple[int, int]] = []
        level = _rms(envelope[max(first - round(_CONTEXT * rate), 0) : first])
        shortest = max(round(_LIVE * rate), 8)
        for one, other in runs(envelope[first:] < _quiet(level)):
            at = first + one
            if at < end and other - one >= shortest and _edge(envelope[:at][::-1], rate) > _ABRUPT_LIVE:
                found.append((at, 0))
                self._level = level
                break
        for size in sizes(rate):
            if first < 2 * size or found:
                continue
            equal = same(seen[:, first - size :], size)
            for one, other in runs(equal):
                at = first + one
                new = one > 0 or not same(seen[:, at - 1 - size : at], size)[0]
                if at < end and new and other - one >= round(_SHORTEST_REPEAT * rate):
                    packet = seen[:, at - size : at]
                    if np.ptp(packet) >= _LOUD_REPEAT and not tonal(packet, rate):
                        found.append((at, size))
                        break
        return min(found) if found else None


def find_gaps(signal: Signal, rate: int) -> Signal:
    """Marks of the lost samples of a whole signal.

    Shape:
        (channels, samples) -> (1, samples), 1 for lost, else 0.
    """
    finder = GapFinder(signal.shape[0], rate)
    return np.concatenate((finder.push(signal)[1], finder.finish()[1]), axis=1)


def silences(signal: Signal, rate: int) -> list[Span]:
    """First and one past the last sample of each silence that was cut out of a sound. Shape: (channels, samples)."""
    envelope = np.abs(signal).max(axis=0)
    shortest, longest = round(_SHORTEST * rate), round(LONGEST * rate)
    found = [
        (one, other)
        for one, other in runs(envelope < 0.5 * STEP)
        if shortest <= other - one <= longest and _cut(envelope, one, other, rate)
    ]
    block = max(rate // 1000, 1)
    count = len(envelope) // block
    if count < 24:
        return found
    blocks = envelope[: count * block].reshape(count, block)
    peaks, powers = blocks.max(axis=1), np.square(blocks, dtype=np.float64).mean(axis=1)
    total = np.concatenate(([0.0], np.cumsum(powers)))
    level = np.sqrt(np.maximum(total[20:-1] - total[:-21], 0.0) / 20)  # of the 20 blocks before each block from 20 on
    low = peaks[20:] < _DROP * level
    for k in np.flatnonzero(low & (peaks[18:-2] > 0.25 * level)) + 20:
        # The block before the drop may already be half quiet.
        limit = _DROP * level[k - 20]
        loud = np.flatnonzero(envelope[: k * block] >= limit)
        one = int(loud[-1]) + 1 if len(loud) else 0
        back = np.flatnonzero(envelope[one:] >= limit)
        other = one + int(back[0]) if len(back) else len(envelope)
        if round(_SHORTEST_DROP * rate) <= other - one <= longest and _cut(envelope, one, other, rate):
            found.append((one, other))
    return found


def repeats(signal: Signal, rate: int) -> list[Span]:
    """First and one past the last sample of packets that repeat the one before. Shape: (channels, samples)."""
    found: list[Span] = []
    for size in sizes(rate):
        if signal.shape[1] <= 2 * size:
            continue
        slack = max(round(0.02 * size), 4)
        for one, other in runs(same(signal, size)):
            length = other - one
            packets = max(round(length / size), 1)
            # Shorter is chance, and longer or of any length a tone or a loop.
            if not (packets <= 10 and abs(length - packets * size) <= slack):
                continue
            packet = signal[:, one : one + size]
            if np.ptp(packet) < _LOUD_REPEAT or tonal(packet, rate) or _alone(signal, one, other + size):
                continue
            found.append((one + size, other + size))
    return found


def sizes(rate: int) -> list[int]:
    """Samples of the packets that are looked for."""
    return [round(milliseconds * rate / 1000) for milliseconds in PACKETS_MS]


def same(signal: Signal, size: int) -> Flags:
    """Whether each sample from `size` on equals that `size` before. Shape: (channels, samples) -> (samples - size,)."""
    return np.asarray((signal[:, size:] == signal[:, :-size]).all(axis=0))


def tonal(packet: Signal, rate: int) -> bool:
    """Whether a packet itself repeats, as a steady tone does. Shape: (channels, samples)."""
    signal = packet[np.square(packet).sum(axis=1).argmax()].astype(np.float64)
    size = len(signal)
    lags = np.arange(max(rate // 4000, 2), size // 2)
    products = np.correlate(signal, signal, "full")[size - 1 + lags]
    energy = np.concatenate(([0.0], np.cumsum(signal**2)))
    both = np.sqrt((energy[-1] - energy[lags]) * energy[size - lags])
    return bool(((products >= _TONAL * both) & (both > 0.0)).any())


def runs(flags: Flags) -> list[Span]:
    """First and one past the last index of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(one), int(other)) for one, other in zip(edges[::2], edges[1::2], strict=True)]


def _cut(envelope: Floats, one: int, other: int, rate: int) -> bool:
    """Whether sound breaks off at a silence and is back at once behind it; at a file's end nobody knows.

    Plosives begin as suddenly after a pause, so the sound before must not have died away. Of a silence of whole packets one
    abrupt side is enough: a wave may cross zero at the other.
    """
    if other == len(envelope):
        return False
    before, after = _edge(envelope[:one][::-1], rate), _edge(envelope[other:], rate)
    packets = (other - one) * 100 / rate
    if round(packets) >= 1 and abs(packets - round(packets)) * rate / 100 <= 2:
        return before > _FADED and max(before, after) > _ABRUPT
    return min(before, after) > _ABRUPT


def _edge(outwards: Floats, rate: int) -> float:
    """Peak of the first 2 ms of a sound, seen from its edge, against the level of its first 20 ms; 0 if inaudible."""
    edge = outwards[: max(round(_EDGE * rate), 8)]
    peak = float(edge.max(initial=0.0))
    return peak / _rms(outwards[: round(_CONTEXT * rate)]) if len(edge) >= 8 and peak > _AUDIBLE else 0.0


def _alone(signal: Signal, one: int, other: int) -> bool:
    """Whether a stretch stands by itself in silence, as a beep does."""
    inside = float(np.abs(signal[:, one:other]).max())
    around = np.concatenate((signal[:, max(one - 32, 0) : one], signal[:, other : other + 32]), axis=1)
    return float(np.abs(around).max(initial=0.0)) < 0.03 * inside


def _quiet(level: float) -> float:
    return max(0.5 * STEP, _DROP * level)


def _rms(samples: Floats) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))) if len(samples) else 0.0
