"""Audio files: read and written, resampled, streamed in blocks; the errors of bad audio."""

from overtone.audio.atomic import REFUSALS, replacing, unwritable
from overtone.audio.containers import container, container_for
from overtone.audio.reading import EXTENSIONS, Info, blocks, check_end, counting, decode, endless, probe, read, remarks
from overtone.audio.resampling import fit_length, resample, resampled_length
from overtone.audio.samples import (
    BLOCK_FRAMES,
    HIGHEST_RATE,
    LOWEST_RATE,
    MAX_CHANNELS,
    MAX_LEVEL,
    AudioError,
    Signal,
    Source,
    check_samples,
    name_of,
)
from overtone.audio.writing import Writer, encode, write

__all__ = [
    "BLOCK_FRAMES",
    "EXTENSIONS",
    "HIGHEST_RATE",
    "LOWEST_RATE",
    "MAX_CHANNELS",
    "MAX_LEVEL",
    "REFUSALS",
    "AudioError",
    "Info",
    "Signal",
    "Source",
    "Writer",
    "blocks",
    "check_end",
    "check_samples",
    "container",
    "container_for",
    "counting",
    "decode",
    "encode",
    "endless",
    "fit_length",
    "name_of",
    "probe",
    "read",
    "remarks",
    "replacing",
    "resample",
    "resampled_length",
    "unwritable",
    "write",
]
