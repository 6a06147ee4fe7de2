"""Laws of the paired set: aligned, repeatable, never clipping, each with a recipe that makes it again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from overtone import audio, params
from overtone.data import corpus, degrade, manifest, pairs, parallel
from overtone.params import CorpusParams, DegradeParams

ROOT = Path(__file__).parents[1]
RATE = 48_000


def put(path: Path, seconds: float, channels: int, seed: int, level: float = 0.1) -> None:
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((channels, round(seconds * RATE))).astype(np.float32) * np.float32(level)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, signal, RATE, "PCM_16")


@pytest.fixture(scope="module")
def settings() -> DegradeParams:
    degrade = params.load(ROOT / "params.yaml").degrade
    target = degrade.target.model_copy(update={"mix_share": 0.5})
    return degrade.model_copy(update={"views": 5, "target": target})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, settings: DegradeParams) -> tuple[Path, Path]:
    """(corpus, pairs) of nine one-second sources."""
    folder = tmp_path_factory.mktemp("pairs")
    for index in range(3):
        put(folder / "raw" / "speech" / f"s{index}.flac", 0.8, 1, index)
        put(folder / "raw" / "music" / f"m{index}.flac", 0.7, 2, 10 + index, 0.24)
        put(folder / "raw" / "noise" / f"n{index}.flac", 0.5, 1, 20 + index)
    settings_of_corpus = CorpusParams(
        path=folder / "raw",
        rate=RATE,
        min_seconds=0.4,
        clip_seconds=2.0,
        silence_dbfs=-60.0,
        min_bandwidth_hz=15_000,
        max_bad_share=0.0,
        valid_share=0.33,
        test_share=0.33,
    )
    corpus.build(settings_of_corpus, 1, folder / "corpus", workers=1)
    pairs.build(settings, 1, folder / "corpus", folder / "pairs", workers=1)
    return folder / "corpus", folder / "pairs"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_same_seed_same_bytes_whatever_the_workers(
    made: tuple[Path, Path], settings: DegradeParams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, int]] = []
    pairs.build(settings, 1, made[0], tmp_path / "again", lambda *n: done.append(n), workers=2)
    assert contents(tmp_path / "again") == contents(made[1])
    # The first two clips are damaged here, the others in other processes.
    monkeypatch.setattr(parallel, "_long", lambda seconds, _: len(seconds) == 2)
    pairs.build(settings, 1, made[0], tmp_path / "both")
    assert contents(tmp_path / "both") == contents(made[1])
    assert done == [(n, 6) for n in range(1, 7)]


def test_another_seed_draws_other_views(made: tuple[Path, Path], settings: DegradeParams, tmp_path: Path) -> None:
    small = settings.model_copy(update={"views": 1})
    pairs.build(small, 2, made[0], tmp_path / "other", workers=1)
    before, after = contents(made[1]), contents(tmp_path / "other")
    inputs = [name for name in after if name.endswith(".input.flac")]
    assert inputs
    assert all(before[name] != after[name] for name in inputs)


def test_every_split_has_its_conditions_and_noise_is_never_a_pair(
    made: tuple[Path, Path], settings: DegradeParams
) -> None:
    found = pairs.read_pairs(made[1])
    assert {pair.kind for pair in found} == {"speech", "music"}
    assert {pair.condition for pair in found if pair.split == "train"} == {"train"}
    for split in ("valid", "test"):
        for kind in ("speech", "music"):
            wanted = {name for name, one in settings.conditions.items() if kind in (one.kinds or (kind,))}
            wanted -= {"mp3_stereo_64k"} if kind == "speech" else set()
            assert {pair.condition for pair in found if (pair.split, pair.kind) == (split, kind)} == wanted
    assert len({pair.pair for pair in found}) == len(found)
    assert pairs.read_pairs(made[1], "test") == [pair for pair in found if pair.split == "test"]


def test_input_and_target_are_16_bit_of_equal_duration_and_never_clip(made: tuple[Path, Path]) -> None:
    for pair in pairs.read_pairs(made[1]):
        for path, rate in ((pair.input, pair.input_rate), (pair.target, pair.rate)):
            info = audio.probe(made[1] / path)
            assert (info.rate, info.subtype) == (rate, "PCM_16")
            assert info.channels == pair.channels
            assert info.frames == pytest.approx(pair.frames * rate / RATE, abs=1)
            assert np.abs(audio.read(made[1] / path)[0]).max() <= 0.991


def test_a_recipe_makes_its_pair_again(made: tuple[Path, Path], settings: DegradeParams) -> None:
    clips = corpus.read_manifest(made[0])
    by_name = {clip.clip: clip for clip in clips}
    mixed = 0
    for pair in pairs.read_pairs(made[1]):
        recipe = pairs.Recipe.model_validate_json(pair.recipe)
        noises, musics = (
            pairs.Recordings(made[0], [clip for clip in clips if clip.kind == kind and clip.split == pair.split])
            for kind in ("noise", "music")
        )
        signal, _ = audio.read(made[0] / by_name[pair.clip].path)
        if pair.split == "train":
            again, target, cutoff = pairs.replay(recipe, signal, RATE, noises, musics)
        else:
            condition = settings.conditions[pair.condition]
            target = pairs.original(pairs.middle(signal, RATE, settings.seconds), RATE, condition)
            rng = degrade.generator(recipe.key, "steps")
            again, rate, cutoff = degrade.received(recipe.steps, target, RATE, rng, noises)
            assert rate == pair.input_rate
            again, target = again * np.float32(recipe.gain), target * np.float32(recipe.gain)
        for path, remade in ((pair.input, again), (pair.target, target)):
            stored, _ = audio.read(made[1] / path)
            assert np.abs(remade - stored).max() <= 1.01 / 32_768
        assert cutoff == pytest.approx(pair.cutoff_hz, abs=0.1)
        mixed += recipe.target is not None and recipe.target.mix_clip is not None
    assert mixed


def test_extend_views_are_band_limited_at_their_cutoff_and_nothing_else(made: tuple[Path, Path]) -> None:
    extend = [pair for pair in pairs.read_pairs(made[1], "train") if pair.mode == "extend"]
    assert extend
    for pair in extend:
        steps = json.loads(pair.recipe)["steps"]
        assert [step["op"] for step in steps] == ["narrowband"]
        assert pair.cutoff_hz == pytest.approx(steps[0]["cut"] * steps[0]["rate"] / 2, abs=0.1)
        signal, target = (audio.read(made[1] / path)[0] for path in (pair.input, pair.target))
        kept, whole = (np.abs(np.fft.rfft(x[0] * np.hanning(pair.frames))) ** 2 for x in (signal, target))
        hz = np.fft.rfftfreq(pair.frames, 1 / RATE)
        above, below = hz > 1.25 * pair.cutoff_hz, hz < 0.5 * pair.cutoff_hz
        assert kept[above].sum() < 0.15 * whole[above].sum()
        assert kept[below].sum() == pytest.approx(whole[below].sum(), rel=0.25)


def test_the_share_of_band_limited_views_is_as_asked(made: tuple[Path, Path]) -> None:
    train = pairs.read_pairs(made[1], "train")
    by_clip: dict[str, list[str]] = {}
    for pair in train:
        by_clip.setdefault(pair.clip, []).append(pair.mode)
    # 0.6 of 5 views.
    assert all(modes.count("extend") == 3 for modes in by_clip.values())


def test_bandwidth_follows_the_speed_and_ends_at_half_the_rate(made: tuple[Path, Path]) -> None:
    clips = {clip.clip: clip for clip in corpus.read_manifest(made[0])}
    for pair in pairs.read_pairs(made[1], "train"):
        speed = json.loads(pair.recipe)["target"]["speed"]
        assert pair.bandwidth_hz == pytest.approx(min(RATE / 2, clips[pair.clip].bandwidth_hz * speed), abs=0.1)


def test_conditions_share_a_clips_target_where_they_leave_it_as_it_is(made: tuple[Path, Path]) -> None:
    test = pairs.read_pairs(made[1], "test")
    for pair in test:
        changed = pair.condition.startswith("noise_"), pair.condition == "mp3_mono_32k" and pair.kind == "music"
        suffix = ".high" if changed[0] else ".mono" if changed[1] else ""
        assert pair.target == f"test/target/{pair.clip}{suffix}.flac"


def test_few_clips_of_each_source_are_judged_and_no_more_seconds_than_asked(
    tmp_path: Path, made: tuple[Path, Path], settings: DegradeParams
) -> None:
    clips = [clip for clip in corpus.read_manifest(made[0]) if clip.split == "test" and clip.kind == "speech"]
    many = [replace(clip, clip=f"{clip.clip}-{turn}") for clip in clips for turn in range(7)]
    chosen = pairs._few(many, 3)
    assert len(chosen) == 3 * len(clips) and len({clip.clip for clip in chosen}) == len(chosen)
    few = settings.model_copy(update={"views": 1, "seconds": 0.25})
    pairs.build(few, 1, made[0], tmp_path / "pairs", workers=1)
    assert {pair.frames for pair in pairs.read_pairs(tmp_path / "pairs", "test")} == {RATE // 4}


def test_packets_are_lost_at_the_rate_of_the_call(made: tuple[Path, Path]) -> None:
    (pair,) = [
        one for one in pairs.read_pairs(made[1], "test") if one.condition == "loss_8k_zero" and one.kind == "speech"
    ]
    signal, rate = audio.read(made[1] / pair.input)
    assert rate == 8_000
    frames = signal[0, : len(signal[0]) // 160 * 160].reshape(-1, 160)
    silent = np.abs(frames).max(axis=1) == 0.0
    assert silent.any()
    # What is not lost is whole: no frame is partly silent.
    assert (np.abs(frames[~silent]) > 0).mean() > 0.95


def test_recorded_noise_of_the_training_split_alone_is_kept_beside_the_pairs(made: tuple[Path, Path]) -> None:
    """Whole and as it was, so that damage can be drawn afresh without the corpus."""
    noises = [clip for clip in corpus.read_manifest(made[0]) if clip.kind == "noise"]
    wanted = [clip for clip in noises if clip.split == "train"]
    assert 0 < len(wanted) < len(noises)
    kept = pairs.training_noise(made[1])
    assert kept.clips == wanted == corpus.read_manifest(made[1] / "noise")
    assert len(kept) == len(wanted)
    for clip, signal in zip(wanted, kept, strict=True):
        expected, _ = audio.read(made[0] / clip.path)
        assert np.array_equal(signal, expected)
    files = {str(path.relative_to(made[1] / "noise")) for path in (made[1] / "noise").rglob("*") if path.is_file()}
    assert files == {corpus.MANIFEST, *(clip.path for clip in wanted)}


def test_corpus_without_noise_leaves_none(made: tuple[Path, Path], settings: DegradeParams, tmp_path: Path) -> None:
    shutil.copytree(made[0], tmp_path / "corpus")
    clips = [clip for clip in corpus.read_manifest(made[0]) if clip.kind != "noise" or clip.split != "train"]
    manifest.write(tmp_path / "corpus" / corpus.MANIFEST, corpus.Clip, clips)
    small = settings.model_copy(update={"views": 1})
    pairs.build(small, 1, tmp_path / "corpus", tmp_path / "pairs", workers=1)
    kept = pairs.training_noise(tmp_path / "pairs")
    assert len(kept) == 0
    assert list(kept) == []
    assert [path.name for path in (tmp_path / "pairs" / "noise").iterdir()] == [corpus.MANIFEST]
    assert pairs.read_pairs(tmp_path / "pairs", "train")


def test_folder_without_kept_noise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pairs.PairsError, match=r"noise.manifest\.csv: no such file"):
        pairs.training_noise(tmp_path)


def test_a_failed_build_leaves_the_old_pairs(made: tuple[Path, Path], settings: DegradeParams, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    out.mkdir()
    (out / "old").write_text("old")
    with pytest.raises(corpus.CorpusError, match="stage `corpus`"):
        pairs.build(settings, 1, tmp_path / "nowhere", out, workers=1)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pairs.build(settings, 1, made[0], out, interrupt, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["pairs"]
    assert (out / "old").read_text() == "old"


def test_a_foreign_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("a\n1\n")
    with pytest.raises(pairs.PairsError, match="expected the columns pair,split"):
        pairs.read_pairs(tmp_path)
    with pytest.raises(pairs.PairsError, match="stage `degrade`"):
        pairs.read_pairs(tmp_path / "nowhere")
