"""Readers and servers under input that nobody thought of: mutated files, tables, settings and model folders, made-up requests.

The same few examples every time; `make fuzz MINUTES=10` tries new ones, as many as the time allows.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.websockets import WebSocketDisconnect

import hostile
from conftest import ModelMaker
from overtone import audio
from overtone import settings as params
from overtone.data import catalog, corpus
from overtone.errors import OvertoneError
from overtone.models.folder import WEIGHTS
from overtone.models.model import Model
from test_http import LIVE, serving, started

ROOT = Path(__file__).parents[1]
WHOLE = [hostile.encoded(format=format, subtype=subtype) for format, subtype in hostile.CONTAINERS.values()]
WHOLE += [hostile.riff(hostile.chunk(b"fmt ", hostile.wave_format()), hostile.chunk(b"data", hostile.samples16(200)))]
# Under the long profile the time decides, not the number.
FEW = settings(max_examples=2_000 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 150)


@st.composite
def mutated(draw: st.DrawFn, wholes: list[bytes]) -> bytes:
    """A whole file with bytes changed, taken out, put in and repeated; mostly in its head, where lengths and kinds stand."""
    data = bytearray(draw(st.sampled_from(wholes)))
    for _ in range(draw(st.integers(1, 6))):
        if not data:
            break
        place = draw(st.integers(0, min(len(data) - 1, 80)) | st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["flip", "number", "cut", "put", "repeat", "end"]))
        if kind == "flip":
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "number":
            value = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1]))
            data[place : place + 4] = struct.pack(draw(st.sampled_from(["<I", ">I"])), value)
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 300))]
        elif kind == "put":
            data[place:place] = draw(st.binary(max_size=40))
        elif kind == "repeat":
            data[place:place] = data[place : place + draw(st.integers(1, 300))]
        else:
            del data[place:]
    return bytes(data)


# --- files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@FEW
@given(data=mutated(WHOLE), extension=st.sampled_from(sorted(audio.EXTENSIONS)))
def test_readers_read_or_refuse(place: Path, data: bytes, extension: str) -> None:
    import io

    path = place / f"file{extension}"
    path.write_bytes(data)
    for source in (path, io.BytesIO(data)):
        try:
            info = audio.probe(source)
            total = sum(block.shape[1] for block in audio.blocks(source))
            excerpt, rate = audio.read(source, info.frames // 2, 100)
        except OvertoneError as error:
            assert len(str(error)) < 1_000
            continue
        assert audio.LOWEST_RATE <= rate == info.rate <= audio.HIGHEST_RATE
        assert excerpt.shape[0] == info.channels <= audio.MAX_CHANNELS
        assert excerpt.shape[1] <= 100
        assert total <= max(info.frames, 1)


@FEW
@given(text=st.text(max_size=200) | st.binary(max_size=200))
def test_table_of_clips_is_read_or_refused(place: Path, text: str | bytes) -> None:
    header = ",".join(field for field in corpus.Clip.__dataclass_fields__)
    lines = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
    for content in (lines, header.encode() + b"\n" + lines, header.encode() + b"\na,b,c," + lines):
        (place / corpus.MANIFEST).write_bytes(content)
        try:
            rows = corpus.read_manifest(place)
        except OvertoneError as error:
            assert corpus.MANIFEST in str(error)
        else:
            assert all(isinstance(row, corpus.Clip) for row in rows)


@FEW
@given(text=st.binary(max_size=60) | st.text(alphabet="kindpath,\n\"'speechwav./\0;\r", max_size=60).map(str.encode))
def test_catalog_is_read_or_refused(place: Path, text: bytes) -> None:
    path = place / catalog.CATALOG
    for content in (text, b"path,kind\n" + text, b"path,kind\na.wav,speech," + text):
        path.write_bytes(content)
        try:
            catalog.read_catalog(path)
        except OvertoneError as error:
            assert str(path) in str(error)


SETTINGS = (ROOT / "params.yaml").read_bytes()
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(FEW, max_examples=40)
@given(data=mutated([SETTINGS]) | st.binary(max_size=100))
def test_settings_are_read_or_refused(place: Path, data: bytes) -> None:
    path = place / "params.yaml"
    path.write_bytes(data)
    try:
        loaded = params.load(path)
    except OvertoneError:
        return
    assert isinstance(loaded, params.Params)


@settings(FEW, max_examples=40)
@given(key=st.sampled_from(sorted(yaml.safe_load(SETTINGS))), value=JSON_VALUES)
def test_settings_of_another_kind_are_refused_by_name(place: Path, key: str, value: Any) -> None:
    path = place / "params.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(SETTINGS), key: value}))
    try:
        params.load(path)
    except OvertoneError as error:
        assert key in str(error)


@settings(FEW, max_examples=60)
@given(
    key=st.sampled_from(["family", "rate", "bodies", "format", "overtone"]),
    value=JSON_VALUES,
    data=st.binary(max_size=50),
)
def test_config_of_a_model_is_read_or_refused(place: Path, key: str, value: Any, data: bytes) -> None:
    body = {"cell": "gru", "width": 8, "layers": 1, "dropout": 0.0}
    whole = {"family": "rnn", "rate": 48_000, "bodies": {"extend": body, "restore": body}, "format": 2}
    for content in (json.dumps(whole | {key: value}).encode(), data):
        (place / "config.json").write_bytes(content)
        try:
            Model.load(place)
        except OvertoneError as error:
            assert str(place) in str(error)


@settings(FEW, max_examples=60)
@given(data=st.data())
def test_weights_of_a_model_are_read_or_refused(
    bare_project: Path, make_model: ModelMaker, data: st.DataObject
) -> None:
    folder = make_model("fuzzed")
    weights = folder / WEIGHTS
    weights.write_bytes(data.draw(mutated([weights.read_bytes()])))
    try:
        model = Model.load(folder)
    except OvertoneError as error:
        assert str(folder) in str(error)
    else:
        assert model.parameters > 0


# --- servers --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_server_keeps_to_its_own_description(
    make_model: ModelMaker, tmp_path: Path, environment: dict[str, str]
) -> None:
    """Schemathesis makes requests up from the OpenAPI description, and judges answers by it."""
    import subprocess
    import sys

    many = "200" if os.environ.get("HYPOTHESIS_PROFILE") == "long" else "8"
    with started(tmp_path, environment, "--model", str(make_model()), "--workers", "1") as (address, _, log):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
                *("--max-examples", many, "--seed", "1", "--generation-database", "none", "--no-color"),
                *("--checks", "not_a_server_error,status_code_conformance,content_type_conformance"),
                *("--phases", "examples,coverage,fuzzing", "--request-timeout", "60"),
            ],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1_800,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-2_000:]
        assert "Traceback" not in log.read_text(errors="replace")


@pytest.fixture
def live_client(make_model: ModelMaker) -> Iterator[Any]:
    from overtone.serving.options import Options

    with serving(Options(model=str(make_model()), workers=1, poll_seconds=60.0)) as client:
        yield client


HELLO = {"type": "hello", "rate": 16_000, "channels": 1, "format": "f32le"}
MESSAGES = (
    st.binary(max_size=200)
    | st.text(max_size=60)
    | st.builds(json.dumps, JSON_VALUES)
    | st.builds(
        lambda key, value: json.dumps({**HELLO, key: value}), st.sampled_from([*HELLO, "cutoff_hz", "x"]), JSON_VALUES
    )
    | st.just(json.dumps(HELLO))
    | st.just(json.dumps({"type": "end"}))
    | st.floats(width=32).map(lambda value: struct.pack("<f", value) * 100)
)


@settings(FEW, max_examples=30)
@given(messages=st.lists(MESSAGES, min_size=1, max_size=4))
def test_live_streams_end_with_a_sentence_or_a_result(live_client: Any, messages: list[bytes | str]) -> None:
    heard: list[dict[str, Any]] = []
    with live_client.websocket_connect(LIVE) as socket:
        try:
            for message in [*messages, json.dumps({"type": "end"}), b"the end"]:
                _ = socket.send_bytes(message) if isinstance(message, bytes) else socket.send_text(message)
            while True:
                found = socket.receive()
                if found["type"] == "websocket.close":
                    break
                if found.get("text"):
                    heard.append(json.loads(found["text"]))
                else:
                    assert np.isfinite(np.frombuffer(found["bytes"], "<f4")).all()
        except WebSocketDisconnect:
            pass
    assert heard
    assert heard[-1]["type"] in ("done", "error")
    assert "the server failed" not in str(heard[-1].get("detail")), heard[-1]
