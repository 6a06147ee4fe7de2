"""What `restore` learns from: mixtures are what their settings say, and noise made by rule is noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from overtone.settings import Mixing
from overtone.training import noises
from overtone.training.mixtures import Mixer, Sounds
from overtone.training.noises import Signal

RATE = 48_000


def recording(seed: int, seconds: float = 2.0) -> np.ndarray:
    return (3000 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.int16)


def mixer(*, recorded: bool = True, **changes: Any) -> Mixer:
    noise = [recording(3)] if recorded else []
    sounds = Sounds([recording(1), recording(2)], [1.0, 2.0], [recording(4)], noise)
    return Mixer(sounds, Mixing(narrow=0.0, colour_db=0.0, **changes), 7, 0.5, RATE, seed=5)


@pytest.mark.parametrize("kind", [noises.swelling, noises.machine, noises.impacts, noises.calls, noises.synthetic])
def test_made_noise_is_finite_sound_and_its_generators_own(
    kind: Callable[[int, int, np.random.Generator], Signal],
) -> None:
    first, again, other = (kind(RATE // 2, RATE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.dtype == np.float32 and first.shape == (RATE // 2,)
    assert np.isfinite(first).all() and first.std() > 0
    assert (first == again).all() and (first != other).any()


def test_noise_is_as_far_below_the_voice_as_drawn() -> None:
    batch = mixer(clean=0.0, noise_alone=0.0, music=0.0, pauses=0.0, snr_db=(10.0, 10.0))(0)
    noise = batch.noisy - batch.clean
    ratio_db = 10 * torch.log10(batch.clean.abs().square().sum((1, 2)) / noise.abs().square().sum((1, 2)))
    # Levels are those of the louder half of each.
    assert (ratio_db - 10).abs().max() < 4


@pytest.mark.parametrize(("share", "clean_is"), [("clean", "noisy"), ("music", "noisy"), ("noise_alone", "nothing")])
def test_shares_decide_what_is_to_stay(share: str, clean_is: str) -> None:
    shares: dict[str, Any] = {"clean": 0.0, "music": 0.0, "noise_alone": 0.0, share: 1.0}
    batch = mixer(**shares)(0)
    assert batch.noisy.abs().sum() > 0
    assert torch.equal(batch.clean, batch.noisy if clean_is == "noisy" else torch.zeros_like(batch.noisy))


def test_without_recordings_noise_is_made_by_rule() -> None:
    batch = mixer(recorded=False, clean=0.0, noise_alone=0.0, music=0.0)(0)
    assert ((batch.noisy - batch.clean).abs().sum((1, 2)) > 0).all()


def test_each_batch_is_another() -> None:
    one = mixer()
    assert not torch.equal(one(0).noisy, one(1).noisy)


def test_shares_that_sum_above_one_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 1"):
        Mixing(clean=0.6, music=0.6)


def test_colours_are_slight_and_now_and_then_strong() -> None:
    one = Mixer(Sounds([recording(1)], [1.0], [], []), Mixing(colour_db=3.0), 1, 0.5, RATE, seed=5)
    rng = np.random.default_rng(0)
    spreads = np.array([np.std(20 * np.log10(one._colour(rng, 0.0))) for _ in range(200)])
    assert np.median(spreads) < 3.0 and np.quantile(spreads, 0.95) > 6.0
