"""A model: the two networks of a family, and its folder (`weights.safetensors` and `config.json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from overtone.audio import replacing
from overtone.models.extend import Extend
from overtone.models.families import FAMILIES
from overtone.models.folder import CONFIG, FORMAT, TASKS, WEIGHTS, ModelError, read_config
from overtone.models.restore import Restore
from overtone.settings import Bodies


@dataclass
class Model:
    """Both networks of a family.

    Attributes:
        family: its name, see `families.FAMILIES`.
        bodies: settings of the networks' bodies.
        rate: canonical rate in Hz.
        config: what the folder's `config.json` says; empty for a model that was not loaded.
    """

    family: str
    bodies: Bodies[Any]
    rate: int
    extend: Extend
    restore: Restore
    config: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def untrained(cls, family: str, bodies: Bodies[Any], rate: int) -> Model:
        """New networks, their weights drawn from torch's generator."""
        extend, restore = (network(family, task, bodies, rate) for task in TASKS)
        assert isinstance(extend, Extend) and isinstance(restore, Restore)
        return cls(family, bodies, rate, extend, restore)

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> Model:
        """The networks of a folder, in evaluation mode.

        Args:
            device: of torch.

        Raises:
            ModelError: a file is missing, unreadable, or weights and settings do not belong together.
        """
        config = read_config(folder)
        try:
            family, bodies, rate = config["family"], _bodies(config), int(config["rate"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ModelError(f"{folder / CONFIG}: not the settings of a model: {error}") from None
        weights = folder / WEIGHTS
        if not weights.is_file():
            raise ModelError(f"{weights}: no such file; expected the weights of a model")
        try:
            tensors = load_file(weights)
            _check_sizes(family, bodies, rate, tensors)
            model = cls.untrained(family, bodies, rate)
            _joined(model).load_state_dict(tensors)
        except (safetensors.SafetensorError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"{weights}: not the weights of the networks in {CONFIG}: {reason}") from None
        for one in model.networks.values():
            one.eval().to(device)
        model.config = config
        return model

    def save(self, folder: Path, *, dtype: torch.dtype = torch.float32, facts: Mapping[str, Any] | None = None) -> None:
        """Write weights and the settings that rebuild the networks.

        Args:
            dtype: of the stored weights; half precision is half the file, and computes in float32 when loaded.
            facts: kept in `config.json` as they are.
        """
        config = {
            **(facts or {}),
            "format": FORMAT,
            "overtone": metadata.version("overtone"),
            "family": self.family,
            "rate": self.rate,
            "bodies": self.bodies.model_dump(mode="json"),
        }
        weights = _joined(self).state_dict()
        with replacing(folder / WEIGHTS) as path:
            save_file({name: value.to(dtype).contiguous().cpu() for name, value in weights.items()}, path)
        with replacing(folder / CONFIG) as path:
            path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")

    def array(self, values: npt.NDArray[Any]) -> Tensor:
        """Values as a tensor on the networks' device."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(next(self.extend.parameters()).device)

    def extend_state(self, batch: int) -> list[Tensor]:
        """The state of `extend` before the first frame."""
        return self.extend.body.initial(batch)

    def restore_state(self, batch: int) -> list[Tensor]:
        """The state of `restore` before the first frame."""
        return self.restore.body.initial(batch)

    def run_extend(self, features: Tensor, profile: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What `Extend.forward` does, without gradients."""
        return self._run("extend", [features, profile], state)

    def run_restore(self, features: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What `Restore.forward` does, without gradients."""
        return self._run("restore", [features], state)

    def _run(self, task: str, inputs: list[Tensor], state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        with torch.inference_mode():
            out: tuple[Tensor, list[Tensor]] = self.networks[task](*inputs, state)
            return out

    @property
    def networks(self) -> dict[str, Extend | Restore]:
        """By task; the weights' names begin with these."""
        return {"extend": self.extend, "restore": self.restore}

    @property
    def parameters(self) -> int:
        """Number of weights of both."""
        return sum(weight.numel() for one in self.networks.values() for weight in one.parameters())


def network(family: str, task: str, bodies: Bodies[Any], rate: int) -> Extend | Restore:
    """An untrained network of a family for one of the `TASKS`.

    Args:
        rate: canonical rate in Hz.
    """
    body = FAMILIES[family].body(getattr(bodies, task))
    return Extend(body, rate) if task == "extend" else Restore(body, rate)


def _joined(model: Model) -> nn.ModuleDict:
    return nn.ModuleDict(dict(model.networks))


def _bodies(config: Mapping[str, Any]) -> Bodies[Any]:
    settings: Any = FAMILIES[config["family"]].settings
    made: Any = Bodies[settings]
    bodies: Bodies[Any] = made.model_validate(config["bodies"])
    return bodies


def _check_sizes(family: str, bodies: Bodies[Any], rate: int, tensors: Mapping[str, Tensor]) -> None:
    """Compare the weights' names and shapes with the settings', before a network of any size takes memory.

    Raises:
        RuntimeError: they differ.
    """
    with torch.device("meta"):
        expected = _joined(Model.untrained(family, bodies, rate)).state_dict()
    for name in expected.keys() | tensors.keys():
        shapes = [tuple(group[name].shape) if name in group else "nothing" for group in (expected, tensors)]
        if shapes[0] != shapes[1]:
            raise RuntimeError(f"{name}: expected {shapes[0]}, got {shapes[1]}")
