"""A live stream between a microphone and headphones: what a sound card's callbacks call, and the thread in between."""

from __future__ import annotations

import queue
import threading

from overtone.serving.livestream import LiveStream

# Sound that waits to be played, at most: what is more is left out, so that a stall does not become a lasting delay.
_MOST_SECONDS = 0.5
_WAIT_SECONDS = 0.1


class SoundCard:
    """Takes what was recorded and gives what is to be played, both as interleaved 32-bit floats.

    Args:
        stream: mono or more, of format `f32le`.

    Attributes:
        gaps: how often nothing was there to be played in time, after the first sound.
    """

    def __init__(self, stream: LiveStream) -> None:
        self._stream = stream
        self._recorded: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._ready = bytearray()
        self._lock = threading.Lock()
        self._most = round(_MOST_SECONDS * stream.facts["rate"]) * stream.frame_bytes
        self._begun = False
        self.gaps = 0

    def record(self, data: bytes) -> None:
        """Take frames; called by the sound card, and returns at once."""
        self._recorded.put(data)

    def play(self, size: int) -> bytes:
        """The next bytes to be played, silence where there are none; called by the sound card, and returns at once."""
        with self._lock:
            taken = bytes(self._ready[:size])
            del self._ready[:size]
        self._begun = self._begun or bool(taken)
        self.gaps += self._begun and len(taken) < size
        return taken.ljust(size, b"\x00")

    def run(self, stop: threading.Event) -> None:
        """Enhance what is recorded until `stop` is set.

        Raises:
            AudioError: NaN or infinite samples.
        """
        while not stop.is_set():
            try:
                out = self._stream.push(self._recorded.get(timeout=_WAIT_SECONDS))
            except queue.Empty:
                continue
            with self._lock:
                self._ready += out
                del self._ready[: max(0, len(self._ready) - self._most)]
