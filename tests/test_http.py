"""Laws of `overtone serve`: audio in and out over HTTP and WebSocket, limits, keys, models that change under load."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import soxr
from fastapi.testclient import TestClient
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from conftest import ModelMaker
from overtone import audio
from overtone import settings as params
from overtone.audio import sending
from overtone.enhance.profile import Profile
from overtone.enhance.stream import Stream
from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError
from overtone.registry import resolve
from overtone.serving import key, live, work
from overtone.serving.app import create_app
from overtone.serving.options import Options
from overtone.serving.shelf import BrokenModelError, Shelf, UnknownModelError, UnusableModelError

RATE = 48_000
KEY = "a-key-of-this-test"
# The test client names another host for WebSockets unless told.
LIVE = "ws://127.0.0.1:8000/v1/live"


def sound(rate: int = 16_000, seconds: float = 0.4, channels: int = 1, seed: int = 0) -> audio.Signal:
    """Noise with a falling spectrum, up to half the rate."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (channels, round(rate * seconds)))
    return noise.astype(np.float32)


@pytest.fixture
def options(make_model: ModelMaker) -> Options:
    return Options(model=str(make_model()), workers=1, poll_seconds=60.0)


@pytest.fixture
def client(options: Options) -> Iterator[TestClient]:
    with serving(options) as opened:
        yield opened


@contextmanager
def serving(options: Options) -> Iterator[TestClient]:
    """The application in this process, its model loaded."""
    with TestClient(create_app(options), base_url="http://127.0.0.1:8000") as opened:
        for _ in range(600):
            if opened.get("/readyz").status_code == 200:
                break
            threading.Event().wait(0.05)
        else:
            pytest.fail(f"not ready: {opened.app.state.failure}")  # type: ignore[attr-defined]
        yield opened


def post(client: TestClient, data: bytes, **params: Any) -> httpx.Response:
    answer: httpx.Response = client.post("/v1/enhance", content=data, params=params)
    return answer


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3"])
def test_answer_is_of_the_requests_container_and_as_long(client: TestClient, format: str) -> None:
    rate = 16_000
    signal = sound(rate, channels=2)
    answer = post(client, audio.encode(signal, rate, format))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == sending.MEDIA_TYPES[format]
    info = audio.probe(io.BytesIO(answer.content))
    assert sending.format_of(info) == format
    assert (info.rate, info.channels) == (RATE, 2)
    assert audio.decode(answer.content)[0].shape[1] == signal.shape[1] * RATE // rate


def test_answer_holds_what_the_model_makes_of_the_file(client: TestClient, options: Options) -> None:
    signal = sound(seconds=1.0)
    answer = post(client, audio.encode(signal, 16_000, subtype="FLOAT"), cutoff_hz=8_000)
    expected = Upsampler.load(Path(options.model)).enhance(signal, 16_000, cutoff_hz=8_000)
    assert np.allclose(audio.decode(answer.content)[0], expected, atol=1e-5)
    facts = {name: answer.headers[f"x-overtone-{name}"] for name in ("model", "version", "mode", "cutoff-hz")}
    assert facts == {"model": "rnn", "version": options.model, "mode": "extend", "cutoff-hz": "8000"}


def test_form_and_body_are_answered_alike(client: TestClient) -> None:
    data = audio.encode(sound(), 16_000, "flac")
    form = client.post("/v1/enhance?format=wav", files={"file": ("any.name", data)})
    assert form.status_code == 200, form.text
    assert form.content == post(client, data, format="wav").content


def test_answer_is_at_the_rate_asked_for(client: TestClient) -> None:
    answer = post(client, audio.encode(sound(), 16_000), rate=44_100, mode="restore")
    decoded, rate = audio.decode(answer.content)
    assert (rate, decoded.shape[1]) == (44_100, round(0.4 * 44_100))
    assert answer.headers["x-overtone-mode"] == "restore"


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("format", ["wav", "flac"])
def test_streamed_file_is_the_file_that_is_written_whole(format: str, subtype: str) -> None:
    signal = sound(RATE, seconds=0.7, channels=2)
    encoder = sending.Encoder(format, RATE, 2, signal.shape[1], subtype)
    pieces = [encoder.write(block) for block in np.array_split(signal, 7, axis=1)]
    pieces.append(encoder.finish())
    data = b"".join(pieces)
    info, whole = audio.probe(io.BytesIO(data)), audio.encode(signal, RATE, format, subtype)
    assert info == audio.probe(io.BytesIO(whole))
    assert np.array_equal(audio.decode(data)[0], audio.decode(whole)[0])
    assert sum(bool(piece) for piece in pieces) > 2, "bytes come before the end"


def test_first_bytes_are_sent_before_the_last_block_is_computed(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "BLOCK", 4_800)
    pushed: list[int] = []
    push = Stream.push

    def counted(self: Stream, block: audio.Signal) -> audio.Signal:
        pushed.append(block.shape[1])
        return push(self, block)

    monkeypatch.setattr(Stream, "push", counted)
    when: list[int] = []
    data = audio.encode(sound(RATE, seconds=10.0), RATE)
    messages = ask(options, data, "cutoff_hz=8000", on_body=lambda: when.append(len(pushed)))
    assert messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert when[0] < len(pushed) - 2


def ask(
    options: Options,
    data: bytes,
    query: str = "",
    on_body: Callable[[], None] = lambda: None,
    receive: Callable[[], Any] | None = None,
    stuck: bool = False,
) -> list[Message]:
    """What the application itself sends to one request, message by message; `stuck`: to a client that takes nothing."""
    app, sent = create_app(options), []

    async def body() -> Message:
        if gone:
            await asyncio.Event().wait()
        gone.append(True)
        return {"type": "http.request", "body": data, "more_body": False}

    gone: list[bool] = []

    async def send(message: Message) -> None:
        if stuck and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        if message["type"] == "http.response.body":
            on_body()
        sent.append(message)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(app.router.lifespan_context(app))
            served = app.state.service
            while served.shelf.current is None:
                assert app.state.failure is None
                await asyncio.sleep(0.02)
            head = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/enhance", "root_path": ""}
            address = {"client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000), "scheme": "http"}
            scope = {**head, **address, "query_string": query.encode(), "headers": [(b"host", b"127.0.0.1:8000")]}
            await app(scope, receive or body, send)
            assert served.room.inside == served.room.working == 0

    asyncio.run(run())
    return sent


def test_file_that_ends_early_is_no_whole_answer(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    data = audio.encode(sound(RATE, seconds=6.0), RATE, "flac")
    cut = data[: len(data) // 2]
    messages = ask(options, cut)
    assert messages[0]["status"] == 422
    assert b"the audio ends after" in messages[1]["body"] or b"not readable" in messages[1]["body"]
    monkeypatch.setattr(work, "BLOCK", 4_800)
    messages = ask(options, cut, "mode=extend&cutoff_hz=8000")
    assert messages[0]["status"] == 200
    assert all(message.get("more_body") for message in messages[1:]), "the answer is broken off, not ended"


def test_file_that_goes_on_is_not_decoded_to_its_end() -> None:
    decoded: list[int] = []

    def endless() -> Iterator[audio.Signal]:
        while True:
            decoded.append(480)
            yield np.zeros((1, 480), np.float32)

    with pytest.raises(audio.AudioError, match="goes on after 4800 samples"):
        for _ in work.of_length(endless(), 4_800, 960):
            pass
    assert len(decoded) < 15


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "query", "status", "sentence"),
    [
        (b"surely no audio", {}, 415, "audio: not readable as audio"),
        (b"", {}, 422, "the request is empty"),
        (audio.encode(sound(seconds=0), 16_000), {}, 422, "holds no samples"),
        (audio.encode(sound() * np.nan, 16_000, subtype="FLOAT"), {}, 422, "holds NaN or infinite samples"),
        (audio.encode(sound(), 16_000), {"mode": "louder"}, 422, "mode: Input should be"),
        (audio.encode(sound(), 16_000), {"format": "aac"}, 422, "format: Input should be"),
        (audio.encode(sound(), 16_000), {"cutoff_hz": -1}, 422, "cutoff_hz: Input should be greater than 0"),
        (audio.encode(sound(), 16_000), {"cutoff_hz": "inf"}, 422, "cutoff_hz: Input should be a finite number"),
        (audio.encode(sound(), 16_000), {"cutoff_hz": 1}, 422, "cutoff: expected at least"),
        (audio.encode(sound(), 16_000), {"brightness": 7}, 422, "brightness: Input should be less than or equal to 6"),
        (audio.encode(sound(), 16_000), {"rate": 1}, 422, "rate: Input should be greater than or equal to 8000"),
        (audio.encode(sound(), 16_000), {"format": "opus", "rate": 44_100}, 422, "OGG/OPUS cannot hold"),
        (audio.encode(sound(channels=3), 16_000), {"format": "mp3"}, 422, "cannot hold 3 channels"),
        (audio.encode(sound(), 16_000), {"model": "nobody"}, 404, "model: "),
        (audio.encode(sound(), 16_000), {"model": "../models/rnn"}, 404, "is no alias, version number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_requests_are_refused_in_a_sentence(
    client: TestClient, data: bytes, query: dict[str, Any], status: int, sentence: str
) -> None:
    answer = post(client, data, **query)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    assert sentence in answer.json()["detail"]
    assert "Traceback" not in answer.text and "\n" not in answer.json()["detail"]


def test_form_without_a_file_is_refused(client: TestClient) -> None:
    answer = client.post("/v1/enhance", files={"other": ("a.wav", audio.encode(sound(), 16_000))})
    assert (answer.status_code, answer.json()["detail"]) == (422, "the form has no file in its field 'file'")


def test_large_and_long_requests_are_refused(options: Options) -> None:
    silence = np.zeros((2, 16_000 * 30), np.float32)
    bomb = audio.encode(silence, 16_000, "flac")
    with serving(replace(options, max_megabytes=0.2, max_seconds=50.0)) as client:
        declared = post(client, bytes(300_000))
        counted = client.post("/v1/enhance", content=(bytes(100_000) for _ in range(3)))
        long = post(client, bomb)
    assert [declared.status_code, counted.status_code, long.status_code] == [413, 413, 413]
    assert declared.json() == counted.json() == {"detail": "the request is too large; expected at most 0.2 MB"}
    assert len(bomb) < 200_000
    assert long.json()["detail"] == "the audio is 30 s of 2 channels; expected at most 50 s summed over channels"


def test_full_server_says_when_to_come_again(options: Options) -> None:
    with serving(replace(options, concurrency=1, queue=1, per_client=1)) as client:
        room = client.app.state.service.room  # type: ignore[attr-defined]
        data = audio.encode(sound(), 16_000)
        with room.entered("somebody else"):
            assert post(client, data).status_code == 200
            with room.entered("testclient"):
                full = post(client, data)
        with room.entered("testclient"):
            greedy = post(client, data)
        assert post(client, data).status_code == 200, "whoever left takes no place"
    assert (full.status_code, greedy.status_code) == (503, 429)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in (full, greedy))
    assert "one client" in greedy.json()["detail"]


def test_client_that_sends_nothing_is_given_up(options: Options) -> None:
    async def silent() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    messages = ask(replace(options, read_seconds=0.05), b"", receive=silent)
    assert messages[0]["status"] == 408

    async def trickle() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"a", "more_body": True}

    messages = ask(replace(options, upload_seconds=0.1), b"", receive=trickle)
    assert messages[0]["status"] == 408


def test_client_that_takes_nothing_is_given_up(options: Options) -> None:
    messages = ask(replace(options, write_seconds=0.05), audio.encode(sound(), 16_000), stuck=True)
    assert [message["type"] for message in messages] == ["http.response.start"]


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_key_is_asked_for_and_never_shown(options: Options, capfd: pytest.CaptureFixture[str]) -> None:
    locked = replace(options, key=KEY)
    assert KEY not in repr(locked)
    right: list[Mapping[str, str]] = [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}]
    wrong: list[Mapping[str, str]] = [{}, {"Authorization": f"Bearer {KEY}x"}, {"X-API-Key": KEY[:-1]}]
    wrong += [{"Authorization": "Basic !"}, {"Authorization": KEY}]
    paths = ("/metrics", "/v1/models", "/docs/", "/openapi.json", "/v1/samples", "/nowhere")
    with serving(locked) as client:
        for path in paths:
            for headers in wrong:
                answer = client.get(path, headers=headers, follow_redirects=False)
                assert answer.status_code == 401, path
                assert list(answer.json()) == ["detail"]
        for headers in right:
            assert client.get("/metrics", headers=headers).status_code == 200
        assert client.get("/metrics", auth=("anyone", KEY)).status_code == 200
        assert [client.get(path).status_code for path in ("/healthz", "/readyz", "/", "/page/main.js")] == 4 * [200]
    assert KEY not in "".join(capfd.readouterr())


def test_key_comes_from_file_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(key.VARIABLE, raising=False)
    assert key.read(None) is None
    monkeypatch.setenv(key.VARIABLE, KEY)
    assert key.read(None) == KEY
    file = tmp_path / "key"
    file.write_text("another-key-of-the-test\n")
    assert key.read(file) == "another-key-of-the-test"
    file.write_text("short")
    with pytest.raises(OvertoneError, match="at least 16"):
        key.read(file)
    with pytest.raises(OvertoneError, match="cannot be read"):
        key.read(tmp_path / "none")


@pytest.mark.parametrize(("host", "needed"), [("127.0.0.1", False), ("::1", False), ("localhost", False)])
@pytest.mark.parametrize("other", ["0.0.0.0", "::", "192.168.0.7", "host.example"])
def test_others_are_let_in_only_with_a_key(host: str, needed: bool, other: str) -> None:
    key.require(host, None, insecure=needed)
    key.require(other, KEY, insecure=False)
    key.require(other, None, insecure=True)
    with pytest.raises(OvertoneError, match="give a key"):
        key.require(other, None, insecure=False)


def test_pages_from_elsewhere_are_not_answered(options: Options) -> None:
    with serving(replace(options, hosts=("sound.example",))) as client:

        def status(**headers: str) -> int:
            return int(client.get("/v1/models", headers=headers).status_code)

        assert status(origin="http://127.0.0.1:8000") == 200
        assert status(origin="https://sound.example") == 200
        assert status(origin="http://127.0.0.1:9000") == 403
        assert status(origin="https://other.example") == 403
        assert status(origin="null") == 403
        assert status(host="sound.example") == 200
        assert status(host="rebound.example", origin="http://rebound.example") == 403
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers={"origin": "http://a.b"}):
            pass


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_models_are_listed_with_what_names_them(client: TestClient, options: Options) -> None:
    default, *released = client.get("/v1/models").json()["models"]
    nothing: dict[str, Any] = {"aliases": [], "scores": {}}
    assert default == {"reference": "auto", "version": options.model, "model": "rnn", "default": True, **nothing}
    assert [one["reference"] for one in released] == ["released", "released-rnn"]
    assert not any(one["default"] for one in released)


def test_metrics_count_requests_and_sound(client: TestClient, options: Options) -> None:
    assert post(client, audio.encode(sound(seconds=0.5), 16_000)).status_code == 200
    assert post(client, b"no audio").status_code == 415
    client.get("/surely/not/there")
    text = client.get("/metrics").text
    for line in (
        'overtone_requests_total{method="POST",route="/v1/enhance",status="200"} 1.0',
        'overtone_requests_total{method="POST",route="/v1/enhance",status="415"} 1.0',
        'overtone_requests_total{method="GET",route="other",status="404"} 1.0',
        'overtone_request_seconds_count{route="/v1/enhance"} 2.0',
        'overtone_audio_seconds_total{mode="extend",route="/v1/enhance"} 0.5',
        "overtone_real_time_factor_count 1.0",
        f'overtone_model_info{{kind="rnn",version="{options.model}"}} 1.0',
        "overtone_requests_in_flight 0.0",
        "overtone_queue_length 0.0",
        "overtone_live_sessions 0.0",
    ):
        assert line in text.splitlines(), line
    assert "process_resident_memory_bytes" in text


def test_page_of_the_interface_needs_no_other_server(client: TestClient) -> None:
    page = client.get("/docs/").text
    files = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(files) >= 3
    assert not [name for name in files if "//" in name]
    assert all(client.get(f"/docs/{name}").status_code == 200 for name in files)
    assert "<script>" not in page, "the safety headers forbid scripts within the page"
    policy = client.get("/docs/").headers["content-security-policy"]
    assert policy.startswith("default-src 'self';")
    described = client.get("/openapi.json").json()["paths"]["/v1/enhance"]["post"]
    assert set(described["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream"}
    assert "audio/flac" in described["responses"]["200"]["content"]


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def named(make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions `1` to `4` as model folders, the last one broken; a reference means what this table says."""
    folders = {str(number): make_model(f"v{number}", seed=number) for number in range(1, 5)}
    (folders["4"] / "weights.safetensors").write_bytes(b"bad")
    means = {"champion": "1"}
    monkeypatch.setattr(resolve, "version", lambda name: means.get(name, name))
    monkeypatch.setattr(resolve, "folder", lambda name: (folders[str(means.get(name, name))], name))
    return means


def test_swap_leaves_requests_the_model_they_began_with(named: dict[str, str]) -> None:
    changes: list[str] = []

    async def run() -> None:
        shelf = Shelf("champion", 1, lambda loaded: changes.append(loaded.version))
        with pytest.raises(UnknownModelError, match="not loaded yet"):
            await shelf.get(None)
        await shelf.refresh()
        held = await shelf.get(None)
        named["champion"] = "2"
        await shelf.refresh()
        assert (held.version, (await shelf.get("auto")).version) == ("1", "2")
        assert np.isfinite(held.upsampler.enhance(sound(), 16_000)).all()
        shelf.close()

    asyncio.run(run())
    assert changes == ["1", "2"]


def test_broken_champion_is_not_switched_to(named: dict[str, str], caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        shelf = Shelf("champion", 1)
        await shelf.refresh()
        named["champion"] = "4"
        following = asyncio.create_task(shelf.follow(0.01))
        while not caplog.records:
            await asyncio.sleep(0.01)
        assert shelf.default.version == "1"
        named["champion"] = "3"
        while shelf.default.version == "1":
            await asyncio.sleep(0.01)
        assert shelf.default.version == "3"
        following.cancel()
        shelf.close()

    asyncio.run(run())
    assert "1 stays" in caplog.text and "weights.safetensors" in caplog.text
    assert caplog.text.count("stays") == 1, "what is known to be broken is not tried at every look"


def test_few_models_are_kept(named: dict[str, str]) -> None:
    async def run() -> None:
        shelf = Shelf("champion", 1)
        await shelf.refresh()
        two = await shelf.get("2")
        assert await shelf.get("2") is two
        assert (await shelf.get("champion")) is shelf.default is (await shelf.get("1"))
        await shelf.get("3")
        assert await shelf.get("2") is not two
        with pytest.raises(UnusableModelError) as broken:
            await shelf.get("4")
        assert "weights.safetensors" in str(broken.value.__cause__), "for the log"
        assert "/" not in str(broken.value), "for the client"
        shelf.close()

    asyncio.run(run())


def test_model_that_makes_no_audio_is_broken(make_model: ModelMaker) -> None:
    import torch

    from overtone.models.model import Model
    from overtone.serving import shelf

    folder = make_model()
    model = Model.load(folder)
    with torch.no_grad():
        next(iter(model.extend.parameters())).fill_(float("nan"))
    model.save(folder)
    with pytest.raises(BrokenModelError, match="does not make audio"):
        shelf.load(folder, "7")


# --- references ---------------------------------------------------------------------------------------------------------


def kept_profile(upsampler: Upsampler, signal: audio.Signal) -> tuple[Profile, str]:
    """A profile, and the text of its file."""
    profile = upsampler.profile([(signal, RATE)])
    with tempfile.TemporaryDirectory() as folder:
        profile.save(Path(folder, "profile.json"))
        return profile, Path(folder, "profile.json").read_text()


def test_form_may_bring_a_reference_or_its_profile(client: TestClient, options: Options) -> None:
    signal, reference = sound(16_000), sound(RATE, seconds=1.5)
    upsampler = Upsampler.load(Path(options.model))
    profile, text = kept_profile(upsampler, reference)
    expected = upsampler.enhance(signal, 16_000, mode="extend", cutoff_hz=8_000, profile=profile, brightness_db=-3.0)
    file = ("a.wav", audio.encode(signal, 16_000, subtype="FLOAT"))
    parts = {
        "profile": ("p.json", text.encode()),
        "reference": ("r.wav", audio.encode(reference, RATE, subtype="FLOAT")),
    }
    for name, part in parts.items():
        query = {"mode": "extend", "cutoff_hz": 8_000, "brightness": -3}
        answer = client.post("/v1/enhance", params=query, files={"file": file, name: part})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-overtone-done"] == "band ended at 8.0 kHz: extended to 24"
        assert np.allclose(audio.decode(answer.content)[0], expected, atol=1e-4)
    both = client.post("/v1/enhance", files={"file": file, **parts})
    assert (both.status_code, both.json()["detail"]) == (
        422, "the form has both a profile and a reference; expected one of them"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "status", "sentence"),
    [
        ("profile", b"tape", 422, "the profile is not JSON"),
        ("profile", b"{}", 422, "the profile: not a profile"),
        ("profile", b" " * 1_000_001, 413, "the profile is too large"),
        ("profile", b"", 422, "the form's field 'profile' is empty"),
        ("reference", b"tape", 415, "not readable as audio"),
        ("reference", audio.encode(np.zeros((1, 16_000), np.float32), 16_000), 422, "expected a full-band recording"),
        ("reference", audio.encode(np.zeros((1, 90_000), np.float32), RATE), 422, "a reference needs at least 1 s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_references_are_refused_in_a_sentence(
    client: TestClient, name: str, content: bytes, status: int, sentence: str
) -> None:
    file = ("a.wav", audio.encode(sound(), 16_000))
    answer = client.post("/v1/enhance", files={"file": file, name: ("x", content)})
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


# --- live -------------------------------------------------------------------------------------------------------------


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
        heard = b""
        while True:
            message = socket.receive()
            if message.get("bytes") is None:
                return ready, heard, json.loads(message.get("text") or "{}")
            heard += message["bytes"]


@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_live_stream_is_the_streams_own_result(client: TestClient, options: Options, mode: Any) -> None:
    signal = sound(RATE, seconds=0.5, channels=2)
    stream = Upsampler.load(Path(options.model)).stream(2, mode=mode, cutoff_hz=6_000)
    expected = np.concatenate([stream.push(signal), stream.finish()], axis=1)
    frames = [np.ascontiguousarray(block.T).tobytes() for block in np.array_split(signal, 25, axis=1)]
    ready, heard, last = talk(client, frames, channels=2, cutoff_hz=6_000, mode=mode)
    latency = round(1_000 * stream.lookahead / RATE, 1)
    assert (ready["type"], ready["latency_ms"], ready["mode"]) == ("ready", latency, mode)
    assert latency <= (25.0 if mode == "extend" else 29.0)
    assert last == {"type": "done", "samples": signal.shape[1]}
    assert np.allclose(np.frombuffer(heard, "<f4").reshape(-1, 2).T, expected, atol=1e-5)


def test_live_stream_of_another_rate_is_resampled_as_it_comes(client: TestClient, options: Options) -> None:
    signal = sound(16_000, seconds=0.5)
    whole = soxr.resample(signal[0], 16_000, RATE, quality="HQ").astype(np.float32)[None]
    stream = Upsampler.load(Path(options.model)).stream(1, cutoff_hz=8_000)
    expected = np.concatenate([stream.push(whole), stream.finish()], axis=1)
    words = np.rint(signal[0] * 32_768).astype("<i2")
    frames = [words[start : start + 320].tobytes() for start in range(0, len(words), 320)]
    ready, heard, last = talk(client, frames, rate=16_000, format="s16le")
    assert ready["latency_ms"] > 25.0 and ready["cutoff_hz"] == 8_000
    assert last["samples"] == signal.shape[1] * 3
    assert np.allclose(np.frombuffer(heard, "<i2") / 32_768, expected[0], atol=1e-3)


@pytest.mark.parametrize(
    ("hello", "frames", "sentence"),
    [
        ({"rate": 10}, [], "rate: Input should be greater"),
        ({"colour": "red"}, [], "colour: Extra inputs"),
        ({"format": "mp3"}, [], "format: Input should be"),
        ({}, [], "cutoff_hz: expected for a stream at 48000 Hz"),
        ({"cutoff_hz": 2}, [], "cutoff: expected at least"),
        ({"cutoff_hz": 8_000, "brightness": 9}, [], "brightness: Input should be less"),
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


def test_live_stream_takes_a_profile_and_brightness(client: TestClient, options: Options) -> None:
    signal = sound(RATE, seconds=1.5)
    upsampler = Upsampler.load(Path(options.model))
    profile, text = kept_profile(upsampler, signal)
    stream = upsampler.stream(1, cutoff_hz=6_000, profile=profile, brightness_db=3.0)
    expected = np.concatenate([stream.push(signal), stream.finish()], axis=1)
    hello = {"cutoff_hz": 6_000, "profile": json.loads(text), "brightness": 3}
    _, heard, _ = talk(client, [np.ascontiguousarray(signal.T).tobytes()], **hello)
    assert np.allclose(np.frombuffer(heard, "<f4")[None], expected, atol=1e-5)
    _, _, last = talk(client, [], cutoff_hz=6_000, profile={"format": "other"})
    assert "profile: not a profile" in last["detail"]


def test_live_streams_are_few_and_need_the_key(options: Options) -> None:
    with serving(replace(options, key=KEY, live_sessions=1)) as client:
        assert "expected the server's key" in talk(client, [], cutoff_hz=8_000)[2]["detail"]
        assert "expected the server's key" in talk(client, [], cutoff_hz=8_000, key=f"{KEY}x")[2]["detail"]
        assert talk(client, [], cutoff_hz=8_000, key=KEY)[2]["type"] == "done"
        listening = client.app.state.service.room.listening("somebody")  # type: ignore[attr-defined]
        with listening, client.websocket_connect(LIVE) as socket:
            assert "1 live sessions are open already" in socket.receive_json()["detail"]


def test_live_stream_that_falls_silent_is_ended(options: Options) -> None:
    with serving(replace(options, live_idle_seconds=0.05)) as client, client.websocket_connect(LIVE) as socket:
        assert socket.receive_json()["detail"] == "nothing was sent for 0.05 s"


def test_backlog_holds_who_puts_more_than_it_has_room_for() -> None:
    async def run() -> None:
        backlog = live._Backlog(10)
        await backlog.put(bytes(8))
        second = asyncio.create_task(backlog.put(bytes(8)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not second.done()
        assert await backlog.take(4) == bytes(4)
        assert await backlog.take(99) == bytes(4)
        await second
        assert await backlog.take(99) == bytes(8)
        backlog.end()
        assert await backlog.take(99) is None

    asyncio.run(run())


# --- real servers -----------------------------------------------------------------------------------------------------


@contextmanager
def started(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[tuple[str, Any, Path]]:
    """`overtone serve` in a project's folder: its address, its process, its log."""
    log = folder / "serve.log"
    command = [sys.executable, "-m", "overtone", "serve", "--port", "0", *arguments]
    source = str(Path(resolve.__file__).parents[1])
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=folder, env=environment | {"PYTHONPATH": source}, stdout=out, stderr=subprocess.STDOUT
        )
    try:
        for _ in range(1800):
            found = re.search(r"listening on (http://\S+),", log.read_text())
            if process.poll() is not None:
                break
            if found and _ready(found[1]):
                yield found[1], process, log
                break
            threading.Event().wait(0.1)
        else:
            pytest.fail(f"the server did not come up:\n{log.read_text()[-3000:]}")
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=30)


def _ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=10).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
def test_champion_changes_under_load_and_a_signal_lets_requests_finish(
    project: Path, make_model: ModelMaker, environment: dict[str, str]
) -> None:
    from overtone.registry import register, registry
    from overtone.registry.scores import Scored
    from overtone.settings import RegisterParams

    gate = RegisterParams(name=params.load(Path(resolve.__file__).parents[3] / "params.yaml").register_.name,
                          metric="overall.all.lsd", better="lower")  # fmt: skip
    for number, score in ((1, 1.0), (2, 2.0)):
        folder = make_model(f"v{number}", run_id=str(number) * 32, seed=number)
        register.register(
            [register.Candidate(folder, Scored({"test_set": "a", "overall": {"all": {"lsd": score}}}))], gate
        )
    (project / "params.yaml").write_bytes((Path(resolve.__file__).parents[3] / "params.yaml").read_bytes())
    data = audio.encode(sound(), 16_000)
    with started(project, environment, "--poll-seconds", "0.2", "--workers", "1") as (address, process, log):
        listed = httpx.get(f"{address}/v1/models", timeout=60).json()["models"]
        assert [(one["reference"], one["version"], one["default"]) for one in listed[:2]] == [
            ("champion", "1", True),
            ("2", "2", False),
        ]
        assert listed[0]["scores"] == {"overall.all.lsd": 1.0}
        named = httpx.post(f"{address}/v1/enhance?model=2", content=data, timeout=60)
        assert (named.status_code, named.headers["x-overtone-version"]) == (200, "2")
        swapped, answers = threading.Event(), []

        def load() -> None:
            with httpx.Client(timeout=60) as browser:
                after = 0
                while after < 3:
                    answer = browser.post(f"{address}/v1/enhance", content=data)
                    answers.append((answer.status_code, answer.headers.get("x-overtone-version")))
                    after += answers[-1][1] == "2" or answer.status_code != 200

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        registry.promote(gate.name, 2)
        for thread in threads:
            thread.join(timeout=120)
        swapped.set()
        assert {status for status, _ in answers} == {200}, log.read_text()
        assert {"1", "2"} == {version for _, version in answers}

        long = sound(16_000, seconds=120.0)
        with httpx.stream(
            "POST", f"{address}/v1/enhance?format=wav", content=audio.encode(long, 16_000), timeout=120
        ) as a:
            pieces = a.iter_raw()
            got = next(pieces)
            os.kill(process.pid, signal.SIGTERM)
            got += b"".join(pieces)
        assert audio.decode(got)[0].shape[1] == 120 * RATE
        assert process.wait(timeout=60) == 0
        assert not _ready(address)
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_real_server_refuses_and_streams_live(
    make_model: ModelMaker, environment: dict[str, str], tmp_path: Path
) -> None:
    from websockets.sync.client import connect

    folder = make_model()
    arguments = ("--model", str(folder), "--max-megabytes", "1")
    with started(tmp_path, environment | {key.VARIABLE: KEY}, *arguments) as (address, _, log):
        shown = {"X-API-Key": KEY}
        large = httpx.post(f"{address}/v1/enhance", content=bytes(3_000_000), headers=shown, timeout=60)
        assert large.status_code == 413
        late = httpx.post(f"{address}/v1/enhance", content=iter([bytes(90_000)] * 20), headers=shown, timeout=60)
        assert late.status_code == 413
        assert httpx.post(f"{address}/v1/enhance", content=b"hello", timeout=60).status_code == 401

        signal = sound(RATE, seconds=1.0)
        stream = Upsampler.load(folder).stream(1, cutoff_hz=8_000)
        expected = np.concatenate([stream.push(signal), stream.finish()], axis=1)
        with connect(f"{address.replace('http', 'ws')}/v1/live", additional_headers=shown, compression=None) as socket:
            socket.send(json.dumps({"type": "hello", "rate": RATE, "cutoff_hz": 8_000}))
            assert json.loads(socket.recv())["type"] == "ready"
            for block in np.array_split(signal[0], 50):
                socket.send(block.tobytes())
            socket.send('{"type": "end"}')
            heard = b"".join(message for message in socket if isinstance(message, bytes))
        assert np.allclose(np.frombuffer(heard, "<f4"), expected[0], atol=1e-5)
    assert KEY not in log.read_text()


@pytest.mark.slow
def test_server_without_a_usable_model_ends_with_a_sentence(
    make_model: ModelMaker, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = make_model()
    (folder / "weights.safetensors").write_bytes(b"bad")
    command = [sys.executable, "-m", "overtone", "serve", "--port", "0", "--model", str(folder)]
    source = str(Path(resolve.__file__).parents[1])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "weights.safetensors: not the weights" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
