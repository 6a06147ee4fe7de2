"""Settings -> network, and network <-> model folder (`weights.safetensors` and `config.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import safetensors
import torch
from safetensors.torch import load_file, save_file

from overtone.audio import replacing
from overtone.errors import OvertoneError
from overtone.models.cnn import ConvBody
from overtone.models.rnn import RecurrentBody
from overtone.models.spectral import SpectralUpsampler
from overtone.params import CnnParams, RnnParams

Kind = Literal["cnn", "rnn"]
WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
# Of a model folder, counted up when one that this code writes can no longer be read by older code. Folders without a
# number are of format 1: version 0.1.0 wrote none.
FORMAT = 1


class ModelError(OvertoneError):
    """A model folder that cannot be used; the message names the file and what was expected."""


def network(params: CnnParams | RnnParams, rate: int) -> SpectralUpsampler:
    """An untrained network; its family follows from the type of its settings.

    Args:
        rate: canonical rate in Hz.
    """
    body = ConvBody(params) if isinstance(params, CnnParams) else RecurrentBody(params)
    return SpectralUpsampler(body, rate, params.phase)


def save(
    model: SpectralUpsampler,
    folder: Path,
    kind: Kind,
    params: CnnParams | RnnParams,
    *,
    dtype: torch.dtype = torch.float32,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and the settings that rebuild the network.

    Args:
        dtype: of the stored weights; half precision is half the file, and computes in float32 when loaded.
        facts: kept in `config.json` as they are.
    """
    config = {"model": kind, "rate": model.rate, "network": params.model_dump(mode="json"), **(facts or {})}
    config |= {"format": FORMAT, "overtone": metadata.version("overtone")}
    with replacing(folder / WEIGHTS) as path:
        save_file({name: value.to(dtype).contiguous().cpu() for name, value in model.state_dict().items()}, path)
    with replacing(folder / CONFIG) as path:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def load(folder: Path) -> tuple[SpectralUpsampler, dict[str, Any]]:
    """A network in evaluation mode, and its `config.json`.

    Raises:
        ModelError: a file is missing, unreadable, or weights and settings do not belong together.
    """
    config = read_config(folder)
    try:
        params, rate = settings_of(config), int(config["rate"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{folder / CONFIG}: not the settings of a model: {error}") from None
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{weights}: no such file; expected the weights of a model")
    try:
        _check_size(params, weights)
        model = network(params, rate)
        model.load_state_dict(load_file(weights))
    except (safetensors.SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{weights}: not the weights of the network in {CONFIG}: {reason}") from None
    return model.eval(), config


def _check_size(params: CnnParams | RnnParams, weights: Path) -> None:
    """Refuse settings of a much larger network than the weights are of, before it takes any memory.

    Raises:
        RuntimeError: they are.
    """
    square = 2 * params.expansion * params.width**2
    if isinstance(params, CnnParams):
        least = sum(params.depths) * (params.width * params.kernel + square)
    else:
        least = params.layers * (params.hidden**2 // 2 + square)
    # No number is stored in less than a byte. What is not counted here is a small multiple of what is.
    if least > (size := weights.stat().st_size):
        raise RuntimeError(f"its settings are of {least} weights or more, and the file has {size} bytes")


def settings_of(config: Mapping[str, Any]) -> CnnParams | RnnParams:
    """The network's settings in a `config.json`.

    Raises:
        KeyError, TypeError, ValueError: they are not those of a network.
    """
    families: dict[str, type[CnnParams] | type[RnnParams]] = {"cnn": CnnParams, "rnn": RnnParams}
    return families[config["model"]].model_validate(config["network"])


def read_config(folder: Path) -> dict[str, Any]:
    """A model folder's `config.json`.

    Raises:
        ModelError: no such folder, the file is missing or not a JSON object, or a later version of the project wrote it.
    """
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text())
    except FileNotFoundError:
        raise ModelError(f"{folder}: not a model folder; expected {WEIGHTS} and {CONFIG} in it") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object")
    format = config.get("format", 1)
    if isinstance(format, bool) or not isinstance(format, int) or format < 1:
        raise ModelError(f"{path}: format: expected a whole number from 1, got {format!r}")
    if format > FORMAT:
        maker = config.get("overtone", "that made it")
        raise ModelError(
            f"{path}: a model folder of format {format}, and this version of overtone reads up to {FORMAT}; "
            f"install overtone {maker} or later"
        )
    return config
