"""What tests of the model families share: bodies of any family, and a law that all of them keep."""

from __future__ import annotations

import torch
from torch import Tensor

from overtone.models.body import Body


def in_pieces(body: Body, frames: Tensor, cuts: list[int]) -> Tensor:
    """What comes out when frames are given in several calls."""
    state, made = body.initial(len(frames)), []
    for piece in torch.tensor_split(frames, cuts, dim=1):
        out, state = body(piece, state)
        made.append(out)
    return torch.cat(made, dim=1)


def assert_cuts_change_nothing(body: Body) -> None:
    """Frames given in any pieces come out as if given in one."""
    body.eval()
    frames = torch.randn(2, 60, body.width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole, _ = body(frames, body.initial(2))
        for cuts in ([1], [59], [7, 8, 30], list(range(1, 60))):
            torch.testing.assert_close(in_pieces(body, frames, cuts), whole, atol=1e-5, rtol=1e-4)


def assert_looks_back_only(body: Body) -> None:
    """What comes later changes nothing before, and the past is heard."""
    body.eval()
    frames = torch.randn(1, 40, body.width, generator=torch.Generator().manual_seed(2))
    other = frames.clone()
    other[:, 25, 0] += 1
    with torch.inference_mode():
        before, after = (body(one, body.initial(1))[0] for one in (frames, other))
    assert torch.equal(before[:, :25], after[:, :25])
    assert not torch.allclose(before[:, 26], after[:, 26])
