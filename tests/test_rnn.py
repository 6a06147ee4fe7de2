"""Laws of the recurrent body: it is causal, and its carried state stands for everything that came before."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from overtone.models import build
from overtone.models.rnn import RecurrentBody
from overtone.models.spectral import WINDOW
from overtone.params import RnnParams

VARIANTS: list[dict[str, Any]] = [
    {"cell": "gru", "layers": 2},
    {"cell": "lstm", "layers": 2},
    {"cell": "gru"},
    {"cell": "lstm", "hidden": 24, "expansion": 1},
]
BOTH_WAYS: list[dict[str, Any]] = [
    {"bidirectional": True},
    {"bidirectional": True, "cell": "lstm", "layers": 2, "hidden": 20},
]


def settings(**changes: Any) -> RnnParams:
    plain: dict[str, Any] = {
        **{"steps": 10, "learning_rate": 0.001, "phase": "copied", "dropout": 0.0, "cell": "gru"},
        **{"width": 16, "hidden": 12, "layers": 1, "expansion": 2, "bidirectional": False},
    }
    return RnnParams.model_validate(plain | changes)


def body(**changes: Any) -> RecurrentBody:
    torch.manual_seed(0)
    return RecurrentBody(settings(**changes)).eval()


def frames(count: int, seed: int = 0, batch: int = 1) -> Tensor:
    return torch.randn(batch, count, 16, generator=torch.Generator().manual_seed(seed))


def run(network: RecurrentBody, hidden: Tensor, state: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
    """From the start of a signal, unless there is a state."""
    out, after = network(hidden, network.initial(hidden.shape[0]) if state is None else state)
    return out, after


@pytest.mark.parametrize("changes", [*VARIANTS, *BOTH_WAYS], ids=str)
@pytest.mark.parametrize("count", [1, 2, 33])
def test_any_number_of_frames_keeps_its_shape(changes: dict[str, Any], count: int) -> None:
    with torch.inference_mode():
        out, _ = run(body(**changes), frames(count, batch=2))
    assert out.shape == (2, count, 16)
    assert out.isfinite().all()


@pytest.mark.parametrize("changes", [*VARIANTS, *BOTH_WAYS], ids=str)
def test_state_is_one_tensor_a_layer_and_two_of_an_lstm(changes: dict[str, Any]) -> None:
    network, given = body(**changes), settings(**changes)
    directions = 2 if given.bidirectional else 1
    with torch.inference_mode():
        start = network.initial(3)
        _, after = network(frames(4, batch=3), start)
    assert len(start) == len(after) == given.layers * (2 if given.cell == "lstm" else 1)
    for one in (*start, *after):
        assert one.shape == (directions, 3, given.hidden // directions)
    assert not any(one.any() for one in start)


@pytest.mark.parametrize("changes", BOTH_WAYS, ids=str)
def test_bidirectional_network_starts_anew_each_time(changes: dict[str, Any]) -> None:
    network = body(**changes)
    with torch.inference_mode():
        out, state = run(network, frames(10))
        again, _ = run(network, frames(10), state)
    assert torch.equal(again, out)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_future_frames_do_not_change_the_past(changes: dict[str, Any]) -> None:
    network = body(**changes)
    one = frames(40)
    other = torch.cat((one[:, :25], frames(15, seed=1)), dim=1)
    with torch.inference_mode():
        (plain, _), (changed, _) = run(network, one), run(network, other)
    assert torch.equal(changed[:, :25], plain[:, :25])
    assert not torch.allclose(changed[:, 25:], plain[:, 25:])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_bidirectional_network_hears_the_future(cell: str) -> None:
    network = body(cell=cell, bidirectional=True)
    one = frames(40)
    other = torch.cat((one[:, :25], frames(15, seed=1)), dim=1)
    with torch.inference_mode():
        assert (run(network, one)[0] - run(network, other)[0])[:, 20].abs().max() > 1e-6


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 16])
def test_carried_state_stands_for_the_past(changes: dict[str, Any], size: int) -> None:
    network, whole = body(**changes), frames(40, batch=2)
    parts, state = [], network.initial(2)
    with torch.inference_mode():
        expected, last = run(network, whole)
        for part in torch.split(whole, size, dim=1):
            out, state = network(part, state)
            parts.append(out)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(state, last, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_state_matters(changes: dict[str, Any]) -> None:
    network = body(**changes)
    with torch.inference_mode():
        _, state = run(network, frames(10, seed=5))
        assert not torch.allclose(run(network, frames(4), state)[0], run(network, frames(4))[0])


def test_whole_network_looks_ahead_one_window_at_most() -> None:
    torch.manual_seed(0)
    model = build.network(settings(), 48_000).eval()
    one = 0.1 * torch.randn(1, 20_000)
    other = one.clone()
    other[:, 10_000:] = 0.1 * torch.randn(1, 10_000)
    cutoff, restore = torch.tensor([6_000.0]), torch.tensor([True])
    with torch.inference_mode():
        plain, changed = model(one, cutoff, restore), model(other, cutoff, restore)
    torch.testing.assert_close(changed[:, : 10_000 - WINDOW], plain[:, : 10_000 - WINDOW], atol=1e-6, rtol=0)
    assert (changed - plain)[:, 10_000:].abs().max() > 0.01


def test_dropout_acts_in_training_only() -> None:
    network, given = body(dropout=0.5), frames(16)
    with torch.inference_mode():
        assert torch.equal(run(network, given)[0], run(network, given)[0])
        network.train()
        assert not torch.equal(run(network, given)[0], run(network, given)[0])


def test_odd_cells_cannot_be_bidirectional() -> None:
    with pytest.raises(ValueError, match="hidden must be even when bidirectional"):
        body(hidden=17, bidirectional=True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("cell", "tanh"), ("layers", 0), ("hidden", 0), ("width", 0), ("expansion", 0)),
        *(("dropout", -0.1), ("phase", "guessed")),
    ],
)
def test_impossible_settings_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        body(**{field: value})
