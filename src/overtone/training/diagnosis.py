"""What goes on inside a network on a batch, layer by layer: activations that are no numbers, dead or saturated; gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from overtone.models.spectral import SpectralUpsampler

# A unit that varies by less than this share of what its layer's units do on average says nothing any more.
DEAD = 1e-4
# Outputs of recurrent cells lie in -1 to 1; beyond this they hardly answer to their input.
SATURATED = 0.99
_OBSERVED = (nn.Linear, nn.Conv1d, nn.GRU, nn.LSTM, nn.LayerNorm)


@dataclass(frozen=True)
class Activation:
    """What came out of a layer.

    Attributes:
        layer: its name in the network.
        finite: share of values that are numbers, 0 to 1.
        rms: root mean square of the finite ones.
        dead: share of units that are the same for every frame of every example, though what the layer hears is not.
        saturated: share of a recurrent cell's values at their limit; 0 for other layers.
    """

    layer: str
    finite: float
    rms: float
    dead: float
    saturated: float


@torch.no_grad()
def activations(network: SpectralUpsampler, *inputs: Tensor) -> list[Activation]:
    """Every layer's output when the network hears `inputs` (see `SpectralUpsampler.forward`), in the order computed."""
    found: list[Activation] = []
    with _observed(network, found):
        network(*inputs)
    return found


@contextmanager
def _observed(network: nn.Module, found: list[Activation]) -> Iterator[None]:
    def hook(name: str) -> Any:
        def observe(layer: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            recurrent = isinstance(layer, nn.GRU | nn.LSTM)
            heard, said = (
                _units(values, isinstance(layer, nn.Conv1d))
                for values in (given[0], output[0] if recurrent else output)
            )
            found.append(_measured(name, heard, said, recurrent))

        return observe

    layers = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, _OBSERVED)]
    handles = [layer.register_forward_hook(hook(name)) for name, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _units(values: Tensor, units_first: bool) -> Tensor:
    """Shape: (B, N, units), or (B, units, N) where `units_first`, -> (all frames, units)."""
    return (values.transpose(1, -1) if units_first else values).float().flatten(0, -2)


def _measured(name: str, heard: Tensor, said: Tensor, recurrent: bool) -> Activation:
    finite = said.isfinite()
    kept = torch.where(finite, said, 0.0)
    spread = kept.std(dim=0, unbiased=False)
    # A layer that is told the same all the time has nothing to say.
    told = bool((heard != heard[:1]).any())
    return Activation(
        name,
        float(finite.float().mean()),
        float(kept.square().mean().sqrt()),
        float((spread <= DEAD * spread.mean()).float().mean()) if told else 0.0,
        float((kept.abs() > SATURATED).float().mean()) if recurrent else 0.0,
    )


def gradient_norms(network: nn.Module) -> dict[str, float]:
    """Norm of each weight's gradient, by the weight's name; weights without a gradient are left out."""
    return {
        name: float(weight.grad.float().norm())
        for name, weight in network.named_parameters()
        if weight.grad is not None
    }


def weight_norms(network: nn.Module) -> dict[str, float]:
    """Norm of each weight, by its name."""
    return {name: float(weight.detach().float().norm()) for name, weight in network.named_parameters()}
