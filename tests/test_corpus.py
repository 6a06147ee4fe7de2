"""Laws of the corpus: what is refused and why, what a clip is, who is in which split."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from overtone import audio
from overtone import settings as params
from overtone.data import catalog, corpus
from overtone.data.split import Recording, split_chains, split_recordings
from overtone.dsp import bandwidth
from overtone.settings import Assign, CorpusParams

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


# --- the sound's edge ----------------------------------------------------------------------------------------------


def voice(top: float, seconds: float = 6.0, seed: int = 0) -> audio.Signal:
    """Syllables with pauses: noise that falls with frequency as a voice does, and by 20 dB a kHz more above `top` Hz."""
    time = np.arange(round(seconds * 48_000)) / 48_000
    syllables = np.clip(np.sin(2 * np.pi * 1.5 * time), 0.0, None) ** 2
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(len(time)) * syllables)
    hz = np.fft.rfftfreq(len(time), 1 / 48_000)
    spectrum *= 10 ** (-50 * hz / 24_000 / 20 - np.clip(hz - top, 0.0, None) / 1_000)
    signal = np.fft.irfft(spectrum, len(time))
    return np.asarray(0.3 * signal / np.abs(signal).max(), np.float32)[None]


def hiss(seconds: float = 6.0, top: float = 20_000.0, level: float = 0.0005) -> audio.Signal:
    spectrum = np.fft.rfft(np.random.default_rng(9).standard_normal(round(seconds * 48_000)))
    spectrum[round(top * seconds) :] = 0.0
    return np.asarray(level * np.fft.irfft(spectrum), np.float32)[None]


@pytest.mark.parametrize("level", [0.0003, 0.001, 0.003])
def test_hiss_above_a_voice_is_no_sound(level: float) -> None:
    signal = voice(7_000) + hiss(level=level)
    assert bandwidth.estimate_bandwidth(signal, 48_000) > 18_000
    assert 6_500 < bandwidth.sound_edge(signal, 48_000) < 9_500


def test_hiss_that_a_gate_cuts_out_of_the_pauses_is_no_sound() -> None:
    signal = voice(7_000) + hiss(level=0.001)
    signal[:, 2 * 48_000 : 4 * 48_000] = 0.0
    assert 6_500 < bandwidth.sound_edge(signal, 48_000) < 9_500


def test_hiss_that_an_encoder_kept_now_and_then_is_no_sound() -> None:
    signal = voice(7_000) + hiss(level=0.0005, top=14_000)
    signal[:, :24_000] += hiss(level=0.0005)[:, :24_000] - hiss(level=0.0005, top=14_000)[:, :24_000]
    assert bandwidth.sound_edge(signal, 48_000) < 9_500


def test_a_full_band_voice_reaches_the_top_despite_its_hiss() -> None:
    assert bandwidth.sound_edge(voice(24_000) + hiss(level=0.0003, top=24_000), 48_000) == 24_000.0


def test_rare_full_band_bursts_reach_the_top() -> None:
    signal = voice(9_000) + hiss(level=0.0003, top=24_000)
    signal[:, 48_000:50_400] += noise(0.05, seed=2, level=0.01)
    assert bandwidth.sound_edge(signal, 48_000) == 24_000.0


@pytest.mark.parametrize("drum", [False, True], ids=["alone", "with a drum"])
def test_steady_music_has_no_floor_to_stand_above(drum: bool) -> None:
    time = np.arange(6 * 48_000) / 48_000
    tones = sum(np.sin(2 * np.pi * 220 * k * time + k * k) / k for k in range(1, 100))
    beat = np.exp(-20 * (time % 0.5)) * np.sin(2 * np.pi * 60 * time) if drum else 0.0
    signal = np.asarray(0.02 * tones + 0.5 * beat, np.float32)[None]
    assert bandwidth.sound_edge(signal, 48_000) == 24_000.0


def test_silence_has_no_edge() -> None:
    assert bandwidth.sound_edge(np.zeros((2, 48_000), np.float32), 48_000) == 0.0


def test_a_voice_in_wide_hiss_is_refused_and_the_reason_says_why(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 10)
    put(raw / "speech" / "dull.wav", voice(7_000, 2.0) + hiss(2.0))
    put(raw / "speech" / "bright.wav", voice(22_000, 2.0) + hiss(2.0))
    corpus.build(settings(raw), SEED, out, workers=1)
    assert "noise floor" in rejected(out)["speech/dull.wav"]
    (clip,) = [clip for clip in corpus.read_manifest(out) if clip.origin == "speech/bright.wav"]
    assert 20_000 < clip.bandwidth_hz <= clip.edge_hz <= 24_000


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


def test_numbers_of_clips_never_meet_other_names(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    put(raw / "take.wav", noise(5.0, seed=1))
    put(raw / "Take-0001.wav", noise(1.0, seed=2))
    put(raw / "take-0000-0001.flac", noise(1.0, seed=3))
    put(raw / "take-0000.flac", noise(3.0, seed=4))
    corpus.build(settings(raw), SEED, out, workers=1)
    clips = [clip for clip in corpus.read_manifest(out) if "ake" in clip.origin]
    assert len({clip.clip.lower() for clip in clips}) == len(clips) == 3 + 1 + 1 + 2
    assert all(audio.probe(out / clip.path).frames == clip.frames for clip in clips)


def test_hidden_files_are_left_out_and_named_and_extensions_may_be_capitals(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    put(raw / "music" / "loud.wav", noise(1.0, seed=1))
    (raw / "music" / "loud.wav").rename(raw / "music" / "LOUD.WAV")
    for name in ("music/._LOUD.WAV", "._a.flac", ".Trashes/b.wav", "music/.cache/c.mp3"):
        (raw / name).parent.mkdir(exist_ok=True)
        (raw / name).write_text("no audio")
    summary = corpus.build(settings(raw, max_bad_share=0.0), SEED, out, workers=1)
    assert (summary.files, summary.rejected) == (5, 0)
    assert summary.left == ("left out 4, hidden: .Trashes, ._a.flac, music/._LOUD.WAV, music/.cache",)
    assert "music/LOUD.WAV" in {clip.origin for clip in corpus.read_manifest(out)}


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


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_catalog_of_a_spreadsheet_is_read(tmp_path: Path, separator: str, mark: bytes) -> None:
    rows = [("path", "kind", "collection"), ("x, y.wav", "speech", "booth"), ("", "", "")]
    quoted = "\r\n".join(separator.join(f'"{cell}"' if "," in cell else cell for cell in row) for row in rows)
    (tmp_path / "catalog.csv").write_bytes(mark + quoted.encode())
    (file,) = catalog.read_catalog(tmp_path / "catalog.csv").values()
    assert (file.path, file.kind, file.collection) == ("x, y.wav", "speech", "booth")


def test_catalog_in_another_encoding_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "catalog.csv").write_text("path,kind\na.wav,speech\n", encoding="utf-16")
    with pytest.raises(corpus.CorpusError, match=r"catalog\.csv: cannot be read.*UTF-8"):
        catalog.read_catalog(tmp_path / "catalog.csv")


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
    splits = split_chains(seconds, {}, settings(Path()), SEED)
    for chains in seconds.values():
        total = sum(chains.values())
        for split, share in (("valid", 0.1), ("test", 0.2), ("train", 0.7)):
            held = sum(length for name, length in chains.items() if splits[name] == split)
            assert held / total == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_few_chains_still_fill_every_split(count: int) -> None:
    for seed in range(20):
        splits = split_chains({"speech": {f"s{i}": 10.0 for i in range(count)}}, {}, settings(Path()), seed)
        assert set(splits.values()) == set(params.SPLITS)


def test_a_new_chain_moves_few_others() -> None:
    chains = {f"s{i}": 1.0 for i in range(200)}
    before = split_chains({"music": chains}, {}, settings(Path()), SEED)
    after = split_chains({"music": {**chains, "new": 1.0}}, {}, settings(Path()), SEED)
    assert sum(before[name] != after[name] for name in chains) <= 3


def recordings(*rows: tuple[str, str], kind: str = "music") -> list[Recording]:
    """One recording of a second for each (collection, source)."""
    return [Recording(f"{source}.wav", kind, collection, source, 1.0) for collection, source in rows]


def test_assigned_chains_and_sources_go_where_they_are_sent() -> None:
    made = recordings(*((f"s{i}", f"s{i}") for i in range(20)), ("kit", "rock"), ("kit", "funk"))
    pinned = settings(Path(), assign=Assign(train=("s3",), valid=("s1*",), test=("s2", "kit")))
    splits = split_recordings(made, pinned, SEED)
    assert {name for name, split in splits.items() if split == "valid"} == {"s1", *(f"s{i}" for i in range(10, 20))}
    assert (splits["s3"], splits["s2"], splits["rock"], splits["funk"]) == ("train", "test", "test", "test")


@pytest.mark.parametrize("seed", range(5))
def test_no_chain_is_in_two_splits_even_across_kinds(seed: int) -> None:
    made = recordings(*((f"chain{i % 7}", f"piece{i}") for i in range(40)))
    made += recordings(*((f"chain{i % 7}", f"hiss{i}") for i in range(10)), kind="noise")
    # A source that was recorded twice, by two chains, makes them one.
    made += recordings(("chain0", "both"), ("chain1", "both"))
    splits = split_recordings(made, settings(Path()), seed)
    by_chain: dict[str, set[str]] = {}
    for recording in made:
        by_chain.setdefault(recording.collection, set()).add(splits[recording.source])
    assert all(len(held) == 1 for held in by_chain.values())
    assert by_chain["chain0"] == by_chain["chain1"]
    assert set().union(*by_chain.values()) == set(params.SPLITS)


@pytest.mark.parametrize(
    "assign",
    [Assign(valid=("rock",), test=("funk",)), Assign(test=("rock",)), Assign(train=("kit",), test=("funk",))],
    ids=["two splits", "a part of it", "chain and source"],
)
def test_a_chain_that_straddles_is_refused_by_name_with_its_files(tmp_path: Path, assign: Assign) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 4)
    put(raw / "kit" / "rock.wav", noise(0.6, seed=1))
    put(raw / "kit" / "funk.wav", noise(0.6, seed=2))
    rows = "".join(f"kit/{name}.wav,music,kit,{name}\n" for name in ("rock", "funk"))
    (raw / "catalog.csv").write_text("path,kind,collection,source\n" + rows)
    with pytest.raises(corpus.CorpusError, match=r"chain 'kit' straddles") as error:
        corpus.build(settings(raw, assign=assign), SEED, out, workers=1)
    assert "kit/rock.wav" in str(error.value)
    assert "kit/funk.wav" in str(error.value)
    assert not out.exists()


def test_noise_of_a_chain_is_in_the_split_of_its_music(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 6)
    for index in range(3):
        put(raw / "noise" / f"n{index}.wav", noise(0.6, seed=20 + index))
    (raw / "catalog.csv").write_text("path,kind,collection\nnoise/n0.wav,noise,good01\n")
    corpus.build(settings(raw), SEED, out, workers=1)
    splits = {clip.clip: clip.split for clip in corpus.read_manifest(out)}
    assert splits["noise-n0"] == splits["music-good01"]


def test_a_chain_gives_few_clips_to_valid_and_test_evenly_from_its_sources(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    good_files(raw, 3)
    for chain in ("a", "b"):
        put(raw / chain / "long.wav", noise(8.0, seed=ord(chain)))
        put(raw / chain / "short.wav", noise(1.0, seed=ord(chain) + 50))
    rows = "".join(f"{chain}/{name}.wav,music,{chain},{chain}-{name}\n" for chain in "ab" for name in ("long", "short"))
    (raw / "catalog.csv").write_text("path,kind,collection,source\n" + rows)
    changes = {"assign": Assign(train=("b",), valid=("good*",), test=("a",)), "clips_per_chain": 3}
    corpus.build(settings(raw, **changes), SEED, out, workers=1)
    held = [clip.clip for clip in corpus.read_manifest(out)]
    assert [name for name in held if name.startswith("a-")] == ["a-long-0000", "a-long-0001", "a-short"]
    assert len([name for name in held if name.startswith("b-")]) == 5
    assert len(list((out / "clips").iterdir())) == len(held)
    assert "clips_per_chain = 3" in rejected(out)["a/long.wav"]


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
