"""Laws of the training crops: the number of an example decides all of it, and input and target belong together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from overtone import audio, conceal
from overtone.data.crops import Centres, Crop, CropSampler, RandomCrops
from overtone.data.pairs import Pair, PairsError, read_pairs
from overtone.params import Params

SAMPLES = 12_000
NUMBERS = range(40)


def crops(folder: Path, params: Params, pairs: list[Pair] | None = None, **changes: Any) -> RandomCrops:
    arguments: dict[str, Any] = {"samples": SAMPLES, "seed": 5, "redraw": 0.0, "narrowband": params.degrade.narrowband}
    return RandomCrops(read_pairs(folder, "train") if pairs is None else pairs, folder, **(arguments | changes))


def same(one: Crop, other: Crop) -> bool:
    return all(torch.equal(one[name], other[name]) for name in Crop.__annotations__)  # type: ignore[literal-required]


def test_same_number_same_crop(pairs_folder: Path, params: Params) -> None:
    one, other = crops(pairs_folder, params, redraw=0.5), crops(pairs_folder, params, redraw=0.5)
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
        assert crop["input"].shape == crop["target"].shape == (SAMPLES,)
        assert crop["input"].dtype == crop["target"].dtype == torch.float32
        assert crop["input"].abs().max() <= 1.0
        assert 0.0 < crop["cutoff_hz"] <= 24_000.0
        assert 0.0 < crop["bandwidth_hz"] <= 24_000.0
        modes.add(bool(crop["restore"]))
    assert modes == {True, False}


def test_redraw_changes_the_input_but_not_the_target(pairs_folder: Path, params: Params) -> None:
    stored, fresh = crops(pairs_folder, params), crops(pairs_folder, params, redraw=1.0)
    for number in NUMBERS:
        one, other = stored[number], fresh[number]
        assert torch.equal(one["target"], other["target"])
        assert torch.equal(one["restore"], other["restore"])
        assert torch.equal(one["bandwidth_hz"], other["bandwidth_hz"])
        assert torch.equal(one["input"], other["input"]) == bool(one["restore"])


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
    heard = conceal.concealed(stored) if mode == "restore" else stored
    whole = crops(folder, params, [pair], samples=pair.frames)[0]
    assert np.array_equal(whole["input"].numpy(), heard[0])
    assert np.array_equal(Centres([pair], folder, pair.frames)[0]["input"].numpy(), heard[0])
    assert not torch.equal(whole["input"], whole["target"])


@pytest.mark.parametrize("mode", ["extend", "restore"])
def test_padding_is_silent_to_the_network_too(
    lossy_pair: tuple[Path, Pair], params: Params, mode: Literal["extend", "restore"]
) -> None:
    folder, pair = lossy_pair
    target, rate = audio.read(folder / pair.target)
    # Cut off in the midst of sound, as clips are.
    audio.write(folder / "input.flac", target[:, :30_000], rate, "PCM_16")
    audio.write(folder / "target.flac", target[:, :30_000], rate, "PCM_16")
    pair = replace(pair, mode=mode, frames=30_000)
    for crop in (crops(folder, params, [pair], samples=35_000)[0], Centres([pair], folder, 35_000)[0]):
        assert crop["input"][:30_000].any()
        assert not crop["input"][30_000:].any()
        assert not crop["target"][30_000:].any()


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
