"""Systems by name: the baselines, optional peers, and any command line."""

from __future__ import annotations

import functools
import importlib
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from overtone import audio
from overtone.audio import Signal
from overtone.enhance import denoiser
from overtone.errors import OvertoneError, needs_extra
from overtone.evaluation.alignment import aligned
from overtone.evaluation.baselines import Concealer, Sinc, SpectralBandReplication
from overtone.evaluation.judge import Enhancer
from overtone.evaluation.wiener import Wiener

RATE = 48_000
# Other tools end so much earlier or later.
MAX_CHANGE_SECONDS = 0.5
COMMAND_SECONDS = 3600.0


class PeerError(OvertoneError):
    """Another program that does not run as expected; the message names it and what was expected."""


class RnNoise:
    """Valin's RNNoise, each channel by itself.

    Source: Valin, "A Hybrid DSP/Deep Learning Approach to Real-Time Full-Band Speech Enhancement" (2018); wheel pyrnnoise.

    Raises:
        MissingExtraError: it is not installed.
    """

    informed = False

    def __init__(self) -> None:
        with needs_extra("The system rnnoise"):
            self._library = importlib.import_module("pyrnnoise")

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal (channels, samples) at 48 kHz without what RNNoise takes for noise."""
        full = audio.resample(signal, rate, RATE)
        # The end comes out a frame late.
        whole = np.pad(np.round(np.clip(full, -1.0, 1.0) * 32767.0).astype(np.int16), ((0, 0), (0, RATE // 10)))
        frames = self._library.RNNoise(RATE).denoise_chunk(whole, partial=True)
        made = np.concatenate([np.atleast_2d(frame) for _, frame in frames], axis=1)
        return aligned(made.astype(np.float32) / np.float32(32767.0), full, RATE)


class DeepFilterNet:
    """DeepFilterNet 3, each channel by itself; see `overtone.enhance.denoiser`."""

    informed = False

    def __init__(self) -> None:
        denoiser.DeepFilterNet(1)

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """The signal (channels, samples) at 48 kHz without what DeepFilterNet takes for noise."""
        full = audio.resample(signal, rate, RATE)
        network = denoiser.DeepFilterNet(len(full))
        return aligned(np.concatenate([network.push(full), network.finish()], axis=1), full, RATE)


class Command:
    """A command line that enhances a file, such as `tool --strong {in} {out}`, run once for each clip.

    Args:
        name: of the system, for errors.
        template: the command, `{in}` and `{out}` standing for WAV files.

    Raises:
        PeerError: the template names no files.
    """

    informed = False

    def __init__(self, name: str, template: str) -> None:
        if not ("{in}" in template and "{out}" in template):
            raise PeerError(f"--system {name}: expected a command with {{in}} and {{out}}; got {template!r}")
        self.name, self.template = name, template

    def enhance(self, signal: Signal, rate: int, *, mode: str = "auto", cutoff_hz: float | None = None) -> Signal:
        """What the command writes, at 48 kHz, without the tool's own delay.

        Shape:
            (channels, samples) -> (channels, samples at 48 kHz).

        Raises:
            PeerError: the command fails, or its output does not fit its input.
        """
        with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
            before, after = Path(folder) / "in.wav", Path(folder) / "out.wav"
            audio.write(before, signal, rate, "PCM_16")
            self._run(before, after)
            if not after.is_file():
                raise PeerError(f"system {self.name}: wrote no {after.name}; expected a WAV file there")
            made, own_rate = audio.read(after)
        return self._fitted(audio.resample(made, own_rate, RATE), audio.resample(signal, rate, RATE))

    def _run(self, before: Path, after: Path) -> None:
        words = [word.replace("{in}", str(before)).replace("{out}", str(after)) for word in shlex.split(self.template)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise PeerError(f"system {self.name}: {words[0]} cannot be run: {error}") from None
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it printed nothing"]
            raise PeerError(f"system {self.name}: {words[0]} ended with status {done.returncode}: {last[0]}")

    def _fitted(self, made: Signal, full: Signal) -> Signal:
        """An output beside its input, both (channels, samples) at 48 kHz, aligned and of equal length."""
        if made.shape[0] == 1 < full.shape[0]:
            made = np.repeat(made, full.shape[0], axis=0)
        if made.shape[0] != full.shape[0] or abs(made.shape[1] - full.shape[1]) > MAX_CHANGE_SECONDS * RATE:
            raise PeerError(
                f"system {self.name}: gave {made.shape} (channels, samples at 48 kHz) for {full.shape}; expected as much"
            )
        return aligned(made, full, RATE)


BASELINES: dict[str, Callable[[], Enhancer]] = {
    "sinc": Sinc,
    "sbr": SpectralBandReplication,
    "concealer": Concealer,
    "wiener": Wiener,
}
PEERS: dict[str, Callable[[], Enhancer]] = {"rnnoise": RnNoise, "deepfilternet": DeepFilterNet}


def named(text: str) -> tuple[str, Callable[[], Enhancer]] | None:
    """Name and maker of a baseline, a peer, or a command `NAME=COMMAND`; None for anything else.

    Raises:
        MissingExtraError: a peer that is not installed.
        PeerError: a command that names no files.
    """
    name, separator, template = text.partition("=")
    known = BASELINES | PEERS
    if separator:
        maker: Callable[[], Enhancer] = functools.partial(Command, name, template)
    elif text in known:
        maker = known[text]
    else:
        return None
    # Whether it can be made is better known now than in the middle of an evaluation.
    maker()
    return name, maker
