"""Laws of the spectral front end: it takes apart and puts together again, sees nothing above the cutoff, keeps what it must."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from overtone.models import build
from overtone.models.spectral import (
    BINS,
    HOP,
    WINDOW,
    Phase,
    SpectralUpsampler,
    analyse,
    frames_of,
    marked_share,
    origins,
    overlap_add,
    visible_bins,
)
from overtone.models.spectral import spectra as spectra_of
from overtone.params import Params

RATE = 48_000
HANN = torch.hann_window(WINDOW)
STEP = 1 / 32_768
KINDS = ("cnn", "rnn")
PHASES: tuple[Phase, ...] = ("copied", "free", "mixed")


def noise(samples: int, batch: int = 1, level: float = 0.1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return level * torch.randn(batch, samples, generator=generator)


def spectra(frames: int, batch: int = 1, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.complex(*(torch.randn(batch, frames, BINS, generator=generator) for _ in range(2)))


def untrained(params: Params, kind: str, phase: Phase) -> SpectralUpsampler:
    torch.manual_seed(3)
    settings = params.train.cnn if kind == "cnn" else params.train.rnn
    return build.network(settings.model_copy(update={"phase": phase}), RATE).eval()


def enhance(
    model: SpectralUpsampler, spectrum: Tensor, seen: Tensor, restore: Tensor, concealed: Tensor | None = None
) -> tuple[Tensor, list[Tensor]]:
    """From the start of a signal, by default one that holds nothing concealed."""
    share = torch.zeros(spectrum.shape[:2]) if concealed is None else concealed
    return model.enhance(spectrum, seen, restore, share, model.body.initial(spectrum.shape[0]))


def shares(frames: int, batch: int = 1) -> Tensor:
    """As `marked_share` gives them: most frames free, some in part, some whole."""
    share = 2 * torch.rand(batch, frames, generator=torch.Generator().manual_seed(9)) - 0.5
    return share.clamp(0.0, 1.0)


@contextmanager
def biased(model: SpectralUpsampler, head: str, value: float) -> Iterator[None]:
    """With a head so sure of itself that it does not matter what it hears."""
    bias = getattr(model, head).bias
    before = bias.detach().clone()
    with torch.no_grad():
        bias.fill_(value)
    try:
        yield
    finally:
        bias.data.copy_(before)


@contextmanager
def constant(model: SpectralUpsampler, head: str, value: float) -> Iterator[None]:
    """With a head that says the same whatever it hears."""
    weight = getattr(model, head).weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.zero_()
    try:
        with biased(model, head, value):
            yield
    finally:
        weight.data.copy_(before)


@pytest.fixture(scope="module", params=[(kind, phase) for kind in KINDS for phase in PHASES], ids=" ".join)
def model(request: pytest.FixtureRequest, params: Params) -> SpectralUpsampler:
    """A network of random weights, far from the start that changes nothing."""
    made = untrained(params, *request.param)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return made


# --- transform ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("samples", [1, 2, 511, 512, 513, 1_024, 5_000, 48_000])
def test_analysis_and_overlap_add_are_the_identity(samples: int) -> None:
    signal = noise(samples, batch=3, level=1.0)
    frames = analyse(signal, HANN)
    assert frames.shape == (3, frames_of(samples), BINS)
    torch.testing.assert_close(overlap_add(frames, HANN)[:, :samples], signal, atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [1, 512, 513, 10_000])
def test_frames_cover_every_sample(samples: int) -> None:
    frames = frames_of(samples)
    assert (frames - 1) * HOP >= samples
    assert (frames - 2) * HOP < samples
    assert overlap_add(analyse(noise(samples), HANN), HANN).shape == (1, (frames - 1) * HOP)


def test_frame_is_centred_on_its_multiple_of_the_hop() -> None:
    """An impulse in the middle of a frame has a phase that alternates from bin to bin, and nothing else."""
    signal = torch.zeros(1, 4 * HOP)
    signal[0, 2 * HOP] = 1.0
    frame = analyse(signal, HANN)[0, 2]
    torch.testing.assert_close(frame.real, (-1.0) ** torch.arange(BINS), atol=1e-5, rtol=0)
    torch.testing.assert_close(frame.imag, torch.zeros(BINS), atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_spectra_are_of_the_frames_that_lie_whole_within_the_signal(frames: int) -> None:
    signal = noise((frames + 1) * HOP, batch=2)
    found = spectra_of(signal, HANN)
    assert found.shape == (2, frames, BINS)
    for index in range(frames):
        frame = signal[:, index * HOP : index * HOP + WINDOW] * HANN
        torch.testing.assert_close(found[:, index], torch.fft.rfft(frame), atol=1e-5, rtol=0)


@pytest.mark.parametrize("samples", [1, 512, 5_000])
def test_analysis_is_the_spectra_of_the_signal_between_silences(samples: int) -> None:
    signal, count = noise(samples, batch=2), frames_of(samples)
    padded = torch.zeros(2, (count + 1) * HOP)
    padded[:, HOP : HOP + samples] = signal
    assert torch.equal(analyse(signal, HANN), spectra_of(padded, HANN))


def test_marked_share_is_0_without_marks_and_1_where_all_is_marked() -> None:
    marks = torch.zeros(2, 6 * HOP)
    marks[1] = 1.0
    share = marked_share(marks, HANN)
    assert share.shape == (2, 5)
    assert not share[0].any()
    torch.testing.assert_close(share[1], torch.ones(5), atol=1e-5, rtol=0)


def test_marked_share_counts_each_sample_by_the_window() -> None:
    """The halves of a whole and of the next one's beginning; a middle weighs more than an edge."""
    marks = torch.zeros(1, 4 * HOP)
    marks[0, 2 * HOP :] = 1.0
    torch.testing.assert_close(marked_share(marks, HANN), torch.tensor([[0.0, 0.5, 1.0]]), atol=2e-3, rtol=0)
    inner, outer = torch.zeros(1, WINDOW), torch.zeros(1, WINDOW)
    inner[0, HOP - 50 : HOP + 50], outer[0, :100] = 1.0, 1.0
    assert float(marked_share(inner, HANN)) > 0.15 > 0.02 > float(marked_share(outer, HANN)) > 0.0


@pytest.mark.parametrize("seed", range(3))
def test_marked_share_adds_up(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    owner = torch.randint(3, (1, 5 * HOP), generator=generator)
    parts = [marked_share((owner == name).float(), HANN) for name in range(3)]
    assert all((0.0 <= part).all() and (part <= 1.0).all() for part in parts)
    torch.testing.assert_close(sum(parts), torch.ones(1, 4), atol=1e-5, rtol=0)


# --- what is seen -------------------------------------------------------------------------------------------------------


def test_visible_bins_end_below_the_cutoff() -> None:
    cutoffs = torch.tensor([1_000.0, 4_000.0, 8_000.0, 12_000.0, 22_050.0])
    seen = visible_bins(cutoffs, RATE)
    assert seen.shape == (5, BINS)
    frequency = torch.arange(BINS) * RATE / WINDOW
    for one, cutoff in zip(seen, cutoffs, strict=True):
        count = int(one.sum())
        assert one[:count].all(), "the visible bins are the lowest ones"
        assert 0.8 * cutoff < frequency[count - 1] < cutoff


def test_full_band_is_seen_whole() -> None:
    assert visible_bins(torch.tensor([24_000.0, 30_000.0]), RATE).all()


@pytest.mark.parametrize("cutoff", [190.0, 4_000.0, 6_000.0, 8_000.0, 16_000.0])
@pytest.mark.parametrize("restore", [False, True])
def test_blanked_bins_influence_neither_features_nor_output(
    model: SpectralUpsampler, cutoff: float, restore: bool
) -> None:
    seen, mode = visible_bins(torch.tensor([cutoff]), RATE), torch.tensor([restore])
    one, other = spectra(9), spectra(9, seed=1)
    mixed = torch.where(seen[:, None], one, 100 * other)
    features: list[Tensor] = []
    hook = model.body.register_forward_pre_hook(lambda _, given: features.append(given[0]))
    with torch.inference_mode():
        (plain, state), (blanked, after) = (enhance(model, given, seen, mode, shares(9)) for given in (one, mixed))
    hook.remove()
    assert torch.equal(*features)
    assert torch.equal(blanked, plain)
    assert all(torch.equal(*pair) for pair in zip(state, after, strict=True))


@pytest.mark.parametrize("restore", [False, True])
def test_what_lies_above_the_cutoff_does_not_change_the_prediction(model: SpectralUpsampler, restore: bool) -> None:
    """The law that makes a network work with any resampler: residue above the cutoff is neither heard nor kept."""
    signal = noise(RATE // 2)
    taps = scipy.signal.firwin(2_001, 9_000, window=("kaiser", 14.0), pass_zero=False, fs=RATE)
    above = torch.from_numpy(scipy.signal.oaconvolve(noise(RATE // 2, seed=1).numpy(), taps[None], "same", axes=1))
    low = scipy.signal.firwin(2_001, 7_000, window=("kaiser", 14.0), fs=RATE)
    below = torch.from_numpy(scipy.signal.oaconvolve(signal.numpy(), low[None], "same", axes=1)).float()
    cutoff, mode = torch.tensor([8_000.0]), torch.tensor([restore])
    with torch.inference_mode():
        clean, soiled = (model(x, cutoff, mode) for x in (below, below + 0.03 * above.float()))
    inner = slice(4 * WINDOW, -4 * WINDOW)
    error = (soiled - clean)[:, inner].abs().max()
    assert error < 2e-3 * clean.abs().max(), float(error)


def test_what_lies_below_the_cutoff_changes_the_prediction(model: SpectralUpsampler) -> None:
    signal, cutoff, mode = noise(9_000), torch.tensor([8_000.0]), torch.tensor([False])
    with torch.inference_mode():
        one, other = model(signal, cutoff, mode), model(noise(9_000, seed=1), cutoff, mode)
    assert (one - other).abs().max() > 0.01


def test_cutoff_and_mode_are_conditions_that_count(model: SpectralUpsampler) -> None:
    signal = noise(9_000)
    with torch.inference_mode():
        plain = model(signal, torch.tensor([8_000.0]), torch.tensor([False]))
        assert not torch.equal(plain, model(signal, torch.tensor([4_000.0]), torch.tensor([False])))
        assert not torch.equal(plain, model(signal, torch.tensor([8_000.0]), torch.tensor([True])))


def test_what_is_concealed_is_a_condition_that_counts_where_it_is(params: Params) -> None:
    """Marks change the frames that they lie in and, by way of the body's memory, later ones, but none before."""
    signal, cutoff, mode = noise(9_000), torch.tensor([8_000.0]), torch.tensor([True])
    marks = torch.zeros(1, 9_000)
    marks[:, 6_000:7_000] = 1.0
    model = untrained(params, "rnn", "copied")
    with torch.inference_mode():
        plain, marked = model(signal, cutoff, mode), model(signal, cutoff, mode, marks)
        assert torch.equal(model(signal, cutoff, mode, torch.zeros(1, 9_000)), plain)
    changed = (marked - plain)[0].abs() > 1e-6
    assert changed[6_000:7_000].float().mean() > 0.9
    assert not changed[: 6_000 - WINDOW].any()


def test_marks_of_a_batch_are_independent(model: SpectralUpsampler) -> None:
    signal, cutoff, mode = noise(9_000).repeat(2, 1), torch.tensor([8_000.0] * 2), torch.tensor([True] * 2)
    marks = torch.zeros(2, 9_000)
    marks[1, 3_000:5_000] = 1.0
    with torch.inference_mode():
        out = model(signal, cutoff, mode, marks)
        alone = [model(signal[:1], cutoff[:1], mode[:1], one) for one in (None, marks[1:])]
    torch.testing.assert_close(out, torch.cat(alone), atol=1e-5, rtol=1e-4)
    assert (out[1] - out[0]).abs().max() > 1e-3


def test_marks_reach_the_network_as_the_share_of_each_frame(model: SpectralUpsampler) -> None:
    signal, marks = noise(5_000), (noise(5_000, seed=4) > 0).float()
    calls: list[Tensor] = []
    plain = model.enhance

    def noted(*arguments: Any) -> tuple[Tensor, list[Tensor]]:
        calls.append(arguments[3])
        return plain(*arguments)

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(model, "enhance", noted)
        model(signal, torch.tensor([8_000.0]), torch.tensor([True]), marks)
    padded = torch.zeros(1, (frames_of(5_000) + 1) * HOP)
    padded[:, HOP : HOP + 5_000] = marks
    assert torch.equal(calls[0], marked_share(padded, HANN))


# --- what comes out -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", [190.0, 4_000.0, 11_025.0, 24_000.0])
def test_extend_keeps_the_spectrum_below_the_splice_exactly(model: SpectralUpsampler, cutoff: float) -> None:
    spectrum = spectra(7, batch=2)
    seen = visible_bins(torch.full((2,), cutoff), RATE)
    with torch.inference_mode():
        out, _ = enhance(model, spectrum, seen, torch.tensor([False, False]), shares(7, 2))
    kept = seen[:, None].expand(-1, 7, -1)
    assert torch.equal(out[kept], spectrum[kept])
    if cutoff < 24_000.0:
        assert not torch.isclose(out[~kept], spectrum[~kept]).any(dim=-1).all()


def test_restore_may_change_every_bin(model: SpectralUpsampler) -> None:
    spectrum = spectra(7)
    seen = visible_bins(torch.tensor([24_000.0]), RATE)
    with torch.inference_mode():
        out, _ = enhance(model, spectrum, seen, torch.tensor([True]))
    assert (out != spectrum).float().mean() > 0.99


@pytest.mark.parametrize("cutoff", [190.0, 4_000.0, 24_000.0])
@pytest.mark.parametrize("head", ["damage", "gate"])
def test_frame_or_bin_without_damage_stays_as_it_is(model: SpectralUpsampler, head: str, cutoff: float) -> None:
    """One number keeps a whole frame, one of each bin that bin, and neither what lies above the cutoff."""
    spectrum, seen = spectra(7, batch=2), visible_bins(torch.full((2,), cutoff), RATE)
    restore = torch.tensor([True, True])
    free, _ = enhance(model, spectrum, seen, restore, shares(7, 2))
    with biased(model, head, -1e4 if head == "damage" else 1e4), torch.inference_mode():
        out, _ = enhance(model, spectrum, seen, restore, shares(7, 2))
    kept = seen[:, None].expand(-1, 7, -1)
    torch.testing.assert_close(out[kept], spectrum[kept], atol=1e-4, rtol=1e-4)
    assert not torch.isclose(free[kept], spectrum[kept], atol=1e-4, rtol=1e-4).all()
    torch.testing.assert_close(out[~kept], free[~kept], atol=1e-4, rtol=1e-4)


def test_undamaged_signal_comes_back_and_is_extended(model: SpectralUpsampler) -> None:
    signal = noise(9_000)
    mode, whole, narrow = torch.tensor([True]), torch.tensor([24_000.0]), torch.tensor([8_000.0])
    with biased(model, "damage", -1e4), torch.inference_mode():
        torch.testing.assert_close(model(signal, whole, mode), signal, atol=1e-5, rtol=0)
        seen = visible_bins(narrow, RATE)[0]
        out, given = (analyse(one, HANN)[0, 2:-2] for one in (model(signal, narrow, mode), signal))
    assert (out - given)[:, ~seen].abs().max() > 0.1


def test_each_frame_has_a_damage_of_its_own(params: Params) -> None:
    """Weights that hear nothing but what is concealed: frames that hold it are replaced, the others kept."""
    model, spectrum, seen = untrained(params, "rnn", "copied"), spectra(6), visible_bins(torch.tensor([24_000.0]), RATE)
    share, wide = torch.tensor([[0.0, 0.0, 1.0, 1.0, 0.0, 1.0]]), model.damage.in_features
    heard = torch.zeros(wide)
    heard[0], heard[1] = 1.0, -1.0

    def told(hidden: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        return (2 * share[..., None] - 1) * heard, state

    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.body, "forward", told)
        model.damage.weight.copy_(1e3 * heard[None])
        model.damage.bias.zero_()
        model.gate.weight.zero_()
        model.gate.bias.fill_(-1e3)
        out, _ = enhance(model, spectrum, seen, torch.tensor([True]), share)
    moved = (out - spectrum)[0].abs()
    assert moved[share[0] == 0].max() < 1e-4
    assert (moved[share[0] == 1] > 1e-3).float().mean() > 0.99


def test_what_gives_way_is_the_damage_of_the_frame_times_that_of_the_bin(model: SpectralUpsampler) -> None:
    """From nothing, where the input is kept, to all of it, where the prediction stands alone."""
    spectrum, seen, restore = spectra(5), visible_bins(torch.tensor([24_000.0]), RATE), torch.tensor([True])

    def out(frame: float, bin: float) -> Tensor:
        with constant(model, "damage", frame), constant(model, "gate", bin), torch.inference_mode():
            return enhance(model, spectrum, seen, restore)[0]

    whole, kept = out(1e4, -1e4), out(-1e4, -1e4)
    torch.testing.assert_close(kept, spectrum, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(out(1e4, 1e4), spectrum, atol=1e-4, rtol=1e-4)
    for frame, bin, share in ((0.0, -1e4, 0.5), (1e4, 0.0, 0.5), (0.0, 0.0, 0.25)):
        torch.testing.assert_close(out(frame, bin), spectrum + share * (whole - spectrum), atol=1e-3, rtol=1e-3)


def test_damage_is_not_heard_where_nothing_is_to_be_repaired(model: SpectralUpsampler) -> None:
    spectrum, seen, restore = spectra(7), visible_bins(torch.tensor([6_000.0]), RATE), torch.tensor([False])
    with torch.inference_mode():
        plain, _ = enhance(model, spectrum, seen, restore)
        with biased(model, "damage", 1e4):
            assert torch.equal(enhance(model, spectrum, seen, restore)[0], plain)


def test_untrained_network_keeps_most_of_what_it_repairs_and_learns_to_keep_and_to_change(params: Params) -> None:
    """Neither gate is shut for good: both have gradients that move them either way."""
    for kind in KINDS:
        model, signal = untrained(params, kind, "copied"), noise(9_000)
        model.train()
        out = model(signal, torch.tensor([24_000.0]), torch.tensor([True]))
        assert (out - signal).square().mean() < 0.1 * signal.square().mean()
        (out - 0.5 * signal).square().mean().backward()
        for head in (model.damage, model.gate):
            assert head.bias.grad is not None
            assert head.bias.grad.abs().max() > 0


def test_modes_of_a_batch_are_independent(model: SpectralUpsampler) -> None:
    signal, cutoffs = noise(9_000, batch=3), torch.tensor([4_000.0, 8_000.0, 24_000.0])
    modes = torch.tensor([False, True, False])
    with torch.inference_mode():
        together = model(signal, cutoffs, modes)
        alone = torch.cat([model(signal[i : i + 1], cutoffs[i : i + 1], modes[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_full_band_extended_comes_back(model: SpectralUpsampler) -> None:
    signal = noise(9_000, level=0.5)
    with torch.inference_mode():
        out = model(signal, torch.tensor([24_000.0]), torch.tensor([False]))
    torch.testing.assert_close(out, signal, atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [1, 511, 512, 5_000])
def test_output_has_the_shape_of_the_input(model: SpectralUpsampler, samples: int) -> None:
    with torch.inference_mode():
        out = model(noise(samples, batch=2), torch.tensor([4_000.0, 8_000.0]), torch.tensor([False, True]))
    assert out.shape == (2, samples)
    assert out.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("restore", [False, True])
def test_silence_gives_next_to_silence(params: Params, kind: str, phase: Phase, restore: bool) -> None:
    model = untrained(params, kind, phase)
    with torch.inference_mode():
        out = model(torch.zeros(1, 9_000), torch.tensor([8_000.0]), torch.tensor([restore]))
    assert out.isfinite().all()
    assert out.abs().max() < 4 * STEP


def test_loudest_input_gives_finite_output_and_gradients(model: SpectralUpsampler) -> None:
    signal = torch.sign(noise(9_000)).requires_grad_()
    out = model(signal, torch.tensor([8_000.0]), torch.tensor([True]))
    (out.square().mean()).backward()
    assert signal.grad is not None
    assert out.isfinite().all()
    assert signal.grad.isfinite().all()


def test_silence_has_finite_gradients(model: SpectralUpsampler) -> None:
    model.zero_grad()
    out = model(torch.zeros(2, 9_000), torch.tensor([8_000.0, 24_000.0]), torch.tensor([False, True]))
    out.square().mean().backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    model.zero_grad()


# --- copying upwards ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cutoff", [190.0, 500.0, 4_000.0, 8_000.0, 16_000.0])
def test_copy_fills_blanked_bins_from_visible_ones(cutoff: float) -> None:
    seen = visible_bins(torch.tensor([cutoff]), RATE)
    origin = origins(seen)[0]
    assert torch.equal(origin[seen[0]], torch.arange(BINS)[seen[0]])
    assert seen[0, origin].all()
    assert ((torch.arange(BINS) - origin) % 2 == 0).all(), "an odd shift turns the phase from frame to frame"


@pytest.mark.parametrize("frequency", [1_000.0, 2_345.6, 3_100.0])
def test_copy_of_a_steady_tone_keeps_turning_at_its_new_frequency(frequency: float) -> None:
    time = np.arange(RATE // 4) / RATE
    signal = torch.from_numpy(np.sin(2 * np.pi * frequency * time).astype(np.float32))[None]
    seen = visible_bins(torch.tensor([4_000.0]), RATE)
    copied = analyse(signal, HANN)[0, 4:-4][:, origins(seen)[0]]
    level = copied.abs().mean(0)
    tone = int(level[seen[0]].argmax())
    peaks = [k for k in range(int(seen.sum()) + 1, BINS - 1) if level[k] > 0.9 * level[tone]]
    assert peaks or frequency < 1_700, "the upper half of the visible band is what is repeated"
    for k in peaks:
        turned = torch.angle((copied[1:, k] * copied[:-1, k].conj()).mean())
        expected = 2 * np.pi * (frequency + (k - tone) * RATE / WINDOW) * HOP / RATE
        assert np.cos(float(turned) - expected) > 0.999, k


def test_each_clip_is_copied_from_its_own_band() -> None:
    seen = visible_bins(torch.tensor([4_000.0, 24_000.0, 500.0]), RATE)
    alone = torch.cat([origins(one[None]) for one in seen])
    assert torch.equal(origins(seen), alone)
    assert torch.equal(alone[1], torch.arange(BINS))


# --- phase --------------------------------------------------------------------------------------------------------------


def angles(params: Params, kind: str, phase: Phase, turn: Tensor, spectrum: Tensor, seen: Tensor) -> Tensor:
    """Unit phasors of the filled bins of a network whose head of phases says `turn`, whatever it hears."""
    model = untrained(params, kind, phase)
    with torch.no_grad():
        model.turn.weight.zero_()
        model.turn.bias.copy_(turn.flatten())
        out, _ = enhance(model, spectrum, seen, torch.tensor([False]))
    filled = out[0, :, ~seen[0]]
    return filled / filled.abs()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", PHASES)
def test_phase_of_the_filled_band_is_the_copy_turned_or_predicted_or_their_sum(
    params: Params, kind: str, phase: Phase
) -> None:
    spectrum, seen = spectra(6), visible_bins(torch.tensor([6_000.0]), RATE)
    turn = torch.randn(4 if phase == "mixed" else 2, BINS, generator=torch.Generator().manual_seed(8))
    found = angles(params, kind, phase, turn, spectrum, seen)
    copied = (spectrum / spectrum.abs())[0][:, origins(seen)[0]]
    turned, predicted = copied * torch.complex(1.0 + turn[0], turn[1]), torch.complex(turn[-2], turn[-1])
    expected = {"copied": turned, "free": predicted.expand_as(turned), "mixed": turned + predicted}[phase]
    expected = expected[:, ~seen[0]]
    torch.testing.assert_close(found, expected / expected.abs(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phase", PHASES)
def test_known_band_is_repaired_from_its_own_phase(params: Params, kind: str, phase: Phase) -> None:
    """An untrained head turns next to nothing; where all gives way, what is left is the prediction."""
    model, spectrum = untrained(params, kind, phase), spectra(6)
    with torch.no_grad():
        model.damage.bias.fill_(1e3)
        model.gate.bias.fill_(-1e3)
        if phase == "mixed":
            model.turn.weight[2 * BINS :].zero_()
        out, _ = enhance(model, spectrum, visible_bins(torch.tensor([24_000.0]), RATE), torch.tensor([True]))
    assert float(torch.angle(out * spectrum.conj()).abs().mean()) < 0.1


# --- blocks -------------------------------------------------------------------------------------------------------------


def test_frames_short_of_a_block_are_as_if_silence_followed(model: SpectralUpsampler) -> None:
    spectrum, seen, restore = spectra(9), visible_bins(torch.tensor([6_000.0]), RATE), torch.tensor([True])
    short, share = -9 % model.body.alignment, shares(9)
    longer, unmarked = torch.nn.functional.pad(spectrum, (0, 0, 0, short)), torch.nn.functional.pad(share, (0, short))
    with torch.inference_mode():
        out, whole = (
            enhance(model, spectrum, seen, restore, share)[0],
            enhance(model, longer, seen, restore, unmarked)[0],
        )
    assert torch.equal(out, whole[:, :9])


def test_carried_state_stands_for_the_frames_before(params: Params) -> None:
    for phase in PHASES:
        model, spectrum = untrained(params, "rnn", phase), spectra(12, batch=2)
        seen, restore = visible_bins(torch.tensor([6_000.0, 9_000.0]), RATE), torch.tensor([True, False])
        share = shares(12, 2)
        with torch.inference_mode():
            whole, last = enhance(model, spectrum, seen, restore, share)
            first, state = enhance(model, spectrum[:, :5], seen, restore, share[:, :5])
            second, state = model.enhance(spectrum[:, 5:], seen, restore, share[:, 5:], state)
        torch.testing.assert_close(torch.cat((first, second), dim=1), whole, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(state, last, atol=1e-6, rtol=1e-5)


def test_another_runtime_gets_whole_blocks_in_real_arithmetic(model: SpectralUpsampler) -> None:
    """What stands in for the network's own arithmetic hears what it would hear, and what it says is taken."""
    calls: list[tuple[Tensor, ...]] = []

    def doubled(
        real: Tensor,
        imag: Tensor,
        visible: Tensor,
        restore: Tensor,
        concealed: Tensor,
        origin: Tensor,
        state: list[Tensor],
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        calls.append((real, imag, visible, restore, concealed, origin))
        return 2 * real, 2 * imag, state

    spectrum, seen, restore = spectra(9), visible_bins(torch.tensor([6_000.0]), RATE), torch.tensor([True])
    state, share = model.body.initial(1), shares(9)
    out, after = model.enhance(spectrum, seen, restore, share, state, doubled)
    assert torch.equal(out, 2 * spectrum)
    assert after is state
    ((real, imag, visible, mode, concealed, origin),) = calls
    assert real.shape[1] % model.body.alignment == 0
    assert concealed.shape == real.shape[:2]
    assert torch.equal(concealed[:, :9], share) and not concealed[:, 9:].any()
    assert torch.equal(torch.complex(real, imag)[:, :9], spectrum)
    assert torch.equal(visible, seen) and torch.equal(mode, restore) and torch.equal(origin, origins(seen))
