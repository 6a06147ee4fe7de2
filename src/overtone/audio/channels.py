"""Which channel is which loudspeaker's: a mask of WAVE_FORMAT_EXTENSIBLE, and the order that each container puts them in.

Signals have the order of the mask's bits (FL FR FC LFE BL BR ... SL SR), which WAV and FLAC store and FFmpeg decodes to.
"""

from __future__ import annotations

from overtone.audio.samples import AudioError

# By the bits of a mask.
NAMES = (
    *("FL", "FR", "FC", "LFE", "BL", "BR", "FLC", "FRC", "BC", "SL", "SR"),
    *("TC", "TFL", "TFC", "TFR", "TBL", "TBC", "TBR"),
)
# What so many channels are where nobody says more: RFC 9639, section 9.1.3; Vorbis and Opus mean the same sets.
USUAL = {1: 0x4, 2: 0x3, 3: 0x7, 4: 0x33, 5: 0x37, 6: 0x3F, 7: 0x70F, 8: 0x63F}
# With side loudspeakers where the usual set has rear ones: the same places in the order.
_SIDES = {4: 0x603, 5: 0x607, 6: 0x60F}
# Vorbis I specification, section 4.3.9; RFC 7845, section 5.1.1.2.
_VORBIS = {
    3: "FL FC FR",
    5: "FL FC FR BL BR",
    6: "FL FC FR BL BR LFE",
    7: "FL FC FR SL SR BC LFE",
    8: "FL FC FR SL SR BL BR LFE",
}
_PAIRS = (("FL", "FR"), ("BL", "BR"), ("FLC", "FRC"), ("SL", "SR"), ("TFL", "TFR"), ("TBL", "TBR"))


def bits(mask: int) -> tuple[int, ...]:
    """The loudspeakers of a mask, one bit each, in order."""
    return tuple(1 << place for place in range(len(NAMES)) if mask >> place & 1)


def names(mask: int) -> list[str]:
    return [NAMES[bit.bit_length() - 1] for bit in bits(mask)]


def stored(format: str, channels: int) -> list[int]:
    """Where each channel of a container lies in a signal: `signal[stored(...)]` is as the container stores it."""
    if format != "OGG" or channels not in _VORBIS:
        return list(range(channels))
    usual = names(USUAL[channels])
    return [usual.index(name) for name in _VORBIS[channels].split()]


def restored(order: list[int]) -> list[int]:
    """The inverse: `samples[restored(order)]` is a signal again."""
    return sorted(range(len(order)), key=order.__getitem__)


def check(target: str, format: str, mask: int, channels: int) -> None:
    """Refuse a container in which loudspeakers would change places.

    Raises:
        AudioError: it has one fixed set for so many channels, and this is another.
    """
    fixed = {USUAL.get(channels), _SIDES.get(channels), 0}
    # One channel is one loudspeaker's, whichever that is.
    if format in ("OGG", "MP4") and channels > 2 and (channels not in USUAL or mask not in fixed):
        expected = f"{' '.join(names(USUAL[channels]))} for {channels} channels" if channels in USUAL else "at most 8"
        told = " ".join(names(mask)) or f"{channels} channels"
        raise AudioError(f"{target}: cannot hold the loudspeakers {told}; expected {expected}; .wav and .flac hold any")


def pairs(mask: int, channels: int) -> list[tuple[int, int]]:
    """Positions of the channels that are left and right of one another, to be modelled as mid and side.

    Centre and low-frequency channels belong to no pair; nor do channels of which nothing is known.

    Args:
        mask: loudspeakers, 0 for the usual ones of so many channels.
    """
    known = names(mask or USUAL.get(channels, 0))
    if len(known) != channels:
        return []
    return [(known.index(left), known.index(right)) for left, right in _PAIRS if {left, right} <= {*known}]
