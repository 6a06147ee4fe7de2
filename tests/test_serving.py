"""Laws of the served model: any encoded audio in, 48 kHz audio of the same length out, bad requests refused in a sentence."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from conftest import ModelMaker
from overtone import audio
from overtone.models import graphs
from overtone.models.session import open_graphs
from overtone.registry import fetch, packaging, register, registry
from overtone.registry.scores import Scored
from overtone.settings import RegisterParams
from services import free_port, get, running

GATE = RegisterParams(name="overtone", metric="overall.all.lsd", better="lower")
SCORES = Scored({"test_set": "a", "overall": {"all": {"lsd": 1.0}}})


def tone(rate: int = 16_000, seconds: float = 0.3, channels: int = 1) -> audio.Signal:
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)
    return np.tile(wave.astype(np.float32), (channels, 1))


@pytest.fixture
def model(make_model: ModelMaker) -> Any:
    """The pyfunc opened on a tiny network, with limits low enough to meet."""
    from overtone.registry import pyfunc

    opened = pyfunc.UpsamplerModel()
    opened.open(make_model(), {**pyfunc.LIMITS, "max_megabytes": 1.0, "max_seconds": 20.0})
    return opened


def ask(model: Any, *rows: Any, **params: Any) -> list[bytes]:
    import pandas as pd

    return list(model.predict(None, pd.DataFrame({"audio": list(rows)}), params)["audio"])


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (44_100, 2)])
def test_rows_of_any_rate_and_channel_count_give_48_khz_of_the_same_length_in_order(
    model: Any, rate: int, channels: int
) -> None:
    signals = [tone(rate, seconds, channels) for seconds in (0.1, 0.3)]
    out = ask(model, *(audio.encode(signal, rate, "flac") for signal in signals), format="mp3")
    for signal, row in zip(signals, out, strict=True):
        enhanced, out_rate = audio.decode(row)
        assert out_rate == 48_000
        assert enhanced.shape == (channels, audio.resampled_length(signal.shape[1], rate, 48_000))


def test_runtime_is_the_one_asked_for(make_model: ModelMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    from overtone.models.extend import Extend
    from overtone.models.folder import ModelError
    from overtone.registry import pyfunc

    def never(*_: Any) -> None:
        raise AssertionError("the network ran")

    folder, row = make_model(), audio.encode(tone(), 16_000)
    with pytest.raises(ModelError, match=r"expected extend\.onnx and restore\.onnx"):
        pyfunc.UpsamplerModel().open(folder, {**pyfunc.LIMITS, "runtime": "onnx"})
    graphs.export(folder)
    monkeypatch.setattr(Extend, "forward", never)
    for runtime in ("auto", "onnx"):
        opened = pyfunc.UpsamplerModel()
        opened.open(folder, {**pyfunc.LIMITS, "runtime": runtime})
        assert audio.decode(*ask(opened, row))[0].any()
    opened = pyfunc.UpsamplerModel()
    opened.open(folder, {**pyfunc.LIMITS, "runtime": "torch"})
    with pytest.raises(AssertionError, match="the network ran"):
        ask(opened, row)


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        (b"not audio", {}, "row 0: audio: not readable as audio"),
        (b"", {}, "row 0: audio is empty"),
        (None, {}, "row 0: audio is empty"),
        (audio.encode(tone(seconds=0), 16_000), {}, "row 0: the audio file holds no samples"),
        (audio.encode(tone() * np.nan, 16_000, subtype="FLOAT"), {}, "row 0: signal: holds NaN or infinite samples"),
        (audio.encode(tone(seconds=21.0), 16_000, "flac"), {}, "expected at most 20 in one request"),
        (audio.encode(tone(seconds=19.0, rate=48_000), 48_000), {}, "1.8 MB of audio; expected at most 1 MB"),
        (audio.encode(tone(), 16_000), {"mode": "louder"}, "params.mode: 'louder' is not a mode; expected one of auto"),
        (audio.encode(tone(), 16_000), {"format": "aac"}, "params.format: 'aac' is not a format"),
        (audio.encode(tone(), 16_000), {"cutoff_hz": -1.0}, "params.cutoff_hz: -1.0 is not a frequency"),
        (audio.encode(tone(), 16_000), {"cutoff_hz": 1.0}, "row 0: cutoff: expected at least"),
        (audio.encode(tone(), 16_000), {"brightness": 7.0}, "params.brightness: expected -6 to 6 dB, got 7.0"),
        (audio.encode(tone(), 16_000), {"profile": "tape"}, "params.profile: not JSON; expected the text of a file"),
        (audio.encode(tone(), 16_000), {"profile": "{}"}, "params.profile: not a profile"),
        (audio.encode(tone(channels=3), 16_000), {"format": "mp3"}, "cannot hold 3 channels"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_requests_are_refused_in_a_sentence(model: Any, row: Any, options: dict[str, Any], message: str) -> None:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as caught:
        ask(model, row, **options)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert message in caught.value.message


def test_model_that_cannot_serve_is_not_registered(project: Path, make_model: ModelMaker) -> None:
    from overtone.models.folder import ModelError

    folder = make_model()
    (folder / "weights.safetensors").write_bytes(b"bad")
    with pytest.raises(ModelError, match=r"weights\.safetensors"):
        register.register([register.Candidate(folder, SCORES)], GATE)
    assert registry.models("overtone") == []


def test_registered_model_runs_its_own_copy_of_the_package(
    project: Path, make_model: ModelMaker, environment: dict[str, str]
) -> None:
    decision = register.register([register.Candidate(make_model(), SCORES)], GATE)
    assert decision.promoted
    code = """
import mlflow.pyfunc, sys
model = mlflow.pyfunc.load_model("models:/overtone@champion")
assert model.metadata.signature.inputs.to_dict() == [{"type": "binary", "name": "audio", "required": True}]
assert [one.name for one in model.metadata.signature.params] == ["mode", "cutoff_hz", "brightness", "profile", "format"]
example = model.metadata.load_input_example()
import overtone.enhance.upsampler, overtone.tracking.store
assert "/mlruns/" in overtone.enhance.upsampler.__file__, overtone.enhance.upsampler.__file__
out = model.predict(example)
assert out["audio"][0][:4] == b"RIFF"
print(model.metadata.get_model_info().model_uri)
"""
    uri = f"sqlite:///{project}/mlflow.db"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd="/",
        env=environment | {"MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stored = next((project / "mlruns").rglob("requirements.txt")).read_text().split()
    assert stored == packaging.requirements()
    assert not list((project / "mlruns").rglob("__pycache__"))
    assert not list((project / "mlruns").rglob("*.pkl"))
    fetched = fetch.fetch("overtone", "champion", project / "cache")
    assert (fetched / "config.json").is_file()
    assert open_graphs(fetched) is not None, "a registered model brings the graphs of its own weights"


# --- over HTTP --------------------------------------------------------------------------------------------------------


@contextmanager
def served(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """`mlflow models serve` of the champion in a project's folder, as docs/how-to/serve.md starts it; gives its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = ["mlflow", "models", "serve", "-m", "models:/overtone@champion", "--env-manager", "local", "-p", port]
    with running(command, lambda: get(f"{address}/ping"), folder / "serve.log", environment):
        yield address


@pytest.fixture
def server(project: Path, make_model: ModelMaker, environment: dict[str, str]) -> Iterator[str]:
    """The address of a server of an untrained champion."""
    register.register([register.Candidate(make_model(), SCORES)], GATE)
    with served(project, environment) as address:
        yield address


def post(address: str, data: bytes, **params: Any) -> tuple[int, dict[str, Any]]:
    body = {"dataframe_split": {"columns": ["audio"], "data": [[base64.b64encode(data).decode()]]}, "params": params}
    answer = httpx.post(f"{address}/invocations", json=body, timeout=60)
    return answer.status_code, answer.json()


@pytest.mark.slow
def test_real_server_answers_audio_with_audio_and_noise_with_400(server: str) -> None:
    signal = tone(16_000, seconds=1.0, channels=2)
    status, answer = post(server, audio.encode(signal, 16_000, "flac"), mode="extend")
    assert status == 200, answer
    data = base64.b64decode(answer["predictions"][0]["audio"])
    enhanced, rate = audio.decode(data)
    assert data[:4] == b"RIFF"
    assert (rate, enhanced.shape) == (48_000, (2, 48_000))

    status, answer = post(server, b"surely no audio")
    assert status == 400
    assert "row 0: audio: not readable as audio" in answer["message"]
    assert "Traceback" not in json.dumps(answer)

    status, answer = post(server, audio.encode(signal, 16_000), mode="louder")
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert "params.mode: 'louder' is not a mode" in answer["message"]
