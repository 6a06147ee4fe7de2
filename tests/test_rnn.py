"""Laws of the family `rnn`: causal, the same however frames are cut, with GRU and LSTM cells."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bodies import assert_cuts_change_nothing, assert_looks_back_only
from overtone.models.rnn import RecurrentBody
from overtone.settings import RnnParams


def body(**changes: Any) -> RecurrentBody:
    torch.manual_seed(0)
    return RecurrentBody(RnnParams.model_validate({"cell": "gru", "width": 12, "layers": 2, "dropout": 0.0} | changes))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_output_does_not_depend_on_how_frames_are_cut(cell: str) -> None:
    assert_cuts_change_nothing(body(cell=cell))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_output_depends_on_the_past_only(cell: str) -> None:
    assert_looks_back_only(body(cell=cell))


@pytest.mark.parametrize(("cell", "kind", "states"), [("gru", nn.GRU, 1), ("lstm", nn.LSTM, 2)])
def test_cell_is_the_one_that_is_asked_for(cell: str, kind: type[nn.Module], states: int) -> None:
    one = body(cell=cell, layers=3)
    assert len(one.cells) == 3 and all(isinstance(layer, kind) for layer in one.cells)
    assert len(one.initial(4)) == 3 * states


def test_dropout_is_of_training_alone() -> None:
    one = body(dropout=0.5)
    frames = torch.randn(1, 5, 12)
    assert not torch.equal(*(one(frames, one.initial(1))[0] for _ in range(2)))
    one.eval()
    assert torch.equal(*(one(frames, one.initial(1))[0] for _ in range(2)))
