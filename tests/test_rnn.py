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

VARIANTS: list[dict[str, Any]] = [{"cell": "gru", "layers": 2}, {"cell": "lstm", "layers": 2}, {"cell": "gru"}]


def settings(**changes: Any) -> RnnParams:
    plain = {"steps": 10, "learning_rate": 0.001, "dropout": 0.0, "cell": "gru", "hidden": 16, "layers": 1}
    return RnnParams.model_validate({**plain, "bidirectional": False, **changes})


def body(**changes: Any) -> RecurrentBody:
    torch.manual_seed(0)
    return RecurrentBody(settings(**changes)).eval()


def frames(count: int, seed: int = 0, batch: int = 1) -> Tensor:
    return torch.randn(batch, count, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "changes", [*VARIANTS, {"bidirectional": True}, {"bidirectional": True, "cell": "lstm"}], ids=str
)
@pytest.mark.parametrize("count", [1, 2, 33])
def test_any_number_of_frames_keeps_its_shape(changes: dict[str, Any], count: int) -> None:
    with torch.inference_mode():
        out, _ = body(**changes)(frames(count, batch=2))
    assert out.shape == (2, count, 16)
    assert out.isfinite().all()


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_future_frames_do_not_change_the_past(changes: dict[str, Any]) -> None:
    network = body(**changes)
    one = frames(40)
    other = torch.cat((one[:, :25], frames(15, seed=1)), dim=1)
    with torch.inference_mode():
        (plain, _), (changed, _) = network(one), network(other)
    assert torch.equal(changed[:, :25], plain[:, :25])
    assert not torch.allclose(changed[:, 25:], plain[:, 25:])


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_bidirectional_network_hears_the_future(cell: str) -> None:
    network = body(cell=cell, bidirectional=True)
    one = frames(40)
    other = torch.cat((one[:, :25], frames(15, seed=1)), dim=1)
    with torch.inference_mode():
        assert (network(one)[0] - network(other)[0])[:, 20].abs().max() > 1e-6


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
@pytest.mark.parametrize("size", [1, 3, 16])
def test_carried_state_stands_for_the_past(changes: dict[str, Any], size: int) -> None:
    network, whole = body(**changes), frames(40, batch=2)
    parts, state = [], None
    with torch.inference_mode():
        expected, last = network(whole)
        for part in torch.split(whole, size, dim=1):
            out, state = network(part, state)
            parts.append(out)
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, atol=1e-6, rtol=1e-5)
    assert state is not None
    torch.testing.assert_close(state, last, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_state_matters(changes: dict[str, Any]) -> None:
    network = body(**changes)
    with torch.inference_mode():
        _, state = network(frames(10, seed=5))
        assert not torch.allclose(network(frames(4), state)[0], network(frames(4))[0])


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
        assert torch.equal(network(given)[0], network(given)[0])
        network.train()
        assert not torch.equal(network(given)[0], network(given)[0])


def test_odd_width_cannot_be_bidirectional() -> None:
    with pytest.raises(ValueError, match=r"train\.rnn\.hidden: expected an even number when bidirectional, got 17"):
        body(hidden=17, bidirectional=True)


@pytest.mark.parametrize(("field", "value"), [("cell", "tanh"), ("layers", 0), ("hidden", 0), ("dropout", -0.1)])
def test_impossible_settings_are_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        body(**{field: value})
