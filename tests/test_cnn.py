"""Laws of the convolutional body: its context is exact, its pooling falls alike in a block and in the whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from overtone.models.cnn import ConvBody
from overtone.params import CnnParams

VARIANTS: list[dict[str, Any]] = [
    {},
    {"pooling": "max"},
    {"depths": (3,)},
    {"depths": (1, 1, 2)},
    {"depths": (2, 1), "kernel": 3, "pooling": "max"},
    {"depths": (1, 1, 1, 1), "kernel": 5},
]


def body(**changes: Any) -> ConvBody:
    settings: dict[str, Any] = {
        **{"steps": 10, "learning_rate": 0.001, "phase": "copied", "dropout": 0.0, "width": 16, "depths": (1, 2)},
        **{"kernel": 7, "expansion": 2, "pooling": "average"},
    }
    torch.manual_seed(0)
    made = ConvBody(CnnParams.model_validate(settings | changes)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return made


def frames(count: int, seed: int = 0, batch: int = 1) -> Tensor:
    return torch.randn(batch, count, 16, generator=torch.Generator().manual_seed(seed))


def run(network: ConvBody, hidden: Tensor) -> Tensor:
    out: Tensor
    out, state = network(hidden, network.initial(hidden.shape[0]))
    assert state == network.initial(hidden.shape[0]) == [], "a convolution has no state"
    return out


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 8, 33])
def test_any_number_of_aligned_frames_keeps_its_shape(changes: dict[str, Any], blocks: int) -> None:
    network = body(**changes)
    count = blocks * network.alignment
    with torch.inference_mode():
        out = run(network, frames(count, batch=2))
    assert out.shape == (2, count, 16)
    assert out.isfinite().all()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_frames_beyond_the_context_do_not_matter(changes: dict[str, Any]) -> None:
    network = body(**changes)
    reach, block = network.context, 4 * network.alignment
    start = reach + 2 * network.alignment
    count = start + block + reach + 2 * network.alignment
    one, other = frames(count), frames(count, seed=1)
    near = (torch.arange(count) >= start - reach) & (torch.arange(count) < start + block + reach)
    with torch.inference_mode():
        plain, changed = run(network, one), run(network, torch.where(near[None, :, None], one, other))
    kept = slice(start, start + block)
    torch.testing.assert_close(changed[:, kept], plain[:, kept], atol=1e-5, rtol=1e-5)
    assert (changed[:, :2] - plain[:, :2]).abs().max() > 1e-3


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("tail", [0, 1])
def test_block_with_its_context_gives_what_the_whole_gives(changes: dict[str, Any], tail: int) -> None:
    network = body(**changes)
    whole = frames(4 * network.context + (5 + tail) * network.alignment)
    with torch.inference_mode():
        expected = run(network, whole)
        for begin in range(0, whole.shape[1], 3 * network.alignment):
            first = max(begin - network.context, 0)
            last = min(begin + 3 * network.alignment, whole.shape[1])
            out = run(network, whole[:, first : last + network.context])
            here = out[:, begin - first : last - first]
            torch.testing.assert_close(here, expected[:, begin:last], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_context_is_no_more_than_needed(changes: dict[str, Any]) -> None:
    """Context is memory and waiting time: at most twice what gradients show, and the rounding to whole blocks."""
    network = body(**changes)
    count = 4 * network.context + 8 * network.alignment
    middle = count // 2
    given = frames(count).requires_grad_()
    out = run(network, given)
    torch.autograd.backward(out[0, middle].sum())
    assert given.grad is not None
    touched = given.grad[0].abs().sum(-1).nonzero().flatten()
    reach = int((touched - middle).abs().max())
    assert reach <= network.context <= 2 * reach + 2 * network.alignment


def test_poolings_differ() -> None:
    average, largest = body(), body(pooling="max")
    largest.load_state_dict(average.state_dict())
    with torch.inference_mode():
        assert not torch.allclose(run(average, frames(16)), run(largest, frames(16)))


def test_dropout_acts_in_training_only() -> None:
    network, given = body(dropout=0.5), frames(16)
    with torch.inference_mode():
        assert torch.equal(run(network, given), run(network, given))
        network.train()
        assert not torch.equal(run(network, given), run(network, given))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kernel", 4),
        ("kernel", 1),
        ("depths", ()),
        ("depths", (0, 1)),
        ("pooling", "median"),
        ("dropout", 1.0),
        ("phase", ""),
    ],
)
def test_impossible_settings_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        body(**{field: value})
