"""Laws of the training losses: zero where nothing differs, each term by name, deaf above the bandwidth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from overtone import losses
from overtone.params import LossParams

RATE = 48_000
SPECTRAL = ("log_spectral", "magnitude", "phase")
TERMS = (*SPECTRAL, "mse", "error_ratio", "harm")
FULL = torch.tensor([24_000.0, 24_000.0])


def settings(**weights: Any) -> LossParams:
    plain: dict[str, Any] = dict.fromkeys(TERMS, 0.0) | {"beyond": 0.0, "windows": (512, 1024, 2048), "shift": False}
    return LossParams.model_validate(plain | weights)


def noise(seed: int = 0, batch: int = 2, samples: int = 12_000, level: float = 0.1) -> Tensor:
    return level * torch.randn(batch, samples, generator=torch.Generator().manual_seed(seed))


def total(
    prediction: Tensor,
    target: Tensor,
    bandwidth: Tensor | None = None,
    given: Tensor | None = None,
    restore: Tensor | None = None,
    /,
    **weights: Any,
) -> tuple[float, dict[str, float]]:
    """Where nothing else is said: signals of the full band, to be repaired from a perfect input."""
    limits = FULL if bandwidth is None else bandwidth
    before = target if given is None else given
    wanted = torch.ones(len(target), dtype=torch.bool) if restore is None else restore
    loss, terms = losses.total(prediction, target, before, wanted, limits, RATE, settings(**weights))
    return float(loss), {name: float(value) for name, value in terms.items()}


@pytest.mark.parametrize("term", TERMS)
def test_equal_signals_have_no_loss(term: str) -> None:
    loss, terms = total(noise(), noise(), **{term: 1.0})
    assert set(terms) == {term}
    # Square roots are kept away from 0, where they have no gradient.
    assert 0.0 <= loss < 2e-3


@pytest.mark.parametrize("term", TERMS)
def test_other_noise_is_a_loss(term: str) -> None:
    loss, terms = total(noise(), noise(1), **{term: 1.0})
    assert loss > 0.01
    assert loss == pytest.approx(terms[term])


def test_terms_are_weighted_and_named() -> None:
    _, alone = total(noise(), noise(1), **dict.fromkeys(TERMS, 1.0))
    weights: dict[str, Any] = {
        "log_spectral": 1.0,
        "magnitude": 2.0,
        "phase": 0.5,
        "mse": 3.0,
        "error_ratio": 0.7,
        "harm": 0.3,
    }
    loss, terms = total(noise(), noise(1), **weights)
    assert terms == pytest.approx(alone)
    assert set(terms) == set(TERMS)
    assert loss == pytest.approx(sum(weights[name] * value for name, value in terms.items()), rel=1e-5)


def test_term_without_weight_is_left_out() -> None:
    assert set(total(noise(), noise(1), mse=1.0, phase=0.1)[1]) == {"mse", "phase"}


@pytest.mark.parametrize("term", SPECTRAL)
def test_bins_above_the_bandwidth_are_ignored(term: str) -> None:
    target, bandwidth = noise(), torch.tensor([6_000.0, 6_000.0])
    time = torch.arange(target.shape[-1]) / RATE
    whistle = 0.1 * torch.sin(2 * torch.pi * 12_000 * time)
    assert total(target + whistle, target, bandwidth, **{term: 1.0})[0] < 3e-3
    assert total(target + whistle, target, FULL, **{term: 1.0})[0] > 5e-3


@pytest.mark.parametrize("term", SPECTRAL)
def test_each_clip_has_its_own_bandwidth(term: str) -> None:
    target = noise(batch=1).repeat(2, 1)
    time = torch.arange(target.shape[-1]) / RATE
    soiled = target + 0.1 * torch.sin(2 * torch.pi * 12_000 * time)
    both, one, other = (
        total(soiled, target, torch.tensor(limits), **{term: 1.0})[0]
        for limits in ([6_000.0, 24_000.0], [6_000.0, 6_000.0], [24_000.0, 24_000.0])
    )
    assert one < both < other


@pytest.mark.parametrize("term", SPECTRAL)
def test_bins_beyond_the_bandwidth_count_by_their_weight(term: str) -> None:
    target, bandwidth = noise(), torch.tensor([6_000.0, 6_000.0])
    time = torch.arange(target.shape[-1]) / RATE
    soiled = target + 0.1 * torch.sin(2 * torch.pi * 12_000 * time)
    values = [total(soiled, target, bandwidth, beyond=beyond, **{term: 1.0})[0] for beyond in (0.0, 0.2, 0.6, 1.0)]
    assert values == sorted(set(values))
    assert values[-1] == pytest.approx(total(soiled, target, FULL, **{term: 1.0})[0], rel=1e-6)


def test_weights_of_bins_are_1_up_to_the_bandwidth_and_beyond_above_it() -> None:
    weights = losses.in_band(torch.tensor([6_000.0, 24_000.0]), 1024, RATE, 0.25)
    frequency = torch.arange(513) * RATE / 1024
    assert torch.equal(weights[0], torch.where(frequency <= 6_000.0, 1.0, 0.25))
    assert torch.equal(weights[1], torch.ones(513))


@pytest.mark.parametrize("term", TERMS)
def test_start_moves_the_frames_of_the_spectral_terms_alone(term: str) -> None:
    wanted, weights = torch.tensor([True, True]), settings(**{term: 1.0})

    def loss(start: int, first: int) -> Tensor:
        prediction, target, given = (noise(seed)[:, first:] for seed in range(3))
        return losses.total(prediction, target, given, wanted, FULL, RATE, weights, start)[0]

    if term in SPECTRAL:
        assert torch.equal(loss(197, 0), loss(0, 197))
        assert loss(197, 0) != loss(0, 0)
    else:
        assert torch.equal(loss(197, 0), loss(0, 0))


def test_mse_is_the_mean_squared_error_over_the_targets_power() -> None:
    prediction, target = noise(), noise(1)
    expected = np.mean(
        [np.mean((p - t) ** 2) / np.mean(t**2) for p, t in zip(prediction.numpy(), target.numpy(), strict=True)]
    )
    assert total(prediction, target, mse=1.0)[0] == pytest.approx(float(expected), rel=1e-4)


def test_mse_of_silence_is_the_targets_power() -> None:
    assert total(torch.zeros(2, 9_000), noise(samples=9_000), mse=1.0)[0] == pytest.approx(1.0)


@pytest.mark.parametrize("snr_db", [-20.0, 0.0, 10.0, 20.0, 40.0])
def test_error_ratio_is_the_snr_as_a_ratio_of_levels(snr_db: float) -> None:
    target, error = noise(), noise(1)
    error *= (target.square().mean(-1) / error.square().mean(-1)).sqrt()[:, None]
    ratio = 10 ** (-snr_db / 20)
    assert total(target + ratio * error, target, error_ratio=1.0)[0] == pytest.approx(ratio, rel=0.01)


@pytest.mark.parametrize("gain", [0.01, 0.3, 5.0])
def test_error_ratio_does_not_depend_on_the_level(gain: float) -> None:
    prediction, target = noise(2), noise(1)
    louder = total(gain * prediction, gain * target, error_ratio=1.0)[0]
    assert louder == pytest.approx(total(prediction, target, error_ratio=1.0)[0], rel=1e-5)


def test_error_counts_the_same_whatever_is_wrong_already() -> None:
    """A tenth less of error in the bad clip or in the good one: all the same, but to the mean squared error."""
    target, error = noise(), noise(1)
    shares = {"both": (1.0, 0.3), "good": (1.0, 0.2), "bad": (0.9, 0.3)}

    def gains(term: str) -> list[float]:
        losses = {
            name: total(target + torch.tensor(share)[:, None] * error, target, **{term: 1.0})[0]
            for name, share in shares.items()
        }
        return [losses["both"] - losses["good"], losses["both"] - losses["bad"]]

    good, bad = gains("error_ratio")
    assert good == pytest.approx(bad, rel=0.05)
    good, bad = gains("mse")
    assert good < 0.4 * bad


def test_error_ratio_of_silence_is_finite() -> None:
    silence = torch.zeros(2, 12_000)
    assert np.isfinite(total(noise(), silence, error_ratio=1.0)[0])
    assert total(silence, silence, error_ratio=1.0)[0] < 2e-3


def error(snr_db: float, seed: int = 3) -> Tensor:
    """Of `noise(1)`, in each signal so far below it."""
    target, made = noise(1), noise(seed)
    return made * 10 ** (-snr_db / 20) * (target.square().mean(-1) / made.square().mean(-1)).sqrt()[:, None]


@pytest.mark.parametrize(("before", "after"), [(0.0, 10.0), (10.0, 10.0), (10.0, 60.0), (-10.0, 0.0)])
def test_repair_that_is_no_worse_than_the_input_does_no_harm(before: float, after: float) -> None:
    target = noise(1)
    assert total(target + error(after), target, None, target + error(before, seed=4), harm=1.0)[0] < 1e-5


@pytest.mark.parametrize("before", [-10.0, 0.0, 20.0])
@pytest.mark.parametrize("worse", [10.0, 20.0])
def test_harm_is_1_for_ten_times_the_power_of_the_inputs_error(before: float, worse: float) -> None:
    target = noise(1)
    value = total(target + error(before - worse), target, None, target + error(before, seed=4), harm=1.0)[0]
    assert value == pytest.approx(worse / 10, rel=0.02)


@pytest.mark.parametrize(
    ("after", "least", "most"),
    [(70.0, 0.0, 0.001), (60.0, 0.0, 0.01), (50.0, 0.0, 0.05), (30.0, 0.9, 1.1), (20.0, 1.9, 2.1)],
)
def test_clean_input_is_harmed_by_errors_well_above_40_db_below_it(after: float, least: float, most: float) -> None:
    target = noise(1)
    assert least <= total(target + error(after), target, None, target, harm=1.0)[0] <= most


def test_harm_counts_signals_that_were_to_be_repaired_and_no_others() -> None:
    target = noise(1)
    spoilt, given = target + error(10.0), target + error(20.0, seed=4)
    flags = ([True, True], [True, False], [False, True], [False, False])
    both, first, second, none = (total(spoilt, target, None, given, torch.tensor(flag), harm=1.0)[0] for flag in flags)
    assert none == 0.0
    assert first == pytest.approx(0.5, rel=0.05)
    assert both == pytest.approx(first + second, rel=1e-5)


def test_benefit_of_one_signal_does_not_make_up_for_the_harm_of_another() -> None:
    target = noise(1)
    given, worse = target + error(10.0, seed=4), target + error(0.0)
    mixed = torch.cat((target[:1], worse[1:]))
    assert total(mixed, target, None, given, harm=1.0)[0] == pytest.approx(
        0.5 * total(worse, target, None, given, harm=1.0)[0], rel=0.02
    )


@pytest.mark.parametrize("gain", [0.01, 0.3, 5.0])
def test_harm_does_not_depend_on_the_level(gain: float) -> None:
    target = noise(1)
    spoilt, given = target + error(10.0), target + error(20.0, seed=4)
    plain = total(spoilt, target, None, given, harm=1.0)[0]
    assert total(gain * spoilt, gain * target, None, gain * given, harm=1.0)[0] == pytest.approx(plain, rel=1e-4)


def test_harm_of_silence_is_finite() -> None:
    silence = torch.zeros(2, 12_000)
    assert total(silence, silence, None, silence, harm=1.0)[0] == 0.0
    assert np.isfinite(total(noise(), silence, None, silence, harm=1.0)[0])
    assert total(silence, silence, None, noise(), harm=1.0)[0] == 0.0


def test_other_terms_do_not_hear_the_input() -> None:
    weights: dict[str, Any] = dict.fromkeys([term for term in TERMS if term != "harm"], 1.0)
    plain = total(noise(), noise(1), **weights)
    other = total(noise(), noise(1), None, noise(2), torch.tensor([False, True]), **weights)
    assert other == plain


@pytest.mark.parametrize("size", [512, 1024, 2048])
def test_log_spectral_is_the_formula_of_the_metric(size: int) -> None:
    prediction, target = noise(batch=1)[0], noise(1, batch=1)[0]
    count = losses.spectrum(target[None], size).shape[1]
    hop = next(hop for hop in (size // 2, size // 4, 512) if (len(target) - size) // hop + 1 == count)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)

    def levels(signal: Tensor) -> Any:
        frames = np.lib.stride_tricks.sliding_window_view(signal.double().numpy(), size)[::hop]
        return np.log10(np.abs(np.fft.rfft(frames * window)) ** 2 + 1e-8)

    expected = np.sqrt(np.mean((levels(prediction) - levels(target)) ** 2, axis=1)).mean()
    value = total(prediction[None], target[None], FULL[:1], log_spectral=1.0, windows=(size,))[0]
    assert value == pytest.approx(float(expected), rel=1e-3)


def test_windows_are_averaged() -> None:
    each = [total(noise(), noise(1), log_spectral=1.0, windows=(size,))[0] for size in (512, 2048)]
    assert total(noise(), noise(1), log_spectral=1.0, windows=(512, 2048))[0] == pytest.approx(np.mean(each), rel=1e-5)


def test_phase_hears_a_flipped_polarity_and_levels_do_not() -> None:
    signal = noise()
    assert total(-signal, signal, phase=1.0)[0] > 0.5
    assert total(-signal, signal, log_spectral=1.0)[0] < 2e-3
    assert total(-signal, signal, magnitude=1.0)[0] < 1e-6
    assert total(-signal, signal, mse=1.0)[0] == pytest.approx(4.0, rel=1e-4)


def test_phase_grows_with_the_delay() -> None:
    """As long as it is a fraction of a period: of noise below 2 kHz, up to a dozen samples."""
    spectrum = torch.fft.rfft(noise(samples=16_384))
    spectrum[:, 16_384 * 2_000 // RATE :] = 0
    signal = 10 * torch.fft.irfft(spectrum)
    bandwidth = torch.tensor([2_000.0, 2_000.0])
    values = [total(torch.roll(signal, shift, -1), signal, bandwidth, phase=1.0)[0] for shift in (0, 1, 3, 6, 10)]
    assert values == sorted(values)
    assert values[-1] > values[0] + 0.1


def test_louder_error_is_a_larger_loss() -> None:
    target = noise()
    for term in ("log_spectral", "magnitude", "mse", "error_ratio"):
        values = [total(target * gain, target, **{term: 1.0})[0] for gain in (1.0, 1.5, 3.0, 9.0)]
        assert values == sorted(values)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_loss_that_is_no_number_stops_and_names_the_term(term: str, bad: float) -> None:
    prediction = noise()
    prediction[0, 5_000] = bad
    loss, terms = total(prediction, noise(1), **{term: 1.0})
    with pytest.raises(losses.DivergedError, match=f"loss is not finite: {term}"):
        losses.check(loss, terms)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("level", [0.0, 1e-6, 1.0])
def test_gradients_are_finite_at_every_level(term: str, level: float) -> None:
    for prediction, target in ((noise(level=level), noise(1)), (noise(), level * noise(1)), (noise(), noise())):
        prediction.requires_grad_()
        given, wanted = target + noise(3, level=0.01 * level), torch.tensor([True, False])
        loss, _ = losses.total(prediction, target, given, wanted, FULL, RATE, settings(**{term: 1.0}))
        torch.autograd.backward(loss)
        assert prediction.grad is not None
        assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("others", [{}, {"beyond": 0.5, "shift": True}], ids=str)
def test_all_weights_zero_are_refused(others: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="at least one loss weight must be above 0"):
        settings(**others)
