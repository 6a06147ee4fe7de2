"""Laws of enhancing many files: each is done once, nothing of the user's is lost, and whatever ends a run, the next goes on."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import psutil
import pytest
import soundfile
from mutagen import flac, id3

import services
from conftest import ModelMaker
from overtone import audio, cli
from overtone.audio import containers
from overtone.enhance import places
from overtone.enhance.manifest import NAME, alone

Command = Callable[..., tuple[int, str, str]]
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def enhance(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """`overtone enhance` in this process; status, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["overtone", "enhance", *map(str, arguments)])
        capfd.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Starts `overtone enhance` as a process of its own, the leader of its group, which is gone after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "overtone", "enhance", *map(str, arguments)]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        options["env"] = environment | options.get("env", {})
        # A process that was started in the background passes on that it ignores Ctrl-C.
        options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        make: Any = subprocess.Popen
        process: subprocess.Popen[bytes] = make(command, cwd=tmp_path, start_new_session=True, **options)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()


def noise(channels: int, samples: int, seed: int = 0) -> audio.Signal:
    generator = np.random.default_rng(seed)
    return (0.1 * generator.standard_normal((channels, samples))).astype(np.float32)


def sound(
    path: Path, rate: int = 16_000, channels: int = 1, seconds: float = 0.2, seed: int = 0, subtype: str | None = None
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, noise(channels, round(seconds * rate), seed), rate, subtype)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but the manifest and its lock, hidden ones too."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name not in (NAME, ".enhanced.lock")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def records(folder: Path) -> list[dict[str, Any]]:
    path = folder / NAME
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def done(folder: Path) -> Counter[str]:
    return Counter(record["target"] for record in records(folder) if record["state"] == "done")


def wait_for(law: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    while not law():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


# --- what goes where ----------------------------------------------------------------------------------------------------


def test_folder_keeps_its_structure_and_formats_and_a_second_call_does_nothing(
    enhance: Command, make_model: ModelMaker, tmp_path: Path
) -> None:
    names = ("a.wav", "b/c.flac", "b/d/e.ogg", "f/g.mp3", "f/h.opus", "f/i.aiff")
    for name in names:
        sound(tmp_path / "in" / name)
    (tmp_path / "in/b/notes.txt").write_text("no audio")
    (tmp_path / "in/.hidden.wav").write_text("no audio")
    arguments = (tmp_path / "in", tmp_path / "in" / "out", "--model", make_model(), "--jobs", 1)
    status, output, errors = enhance(*arguments)
    assert status == 0, errors
    assert set(contents(tmp_path / "in/out")) == set(names)
    for name in names:
        before, after = audio.probe(tmp_path / "in" / name), audio.probe(tmp_path / "in/out" / name)
        assert (after.format, after.subtype, after.channels) == (before.format, before.subtype, before.channels)
        assert after.rate == 48_000
        assert after.frames == audio.resampled_length(before.frames, before.rate, 48_000)
    assert "x real time" in output
    assert done(tmp_path / "in/out") == Counter(names)
    kept = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "in/out").rglob("*.*")}
    assert enhance(*arguments)[0] == 0
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "in/out").rglob("*.*")} == kept


def test_several_sources_keep_their_own_names(enhance: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    for name in ("x/a.wav", "y/a.wav", "z.flac"):
        sound(tmp_path / name)
    sources = (tmp_path / "x", tmp_path / "y", tmp_path / "z.flac")
    status, _, errors = enhance(*sources, "-o", tmp_path / "out", "--format", "flac", "--model", make_model(), "-j", 1)
    assert status == 0, errors
    assert set(contents(tmp_path / "out")) == {"x/a.flac", "y/a.flac", "z.flac"}


def test_two_sources_of_one_target_are_refused_before_anything_is_done(
    enhance: Command, make_model: ModelMaker, tmp_path: Path
) -> None:
    sound(tmp_path / "in/a.wav"), sound(tmp_path / "in/a.flac")
    arguments = (tmp_path / "in", tmp_path / "out", "--format", "mp3", "--model", make_model())
    status, _, errors = enhance(*arguments)
    assert status == 1
    assert "would both become" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [("a.wav",), ("a.wav", "b.wav", "c.wav"), ("no", "out/"), ("empty", "out")])
def test_unclear_or_missing_sources_are_explained(
    enhance: Command, bare_project: Path, arguments: tuple[str, ...]
) -> None:
    (bare_project / "empty").mkdir()
    status, output, errors = enhance(*arguments)
    assert (status, output, len(errors.splitlines())) == (1, "", 1), errors
    assert errors.startswith("overtone: ")
    assert not (bare_project / "out").exists()


def test_dry_run_says_what_would_be_done_and_does_nothing(
    enhance: Command, make_model: ModelMaker, tmp_path: Path
) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        sound(tmp_path / "in" / name)
    arguments = (tmp_path / "in", tmp_path / "out", "--model", make_model(), "--jobs", 1)
    assert enhance(*arguments, "--dry-run")[1].count("new\t") == 3
    assert not (tmp_path / "out").exists()
    assert enhance(*arguments)[0] == 0
    (tmp_path / "out/a.wav").unlink()
    (tmp_path / "out/b.wav").write_text("someone else's")
    before = contents(tmp_path)
    status, output, _ = enhance(*arguments, "--dry-run")
    assert status == 0
    assert [line.split("\t")[0] for line in output.splitlines()] == ["new", "refused", "done"]
    assert contents(tmp_path) == before


# --- what is kept -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "depth", "target", "expected"),
    [
        ("a.wav", "PCM_32", "b.wav", "PCM_32"),
        ("a.flac", "PCM_24", "b.wav", "PCM_24"),
        ("a.wav", "FLOAT", "b.flac", "PCM_24"),
        ("a.wav", "PCM_16", "b.opus", "OPUS"),
    ],
)
def test_bit_depth_is_kept_as_far_as_the_format_holds_it(
    enhance: Command, make_model: ModelMaker, tmp_path: Path, source: str, depth: str, target: str, expected: str
) -> None:
    sound(tmp_path / source, subtype=depth)
    assert enhance(tmp_path / source, tmp_path / target, "--model", make_model())[0] == 0
    assert audio.probe(tmp_path / target).subtype == expected


def test_six_channels_stay_with_their_loudspeakers(enhance: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    source, target = tmp_path / "a.wav", tmp_path / "b.wav"
    soundfile.write(source, noise(6, 8_000).T, 16_000, format="WAVEX", subtype="PCM_24")
    # 5.1 with side, not back, channels: not what a writer would take for six channels by itself.
    mask = (0x60F).to_bytes(4, "little")
    with source.open("r+b") as file:
        file.seek(40)
        file.write(mask)
    assert enhance(source, target, "--model", make_model())[0] == 0
    assert audio.probe(target).channels == 6
    assert target.read_bytes()[40:44] == mask
    before, after = audio.read(source)[0], audio.read(target)[0]
    for channel in range(6):
        low = audio.resample(after[channel : channel + 1], 48_000, 16_000)
        assert np.corrcoef(before[channel], low[0])[0, 1] > 0.9


TAGS = {
    "title": "Tïtle",
    "artist": "Someone",
    "album": "Ållbum",
    "date": "1999",
    "genre": "Rock",
    "comment": "so it is",
}
PICTURE = b"\x89PNG\r\n\x1a\n no real picture"


def tagged(path: Path) -> Path:
    """A file with tags by a program of its own, and a cover where that is usual."""
    sound(path)
    if path.suffix == ".wav":
        with soundfile.SoundFile(path, "w", 16_000, 1, "PCM_16") as file:
            for name, text in TAGS.items():
                setattr(file, name, text)
            file.write(noise(1, 3_200).T)
        return path
    tags: Any = mutagen.File(path)
    if tags.tags is None:
        tags.add_tags()
    if path.suffix == ".mp3":
        names = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC", "genre": "TCON"}
        for name, frame in names.items():
            tags.tags.add(getattr(id3, frame)(encoding=3, text=TAGS[name]))
        tags.tags.add(id3.COMM(encoding=3, lang="eng", desc="", text=TAGS["comment"]))
        tags.tags.add(id3.TXXX(encoding=3, desc="MOOD", text="calm"))
        tags.tags.add(id3.APIC(encoding=3, mime="image/png", type=3, desc="", data=PICTURE))
    else:
        for name, text in (TAGS | {"mood": "calm"}).items():
            tags[name] = text
    if path.suffix == ".flac":
        picture: Any = flac.Picture()
        picture.mime, picture.type, picture.data = "image/png", 3, PICTURE
        tags.add_picture(picture)
    tags.save()
    return path


@pytest.mark.parametrize(
    ("source", "target"),
    [("a.wav", "b.mp3"), ("a.mp3", "b.flac"), ("a.flac", "b.opus"), ("a.ogg", "b.mp3"), ("a.opus", "b.ogg")],
)
def test_tags_and_covers_go_along(
    enhance: Command, make_model: ModelMaker, tmp_path: Path, source: str, target: str
) -> None:
    status, _, errors = enhance(tagged(tmp_path / source), tmp_path / target, "--model", make_model())
    assert status == 0, errors
    audio.read(tmp_path / target)
    told = mutagen.File(tmp_path / target)
    assert told is not None and told.tags is not None
    if isinstance(told.tags, id3.ID3):
        found = {"title": "TIT2", "artist": "TPE1", "album": "TALB", "date": "TDRC", "genre": "TCON"}
        assert {name: str(told.tags[frame]) for name, frame in found.items()} == {n: TAGS[n] for n in found}
        assert TAGS["comment"] in [str(frame) for frame in told.tags.getall("COMM")]
        moods = [str(frame) for frame in told.tags.getall("TXXX") if frame.desc == "MOOD"]
        covers = [frame.data for frame in told.tags.getall("APIC")]
    else:
        assert {name: told.tags[name][0] for name in TAGS} == TAGS
        moods = told.tags.get("mood", [])
        covers = [picture.data for picture in getattr(told, "pictures", ())]
        covers += [flac.Picture(base64.b64decode(text)).data for text in told.tags.get("metadata_block_picture", [])]
    assert moods == ([] if source == "a.wav" else ["calm"])
    assert covers == ([PICTURE] if source in ("a.mp3", "a.flac") else [])


def test_output_rate_is_the_one_asked_for(enhance: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    source, model = sound(tmp_path / "a.wav", 8_000, 2, seconds=12.3, subtype="FLOAT"), make_model()
    assert enhance(source, tmp_path / "full.wav", "--model", model)[0] == 0
    assert enhance(source, tmp_path / "cd.wav", "--model", model, "--rate", 44_100)[0] == 0
    (full, _), (found, rate) = audio.read(tmp_path / "full.wav"), audio.read(tmp_path / "cd.wav")
    assert (rate, found.shape) == (44_100, (2, audio.resampled_length(98_400, 8_000, 44_100)))
    np.testing.assert_allclose(found, audio.resample(full, 48_000, 44_100), atol=1e-4)


def test_rate_that_a_format_cannot_hold_is_explained(enhance: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    source = sound(tmp_path / "a.wav")
    status, _, errors = enhance(source, tmp_path / "b.opus", "--rate", 44_100, "--model", make_model())
    assert status == 1
    assert f"{tmp_path / 'b.opus'}: OGG/OPUS cannot hold 1 channels at 44100 Hz" in errors
    assert set(contents(tmp_path)) >= {"a.wav"} and not (tmp_path / "b.opus").exists()


def test_wav_beyond_four_gigabytes_is_rf64(
    enhance: Command, make_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "WAV_BYTES", 10_000)
    source = sound(tmp_path / "a.wav")
    assert enhance(source, tmp_path / "b.wav", "--model", make_model())[0] == 0
    assert (tmp_path / "b.wav").read_bytes()[:4] == b"RF64"
    assert audio.probe(tmp_path / "b.wav").frames == 9_600


@pytest.mark.parametrize("limit", [containers.WAV_BYTES, 100])
@pytest.mark.parametrize("channels", [1, 6])
@pytest.mark.parametrize("subtype", ["PCM_24", "DOUBLE"])
def test_header_written_beforehand_is_a_wav_files(
    monkeypatch: pytest.MonkeyPatch, limit: int, channels: int, subtype: str
) -> None:
    monkeypatch.setattr(containers, "WAV_BYTES", limit)
    signal, samples = noise(channels, 1_000), io.BytesIO()
    with audio.Writer(samples, 48_000, channels, "RAW", subtype) as out:
        out.write(signal)
    data = containers.wav_header(48_000, channels, 1_000, subtype) + samples.getvalue()
    info = audio.probe(io.BytesIO(data))
    assert (info.rate, info.channels, info.frames, info.subtype) == (48_000, channels, 1_000, subtype)
    np.testing.assert_allclose(audio.decode(data)[0], signal, atol=1 / 32_000)


# --- what is done again, and what is left alone -------------------------------------------------------------------------


def test_only_what_changed_is_done_again(enhance: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    for seed, name in enumerate(("a.wav", "b.wav", "c.wav")):
        sound(tmp_path / "in" / name, seed=seed)
    first, second = make_model("one", seed=1), make_model("two", seed=2)
    arguments = (tmp_path / "in", tmp_path / "out", "--jobs", 1)

    def again(*options: object) -> set[str]:
        before = done(tmp_path / "out")
        status, _, errors = enhance(*arguments, *options)
        assert status == 0, errors
        return set(done(tmp_path / "out") - before)

    assert again("--model", first) == {"a.wav", "b.wav", "c.wav"}
    sound(tmp_path / "in/a.wav", seed=9)
    os.utime(tmp_path / "in/b.wav")
    assert again("--model", first) == {"a.wav"}
    (tmp_path / "out/c.wav").unlink()
    assert again("--model", first) == {"c.wav"}
    everything = {"a.wav", "b.wav", "c.wav"}
    assert again("--model", second) == everything
    assert again("--model", second, "--mode", "restore") == everything
    assert again("--model", second, "--mode", "restore", "--force") == everything


def test_files_of_others_are_never_overwritten_without_force(
    enhance: Command, make_model: ModelMaker, tmp_path: Path
) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        sound(tmp_path / "in" / name)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.wav").write_text("precious")
    arguments = (tmp_path / "in", tmp_path / "out", "--jobs", 1, "--model")
    status, _, errors = enhance(*arguments, make_model("one"))
    assert status == 1
    assert f"{tmp_path / 'out/a.wav'}: exists already; give --force to overwrite it" in errors
    assert done(tmp_path / "out") == Counter({"b.wav": 1, "c.wav": 1})
    # Made by an earlier run, then edited: the user's own now, even for another model.
    (tmp_path / "out/b.wav").write_text("edited")
    assert enhance(*arguments, make_model("two", seed=1))[0] == 1
    assert (tmp_path / "out/a.wav").read_text() == "precious"
    assert (tmp_path / "out/b.wav").read_text() == "edited"
    assert enhance(*arguments, make_model("two", seed=1), "--force")[0] == 0
    assert {audio.probe(path).rate for path in (tmp_path / "out").glob("*.wav")} == {48_000}


def test_one_bad_file_stops_none_of_the_others_and_is_tried_again(
    enhance: Command, make_model: ModelMaker, tmp_path: Path
) -> None:
    for name in ("a.wav", "c.wav"):
        sound(tmp_path / "in" / name)
    (tmp_path / "in/b.wav").write_bytes(b"no audio at all")
    arguments = (tmp_path / "in", tmp_path / "out", "--jobs", 1, "--model", make_model())
    status, _, errors = enhance(*arguments)
    assert status == 1
    assert f"overtone: {tmp_path / 'in/b.wav'}: not readable as audio" in errors
    assert set(contents(tmp_path / "out")) == {"a.wav", "c.wav"}
    assert [r["target"] for r in records(tmp_path / "out") if r["state"] == "failed"] == ["b.wav"]
    sound(tmp_path / "in/b.wav")
    assert enhance(*arguments)[0] == 0
    assert done(tmp_path / "out") == Counter(("a.wav", "b.wav", "c.wav"))


def test_one_run_at_a_time_in_a_folder(enhance: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    sound(tmp_path / "in/a.wav")
    with alone(str(tmp_path / "out")):
        status, _, errors = enhance(tmp_path / "in", tmp_path / "out", "--model", make_model())
    assert status == 1
    assert "another run" in errors


def test_unknown_device_is_one_error_not_one_a_file(enhance: Command, make_model: ModelMaker, tmp_path: Path) -> None:
    sound(tmp_path / "in/a.wav"), sound(tmp_path / "in/b.wav")
    arguments = (tmp_path / "in", tmp_path / "out", "--model", make_model(), "--device", "abacus")
    status, _, errors = enhance(*arguments)
    assert (status, len(errors.splitlines())) == (1, 1)
    assert "device abacus" in errors
    assert records(tmp_path / "out") == []


# --- runs that are ended ------------------------------------------------------------------------------------------------


@pytest.fixture
def many(tmp_path: Path) -> Path:
    for index in range(30):
        sound(tmp_path / "in" / f"{index % 3}" / f"{index:02}.flac", seconds=4, seed=index)
    return tmp_path / "in"


@pytest.mark.slow
@pytest.mark.long
def test_killed_run_goes_on_and_ends_as_an_undisturbed_one(start: Start, make_model: ModelMaker, many: Path) -> None:
    out, model = many.with_name("out"), make_model()
    process = start(many, out, "--model", model, "--jobs", 2)
    wait_for(lambda: len(done(out)) >= 3, process)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    before = done(out)
    assert 3 <= len(before) < 30
    psutil.wait_procs(children, timeout=30)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert all(audio.probe(path).frames == 4 * 48_000 for path in out.rglob("[0-9]/*.flac"))
    # What a kill in the middle of a line leaves.
    with (out / NAME).open("a") as manifest:
        manifest.write('{"target": "0/0')
    again = start(many, out, "--model", model, "--jobs", 2)
    _, errors = again.communicate()
    assert again.returncode == 0, errors
    assert done(out) == Counter(dict.fromkeys((str(p.relative_to(many)) for p in many.rglob("*.flac")), 1))
    undisturbed = start(many, many.with_name("undisturbed"), "--model", model, "--jobs", 2)
    undisturbed.communicate()
    assert contents(out) == contents(many.with_name("undisturbed"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "jobs"),
    [
        (signal.SIGINT, 130, 1),
        (signal.SIGTERM, 143, 2),
        pytest.param(signal.SIGINT, 130, 2, marks=pytest.mark.long),
        pytest.param(signal.SIGTERM, 143, 1, marks=pytest.mark.long),
    ],
)
def test_ended_run_leaves_no_half_file(
    start: Start, make_model: ModelMaker, many: Path, number: signal.Signals, status: int, jobs: int
) -> None:
    out, model = many.with_name("out"), make_model()
    process = start(many, out, "--model", model, "--jobs", jobs)
    wait_for(lambda: len(done(out)) >= 2, process)
    # As a terminal does it: to the whole group.
    os.killpg(process.pid, number)
    process.communicate()
    assert process.returncode == status
    assert 2 <= len(done(out)) < 30
    left = contents(out)
    assert all(audio.probe(out / name).frames == 4 * 48_000 for name in left)
    assert not [name for name in left if "/." in name or name.startswith(".")]


@pytest.mark.slow
@pytest.mark.long
def test_process_that_dies_costs_nothing_but_time(start: Start, make_model: ModelMaker, many: Path) -> None:
    out = many.with_name("out")
    process = start(many, out, "--model", make_model(), "--jobs", 2)
    wait_for(lambda: len(done(out)) >= 2, process)
    workers = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert done(out) == Counter(dict.fromkeys((str(p.relative_to(many)) for p in many.rglob("*.flac")), 1))


# --- pipes --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["a.wav", "a.mp3", *(pytest.param(f"a.{name}", marks=pytest.mark.long) for name in ("flac", "ogg", "opus"))]
)
def test_pipe_carries_what_a_file_would_hold(
    start: Start, enhance: Command, make_model: ModelMaker, tmp_path: Path, name: str
) -> None:
    source, target, model = sound(tmp_path / name, channels=2, seconds=1), tmp_path / f"b{name[1:]}", make_model()
    process = start("-", "-", "--model", model, stdin=subprocess.PIPE)
    data, errors = process.communicate(source.read_bytes())
    assert (process.returncode, errors) == (0, b"")
    assert enhance(source, target, "--model", model)[0] == 0
    (piped, rate), (stored, _) = audio.decode(data), audio.read(target)
    assert rate == 48_000
    np.testing.assert_array_equal(piped, stored)
    assert audio.probe(io.BytesIO(data)).subtype == audio.probe(target).subtype


@pytest.mark.slow
@pytest.mark.long
def test_pipes_mix_with_files_and_bad_input_is_explained(start: Start, make_model: ModelMaker, tmp_path: Path) -> None:
    source, model = sound(tmp_path / "a.wav"), make_model()
    written = start("-", "b.flac", "--model", model, stdin=subprocess.PIPE)
    assert b"b.flac: 48000 Hz" in written.communicate(source.read_bytes())[0]
    assert audio.probe(tmp_path / "b.flac").frames == 9_600
    data, _ = start(source, "-", "--format", "flac", "--model", model).communicate()
    assert audio.probe(io.BytesIO(data)).format == "FLAC"
    for sent in (b"", b"no audio"):
        bad = start("-", "--model", model, stdin=subprocess.PIPE)
        output, errors = bad.communicate(sent)
        assert (bad.returncode, output, len(errors.splitlines())) == (1, b"", 1), errors


# --- Ray and buckets ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_on_ray_each_once_one_corrupt_reported_and_a_second_call_does_nothing(
    start: Start, make_model: ModelMaker, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is missing: pip install -e '.[ray]'")
    source, out = tmp_path / "in", tmp_path / "out"
    for index in range(60):
        sound(source / f"{index // 20}" / f"{index:03}.flac", seconds=0.1 + 0.2 * (index % 5) / 4, seed=index)
    (source / "2/222.flac").write_bytes(b"fLaC, and nothing that follows")
    arguments = (source, "-o", out, "--engine", "ray", "--jobs", 2, "--model", make_model())
    process = start(*arguments)
    output, errors = process.communicate()
    assert process.returncode == 1, errors
    assert b"222.flac: not readable as audio" in errors
    assert b"files/s" in output
    names = {f"{index // 20}/{index:03}.flac" for index in range(60)}
    assert set(contents(out)) == names
    assert done(out) == Counter(dict.fromkeys(names, 1))
    assert [record["target"] for record in records(out) if record["state"] == "failed"] == ["2/222.flac"]
    (source / "2/222.flac").unlink()
    before = (out / NAME).read_bytes(), contents(out)
    second = start(*arguments)
    output, errors = second.communicate()
    assert second.returncode == 0, errors
    assert ((out / NAME).read_bytes(), contents(out)) == before
    # The engines agree to the byte: what Ray did, this machine's processes need not do again, and would do alike.
    some = start(source / "0", "-o", tmp_path / "local", "--jobs", 1, "--model", arguments[-1])
    some.communicate()
    local = contents(tmp_path / "local")
    assert len(local) == 20
    assert {f"0/{name}": data for name, data in local.items()} == {
        name: data for name, data in contents(out).items() if name.startswith("0/")
    }


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[services.ObjectStore]:
    for name in ("boto3", "s3fs"):
        pytest.importorskip(name, reason=f"{name} is missing: pip install -e '.[services]'", exc_type=ImportError)
    try:
        with services.object_store(tmp_path_factory.mktemp("store"), environment) as store:
            yield store
    except services.Missing as reason:
        pytest.skip(str(reason))


@pytest.mark.slow
@pytest.mark.services
@pytest.mark.parametrize("engine", ["local", pytest.param("ray", marks=pytest.mark.long)])
def test_bucket_is_enhanced_into_a_bucket(
    start: Start, make_model: ModelMaker, tmp_path: Path, bucket: services.ObjectStore, engine: str
) -> None:
    if engine == "ray":
        pytest.importorskip("ray", reason="Ray is missing: pip install -e '.[ray]'")
    client, names = bucket.client(), [f"{index % 2}/{index}.flac" for index in range(6)]
    for index, name in enumerate(names):
        path = sound(tmp_path / "in" / name, seed=index)
        client.upload_file(str(path), services.BUCKET, f"{engine}/in/{name}")
    client.put_object(Bucket=services.BUCKET, Key=f"{engine}/in/bad.flac", Body=b"no audio")
    reach = bucket.environment | {"AWS_ENDPOINT_URL": bucket.endpoint}
    model, root = make_model(), f"s3://{services.BUCKET}/{engine}"
    arguments = (f"{root}/in", "-o", f"{root}/out", "--engine", engine, "--jobs", 1, "--model", model)
    process = start(*arguments, env=reach)
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    assert f"{root}/in/bad.flac: not readable as audio".encode() in errors
    found = bucket.objects(f"{engine}/out/")
    assert set(found) == {f"{engine}/out/{name}" for name in [*names, NAME]}
    start(tmp_path / "in", "-o", tmp_path / "local", "--jobs", 1, "--model", model).communicate()
    for name in names:
        made = client.get_object(Bucket=services.BUCKET, Key=f"{engine}/out/{name}")["Body"].read()
        assert made == (tmp_path / "local" / name).read_bytes()
    client.delete_object(Bucket=services.BUCKET, Key=f"{engine}/in/bad.flac")
    before = client.get_object(Bucket=services.BUCKET, Key=f"{engine}/out/{NAME}")["Body"].read()
    second = start(*arguments, env=reach)
    _, errors = second.communicate()
    assert second.returncode == 0, errors
    assert client.get_object(Bucket=services.BUCKET, Key=f"{engine}/out/{NAME}")["Body"].read() == before


def test_place_without_its_library_is_explained(enhance: Command, make_model: ModelMaker) -> None:
    status, _, errors = enhance("nosuch://bucket/in", "-o", "nosuch://bucket/out", "--model", make_model())
    assert (status, len(errors.splitlines())) == (1, 1)
    assert "nosuch://bucket" in errors


def test_half_delivered_file_never_appears(tmp_path: Path) -> None:
    def interrupted() -> None:
        with places.delivering(str(tmp_path / "a" / "b.wav")) as path:
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert contents(tmp_path) == {}
