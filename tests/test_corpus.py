"""Laws of the corpus: what is refused and why, what a clip is, who is in which split."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from overtone import audio, params
from overtone.data import bandwidth, corpus
from overtone.data.split import split_sources
from overtone.params import Assign, CorpusParams

SEED = 5


def settings(path: Path, **changes: object) -> CorpusParams:
    base = CorpusParams(
        path=path,
        rate=48_000,
        min_seconds=0.5,
        clip_seconds=2.0,
        silence_dbfs=-60.0,
        min_bandwidth_hz=15_000,
        max_bad_share=0.2,
        valid_share=0.1,
        test_share=0.2,
    )
    return base.model_copy(update=changes)


def noise(seconds: float, rate: int = 48_000, channels: int = 1, seed: int = 0, level: float = 0.1) -> audio.Signal:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((channels, round(seconds * rate))) * level).astype(np.float32)


def put(path: Path, signal: audio.Signal, rate: int = 48_000, subtype: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, signal, rate, subtype)


def good_files(folder: Path, count: int = 20) -> None:
    for index in range(count):
        put(folder / "music" / f"good{index:02d}.wav", noise(0.6, seed=100 + index))


def rejected(out: Path) -> dict[str, str]:
    with (out / "rejected.csv").open() as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# --- bandwidth --------------------------------------------------------------------------------------------------------


def test_full_band_noise_has_half_the_rate() -> None:
    assert bandwidth.estimate_bandwidth(noise(2.0), 48_000) == 24_000.0


def test_silence_has_no_bandwidth() -> None:
    assert bandwidth.estimate_bandwidth(np.zeros((1, 48_000), np.float32), 48_000) == 0.0


@pytest.mark.parametrize("rate", [8_000, 16_000, 32_000, 44_100])
def test_upsampled_signal_keeps_the_bandwidth_of_its_source(rate: int) -> None:
    signal = audio.resample(noise(2.0, rate), rate, 48_000)
    assert bandwidth.estimate_bandwidth(signal, 48_000) == pytest.approx(rate / 2, rel=0.05)


def test_rare_high_frequencies_count() -> None:
    signal = audio.resample(noise(4.0, 16_000), 16_000, 48_000)
    signal[:, 48_000:57_600] += noise(0.2, seed=1, level=0.02)
    assert bandwidth.estimate_bandwidth(signal, 48_000) > 23_000


def test_steady_noise_above_a_lowpass_is_no_bandwidth() -> None:
    signal = audio.resample(noise(4.0, 32_000), 32_000, 48_000) + noise(4.0, seed=1, level=0.0003)
    assert bandwidth.estimate_bandwidth(signal, 48_000) == pytest.approx(16_000, rel=0.06)


def test_a_pilot_tone_is_no_bandwidth() -> None:
    time = np.arange(96_000) / 48_000
    signal = audio.resample(noise(2.0, 16_000), 16_000, 48_000) + 0.003 * np.sin(2 * np.pi * 19_000 * time)
    assert bandwidth.estimate_bandwidth(signal.astype(np.float32), 48_000) < 9_000


def test_vorbis_lowpass_is_found(tmp_path: Path) -> None:
    put(tmp_path / "a.ogg", noise(3.0, 44_100), 44_100)
    signal, rate = audio.read(tmp_path / "a.ogg")
    assert 18_000 < bandwidth.estimate_bandwidth(signal, rate) < 21_500


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_each_refusal_names_file_and_reason(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 40)
    (raw / "music" / "text.wav").write_text("this is no audio")
    put(raw / "music" / "empty.wav", noise(0.0))
    put(raw / "music" / "silent.wav", noise(1.0, level=1e-5), subtype="FLOAT")
    put(raw / "music" / "short.wav", noise(0.2))
    put(raw / "music" / "narrow.wav", noise(1.0, 8_000), 8_000)
    put(raw / "music" / "surround.wav", noise(1.0, channels=3))
    broken = noise(5.0)
    broken[0, -10] = np.nan
    put(raw / "music" / "nan.wav", broken, subtype="FLOAT")
    put(raw / "noise" / "narrow.wav", noise(1.0, 16_000, seed=9), 16_000)
    summary = corpus.build(settings(raw), SEED, out, workers=1)
    reasons = rejected(out)
    expected = {
        "text": "not readable",
        "empty": "empty",
        "silent": "silent",
        "short": "too short: 0.20 s",
        "narrow": "narrow-band: 3820 Hz",
        "surround": "3 channels",
        "nan": "NaN",
    }
    assert {Path(name).stem for name in reasons} == set(expected)
    for name, reason in expected.items():
        assert reason in reasons[f"music/{name}.wav"]
    assert summary.files == 48
    assert summary.rejected == 7
    # Clips of a file that turns out bad at its end are gone too; narrow noise is fine.
    assert len(list((out / "clips").iterdir())) == summary.clips == 41


def test_too_many_bad_files_are_an_error_and_leave_the_old_corpus(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    corpus.build(settings(raw), SEED, out, workers=1)
    before = contents(out)
    for index in range(2):
        (raw / f"bad{index}.flac").write_text("no")
    with pytest.raises(corpus.CorpusError, match=r"2 of 6 files are bad.*bad0\.flac"):
        corpus.build(settings(raw), SEED, out, workers=1)
    assert contents(out) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("make", [False, True])
def test_no_audio_is_an_error(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "raw").mkdir()
    with pytest.raises(corpus.CorpusError, match=r"no such folder|no audio files"):
        corpus.build(settings(tmp_path / "raw"), SEED, tmp_path / "out", workers=1)


def test_too_few_sources_for_three_splits_are_an_error(tmp_path: Path) -> None:
    good_files(tmp_path / "raw", 2)
    with pytest.raises(corpus.CorpusError, match="at least 3"):
        corpus.build(settings(tmp_path / "raw"), SEED, tmp_path / "out", workers=1)


def test_a_second_copy_of_the_same_audio_is_left_out(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    put(raw / "speech" / "copy.wav", noise(0.6, seed=102))
    corpus.build(settings(raw), SEED, out, workers=1)
    assert "the same audio as music/good02.wav" in rejected(out)["speech/copy.wav"]


# --- clips ------------------------------------------------------------------------------------------------------------


def test_mixed_formats_rates_and_channels_become_canonical_clips(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    put(raw / "a.wav", noise(1.0, 96_000, 2), 96_000, "PCM_24")
    put(raw / "b.flac", noise(1.0, 44_100, seed=1), 44_100)
    put(raw / "c.ogg", noise(1.0, 48_000, 2, seed=2))
    put(raw / "d.mp3", noise(1.0, 44_100, 2, seed=3), 44_100)
    put(raw / "album" / "e f.opus", noise(1.0, 48_000, seed=4))
    (raw / "notes.txt").write_text("ignored")
    corpus.build(settings(raw), SEED, out, workers=1)
    clips = corpus.read_manifest(out)
    assert [clip.clip for clip in clips] == ["a", "album-e_f", "b", "c", "d"]
    assert [clip.channels for clip in clips] == [2, 1, 1, 2, 2]
    assert {clip.kind for clip in clips} == {"other"}
    assert [clip.source for clip in clips] == ["a", "album", "b", "c", "d"]
    for clip in clips:
        info = audio.probe(out / clip.path)
        assert (info.rate, info.subtype, info.frames) == (48_000, "PCM_16", clip.frames)
        assert clip.frames == pytest.approx(48_000, abs=1)
        assert clip.bandwidth_hz <= audio.probe(raw / clip.origin).rate / 2


def test_cutting_leaves_no_trace(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    whole = noise(5.2, 44_100)
    put(raw / "long.wav", whole, 44_100, "FLOAT")
    corpus.build(settings(raw), SEED, out, workers=1)
    clips = [clip for clip in corpus.read_manifest(out) if clip.origin == "long.wav"]
    # 2 + 2 + 1.2 s; a remainder below min_seconds would be dropped.
    assert [clip.start_seconds for clip in clips] == [0.0, 2.0, 4.0]
    assert [clip.seconds for clip in clips] == [2.0, 2.0, 1.2]
    joined = np.concatenate([audio.read(out / clip.path)[0] for clip in clips], axis=1)
    expected = audio.resample(whole, 44_100, 48_000)
    assert np.abs(joined - expected)[:, :-100].max() < 2e-4


def test_a_short_remainder_is_dropped(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    put(raw / "long.wav", noise(2.3))
    corpus.build(settings(raw), SEED, out, workers=1)
    assert [clip.seconds for clip in corpus.read_manifest(out) if clip.origin == "long.wav"] == [2.0]


def test_a_peak_above_full_scale_is_scaled_not_clipped(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    loud = noise(1.0, level=0.8)
    put(raw / "loud.wav", loud, subtype="FLOAT")
    corpus.build(settings(raw), SEED, out, workers=1)
    signal, _ = audio.read(out / "clips" / "loud.flac")
    assert np.abs(signal - loud / np.abs(loud).max()).max() < 1e-4


def test_files_of_the_same_name_keep_apart(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    put(raw / "a.wav", noise(1.0, seed=1))
    put(raw / "a.flac", noise(1.0, seed=2))
    corpus.build(settings(raw), SEED, out, workers=1)
    names = [clip.clip for clip in corpus.read_manifest(out) if clip.origin.startswith("a.")]
    assert len(set(names)) == 2


def test_catalog_says_kind_and_source_and_missing_files_are_reported(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 6)
    put(raw / "x" / "1.wav", noise(1.0, seed=1))
    (raw / "catalog.csv").write_text(
        "path,kind,collection,source\nx/1.wav,speech,readings,ann\nx/2.wav,speech,readings,ann\n"
    )
    corpus.build(settings(raw), SEED, out, workers=1)
    (clip,) = [clip for clip in corpus.read_manifest(out) if clip.origin == "x/1.wav"]
    assert (clip.kind, clip.collection, clip.source) == ("speech", "readings", "ann")
    assert "no such file" in rejected(out)["x/2.wav"]


def test_catalog_with_an_unknown_kind_is_an_error(tmp_path: Path) -> None:
    good_files(tmp_path, 3)
    (tmp_path / "catalog.csv").write_text("path,kind\nmusic/good00.wav,musik\n")
    with pytest.raises(corpus.CorpusError, match="'musik'; expected one of speech"):
        corpus.build(settings(tmp_path), SEED, tmp_path / "out", workers=1)


def test_same_seed_same_bytes_whatever_the_workers(tmp_path: Path) -> None:
    good_files(tmp_path / "raw", 6)
    done: list[tuple[int, int]] = []
    corpus.build(settings(tmp_path / "raw"), SEED, tmp_path / "one", workers=1)
    corpus.build(settings(tmp_path / "raw"), SEED, tmp_path / "two", lambda *n: done.append(n), workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert done == [(n, 6) for n in range(1, 7)]


# --- splits -----------------------------------------------------------------------------------------------------------


def test_no_source_is_in_two_splits_even_across_kinds(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    for index in range(6):
        for kind in ("speech", "music"):
            put(raw / kind / f"s{index}.wav", noise(0.6, seed=index + (100 if kind == "music" else 0)))
    corpus.build(settings(raw), SEED, out, workers=1)
    splits: dict[str, set[str]] = {}
    for clip in corpus.read_manifest(out):
        splits.setdefault(clip.source, set()).add(clip.split)
    assert all(len(held) == 1 for held in splits.values())
    assert set().union(*splits.values()) == set(params.SPLITS)


def test_shares_are_met_by_kind() -> None:
    seconds = {kind: {f"{kind}{i}": 1.0 + i % 3 for i in range(100)} for kind in ("speech", "music")}
    splits = split_sources(seconds, settings(Path()), SEED)
    for sources in seconds.values():
        total = sum(sources.values())
        for split, share in (("valid", 0.1), ("test", 0.2), ("train", 0.7)):
            held = sum(length for name, length in sources.items() if splits[name] == split)
            assert held / total == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_sources_still_fill_every_split(count: int) -> None:
    for seed in range(20):
        splits = split_sources({"speech": {f"s{i}": 10.0 for i in range(count)}}, settings(Path()), seed)
        assert set(splits.values()) == set(params.SPLITS)


def test_a_new_source_moves_few_others() -> None:
    sources = {f"s{i}": 1.0 for i in range(200)}
    before = split_sources({"music": sources}, settings(Path()), SEED)
    after = split_sources({"music": {**sources, "new": 1.0}}, settings(Path()), SEED)
    assert sum(before[name] != after[name] for name in sources) <= 3


def test_assigned_sources_go_where_they_are_sent() -> None:
    pinned = settings(Path(), assign=Assign(valid=("s1*",), test=("s2",)))
    splits = split_sources({"music": {f"s{i}": 1.0 for i in range(20)}}, pinned, SEED)
    assert {name for name, split in splits.items() if split == "valid"} == {"s1", *(f"s{i}" for i in range(10, 20))}
    assert splits["s2"] == "test"


def test_manifest_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("a,b\n1,2\n")
    with pytest.raises(corpus.CorpusError, match="expected the columns clip,path"):
        corpus.read_manifest(tmp_path)
    with pytest.raises(corpus.CorpusError, match="stage `corpus`"):
        corpus.read_manifest(tmp_path / "nowhere")


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 10)
    data = (raw / "music" / "good00.wav").read_bytes()
    (raw / "cut.flac").write_bytes(data[:20])
    corpus.build(settings(raw), SEED, out, workers=1)
    assert "cut.flac" in rejected(out)
    assert soundfile.info(out / "clips" / "music-good01.flac").samplerate == 48_000
