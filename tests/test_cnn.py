"""Laws of the family `cnn`: causal, the same however frames are cut, and its settings are what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bodies import assert_cuts_change_nothing, assert_looks_back_only
from overtone.models.cnn import Context, ConvBody
from overtone.settings import CnnParams


def body(**changes: Any) -> ConvBody:
    torch.manual_seed(0)
    plain = {"width": 12, "blocks": 3, "kernel": 3, "context": 9, "pooling": "average", "dropout": 0.0}
    return ConvBody(CnnParams.model_validate(plain | changes))


@pytest.mark.parametrize("changes", [{}, {"pooling": "max"}, {"kernel": 2, "blocks": 1}, {"dropout": 0.3}])
def test_output_does_not_depend_on_how_frames_are_cut(changes: dict[str, Any]) -> None:
    assert_cuts_change_nothing(body(**changes))


@pytest.mark.parametrize("pooling", ["average", "max"])
def test_output_depends_on_the_past_only(pooling: str) -> None:
    assert_looks_back_only(body(pooling=pooling))


def test_reach_is_that_of_kernel_and_blocks() -> None:
    """A change is heard as many frames later as the dilations say, but for what is pooled."""
    one = body(blocks=4, context=2).eval()
    assert [block.past for block in one.blocks if not isinstance(block, Context)] == [2, 4, 8, 16]
    frames = torch.randn(1, 60, 12)
    other = frames.clone()
    other[:, 0, 0] += 1
    with torch.inference_mode():
        before, after = (one(value, one.initial(1))[0] for value in (frames, other))
    changed = (before - after).abs().amax(dim=(0, 2)) > 1e-7
    assert int(changed.nonzero().max()) == 2 + 4 + 8 + 16 + 1


@pytest.mark.parametrize(("pooling", "expected"), [("average", 2.0), ("max", 3.0)])
def test_pooling_is_over_the_recent_past(pooling: str, expected: float) -> None:
    context = Context(1, 3, pooling)
    pooled = context.pool(torch.tensor([[[3.0, 1.0, 2.0]]]))
    assert pooled.item() == expected


def test_dropout_is_of_training_alone() -> None:
    one = body(dropout=0.5)
    frames = torch.randn(1, 5, 12)
    assert not torch.equal(*(one(frames, one.initial(1))[0] for _ in range(2)))
    one.eval()
    assert torch.equal(*(one(frames, one.initial(1))[0] for _ in range(2)))
