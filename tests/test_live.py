"""Laws of live sound: over the WebSocket, and between this machine's microphone and headphones."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soxr
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from overtone.cli.app import app
from overtone.enhance.upsampler import Upsampler
from overtone.registry import resolve
from overtone.serving.live import LiveSettings, LiveStream, SoundCard
from overtone.serving.options import Options
from test_http import KEY, LIVE, RATE, serving, sound
from test_http import client as client
from test_http import options as options  # fixtures


def talk(client: TestClient, frames: list[bytes], **hello: Any) -> tuple[dict[str, Any], bytes, dict[str, Any]]:
    """One session: what it is told of it, the sound it gets, and the last word."""
    with client.websocket_connect(LIVE) as socket:
        socket.send_text(json.dumps({"type": "hello", "rate": RATE, **hello}))
        ready = socket.receive_json()
        if ready["type"] == "error":
            return ready, b"", ready
        for frame in frames:
            socket.send_bytes(frame)
        socket.send_text('{"type": "end"}')
        received = b""
        while True:
            message = socket.receive()
            if message.get("bytes") is None:
                return ready, received, json.loads(message.get("text") or "{}")
            received += message["bytes"]


@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_live_stream_is_the_streams_own_result(client: TestClient, options: Options, mode: Any) -> None:
    signal = sound(RATE, seconds=0.5, channels=2)
    stream = Upsampler.load(Path(options.model)).stream(2, mode=mode, cutoff_hz=6_000)
    expected = np.concatenate([stream.push(signal), stream.finish()], axis=1)
    frames = [np.ascontiguousarray(block.T).tobytes() for block in np.array_split(signal, 25, axis=1)]
    ready, received, last = talk(client, frames, channels=2, cutoff_hz=6_000, mode=mode)
    latency = round(1_000 * stream.lookahead / RATE, 1)
    assert (ready["type"], ready["latency_ms"], ready["mode"]) == ("ready", latency, mode)
    assert latency <= (25.0 if mode == "extend" else 29.0)
    assert last == {"type": "done", "samples": signal.shape[1]}
    assert np.allclose(np.frombuffer(received, "<f4").reshape(-1, 2).T, expected, atol=1e-5)


def test_live_stream_of_another_rate_is_resampled_as_it_comes(client: TestClient, options: Options) -> None:
    signal = sound(16_000, seconds=0.5)
    whole = soxr.resample(signal[0], 16_000, RATE, quality="HQ").astype(np.float32)[None]
    stream = Upsampler.load(Path(options.model)).stream(1, cutoff_hz=8_000)
    expected = np.concatenate([stream.push(whole), stream.finish()], axis=1)
    words = np.rint(signal[0] * 32_768).astype("<i2")
    frames = [words[start : start + 320].tobytes() for start in range(0, len(words), 320)]
    ready, received, last = talk(client, frames, rate=16_000, format="s16le")
    assert ready["latency_ms"] > 25.0 and ready["cutoff_hz"] == 8_000
    assert last["samples"] == signal.shape[1] * 3
    assert np.allclose(np.frombuffer(received, "<i2") / 32_768, expected[0], atol=1e-3)


@pytest.mark.parametrize(
    ("hello", "frames", "sentence"),
    [
        ({"colour": "red"}, [], "colour: Extra inputs"),
        ({"format": "mp3"}, [], "format: Input should be"),
        ({}, [], "cutoff_hz: expected for a stream at 48000 Hz"),
        ({"cutoff_hz": 2}, [], "cutoff: expected at least"),
        ({"model": "../x"}, [], "is no alias"),
        ({"cutoff_hz": 8_000}, [b"123"], "whole frames of 4 bytes"),
        ({"cutoff_hz": 8_000}, [np.array([np.nan], np.float32).tobytes()], "NaN"),
    ],
    ids=str,
)
def test_bad_live_streams_end_with_a_sentence(
    client: TestClient, hello: dict[str, Any], frames: list[bytes], sentence: str
) -> None:
    _, _, last = talk(client, frames, **hello)
    assert last["type"] == "error"
    assert sentence in last["detail"]


def test_every_family_streams_live(tiny_model: Callable[[str], Path]) -> None:
    with serving(Options(model=str(tiny_model("cnn")), workers=1)) as client:
        ready, _, last = talk(client, [bytes(4 * 480)], cutoff_hz=8_000)
    assert ready["model"] == "cnn"
    assert last == {"type": "done", "samples": 480}


def test_live_stream_takes_a_profile_and_brightness(client: TestClient, options: Options, tmp_path: Path) -> None:
    signal = sound(RATE, seconds=1.5)
    upsampler = Upsampler.load(Path(options.model))
    profile = upsampler.profile([(signal, RATE)])
    profile.save(tmp_path / "profile.json")
    stream = upsampler.stream(1, cutoff_hz=6_000, profile=profile, brightness_db=3.0)
    expected = np.concatenate([stream.push(signal), stream.finish()], axis=1)
    hello = {"cutoff_hz": 6_000, "profile": json.loads((tmp_path / "profile.json").read_text()), "brightness": 3}
    _, received, _ = talk(client, [np.ascontiguousarray(signal.T).tobytes()], **hello)
    assert np.allclose(np.frombuffer(received, "<f4")[None], expected, atol=1e-5)
    _, _, last = talk(client, [], cutoff_hz=6_000, profile={"format": "other"})
    assert "profile: not a profile" in last["detail"]


def test_key_is_asked_for_before_a_place_is_taken(options: Options) -> None:
    with serving(replace(options, key=KEY, live_sessions=1)) as client:
        limits = client.app.state.engine.limits  # type: ignore[attr-defined]
        with client.websocket_connect(LIVE), client.websocket_connect(LIVE):
            assert limits.live == 0, "who has shown no key keeps nobody out"
            assert talk(client, [], cutoff_hz=8_000, key=KEY)[2]["type"] == "done"
        for key in (None, f"{KEY}x"):
            assert "expected the server's key" in talk(client, [], cutoff_hz=8_000, key=key)[2]["detail"]
        with limits.stream("somebody"):
            assert "1 live streams are open already" in talk(client, [], cutoff_hz=8_000, key=KEY)[2]["detail"]


def test_live_stream_that_falls_silent_is_ended(options: Options) -> None:
    with serving(replace(options, live_idle=0.05)) as client, client.websocket_connect(LIVE) as socket:
        assert socket.receive_json()["detail"] == "nothing was sent for 0.05 s"


def test_client_that_is_ahead_of_time_is_held_to_the_pace_of_its_sound(options: Options) -> None:
    with serving(replace(options, live_ahead=0.1)) as client:
        begun = time.monotonic()
        _, received, last = talk(client, [bytes(4 * RATE // 2)], cutoff_hz=8_000)
    assert time.monotonic() - begun > 0.3, "half a second of sound, sent at once"
    assert last == {"type": "done", "samples": RATE // 2} and len(received) == 4 * RATE // 2


# --- the microphone of this machine -----------------------------------------------------------------------------------


def test_sound_card_plays_what_the_stream_makes_and_counts_its_gaps(options: Options) -> None:
    upsampler = Upsampler.load(Path(options.model))
    signal = sound(RATE, seconds=0.4)
    stream = upsampler.stream(1, cutoff_hz=8_000)
    expected = stream.push(signal)
    card, stop = SoundCard(LiveStream(upsampler, LiveSettings(rate=RATE, cutoff_hz=8_000))), threading.Event()
    assert card.play(8) == bytes(8) and card.gaps == 0, "nothing is missing before the first sound"
    for block in np.array_split(signal[0], 20):
        card.record(block.tobytes())
    running = threading.Thread(target=card.run, args=(stop,))
    running.start()
    while len(card._ready) < expected.nbytes:
        threading.Event().wait(0.01)
    stop.set()
    running.join()
    assert np.allclose(np.frombuffer(card.play(expected.nbytes), "<f4"), expected[0], atol=1e-5)
    before = card.gaps
    card.play(4_096)
    assert card.gaps == before + 1


def fake_sounddevice(stop_after: int) -> Any:
    """A sound card that records noise and is unplugged after some blocks."""
    module: Any = ModuleType("sounddevice")

    class PortAudioError(Exception):
        pass

    class Stream:
        def __init__(self, callback: Callable[..., None], **options: Any) -> None:
            self.callback, self.options = callback, options
            module.opened.append(options)

        def __enter__(self) -> None:
            for _ in range(stop_after):
                self.callback(bytearray(4 * 480), 480, None, None)

        def __exit__(self, *_: object) -> None:
            return

    module.opened, module.PortAudioError = [], PortAudioError
    module.RawInputStream = module.RawOutputStream = Stream
    module.query_devices = lambda: "0 A microphone"
    return module


def test_live_command_opens_both_devices(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    card = fake_sounddevice(5)
    monkeypatch.setitem(sys.modules, "sounddevice", card)
    monkeypatch.setattr(resolve, "upsampler", lambda model: (Upsampler.load(Path(options.model)), model))
    done = CliRunner().invoke(app, ["live", "--rate", "16000", "--seconds", "0.2", "--microphone", "3"])
    assert done.exit_code == 0, done.output
    assert [(one["samplerate"], one["device"], one["dtype"]) for one in card.opened] == [
        (16_000, 3, "float32"),
        (48_000, None, "float32"),
    ]
    assert "A microphone" in CliRunner().invoke(app, ["live", "--devices"]).output


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        (ModuleNotFoundError("sounddevice", name="sounddevice"), "pip install 'overtone"),
        (OSError("PortAudio"), "apt install libportaudio2"),
    ],
)
def test_live_command_names_what_is_to_be_installed(
    missing: Exception, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str, *_: Any) -> None:
        if name == "sounddevice":
            raise missing

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [SimpleNamespace(find_spec=find_spec), *sys.meta_path])
    done = CliRunner().invoke(app, ["live"])
    assert command in str(done.exception)
