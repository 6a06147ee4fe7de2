"""Laws of `overtone serve` over HTTP: audio in and out, limits, keys, counters, and servers that are processes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect

from conftest import ROOT, ModelMaker
from overtone import audio
from overtone.audio import sending
from overtone.enhance.upsampler import Upsampler
from overtone.errors import OvertoneError
from overtone.registry import resolve
from overtone.serving import enhancement, logs, security, statistics
from overtone.serving.app import create_app
from overtone.serving.errors import Refused
from overtone.serving.limits import Limits
from overtone.serving.options import Options
from services import running

RATE = 48_000
KEY = "a-key-of-this-test"
# The test client names another host for WebSockets unless it is given one.
LIVE = "ws://127.0.0.1:8000/v1/live"


def sound(rate: int = 16_000, seconds: float = 0.4, channels: int = 1, seed: int = 0) -> audio.Signal:
    """Noise up to half the rate."""
    noise = np.random.default_rng(seed).normal(0.0, 0.1, (channels, round(rate * seconds)))
    return noise.astype(np.float32)


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


@pytest.fixture(scope="module")
def options(served_model: str) -> Options:
    """Of a server of a tiny model, where there is no project."""
    return Options(model=served_model, workers=1, poll_seconds=60.0)


@pytest.fixture(scope="module")
def client(options: Options) -> Iterator[TestClient]:
    """One server for all tests that do not change it."""
    with serving(options) as opened:
        yield opened


def post(client: TestClient, data: bytes, **params: Any) -> httpx.Response:
    answer: httpx.Response = client.post("/v1/enhance", content=data, params=params)
    return answer


SMALL = audio.encode(sound(), 16_000)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["flac", "opus", "mp3"])
def test_answer_is_of_the_requests_container_and_as_long(client: TestClient, format: str) -> None:
    signal = sound(channels=2)
    answer = post(client, audio.encode(signal, 16_000, format))
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == sending.MEDIA_TYPES[format]
    info = audio.probe(io.BytesIO(answer.content))
    assert sending.format_of(info) == format
    assert (info.rate, info.channels, info.frames) == (RATE, 2, signal.shape[1] * 3)


def test_answer_holds_what_the_model_makes_of_the_file(client: TestClient, options: Options) -> None:
    signal = sound(seconds=1.0)
    data = audio.encode(signal, 16_000, subtype="FLOAT")
    answer = post(client, data, cutoff_hz=8_000)
    expected = Upsampler.load(Path(options.model)).enhance(signal, 16_000, cutoff_hz=8_000)
    assert np.allclose(audio.decode(answer.content)[0], expected, atol=1e-5)
    facts = {name: answer.headers[f"x-overtone-{name}"] for name in ("model", "version", "mode", "cutoff-hz")}
    assert facts == {"model": "rnn", "version": options.model, "mode": "extend", "cutoff-hz": "8000"}
    form = client.post("/v1/enhance?cutoff_hz=8000", files={"file": ("any.name", data)})
    assert form.content == answer.content
    other = post(client, SMALL, rate=44_100, mode="restore")
    assert (audio.decode(other.content)[0].shape[1], other.headers["x-overtone-mode"]) == (17_640, "restore")


@pytest.mark.parametrize(("format", "subtype"), [("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_24")])
def test_streamed_file_is_the_file_that_is_written_whole(format: str, subtype: str) -> None:
    signal = sound(RATE, seconds=0.7, channels=2)
    blocks = iter(np.array_split(signal, 7, axis=1))
    pieces = list(enhancement.encoded(blocks, format, RATE, 2, signal.shape[1], subtype))
    data = b"".join(pieces)
    info, whole = audio.probe(io.BytesIO(data)), audio.encode(signal, RATE, format, subtype)
    assert info == audio.probe(io.BytesIO(whole))
    assert np.array_equal(audio.decode(data)[0], audio.decode(whole)[0])
    assert sum(bool(piece) for piece in pieces) > 2, "bytes come before the end"


def ask(
    options: Options,
    data: bytes,
    query: str = "",
    receive: Callable[[], Any] | None = None,
    take: Callable[[Message], Any] | None = None,
) -> list[Message]:
    """What the application sends to one request, message by message; `take` is how its client takes one."""
    app = create_app(options)
    sent: list[Message] = []
    given: list[bool] = []

    async def body() -> Message:
        if given:
            await asyncio.Event().wait()
        given.append(True)
        return {"type": "http.request", "body": data, "more_body": False}

    async def send(message: Message) -> None:
        if take is not None and message["type"] == "http.response.body":
            await take(message)
        sent.append(message)

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(app.router.lifespan_context(app))
            while app.state.engine.models.current is None:
                assert app.state.failure is None
                await asyncio.sleep(0.02)
            head = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/enhance", "root_path": ""}
            address = {"client": ("127.0.0.1", 5), "server": ("127.0.0.1", 8000), "scheme": "http"}
            scope = {**head, **address, "query_string": query.encode(), "headers": [(b"host", b"127.0.0.1:8000")]}
            await app(scope, receive or body, send)
            assert app.state.engine.limits.requests == app.state.engine.limits.computing == 0

    asyncio.run(run())
    return sent


def test_slow_but_steady_client_gets_all_of_its_answer(options: Options) -> None:
    """It takes 64 KiB in most of the time that it has for them, and the answer is many times as large."""

    async def take(_: Message) -> None:
        await asyncio.sleep(0.04)

    signal = sound(RATE, seconds=8.0)
    sent = ask(replace(options, write_seconds=0.4), audio.encode(signal, RATE), "cutoff_hz=8000", take=take)
    data = b"".join(message.get("body", b"") for message in sent)
    assert audio.decode(data)[0].shape == signal.shape
    assert max(len(message.get("body", b"")) for message in sent) <= 65_536
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_client_that_takes_or_sends_nothing_is_given_up(options: Options) -> None:
    async def stuck(_: Message) -> None:
        await asyncio.Event().wait()

    messages = ask(replace(options, write_seconds=0.05), SMALL, take=stuck)
    assert [message["type"] for message in messages] == ["http.response.start"]

    async def silent() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    assert ask(replace(options, read_seconds=0.05), b"", receive=silent)[0]["status"] == 408

    async def trickle() -> Message:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"a", "more_body": True}

    assert ask(replace(options, upload_seconds=0.1), b"", receive=trickle)[0]["status"] == 408


def leaving(data: bytes, ready: Callable[[], bool]) -> Callable[[], Any]:
    """What a client sends that is gone as soon as something is so."""
    sent: list[bool] = []

    async def receive() -> Message:
        if not sent:
            sent.append(True)
            return {"type": "http.request", "body": data, "more_body": False}
        while not ready():
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    return receive


@pytest.mark.parametrize("format", ["wav", "mp3"])
def test_file_is_computed_piece_by_piece_and_nobody_computes_for_who_is_gone(
    options: Options, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enhancement, "BLOCK", 4_800)
    computed: list[int] = []
    of_length = enhancement.of_length

    def counted(*given: Any) -> Iterator[audio.Signal]:
        for block in of_length(*given):
            computed.append(block.shape[1])
            yield block

    monkeypatch.setattr(enhancement, "of_length", counted)
    data = audio.encode(sound(RATE, seconds=60.0), RATE)
    gone = leaving(data, lambda: len(computed) >= 3)
    ask(options, b"", f"format={format}&cutoff_hz=8000", receive=gone)
    assert 3 <= len(computed) < 12


def test_sound_is_counted_in_steps_and_not_for_who_is_gone(options: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def endless(*_: Any) -> Iterator[int]:
        while True:
            counted.append(1)
            yield len(counted)

    monkeypatch.setattr(audio, "counting", endless)
    ask(options, b"", receive=leaving(SMALL, lambda: len(counted) >= 3))
    assert 3 <= len(counted) < 100


def test_what_fails_after_the_first_piece_breaks_the_answer_off(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any) -> Iterator[audio.Signal]:
        yield np.zeros((1, 4_800), np.float32)
        raise audio.AudioError("the audio ends here")

    monkeypatch.setattr(enhancement, "of_length", failing)
    messages = ask(options, SMALL, "format=wav")
    assert messages[0]["status"] == 200
    assert all(message.get("more_body") for message in messages[1:]), "broken off, not ended"


def test_file_that_goes_on_is_not_decoded_to_its_end() -> None:
    decoded: list[int] = []

    def endless() -> Iterator[audio.Signal]:
        while True:
            decoded.append(480)
            yield np.zeros((1, 480), np.float32)

    with pytest.raises(audio.AudioError, match="goes on after 4800 samples"):
        for _ in enhancement.of_length(endless(), 4_800, 960):
            pass
    assert len(decoded) < 15


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "query", "status", "sentence"),
    [
        (b"surely no audio", {}, 415, "audio: not readable as audio"),
        (b"", {}, 422, "the request is empty"),
        (audio.encode(sound(seconds=0), 16_000), {}, 422, "holds no samples"),
        (audio.encode(sound(RATE, 6.0), RATE, "flac")[:300_000], {}, 415, "not readable as audio"),
        (audio.encode(sound() * np.nan, 16_000, subtype="FLOAT"), {}, 422, "holds NaN or infinite samples"),
        (SMALL, {"mode": "louder"}, 422, "mode: Input should be"),
        (SMALL, {"cutoff_hz": "inf"}, 422, "cutoff_hz: Input should be a finite number"),
        (SMALL, {"cutoff_hz": 1}, 422, "cutoff: expected at least"),
        (SMALL, {"rate": 1}, 422, "rate: Input should be greater than or equal to 8000"),
        (SMALL, {"format": "opus", "rate": 44_100}, 422, "OGG/OPUS cannot hold"),
        (SMALL, {"model": "nobody"}, 404, "model: "),
        (SMALL, {"model": "../models/rnn"}, 404, "is no alias, version number"),
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


def test_large_and_long_requests_are_refused(options: Options) -> None:
    bomb = audio.encode(np.zeros((2, 16_000 * 30), np.float32), 16_000, "flac")
    with serving(replace(options, max_megabytes=0.2, max_seconds=50.0)) as client:
        declared = post(client, bytes(300_000))
        counted = client.post("/v1/enhance", content=(bytes(100_000) for _ in range(3)))
        long = post(client, bomb)
    assert [declared.status_code, counted.status_code, long.status_code] == [413, 413, 413]
    assert declared.json() == counted.json() == {"detail": "the request is too large; expected at most 0.2 MB"}
    assert len(bomb) < 200_000
    assert long.json()["detail"] == "the audio is 30 s of 2 channels; expected at most 50 s summed over channels"


# --- limits -----------------------------------------------------------------------------------------------------------


def test_full_server_says_when_to_come_again(options: Options) -> None:
    with serving(replace(options, concurrency=1, queue=1, per_client=1)) as client:
        limits: Limits = client.app.state.engine.limits  # type: ignore[attr-defined]
        with limits.request("somebody else"):
            assert post(client, SMALL).status_code == 200
            with limits.request("testclient"):
                full = post(client, SMALL)
        with limits.request("testclient"):
            greedy = post(client, SMALL)
        assert post(client, SMALL).status_code == 200, "whoever left takes no place"
    assert (full.status_code, greedy.status_code) == (503, 429)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in (full, greedy))
    assert "one address" in greedy.json()["detail"]


def test_slots_go_to_addresses_in_rotation_and_are_passed_on() -> None:
    async def run() -> list[str]:
        limits, order = Limits(Options(concurrency=1)), []

        async def work(client: str, pieces: int) -> None:
            for _ in range(pieces):
                async with limits.slot(client):
                    order.append(client)
                    await asyncio.sleep(0)

        tasks = [asyncio.create_task(work(*one)) for one in (("a", 3), ("a", 3), ("b", 1), ("c", 1))]
        gone = asyncio.create_task(work("gone", 1))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(*tasks)
        assert limits.computing == 0
        async with asyncio.timeout(1), limits.slot("last"):
            return order

    order = asyncio.run(run())
    assert "gone" not in order
    assert {"b", "c"} <= set(order[:4]), "an address with many requests lets others go between its pieces"


def test_live_streams_of_an_address_are_few() -> None:
    limits = Limits(Options(live_sessions=3, live_per_client=2))
    with limits.stream("a"), limits.stream("a"):
        with pytest.raises(Refused, match="one address"), limits.stream("a"):
            pass
        with limits.stream("b"), pytest.raises(Refused, match="open already"), limits.stream("c"):
            pass


def test_processes_share_out_the_limits() -> None:
    options = Options(processes=2, concurrency=3, queue=64, live_sessions=8)
    assert (options.share().concurrency, options.share().queue, options.share().live_sessions) == (2, 32, 4)


# --- who may ask ------------------------------------------------------------------------------------------------------


def test_key_is_asked_for_and_never_shown(options: Options, capfd: pytest.CaptureFixture[str]) -> None:
    locked = replace(options, key=KEY)
    assert KEY not in repr(locked)
    right: list[Mapping[str, str]] = [{"Authorization": f"Bearer {KEY}"}, {"X-API-Key": KEY}]
    wrong: list[Mapping[str, str]] = [{}, {"Authorization": f"Bearer {KEY}x"}, {"X-API-Key": KEY[:-1]}]
    wrong += [{"Authorization": "Basic !"}, {"Authorization": KEY}]
    with serving(locked) as client:
        for path in ("/metrics", "/v1/models", "/v1/jobs/x", "/v1/statistics", "/openapi.json", "/nowhere"):
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
    monkeypatch.delenv(security.VARIABLE, raising=False)
    assert security.read_key(None) is None
    monkeypatch.setenv(security.VARIABLE, KEY)
    assert security.read_key(None) == KEY
    file = tmp_path / "key"
    file.write_text("another-key-of-the-test\n")
    assert security.read_key(file) == "another-key-of-the-test"
    file.write_text("short")
    with pytest.raises(OvertoneError, match="at least 16"):
        security.read_key(file)
    with pytest.raises(OvertoneError, match="cannot be read"):
        security.read_key(tmp_path / "none")


@pytest.mark.parametrize("other", ["0.0.0.0", "::", "192.168.0.7", "host.example"])
def test_others_are_let_in_only_with_a_key(other: str) -> None:
    for own in ("127.0.0.1", "::1", "localhost"):
        security.require_key(own, None, insecure=False)
    security.require_key(other, KEY, insecure=False)
    security.require_key(other, None, insecure=True)
    with pytest.raises(OvertoneError, match="give a key"):
        security.require_key(other, None, insecure=False)


def test_pages_from_elsewhere_are_not_answered_and_malformed_headers_are_400(options: Options) -> None:
    with serving(replace(options, allowed_hosts=["sound.example"])) as client:

        def status(**headers: str) -> int:
            return int(client.get("/v1/models", headers=headers).status_code)

        assert status(origin="http://127.0.0.1:8000") == status(origin="https://sound.example") == 200
        assert status(host="sound.example") == status(host="[::1]:8000") == 200
        for origin in ("http://127.0.0.1:9000", "https://other.example", "null"):
            assert status(origin=origin) == 403
        assert status(host="rebound.example", origin="http://rebound.example") == 403
        for malformed in ("[", "a b", "[::1", "a:b:c", "http://a", ""):
            assert status(host=malformed) == 400, malformed
        for malformed in ("http://[", "sound.example", "http://a b", "http://a/path"):
            assert status(origin=malformed) == 400, malformed
        for origin in ("http://a.b", "http://["):
            with pytest.raises(WebSocketDisconnect), client.websocket_connect(LIVE, headers={"origin": origin}):
                pass


# --- what is shown ----------------------------------------------------------------------------------------------------


def test_models_are_listed_with_what_names_them(client: TestClient, options: Options) -> None:
    default, *released = client.get("/v1/models").json()["models"]
    nothing: dict[str, Any] = {"aliases": [], "scores": {}}
    assert default == {"reference": "auto", "version": options.model, "model": "rnn", "default": True, **nothing}
    assert [one["reference"] for one in released] == ["released", "released-rnn"]
    assert not any(one["default"] for one in released)
    described = client.get("/openapi.json").json()["paths"]["/v1/enhance"]["post"]
    assert set(described["requestBody"]["content"]) == {"multipart/form-data", "application/octet-stream"}
    assert "audio/flac" in described["responses"]["200"]["content"]


def test_metrics_count_requests_and_sound_by_route(options: Options) -> None:
    with serving(options) as client:
        assert post(client, audio.encode(sound(seconds=0.5), 16_000)).status_code == 200
        assert post(client, b"no audio").status_code == 415
        client.get("/surely/not/there")
        client.get("/v1/jobs/none")
        lines = client.get("/metrics").text.splitlines()
    for line in (
        'overtone_requests_total{method="POST",route="/v1/enhance",status="200"} 1.0',
        'overtone_requests_total{method="POST",route="/v1/enhance",status="415"} 1.0',
        'overtone_requests_total{method="GET",route="/v1/jobs/{id}",status="404"} 1.0',
        'overtone_requests_total{method="GET",route="other",status="404"} 1.0',
        'overtone_request_seconds_count{route="/v1/enhance"} 2.0',
        'overtone_audio_seconds_total{mode="extend",route="/v1/enhance"} 0.5',
        "overtone_real_time_factor_count 1.0",
        f'overtone_model_info{{kind="rnn",version="{options.model}"}} 1.0',
        "overtone_requests_in_flight 0.0",
        "overtone_queue_length 0.0",
        "overtone_live_sessions 0.0",
    ):
        assert line in lines, line
    assert any(line.startswith("process_resident_memory_bytes") for line in lines)


def test_log_has_an_id_for_every_request_and_no_secret(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "overtone.access")
    answer = client.get(f"/healthz?key={KEY}", headers={"x-request-id": "id-of-a-proxy"})
    assert answer.headers["x-request-id"] == "id-of-a-proxy"
    assert client.get("/healthz", headers={"x-request-id": "a b"}).headers["x-request-id"] != "a b"
    record = caplog.records[0]
    record.msg, record.args = record.getMessage() + " of http://user:a-password@host, " + KEY, ()
    token = logs.request_id.set("id")
    try:
        line = json.loads(logs._JsonFormatter(KEY).format(record))
    finally:
        logs.request_id.reset(token)
    assert (line["route"], line["status"], line["request_id"]) == ("/healthz", 200, "id")
    assert KEY not in str(line) and "a-password" not in str(line)


def test_statistics_count_what_comes_in_and_how_far_it_drifts(tmp_path: Path) -> None:
    kept = statistics.Statistics(tmp_path)
    facts = {"seconds": 2.0, "cutoff_hz": 3_900.0, "level_dbfs": -21.0, "format": "WAV", "damage": ["noise"]}
    kept.count(facts, (4_000.0, 16_000.0))
    kept.count(facts | {"cutoff_hz": 8_000.0, "damage": []}, (4_000.0, 16_000.0))
    kept.compare("1", "2", {"copies": (0.1, 0.3)})
    kept.compare("1", "2", {"copies": (0.3, 0.3)})
    report = statistics.Statistics(tmp_path).report()
    (day,) = report["days"]
    assert (day["files"], day["seconds"], day["outside_of_training"]) == (2, 4.0, 1)
    assert day["bandwidth"] == {"4 kHz": 1.0, "8 kHz": 1.0}
    assert (day["level"], day["damage"]) == ({"-24 dBFS": 2.0}, {"noise": 1.0, "none": 1.0})
    (row,) = report["shadow"]
    assert (row["files"], row["champion_mean"], row["challenger_mean"]) == (2, 0.2, 0.3)
    assert "1 and 2, copies: 0.200 and 0.300 in 2 files" in statistics.as_text(report)
    assert statistics.distance({"a": 3}, {"a": 9}) == 0.0
    assert statistics.distance({"a": 1}, {"b": 5}) == 1.0


def test_challenger_is_compared_off_the_path_of_requests(
    options: Options, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]
) -> None:
    monkeypatch.setattr(resolve, "version", lambda name: name)
    monkeypatch.setattr(
        resolve, "folder", lambda name: (tiny_model("cnn") if name == "challenger" else Path(name), name)
    )
    shadowed = replace(options, shadow="challenger", shadow_share=1.0)
    with serving(shadowed) as client:
        answer = post(client, audio.encode(sound(seconds=1.0), 16_000))
        assert answer.headers["x-overtone-version"] == options.model
        for _ in range(400):
            if rows := client.get("/v1/statistics").json()["shadow"]:
                break
            threading.Event().wait(0.05)
    scores = {row["metric"]: (row["champion_mean"], row["challenger_mean"]) for row in rows}
    assert {row["challenger"] for row in rows} == {"challenger"}
    assert scores.keys() == {"level_above_db", "hop_line_db", "copies", "tonality_db", "real_time_factor", "distance"}
    assert scores["distance"][1] > 0.0


# --- references ---------------------------------------------------------------------------------------------------------


def test_form_may_bring_a_reference_or_its_profile(client: TestClient, options: Options, tmp_path: Path) -> None:
    signal, reference = sound(16_000), sound(RATE, seconds=1.5)
    upsampler = Upsampler.load(Path(options.model))
    profile = upsampler.profile([(reference, RATE)])
    profile.save(tmp_path / "profile.json")
    expected = upsampler.enhance(signal, 16_000, mode="extend", cutoff_hz=8_000, profile=profile, brightness_db=-3.0)
    file = ("a.wav", audio.encode(signal, 16_000, subtype="FLOAT"))
    parts = {
        "profile": ("p.json", (tmp_path / "profile.json").read_bytes()),
        "reference": ("r.wav", audio.encode(reference, RATE, subtype="FLOAT")),
    }
    for name, part in parts.items():
        query = {"mode": "extend", "cutoff_hz": 8_000, "brightness": -3}
        answer = client.post("/v1/enhance", params=query, files={"file": file, name: part})
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-overtone-done"] == "band ended at 8.0 kHz: extended to 24 kHz"
        assert np.allclose(audio.decode(answer.content)[0], expected, atol=1e-4)
    both = client.post("/v1/enhance", files={"file": file, **parts})
    assert (both.status_code, both.json()["detail"]) == (
        422, "the form has both a profile and a reference; expected one of them"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "status", "sentence"),
    [
        ("other", b"no file", 422, "the form has no file in its field 'file'"),
        ("profile", b"tape", 422, "the profile is not JSON"),
        ("profile", b"{}", 422, "the profile: not a profile"),
        ("profile", b" " * 1_000_001, 413, "the profile is too large"),
        ("profile", b"", 422, "the form's field 'profile' is empty"),
        ("reference", b"tape", 415, "not readable as audio"),
        ("reference", audio.encode(np.zeros((1, 16_000), np.float32), 16_000), 422, "expected a full-band recording"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_forms_are_refused_in_a_sentence(
    client: TestClient, name: str, content: bytes, status: int, sentence: str
) -> None:
    files = {"file": ("a.wav", SMALL), name: ("x", content)}
    if name == "other":
        del files["file"]
    answer = client.post("/v1/enhance", files=files)
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


# --- real servers -----------------------------------------------------------------------------------------------------


@contextmanager
def started(folder: Path, environment: dict[str, str], *arguments: str) -> Iterator[tuple[str, Any, Path]]:
    """`overtone serve` in a project's folder: its address, its process, its log."""
    log, found = folder / "serve.log", ""

    def ready() -> None:
        nonlocal found
        found = re.findall(r"listening on (http://[\w.:\[\]]+)", log.read_text())[0]
        assert httpx.get(f"{found}/readyz", timeout=10).status_code == 200

    command = [sys.executable, "-m", "overtone", "serve", "--port", "0", *arguments]
    with running(command, ready, log, environment | {"PYTHONPATH": str(ROOT / "src")}) as process:
        yield found, process, log


@pytest.mark.slow
def test_champion_changes_under_load_and_a_signal_lets_requests_finish(
    project: Path, make_model: ModelMaker, environment: dict[str, str]
) -> None:
    from overtone import settings
    from overtone.registry import register, registry
    from overtone.registry.scores import Scored

    name = settings.load(ROOT / "params.yaml").register_.name
    gate = settings.RegisterParams(name=name, metric="overall.all.lsd", better="lower")
    for number, score in ((1, 1.0), (2, 2.0)):
        folder = make_model(f"v{number}", run_id=str(number) * 32, seed=number)
        scored = Scored({"test_set": "a", "overall": {"all": {"lsd": score}}})
        register.register([register.Candidate(folder, scored)], gate)
    (project / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    with started(project, environment, "--poll-seconds", "0.2", "--workers", "1") as (address, process, log):
        listed = httpx.get(f"{address}/v1/models", timeout=60).json()["models"]
        assert [(one["reference"], one["version"], one["default"]) for one in listed[:2]] == [
            ("champion", "1", True),
            ("2", "2", False),
        ]
        assert listed[0]["scores"] == {"overall.all.lsd": 1.0}
        named = httpx.post(f"{address}/v1/enhance?model=2", content=SMALL, timeout=60)
        assert (named.status_code, named.headers["x-overtone-version"]) == (200, "2")
        answers: list[tuple[int, str]] = []

        def load() -> None:
            with httpx.Client(timeout=60) as browser:
                while [version for _, version in answers].count("2") < 6 and len(answers) < 5_000:
                    answer = browser.post(f"{address}/v1/enhance", content=SMALL)
                    answers.append((answer.status_code, answer.headers.get("x-overtone-version", "")))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        registry.promote(gate.name, 2)
        for thread in threads:
            thread.join(timeout=120)
        assert {status for status, _ in answers} == {200}, log.read_text()
        assert {"1", "2"} == {version for _, version in answers}

        body = audio.encode(sound(16_000, seconds=120.0), 16_000)
        with httpx.stream("POST", f"{address}/v1/enhance?format=wav", content=body, timeout=120) as answer:
            pieces = answer.iter_raw()
            got = next(pieces)
            os.kill(process.pid, signal.SIGTERM)
            got += b"".join(pieces)
        assert audio.decode(got)[0].shape[1] == 120 * RATE
        assert process.wait(timeout=60) == 0
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_two_processes_behind_one_port_share_jobs_and_counters(
    tiny_model: Callable[[str], Path], environment: dict[str, str], tmp_path: Path
) -> None:
    folder, shown = tiny_model("rnn"), {"X-API-Key": KEY}
    arguments = ("--model", str(folder), "--processes", "2", "--workers", "1", "--log-format", "json")
    variables = environment | {security.VARIABLE: KEY}
    with started(tmp_path, variables, *arguments, "--state", str(tmp_path / "state")) as (address, process, log):
        # A connection of its own for each request: the system gives it to either process.
        for _ in range(20):
            assert httpx.post(f"{address}/v1/enhance", content=SMALL, headers=shown, timeout=60).status_code == 200
        counted = 'overtone_requests_total{method="POST",route="/v1/enhance",status="200"} 20.0'
        # An answer is counted when it is sent.
        while counted not in httpx.get(f"{address}/metrics", headers=shown, timeout=60).text:
            threading.Event().wait(0.05)
        id = httpx.post(f"{address}/v1/jobs", content=SMALL, headers=shown, timeout=60).json()["id"]
        states = set[str]()
        while not states & {"done", "failed"}:
            states.add(httpx.get(f"{address}/v1/jobs/{id}", headers=shown, timeout=60).json()["state"])
        assert "done" in states
        results = [httpx.get(f"{address}/v1/jobs/{id}/result", headers=shown, timeout=60).content for _ in range(8)]
        assert len({*results}) == 1 and audio.decode(results[0])[1] == RATE

        given = sound(16_000, seconds=1.0)
        audio.write(tmp_path / "old.wav", given, 16_000)
        (example,) = re.findall(
            r"```python\n(import json.*?)```", (ROOT / "docs" / "reference" / "http.md").read_text(), re.DOTALL
        )
        example = example.replace("ws://127.0.0.1:8000", address.replace("http", "ws"))
        done = subprocess.run([sys.executable, "-c", example], cwd=tmp_path, env=variables, timeout=120, check=False)
        assert done.returncode == 0
        assert audio.probe(tmp_path / "live.wav").frames == RATE
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert len({line["request_id"] for line in lines if line.get("route") == "/v1/enhance"}) == 20
    assert KEY not in log.read_text() and "Traceback" not in log.read_text()


@pytest.mark.slow
def test_server_without_a_usable_model_ends_with_a_sentence(
    make_model: ModelMaker, environment: dict[str, str], tmp_path: Path
) -> None:
    folder = make_model()
    (folder / "weights.safetensors").write_bytes(b"bad")
    command = [sys.executable, "-m", "overtone", "serve", "--port", "0", "--model", str(folder)]
    variables = environment | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    assert "weights.safetensors: not the weights" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
