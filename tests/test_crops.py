"""Laws of the training crops: the number of an example decides all of it, and input and target belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from overtone import audio, conceal
from overtone.data import degrade
from overtone.data.crops import OPENED, Centres, Crop, CropSampler, RandomCrops
from overtone.data.pairs import Pair, PairsError, read_pairs, training_noise
from overtone.params import DegradeParams, PacketLoss, Params, Step

SAMPLES = 12_000
NUMBERS = range(40)


def crops(folder: Path, params: Params, pairs: list[Pair] | None = None, **changes: Any) -> RandomCrops:
    arguments: dict[str, Any] = {"samples": SAMPLES, "seed": 5, "redraw": 0.0, "ranges": params.degrade, "noises": []}
    return RandomCrops(read_pairs(folder, "train") if pairs is None else pairs, folder, **(arguments | changes))


def damaged(params: Params, second: float = 0.0, narrowband: float = 0.0, **weights: float) -> DegradeParams:
    """Ranges that draw damages of these families alone."""
    changes = {"weights": weights, "second": second, "narrowband": narrowband}
    return params.degrade.model_copy(update={"damage": params.degrade.damage.model_copy(update=changes)})


def same(one: Crop, other: Crop) -> bool:
    return all(torch.equal(one[name], other[name]) for name in Crop.__annotations__)  # type: ignore[literal-required]


def test_same_number_same_crop(pairs_folder: Path, params: Params) -> None:
    one, other = (crops(pairs_folder, params, redraw=0.5, noises=training_noise(pairs_folder)) for _ in range(2))
    forward = [one[number] for number in NUMBERS]
    backward = [other[number] for number in reversed(NUMBERS)]
    assert all(same(a, b) for a, b in zip(forward, reversed(backward), strict=True))


def test_other_numbers_and_seeds_give_other_crops(pairs_folder: Path, params: Params) -> None:
    plain, other = crops(pairs_folder, params), crops(pairs_folder, params, seed=6)
    assert not any(same(plain[number], plain[number + 1]) for number in NUMBERS)
    assert not any(same(plain[number], other[number]) for number in NUMBERS)


def test_crop_says_what_it_is(pairs_folder: Path, params: Params) -> None:
    modes = set()
    for number in NUMBERS:
        crop = crops(pairs_folder, params, redraw=0.5)[number]
        signals = (crop["input"], crop["target"], crop["concealed"])
        assert all(signal.shape == (SAMPLES,) and signal.dtype == torch.float32 for signal in signals)
        assert crop["input"].abs().max() <= 1.0
        assert set(np.unique(crop["concealed"].numpy())) <= ({0.0, 1.0} if crop["restore"] else {0.0})
        assert 0.0 < crop["cutoff_hz"] <= 24_000.0
        assert 0.0 < crop["bandwidth_hz"] <= 24_000.0
        modes.add(bool(crop["restore"]))
    assert modes == {True, False}


@pytest.mark.parametrize("family", ["packet_loss", "noise", "clip", "bit_errors", "quantise"])
def test_redraw_changes_the_input_but_not_the_target(pairs_folder: Path, params: Params, family: str) -> None:
    stored, fresh = (
        crops(pairs_folder, params, redraw=redraw, ranges=damaged(params, **{family: 1.0})) for redraw in (0.0, 1.0)
    )
    modes = set()
    for number in NUMBERS:
        one, other = stored[number], fresh[number]
        assert torch.equal(one["target"], other["target"])
        assert torch.equal(one["restore"], other["restore"])
        assert torch.equal(one["bandwidth_hz"], other["bandwidth_hz"])
        if not other["restore"]:
            assert other["cutoff_hz"] <= 16_000.0
        elif family != "packet_loss":
            assert other["cutoff_hz"] == 24_000.0
            assert not torch.equal(other["input"], other["target"])
        # A short crop may have lost nothing.
        if not torch.equal(other["input"], other["target"]):
            assert not torch.equal(one["input"], other["input"])
            modes.add(bool(other["restore"]))
    assert modes == {True, False}


def test_without_redraw_the_stored_input_is_what_is_heard(pairs_folder: Path, params: Params) -> None:
    """Whatever might have been drawn."""
    plain = crops(pairs_folder, params)
    other = crops(pairs_folder, params, ranges=damaged(params, noise=1.0), noises=[np.ones((1, 9), np.float32)])
    assert all(same(plain[number], other[number]) for number in NUMBERS)


@pytest.mark.parametrize("restore", [False, True])
def test_the_share_asked_for_is_redrawn(pairs_folder: Path, params: Params, restore: bool) -> None:
    mode = "restore" if restore else "extend"
    pairs = [pair for pair in read_pairs(pairs_folder, "train") if pair.mode == mode]
    stored, mixed = (
        crops(pairs_folder, params, pairs, samples=500, redraw=redraw, ranges=damaged(params, noise=1.0))
        for redraw in (0.0, 0.3)
    )
    fresh = [not torch.equal(stored[number]["input"], mixed[number]["input"]) for number in range(400)]
    assert np.mean(fresh) == pytest.approx(0.3, abs=0.07)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Step, ...]]:
    """The steps of every crop that is redrawn."""
    found: list[tuple[Step, ...]] = []
    plain = degrade.apply

    def noted(steps: tuple[Step, ...], *arguments: Any) -> audio.Signal:
        found.append(steps)
        return plain(steps, *arguments)

    monkeypatch.setattr(degrade, "apply", noted)
    return found


def test_encoders_are_left_to_the_stored_pairs(
    pairs_folder: Path, params: Params, drawn: list[tuple[Step, ...]]
) -> None:
    """Neither as the one damage nor as the second of two."""
    ranges = damaged(params, second=1.0, narrowband=0.5, codec=50.0, clip=1.0, quantise=1.0, noise=1.0)
    made = crops(pairs_folder, params, samples=500, redraw=1.0, ranges=ranges)
    modes = [bool(made[number]["restore"]) for number in range(200)]
    assert len(drawn) == 200
    for restore, steps in zip(modes, drawn, strict=True):
        names = [step.op for step in steps]
        if not restore:
            assert names == ["narrowband"]
            continue
        damages = {name for name in names if name != "narrowband"}
        assert len(damages) == 2
        assert damages <= {"clip", "quantise", "noise"}
    assert {step.op for steps in drawn for step in steps} == {"narrowband", "clip", "quantise", "noise"}
    assert ranges.damage.weights["codec"] == 50.0, "the settings are left alone"


def test_cutoff_of_a_redrawn_crop_is_that_of_its_steps(
    pairs_folder: Path, params: Params, drawn: list[tuple[Step, ...]]
) -> None:
    made = crops(pairs_folder, params, samples=500, redraw=1.0, ranges=damaged(params, narrowband=0.5, clip=1.0))
    cutoffs = [float(made[number]["cutoff_hz"]) for number in NUMBERS]
    assert cutoffs == pytest.approx([degrade.cutoff_of(steps, 48_000) for steps in drawn])
    assert 24_000.0 in cutoffs


def test_crop_without_drawn_damage_is_its_target(pairs_folder: Path, params: Params) -> None:
    made = crops(pairs_folder, params, redraw=1.0, ranges=damaged(params, narrowband=1.0, none=1.0))
    clean = [made[number] for number in NUMBERS if made[number]["restore"]]
    assert clean
    for crop in clean:
        # The side of 16-bit channels lies between their steps.
        torch.testing.assert_close(crop["input"], crop["target"], atol=0.51 / 32_768, rtol=0)
        assert crop["cutoff_hz"] == 24_000.0
        assert not crop["concealed"].any()


def test_redrawn_noise_is_of_the_recordings_and_stored_as_16_bit(pairs_folder: Path, params: Params) -> None:
    time = np.arange(96_000) / 48_000
    hum = np.sin(2 * np.pi * 3_000 * time).astype(np.float32)[None]
    pairs = [pair for pair in read_pairs(pairs_folder, "train") if pair.mode == "restore"]
    made = crops(pairs_folder, params, pairs, redraw=1.0, ranges=damaged(params, noise=1.0), noises=[hum])
    tones = clipped = 0
    for number in NUMBERS:
        crop = made[number]
        steps = 32_768 * crop["input"].double()
        assert torch.equal(steps, steps.round())
        assert -1.0 <= float(crop["input"].min()) <= float(crop["input"].max()) < 1.0
        clipped += bool(crop["input"].max() > 0.9999)
        power = torch.fft.rfft((crop["input"] - crop["target"]) * torch.hann_window(SAMPLES)).abs().square()
        peak = int(power.argmax()) * 48_000 / SAMPLES
        near = power[max(int(power.argmax()) - 3, 0) : int(power.argmax()) + 4].sum() / power.sum()
        tones += bool(near > 0.4 and 3_000 / 1.4 - 5 < peak < 3_000 * 1.4 + 5)
    # Seven in ten of the draws are of recorded noise, the others coloured.
    assert 0.5 < tones / len(NUMBERS) < 0.9
    assert clipped < len(NUMBERS) / 2


def test_redrawn_packet_loss_is_concealed_and_marked(
    pairs_folder: Path, params: Params, drawn: list[tuple[Step, ...]]
) -> None:
    """What is marked is what stands in for lost samples; all else is the target's, or silence that was left."""
    pairs = [pair for pair in read_pairs(pairs_folder, "train") if pair.mode == "restore"]
    made = crops(pairs_folder, params, pairs, samples=48_000, redraw=1.0, ranges=damaged(params, packet_loss=1.0))
    marked = 0
    for number in NUMBERS:
        crop = made[number]
        (step,) = drawn[-1]
        assert isinstance(step, PacketLoss)
        # As much as the gaps that could be filled, and no whole gap that was repeated.
        if step.fill == "repeat":
            assert not crop["concealed"].any()
            continue
        marks = crop["concealed"] == 1.0
        marked += int(marks.any())
        free, expected = crop["input"][~marks], crop["target"][~marks]
        close = torch.isclose(free, expected, atol=0.51 / 32_768, rtol=0)
        assert (close | (free == 0)).all()
        assert not torch.equal(crop["input"][marks], crop["target"][marks]) or not marks.any()
    assert marked > len(NUMBERS) / 5


def test_redrawn_input_holds_nothing_far_above_its_cutoff(pairs_folder: Path, params: Params) -> None:
    fresh = crops(pairs_folder, params, redraw=1.0)
    window = torch.hann_window(SAMPLES)
    seen = 0
    for number in NUMBERS:
        crop = fresh[number]
        if crop["restore"] or crop["cutoff_hz"] > 12_000:
            continue
        power = [torch.fft.rfft(crop[name] * window).abs().square() for name in ("input", "target")]
        first = int(1.5 * float(crop["cutoff_hz"]) * SAMPLES / 48_000)
        assert power[0][first:].sum() < 0.02 * power[1][first:].sum() + SAMPLES / 2**30
        seen += 1
    assert seen > 5


def test_input_and_target_are_the_same_excerpt(pairs_folder: Path, params: Params) -> None:
    """A pair whose input is its target stays equal, whatever is cut and whichever channel is taken."""
    plain = [replace(pair, input=pair.target) for pair in read_pairs(pairs_folder, "train")]
    made = crops(pairs_folder, params, plain)
    assert all(torch.equal(made[number]["input"], made[number]["target"]) for number in NUMBERS)


def test_stereo_gives_left_right_mid_and_side(pairs_folder: Path, params: Params) -> None:
    pair = next(pair for pair in read_pairs(pairs_folder, "train") if pair.channels == 2)
    whole, _ = audio.read(pairs_folder / pair.target)
    left, right = torch.from_numpy(whole)
    wanted = {"left": left, "right": right, "mid": (left + right) / 2, "side": (left - right) / 2}
    made = crops(pairs_folder, params, [pair], samples=pair.frames)
    found = set()
    for number in NUMBERS:
        target = made[number]["target"]
        found |= {name for name, channel in wanted.items() if torch.allclose(target, channel, atol=1e-7)}
    assert found == set(wanted)


def test_crop_longer_than_its_pair_is_padded_with_silence(pairs_folder: Path, params: Params) -> None:
    pair = read_pairs(pairs_folder, "train")[0]
    crop = crops(pairs_folder, params, [pair], samples=pair.frames + 500)[0]
    assert crop["target"].shape == (pair.frames + 500,)
    assert not crop["target"][-500:].any()
    assert crop["target"][:-500].any()


@pytest.fixture
def lossy_pair(pairs_folder: Path, tmp_path: Path) -> tuple[Path, Pair]:
    """A pair in a folder of its own whose input is its target less a packet in the middle."""
    pair = next(pair for pair in read_pairs(pairs_folder, "train") if pair.channels == 1)
    target, rate = audio.read(pairs_folder / pair.target)
    lost = target.copy()
    lost[:, pair.frames // 2 : pair.frames // 2 + 960] = 0.0
    audio.write(tmp_path / "target.flac", target, rate, "PCM_16")
    audio.write(tmp_path / "input.flac", lost, rate, "PCM_16")
    return tmp_path, replace(pair, target="target.flac", input="input.flac")


@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_lost_packet_is_heard_as_a_stream_gives_it_to_the_network(
    lossy_pair: tuple[Path, Pair], params: Params, mode: Literal["extend", "restore"]
) -> None:
    """Concealed before restoration, and left as it is where nothing below the cutoff may change."""
    folder, pair = lossy_pair
    pair = replace(pair, mode=mode)
    stored, _ = audio.read(folder / pair.input)
    heard, marks = conceal.concealed(stored) if mode == "restore" else (stored, 0 * stored)
    for crop in (crops(folder, params, [pair], samples=pair.frames)[0], Centres([pair], folder, pair.frames)[0]):
        assert np.array_equal(crop["input"].numpy(), heard[0])
        assert np.array_equal(crop["concealed"].numpy(), marks[0])
        assert not torch.equal(crop["input"], crop["target"])
    assert marks.any() == (mode == "restore")


def test_stereo_crop_has_the_marks_of_both_channels(pairs_folder: Path, params: Params, tmp_path: Path) -> None:
    """What is lost is lost in both; whichever is taken, it is marked there."""
    pair = next(pair for pair in read_pairs(pairs_folder, "train") if pair.channels == 2)
    target, rate = audio.read(pairs_folder / pair.target)
    lost = target.copy()
    lost[:, 20_000:20_960] = 0.0
    for name, signal in (("target.flac", target), ("input.flac", lost)):
        audio.write(tmp_path / name, signal, rate, "PCM_16")
    pair = replace(pair, target="target.flac", input="input.flac", mode="restore")
    made = crops(tmp_path, params, [pair], samples=pair.frames)
    for number in NUMBERS:
        assert made[number]["concealed"].nonzero().flatten().tolist() == list(range(20_000, 20_960))


@pytest.mark.parametrize("mode", ["extend", "restore"])
@pytest.mark.parametrize("redraw", [0.0, 1.0])
def test_padding_is_silent_to_the_network_too(
    lossy_pair: tuple[Path, Pair], params: Params, mode: Literal["extend", "restore"], redraw: float
) -> None:
    folder, pair = lossy_pair
    target, rate = audio.read(folder / pair.target)
    # Cut off in the midst of sound, as clips are.
    audio.write(folder / "input.flac", target[:, :30_000], rate, "PCM_16")
    audio.write(folder / "target.flac", target[:, :30_000], rate, "PCM_16")
    pair = replace(pair, mode=mode, frames=30_000)
    made = crops(folder, params, [pair], samples=35_000, redraw=redraw, ranges=damaged(params, noise=1.0, clip=1.0))
    for crop in (*(made[number] for number in range(8)), Centres([pair], folder, 35_000)[0]):
        assert crop["input"][:30_000].any()
        assert not crop["input"][30_000:].any()
        assert not crop["concealed"][30_000:].any()
        assert not crop["target"][30_000:].any()


def test_some_crops_that_are_to_be_repaired_count_as_damaged_throughout(pairs_folder: Path, params: Params) -> None:
    """A share of them, of the stored and of the redrawn alike; none of the others, and none in validation."""
    flags: dict[tuple[bool, bool], list[bool]] = {}
    for redraw in (0.0, 1.0):
        made = crops(pairs_folder, params, samples=500, redraw=redraw, ranges=damaged(params, clip=1.0))
        for number in range(500):
            crop = made[number]
            flags.setdefault((bool(redraw), bool(crop["restore"])), []).append(bool(crop["opened"]))
    assert len(flags) == 4
    for (_, restore), opened in flags.items():
        assert np.mean(opened) == pytest.approx(OPENED if restore else 0.0, abs=0.09 if restore else 0.0)
    pairs = read_pairs(pairs_folder, "valid")
    centres = Centres(pairs, pairs_folder, SAMPLES)
    assert not any(centres[index]["opened"] for index in range(len(pairs)))


def test_longer_pairs_are_drawn_more_often(pairs_folder: Path, params: Params) -> None:
    pairs = [replace(pair, mode="restore") for pair in read_pairs(pairs_folder, "train")[:2]]
    pairs = [replace(pairs[0], bandwidth_hz=1.0, frames=15_000), replace(pairs[1], bandwidth_hz=2.0, frames=45_000)]
    made = crops(pairs_folder, params, pairs, samples=100)
    drawn = [float(made[number]["bandwidth_hz"]) for number in range(400)]
    assert 0.68 < np.mean([width == 2.0 for width in drawn]) < 0.82


def test_no_pairs_are_refused(params: Params, tmp_path: Path) -> None:
    with pytest.raises(PairsError, match="no training pairs"):
        crops(tmp_path, params, [])


# --- validation ---------------------------------------------------------------------------------------------------------


def test_centres_are_the_middles_of_all_pairs(pairs_folder: Path) -> None:
    pairs = read_pairs(pairs_folder, "valid")
    centres = Centres(pairs, pairs_folder, SAMPLES)
    assert len(centres) == len(pairs) > 0
    for index, pair in enumerate(pairs):
        whole, _ = audio.read(pairs_folder / pair.target)
        start = (pair.frames - SAMPLES) // 2
        middle = torch.from_numpy(whole[:, start : start + SAMPLES].mean(axis=0))
        torch.testing.assert_close(centres[index]["target"], middle, atol=1e-6, rtol=0)
        assert same(centres[index], centres[index])


# --- numbering ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 4])
def test_each_number_goes_to_one_rank(world: int) -> None:
    numbers = [list(CropSampler(40, rank, world)) for rank in range(world)]
    assert sorted(number for part in numbers for number in part) == list(range(40))
    assert {len(part) for part in numbers} == {40 // world}


def test_what_ranks_cannot_share_evenly_is_left_out() -> None:
    numbers = [list(CropSampler(10, rank, 4)) for rank in range(4)]
    assert [len(part) for part in numbers] == [len(CropSampler(10, rank, 4)) for rank in range(4)] == [2, 2, 2, 2]
    assert sorted(number for part in numbers for number in part) == list(range(8))


def test_each_epoch_continues_where_the_last_stopped() -> None:
    sampler = CropSampler(16)
    numbers = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        numbers += list(sampler)
    assert numbers == list(range(48))


def test_resumed_epoch_has_the_numbers_of_an_undisturbed_one() -> None:
    resumed = CropSampler(16, 1, 2)
    resumed.set_epoch(7)
    assert list(resumed) == list(range(16 * 7 + 1, 16 * 8, 2))
