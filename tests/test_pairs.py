"""Laws of the paired set: aligned, repeatable, never clipping, each with a recipe that makes it again."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from overtone import audio
from overtone import settings as params
from overtone.data import corpus, degrade, manifest, pairs, parallel
from overtone.settings import CorpusParams, DegradeParams

ROOT = Path(__file__).parents[1]
RATE = 48_000


def put(path: Path, seconds: float, channels: int, seed: int, level: float = 0.1) -> None:
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((channels, round(seconds * RATE))).astype(np.float32) * np.float32(level)
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, signal, RATE, "PCM_16")


@pytest.fixture(scope="module")
def settings() -> DegradeParams:
    return params.load(ROOT / "params.yaml").degrade


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
    assert done == [(n, 4) for n in range(1, 5)]


def test_another_seed_draws_other_losses_and_noises(
    made: tuple[Path, Path], settings: DegradeParams, tmp_path: Path
) -> None:
    pairs.build(settings, 2, made[0], tmp_path / "other", workers=1)
    before, after = contents(made[1]), contents(tmp_path / "other")
    inputs = [name for name in after if "/noise_" in name]
    assert inputs
    assert all(before[name] != after[name] for name in inputs)


def test_every_split_has_its_conditions_and_noise_is_never_a_pair(
    made: tuple[Path, Path], settings: DegradeParams
) -> None:
    found = pairs.read_pairs(made[1])
    assert {pair.kind for pair in found} == {"speech", "music"}
    assert {pair.split for pair in found} == {"valid", "test"}
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
    for pair in pairs.read_pairs(made[1]):
        recipe = pairs.Recipe.model_validate_json(pair.recipe)
        own = [clip for clip in clips if clip.kind == "noise" and clip.split == pair.split]
        signal, _ = audio.read(made[0] / by_name[pair.clip].path)
        target = pairs.original(pairs.middle(signal, RATE, settings.seconds), RATE, settings.conditions[pair.condition])
        rng = degrade.generator(recipe.key, "steps")
        again, rate, cutoff = degrade.received(recipe.steps, target, RATE, rng, pairs.Recordings(made[0], own))
        assert rate == pair.input_rate
        for path, remade in ((pair.input, again), (pair.target, target)):
            stored, _ = audio.read(made[1] / path)
            assert np.abs(remade * np.float32(recipe.gain) - stored).max() <= 1.01 / 32_768
        assert cutoff == pytest.approx(pair.cutoff_hz, abs=0.1)


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
    few = settings.model_copy(update={"seconds": 0.25})
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


def test_a_split_without_noise_gets_some_all_the_same(
    made: tuple[Path, Path], settings: DegradeParams, tmp_path: Path
) -> None:
    shutil.copytree(made[0], tmp_path / "corpus")
    clips = [clip for clip in corpus.read_manifest(made[0]) if clip.kind != "noise"]
    manifest.write(tmp_path / "corpus" / corpus.MANIFEST, corpus.Clip, clips)
    noisy = {"noise_10db": settings.conditions["noise_10db"]}
    few = settings.model_copy(update={"conditions": noisy})
    pairs.build(few, 1, tmp_path / "corpus", tmp_path / "pairs", workers=1)
    for pair in pairs.read_pairs(tmp_path / "pairs"):
        given, target = (audio.read(tmp_path / "pairs" / path)[0] for path in (pair.input, pair.target))
        ratio = np.mean(target**2) / np.mean((given - target) ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(10.0, abs=0.1)


def test_a_corpus_of_training_clips_alone_is_refused(
    made: tuple[Path, Path], settings: DegradeParams, tmp_path: Path
) -> None:
    shutil.copytree(made[0], tmp_path / "corpus")
    clips = [clip for clip in corpus.read_manifest(made[0]) if clip.split == "train"]
    manifest.write(tmp_path / "corpus" / corpus.MANIFEST, corpus.Clip, clips)
    with pytest.raises(pairs.PairsError, match="expected some to judge by"):
        pairs.build(settings, 1, tmp_path / "corpus", tmp_path / "pairs", workers=1)


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
