"""The networks of a model folder as ONNX graphs beside their weights, checked against torch."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from overtone.audio import replacing
from overtone.models.extend import Extend
from overtone.models.folder import ModelError, digest, graph_of
from overtone.models.model import Model
from overtone.models.restore import Restore
from overtone.models.session import DIGEST, Session

OPSET = 18
# Lengths, in frames, at which an export is compared with torch, and the largest difference that may be of any output
# (log10 power of `extend`; what gains are made of of `restore`).
CHECKED_FRAMES = (1, 7, 94, 300)
TOLERANCE = 1e-3


class _Graph(nn.Module):
    """A network with the state as single tensors in and out."""

    def __init__(self, network: Extend | Restore, inputs: int) -> None:
        super().__init__()
        self.network = network
        self.inputs = inputs

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        """Shape: see the network's `forward`."""
        out, state = self.network(*values[: self.inputs], list(values[self.inputs :]))
        return out, *state


def export(folder: Path) -> list[Path]:
    """Write the graphs of a model folder into it, for any number of frames and examples.

    Raises:
        ModelError: not a model folder, or a graph does not compute what its network does.
    """
    model = Model.load(folder)
    made_of = digest(folder)
    return [_export(one, folder / graph_of(task), made_of) for task, one in model.networks.items()]


def _export(network: Extend | Restore, target: Path, made_of: str) -> Path:
    inputs, state = _example(network, frames=9, batch=2, seed=0)
    names = ["features", "profile"][: len(inputs)]
    states = [f"state_{i}" for i in range(len(state))]
    after = [f"after_{i}" for i in range(len(state))]
    axes = {"features": {0: "batch", 1: "frames"}, "out": {0: "batch", 1: "frames"}}
    axes |= {name: {0: "batch"} for name in names[1:]}
    for index, (one, other) in enumerate(zip(network.body.initial(1), network.body.initial(2), strict=True)):
        batched = next(i for i in range(one.ndim) if one.shape[i] != other.shape[i])
        axes |= {states[index]: {batched: "batch"}, after[index]: {batched: "batch"}}
    with replacing(target) as path, warnings.catch_warnings():
        # The exporter by tracing is the one that keeps a recurrent layer's number of frames open.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(network, len(inputs)).eval(),
            (*inputs, *state),
            str(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[*names, *states],
            output_names=["out", *after],
            dynamic_axes=axes,
        )
        _finish(path, made_of)
        check(network, Session(path), target)
    return target


def check(network: Extend | Restore, session: Session, path: Path) -> float:
    """The largest difference between a graph's output and torch's, over several lengths and batches.

    Raises:
        ModelError: it exceeds the tolerance.
    """
    worst = 0.0
    for frames in CHECKED_FRAMES:
        for batch in (1, 2):
            inputs, state = _example(network, frames, batch, seed=frames)
            with torch.inference_mode():
                expected, after = network(*inputs, state)
            found, after_found = session([one.numpy() for one in inputs], [one.numpy() for one in state])
            pairs = zip((expected, *after), (found, *after_found), strict=True)
            worst = max(worst, *(float(np.abs(one.numpy() - other).max()) for one, other in pairs))
    if not worst <= TOLERANCE:
        raise ModelError(f"{path.name}: differs from the network by {worst:.3g}; expected at most {TOLERANCE:g}")
    return worst


def _example(network: Extend | Restore, frames: int, batch: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Random inputs and a state in the midst of a signal."""
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(batch, frames, network.stem.in_features, generator=generator)]
    if isinstance(network, Extend):
        inputs.append(torch.randn(batch, network.profile.in_features, generator=generator))
    state = [0.5 * torch.randn(value.shape, generator=generator) for value in network.body.initial(batch)]
    return inputs, state


def _finish(path: Path, made_of: str) -> None:
    """Name what the graph was made of; keep weights that lose nothing by it in half precision, as the weights' file does."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path))
    entry = model.metadata_props.add()
    entry.key, entry.value = DIGEST, made_of
    widened = []
    for weight in model.graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or (values.astype(np.float16).astype(np.float32) != values).any():
            continue
        name = weight.name
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        widened.append(helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*widened, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path))
