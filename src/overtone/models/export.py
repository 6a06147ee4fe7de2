"""A network as an ONNX graph beside its weights, checked against torch, and the session that runs it."""

from __future__ import annotations

import copy
import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from overtone.audio import replacing
from overtone.models.build import WEIGHTS, ModelError
from overtone.models.spectral import BINS, SpectralUpsampler, origins, shares

GRAPH = "model.onnx"
OPSET = 18
# Lengths, in frames, at which an export is compared with torch, and the largest difference that may be (full scale is 512).
CHECKED_FRAMES = (1, 7, 94, 300)
TOLERANCE = 2e-2
# What a graph is given before the state.
_INPUTS = ("real", "imag", "visible", "restore", "concealed", "origin")
# Name of the graph's note on which weights it was made of.
_DIGEST = "weights_sha256"
# The key by which a graph names another file to read tensors from. Ours hold all of theirs.
_ELSEWHERE = b"location"


class _Graph(nn.Module):
    """`SpectralUpsampler.transform` with the state as single tensors in and out, and a branch where nothing is repaired."""

    def __init__(self, model: SpectralUpsampler) -> None:
        super().__init__()
        self.model = copy.copy(model)
        with warnings.catch_warnings():
            # Tracing would keep the branch that its example takes.
            warnings.simplefilter("ignore")
            scripted: Any = torch.jit.script
            self.model.shares = scripted(shares)

    def forward(
        self,
        real: Tensor,
        imag: Tensor,
        visible: Tensor,
        restore: Tensor,
        concealed: Tensor,
        origin: Tensor,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        out_real, out_imag, after = self.model.transform(real, imag, visible, restore, concealed, origin, list(state))
        return out_real, out_imag, *after


def export(model: SpectralUpsampler, folder: Path) -> Path:
    """Write `model.onnx` into a model folder, for any number of frames and channels.

    Args:
        model: the folder's network, in evaluation mode.

    Raises:
        ModelError: the folder has no weights, or the graph does not compute what the network does.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{weights}: no such file; expected the weights of a model")
    inputs = _example(model, frames=16 * model.body.alignment, channels=2, seed=0)
    states = len(inputs) - len(_INPUTS)
    names = [*_INPUTS, *(f"state{i}" for i in range(states))]
    outputs = ["out_real", "out_imag", *(f"after{i}" for i in range(states))]
    axes = {name: {0: "channels", 1: "frames"} for name in ("real", "imag", "concealed", "out_real", "out_imag")}
    axes |= {name: {0: "channels"} for name in ("visible", "restore", "origin")}
    axes |= {name: {1: "channels"} for name in (*names[len(_INPUTS) :], *outputs[2:])}
    with replacing(folder / GRAPH) as path, warnings.catch_warnings():
        # The exporter by tracing is the one that keeps a recurrent layer's number of frames open.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            # A module made anew is in training mode, and the exporter puts all within it into the same.
            _Graph(model).eval(),
            tuple(inputs),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_axes=axes,
        )
        _note(path, _digest(weights))
        check(model, Session(path))
    return folder / GRAPH


def check(model: SpectralUpsampler, session: Session) -> float:
    """The largest difference between the graph's output and torch's, over several lengths and both modes.

    Raises:
        ModelError: it exceeds the tolerance.
    """
    worst = 0.0
    for frames in CHECKED_FRAMES:
        frames = -(-frames // model.body.alignment) * model.body.alignment
        for channels in (1, 2):
            real, imag, visible, restore, concealed, origin, *state = _example(model, frames, channels, seed=frames)
            with torch.inference_mode():
                expected = model.transform(real, imag, visible, restore, concealed, origin, state)
            found = session.transform(real, imag, visible, restore, concealed, origin, state)
            pairs = zip((*expected[:2], *expected[2]), (*found[:2], *found[2]), strict=True)
            worst = max(worst, *(float((one - other).abs().max()) for one, other in pairs))
    if not worst <= TOLERANCE:
        raise ModelError(f"{GRAPH}: differs from the network by {worst:.3g}; expected at most {TOLERANCE:g}")
    return worst


class Session:
    """Runs an exported graph on the CPU.

    Args:
        path: `model.onnx`.
        threads: compute threads, 0 for as many as torch has.

    Raises:
        ModelError: not a graph, or one that reads other files.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        graph = path.read_bytes()
        if _ELSEWHERE in graph:
            raise ModelError(f"{path}: names other files to read; expected a graph that holds all of its tensors")
        try:
            self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base but Exception
            reason = str(error).splitlines()[0]
            raise ModelError(f"{path}: not a graph that can be run: {reason}") from None
        self.digest = self._session.get_modelmeta().custom_metadata_map.get(_DIGEST, "")
        self._names = [value.name for value in self._session.get_inputs()]

    def transform(
        self,
        real: Tensor,
        imag: Tensor,
        visible: Tensor,
        restore: Tensor,
        concealed: Tensor,
        origin: Tensor,
        state: list[Tensor],
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As `SpectralUpsampler.transform`."""
        values = (real, imag, visible, restore, concealed, origin, *state)
        feed = {name: np.ascontiguousarray(value.numpy()) for name, value in zip(self._names, values, strict=True)}
        out: list[Any] = self._session.run(None, feed)
        out_real, out_imag, *after = (torch.from_numpy(value) for value in out)
        return out_real, out_imag, after


def open_graph(folder: Path) -> Session | None:
    """The session of a model folder's graph; None where there is none, or where it was made of other weights."""
    if not (folder / GRAPH).is_file():
        return None
    session = Session(folder / GRAPH)
    return session if session.digest == _digest(folder / WEIGHTS) else None


def _example(model: SpectralUpsampler, frames: int, channels: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    real, imag = (10.0 * torch.randn(channels, frames, BINS, generator=generator) for _ in range(2))
    count = torch.randint(40, BINS, (channels, 1), generator=generator)
    visible = torch.arange(BINS)[None] < count
    restore = torch.arange(channels) % 2 == seed % 2
    concealed = torch.rand(channels, frames, generator=generator)
    return [real, imag, visible, restore, concealed, origins(visible), *model.body.initial(channels)]


def _note(path: Path, digest: str) -> None:
    import onnx

    graph = onnx.load(str(path))
    entry = graph.metadata_props.add()
    entry.key, entry.value = _DIGEST, digest
    onnx.save(graph, str(path))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
