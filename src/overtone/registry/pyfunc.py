"""The served model: encoded audio in, encoded 48 kHz audio out.

MLflow loads this file as the model's code (models-from-code), beside the copy of the package that the model carries.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature, set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from overtone import audio
from overtone.errors import OvertoneError

MODES = ("auto", "extend", "restore")
FORMATS = ("wav", "flac", "ogg", "opus", "mp3")
# A request's parameters: `cutoff_hz` of the input, 0 to take it from the file; `brightness` in dB; `profile`, the text of a
# file that `overtone profile` wrote, empty for none; `format` of the output.
DEFAULTS: Mapping[str, str | float] = {
    "mode": "auto",
    "cutoff_hz": 0.0,
    "brightness": 0.0,
    "profile": "",
    "format": "wav",
}
# Defaults of the model's configuration: megabytes of encoded audio, and channel-seconds of sound, in one request; torch's
# device; what runs the network (see `Upsampler.load`).
LIMITS: Mapping[str, Any] = {"max_megabytes": 100.0, "max_seconds": 1800.0, "device": "cpu", "runtime": "auto"}
_EXAMPLE_RATE = 16_000
_EXAMPLE_SECONDS = 0.5


def signature() -> ModelSignature:
    """One column `audio` of encoded files in and out, and the parameters of `DEFAULTS`."""
    column = Schema([ColSpec(DataType.binary, "audio")])
    types = {name: DataType.string if isinstance(value, str) else DataType.double for name, value in DEFAULTS.items()}
    parameters = ParamSchema([ParamSpec(name, types[name], value) for name, value in DEFAULTS.items()])
    return ModelSignature(inputs=column, outputs=column, params=parameters)


def input_example() -> tuple[pd.DataFrame, dict[str, Any]]:
    """Half a second of a 440 Hz tone at 16 kHz as a WAV file, and the default parameters."""
    time = np.arange(int(_EXAMPLE_SECONDS * _EXAMPLE_RATE)) / _EXAMPLE_RATE
    tone = (0.1 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)[None]
    return pd.DataFrame({"audio": [audio.encode(tone, _EXAMPLE_RATE)]}), dict(DEFAULTS)


def try_out(folder: Path) -> None:
    """Enhance the input example with the model of a folder.

    Raises:
        OvertoneError: the folder is no model.
        MlflowException: it refuses the example.
    """
    model = UpsamplerModel()
    model.open(folder, LIMITS)
    frame, parameters = input_example()
    model.predict(None, frame, parameters)


def _refuse(sentence: str) -> MlflowException:
    """The error of a request that can never succeed: HTTP 400."""
    return MlflowException(sentence, error_code=INVALID_PARAMETER_VALUE)


class UpsamplerModel(PythonModel):
    """Enhances each row's `audio`, a whole encoded file of any rate, length and channel count."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the model folder that was logged as the artifact `model`."""
        self.open(Path(context.artifacts["model"]), {**LIMITS, **(context.model_config or {})})

    def open(self, folder: Path, config: Mapping[str, Any]) -> None:
        """Load the networks of a model folder, under the limits, on the device and in the runtime of `config`."""
        from overtone.enhance.upsampler import Upsampler

        self._max_bytes = int(float(config["max_megabytes"]) * 1_000_000)
        self._max_seconds = float(config["max_seconds"])
        self._upsampler = Upsampler.load(folder, str(config["device"]), config["runtime"])

    def predict(
        self, context: PythonModelContext | None, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Encoded audio of the same number of rows; see `signature`.

        Raises:
            MlflowException: INVALID_PARAMETER_VALUE for a row that is not audio, is too large, or for bad parameters.
        """
        settings, format = _check(params or {})
        rows = list(model_input["audio"])
        self._check_size(rows)
        return pd.DataFrame(
            {"audio": [self._enhance(number, row, settings, format) for number, row in enumerate(rows)]}
        )

    def _check_size(self, rows: list[Any]) -> None:
        """Refuse by the headers, before anything is decoded: a small file may hold hours of silence."""
        total, seconds = 0, 0.0
        for number, row in enumerate(rows):
            if not isinstance(row, bytes) or not row:
                raise _refuse(
                    f"row {number}: audio is empty; expected the bytes of an audio file, base64-encoded in JSON"
                )
            total += len(row)
            try:
                info = audio.probe(io.BytesIO(row))
            except audio.AudioError as error:
                raise _refuse(f"row {number}: {error}") from None
            seconds += info.seconds * info.channels
        if total > self._max_bytes:
            raise _refuse(
                f"{total / 1e6:.1f} MB of audio; expected at most {self._max_bytes / 1e6:g} MB in one request"
            )
        if seconds > self._max_seconds:
            raise _refuse(
                f"{seconds:.0f} channel-seconds of audio; expected at most {self._max_seconds:g} in one request"
            )

    def _enhance(self, number: int, row: bytes, settings: Mapping[str, Any], format: str) -> bytes:
        try:
            signal, rate = audio.decode(row)
            if not signal.size:
                raise _refuse(f"row {number}: the audio file holds no samples")
            enhanced = self._upsampler.enhance(signal, rate, **settings)
            return audio.encode(enhanced, self._upsampler.rate, format)
        except OvertoneError as error:
            raise _refuse(f"row {number}: {error}") from None


def _check(params: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The options of `Upsampler.enhance`, and the format, from a request's parameters."""
    params = {**DEFAULTS, **params}
    mode, format = str(params["mode"]), str(params["format"]).lower()
    cutoff_hz, brightness = float(params["cutoff_hz"]), float(params["brightness"])
    if mode not in MODES:
        raise _refuse(f"params.mode: {mode!r} is not a mode; expected one of {', '.join(MODES)}")
    if format not in FORMATS:
        raise _refuse(f"params.format: {format!r} is not a format; expected one of {', '.join(FORMATS)}")
    if not math.isfinite(cutoff_hz) or cutoff_hz < 0:
        raise _refuse(f"params.cutoff_hz: {cutoff_hz} is not a frequency; expected Hz, or 0 to take it from the file")
    if not -6.0 <= brightness <= 6.0:
        raise _refuse(f"params.brightness: expected -6 to 6 dB, got {brightness}")
    profile = _profile(str(params["profile"]))
    options = {"mode": mode, "cutoff_hz": cutoff_hz or None, "profile": profile, "brightness_db": brightness}
    return options, format


def _profile(text: str) -> Any:
    from overtone.enhance.profile import Profile, ProfileError

    try:
        return Profile.parse(json.loads(text), "params.profile") if text else None
    except ProfileError as error:
        raise _refuse(str(error)) from None
    except ValueError:
        raise _refuse("params.profile: not JSON; expected the text of a file that `overtone profile` wrote") from None


set_model(UpsamplerModel())
