"""Networks that run as ONNX graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from overtone.models.folder import TASKS, ModelError, digest, graph_of

# Name of a graph's note on which weights it was made of.
DIGEST = "weights_sha256"
# The key by which a graph names another file to read tensors from. Ours hold all of theirs.
_ELSEWHERE = b"location"


class Session:
    """Runs an exported graph on the CPU.

    Args:
        path: `extend.onnx` or `restore.onnx`.
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
        self.digest = self._session.get_modelmeta().custom_metadata_map.get(DIGEST, "")
        self._names = [value.name for value in self._session.get_inputs()]
        self._shapes = [value.shape for value in self._session.get_inputs() if value.name.startswith("state")]

    def initial(self, batch: int) -> list[Tensor]:
        """The state before the first frame."""
        return [torch.zeros([batch if isinstance(size, str) else size for size in shape]) for shape in self._shapes]

    def __call__(self, inputs: Sequence[Tensor], state: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Advance over frames, as the network's `forward` does."""
        values = (*inputs, *state)
        feed = {name: np.ascontiguousarray(value.numpy()) for name, value in zip(self._names, values, strict=True)}
        out: list[Any] = self._session.run(None, feed)
        result, *after = (torch.from_numpy(value) for value in out)
        return result, after


def open_sessions(folder: Path, threads: int = 0) -> dict[str, Session] | None:
    """The sessions of a model folder's graphs by task; None where one is missing or was made of other weights."""
    paths = {task: folder / graph_of(task) for task in TASKS}
    if not all(path.is_file() for path in paths.values()):
        return None
    sessions = {task: Session(path, threads) for task, path in paths.items()}
    made_of = digest(folder)
    return sessions if all(session.digest == made_of for session in sessions.values()) else None
