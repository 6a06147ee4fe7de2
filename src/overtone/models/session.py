"""Networks that run as ONNX graphs, with NumPy and without torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from overtone.models.folder import CONFIG, TASKS, ModelError, digest, graph_of, read_config

Values = npt.NDArray[np.float32]
# Name of a graph's note on which weights it was made of.
DIGEST = "weights_sha256"
# The key by which a graph names another file to read tensors from. Ours hold all of theirs.
_ELSEWHERE = b"location"


class Session:
    """Runs an exported graph on the CPU.

    Args:
        path: `extend.onnx` or `restore.onnx`.
        threads: compute threads, 0 for as many as torch has, `OMP_NUM_THREADS`, or one a core.

    Raises:
        ModelError: not a graph, or one that reads other files.
    """

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or _threads()
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

    def initial(self, batch: int) -> list[Values]:
        """The state before the first frame."""
        shapes = [[batch if isinstance(size, str) else size for size in shape] for shape in self._shapes]
        return [np.zeros(shape, np.float32) for shape in shapes]

    def __call__(self, inputs: Sequence[Values], state: Sequence[Values]) -> tuple[Values, list[Values]]:
        """Advance over frames, as the network's `forward` does."""
        values = (*inputs, *state)
        feed = {name: np.ascontiguousarray(value) for name, value in zip(self._names, values, strict=True)}
        out: list[Any] = self._session.run(None, feed)
        return out[0], out[1:]


class Graphs:
    """The graphs of a model folder in the place of its networks; see `enhance.networks.Networks`."""

    def __init__(self, config: dict[str, Any], sessions: dict[str, Session]) -> None:
        self.config, self._sessions = config, sessions
        self.family, self.rate = str(config["family"]), int(config["rate"])

    def array(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return values

    def extend_state(self, batch: int) -> list[Values]:
        return self._sessions["extend"].initial(batch)

    def restore_state(self, batch: int) -> list[Values]:
        return self._sessions["restore"].initial(batch)

    def run_extend(self, features: Values, profile: Values, state: list[Values]) -> tuple[Values, list[Values]]:
        return self._sessions["extend"]([features, profile], state)

    def run_restore(self, features: Values, state: list[Values]) -> tuple[Values, list[Values]]:
        return self._sessions["restore"]([features], state)


def open_graphs(folder: Path, threads: int = 0) -> Graphs | None:
    """A model folder's graphs; None where one is missing or was made of other weights.

    Raises:
        ModelError: the folder is none of a model, or a graph cannot be run.
    """
    config = read_config(folder)
    paths = {task: folder / graph_of(task) for task in TASKS}
    if not all(path.is_file() for path in paths.values()):
        return None
    sessions = {task: Session(path, threads) for task, path in paths.items()}
    made_of = digest(folder)
    if any(session.digest != made_of for session in sessions.values()):
        return None
    try:
        return Graphs(config, sessions)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{folder / CONFIG}: not the settings of a model: {error}") from None


def _threads() -> int:
    if "torch" in sys.modules:
        return int(sys.modules["torch"].get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "")
    return int(told) if told.isdecimal() and int(told) else os.cpu_count() or 1
