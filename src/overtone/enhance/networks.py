"""What runs the two networks of a model: torch, or ONNX graphs without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Protocol

import numpy.typing as npt

from overtone.models import session
from overtone.models.folder import TASKS, ModelError, graph_of

Runtime = Literal["auto", "onnx", "torch"]


class Networks(Protocol):
    """Both networks of a model, by what frames are given to: arrays are of one library, NumPy or torch (see `dsp.backend`).

    Attributes:
        family: its name.
        rate: canonical rate in Hz.
        config: what the folder's `config.json` says.
    """

    family: str
    rate: int
    config: dict[str, Any]

    def array(self, values: npt.NDArray[Any]) -> Any:
        """Values as the library's array."""

    def extend_state(self, batch: int) -> list[Any]:
        """The state of `extend` before the first frame."""

    def restore_state(self, batch: int) -> list[Any]:
        """The state of `restore` before the first frame."""

    def run_extend(self, features: Any, profile: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        """What `Extend.forward` does, without gradients."""

    def run_restore(self, features: Any, state: list[Any]) -> tuple[Any, list[Any]]:
        """What `Restore.forward` does, without gradients."""


def load(folder: Path, device: str = "cpu", runtime: Runtime = "auto") -> Networks:
    """The networks of a model folder.

    Args:
        device: of torch; "cpu", "cuda" or another.
        runtime: `torch`; `onnx`, which wants the folder's graphs; or `auto`, the graphs on a CPU where there are some of the
            folder's own weights. Graphs need no torch.

    Raises:
        ModelError: files missing or unusable.
    """
    if runtime != "torch" and device == "cpu" and (graphs := session.open_graphs(folder)) is not None:
        return graphs
    if runtime == "onnx":
        names = " and ".join(map(graph_of, TASKS))
        raise ModelError(
            f"{folder}: expected {names} of the folder's weights, to be run on the CPU; `overtone export` makes them"
        )
    from overtone.models.model import Model

    return Model.load(folder, device)
