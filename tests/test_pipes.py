"""Laws of the command's ends: pipes are written into, a reader may leave, any output can be written to, nothing is hurt."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from mutagen.id3 import APIC, ID3

from conftest import ModelMaker
from overtone import audio, cli

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def model(make_model: ModelMaker) -> Path:
    return make_model()


@pytest.fixture
def enhance(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], model: Path) -> Command:
    """`overtone enhance` in this process; status and errors."""

    def run(*arguments: object, stdout: Any = None) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["overtone", "enhance", *map(str, arguments), "--model", str(model)])
        if stdout is not None:
            monkeypatch.setattr(sys, "stdout", stdout)
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        return status, capfd.readouterr().err

    return run


def sound(path: Path, rate: int = 16_000, frames: int = 3_200, count: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    signal = 0.1 * np.random.default_rng(0).standard_normal((count, frames))
    audio.write(path, signal.astype(np.float32), rate)
    return path


def reading(pipe: Path) -> tuple[threading.Thread, list[bytes]]:
    """Reads a named pipe to its end meanwhile."""
    got: list[bytes] = []
    thread = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    thread.start()
    return thread, got


# --- pipes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.opus", "no-extension"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_named_pipe_is_written_into_and_stays_one(
    enhance: Command, tmp_path: Path, name: str, force: tuple[str, ...]
) -> None:
    source, pipe = sound(tmp_path / "in.wav"), tmp_path / name
    os.mkfifo(pipe)
    thread, got = reading(pipe)
    assert enhance(source, pipe, *force) == (0, "")
    thread.join(10)
    assert pipe.is_fifo()
    info = audio.probe(io.BytesIO(got[0]))
    assert (info.rate, info.frames) == (48_000, 9_600)
    assert info.format == {".flac": "FLAC", ".opus": "OGG"}.get(Path(name).suffix, "WAV")


@pytest.mark.parametrize("extension", ["wav", "mp3"])
def test_source_may_be_a_pipe(enhance: Command, tmp_path: Path, extension: str) -> None:
    """As the shell's `<(...)` is."""
    data = sound(tmp_path / f"in.{extension}").read_bytes()
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(data)

    threading.Thread(target=write, daemon=True).start()
    status, errors = enhance(f"/dev/fd/{reader}", tmp_path / "out.wav")
    os.close(reader)
    assert (status, errors) == (0, "")
    assert audio.probe(tmp_path / "out.wav").rate == 48_000


def test_empty_pipe_is_named(enhance: Command, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    status, errors = enhance(f"/dev/fd/{reader}", tmp_path / "out.wav")
    os.close(reader)
    assert (status, errors) == (1, f"overtone: /dev/fd/{reader}: empty; expected the bytes of an audio file\n")


def test_device_is_written_into_and_not_replaced(enhance: Command, tmp_path: Path) -> None:
    before = Path(os.devnull).stat().st_rdev
    assert enhance(sound(tmp_path / "in.wav"), os.devnull) == (0, "")
    assert Path(os.devnull).stat().st_rdev == before


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_reader_that_leaves_a_named_pipe_ends_the_command_quietly(enhance: Command, tmp_path: Path, name: str) -> None:
    pipe = tmp_path / name
    os.mkfifo(pipe)

    def leave() -> None:
        with pipe.open("rb") as file:
            file.read(10)

    thread = threading.Thread(target=leave, daemon=True)
    thread.start()
    status, errors = enhance(sound(tmp_path / "in.wav", frames=320_000), pipe)
    thread.join(10)
    assert (status, errors) == (141, "")
    assert pipe.is_fifo()


@pytest.mark.slow
@pytest.mark.parametrize(
    # Rich, which writes help, ends with a status of its own.
    ("arguments", "status"),
    [(("enhance", "in.wav", "-", "--model", "MODEL"), 141), (("--help",), 1)],
    ids=["enhance", "help"],
)
def test_reader_of_standard_output_may_leave(
    tmp_path: Path, model: Path, environment: dict[str, str], arguments: tuple[str, ...], status: int
) -> None:
    sound(tmp_path / "in.wav", frames=320_000)
    words = [str(model) if word == "MODEL" else word for word in arguments]
    with subprocess.Popen(
        [sys.executable, "-m", "overtone", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == status


# --- any output ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
@pytest.mark.parametrize("name", ["ü.wav", "音.wav", os.fsdecode(b"\xff.wav")])
def test_output_that_cannot_show_a_name_replaces_it(enhance: Command, tmp_path: Path, encoding: str, name: str) -> None:
    raw = io.BytesIO()
    status, errors = enhance(sound(tmp_path / "in.wav"), tmp_path / name, stdout=io.TextIOWrapper(raw, encoding))
    assert (status, errors) == (0, "")
    assert (tmp_path / name).exists()
    shown = raw.getvalue()
    assert b".wav: 48000 Hz" in shown
    if encoding == "utf-8":
        assert os.fsencode(name) in shown
    elif name == "音.wav":
        assert b"?.wav" in shown


# --- nothing is hurt ----------------------------------------------------------------------------------------------------


def test_three_files_go_into_a_folder(enhance: Command, tmp_path: Path) -> None:
    names = ("a.wav", "b.wav", "c.wav")
    paths = [sound(tmp_path / name) for name in names]
    before = [path.read_bytes() for path in paths]
    status, _ = enhance(*paths, "-o", tmp_path / "out", "-j", 1)
    assert status == 0
    assert [path.read_bytes() for path in paths] == before
    assert {audio.probe(tmp_path / "out" / name).rate for name in names} == {48_000}


@pytest.mark.parametrize("force", [(), ("--force",)])
@pytest.mark.parametrize("link", [None, "symlink_to", "hardlink_to"])
def test_recording_is_never_written_over_by_itself(
    enhance: Command, tmp_path: Path, force: tuple[str, ...], link: str | None
) -> None:
    source = sound(tmp_path / "a.wav")
    before, target = source.read_bytes(), source
    if link:
        target = tmp_path / "b.wav"
        getattr(target, link)(source)
    status, errors = enhance(source, target, *force)
    assert status == 1
    assert "same file" in errors
    assert source.read_bytes() == before


def test_input_of_the_same_call_is_not_written_over(enhance: Command, tmp_path: Path) -> None:
    first, second = sound(tmp_path / "x" / "b.wav"), sound(tmp_path / "a.wav", 8_000)
    (tmp_path / "b.wav").hardlink_to(second)
    before = second.read_bytes()
    status, errors = enhance(first, second, "-o", tmp_path, "--force")
    assert status == 1
    assert len(errors.splitlines()) == 1
    assert second.read_bytes() == before


# --- covers -------------------------------------------------------------------------------------------------------------


def with_cover(path: Path, size: int) -> Path:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.sin(np.arange(16_000) / 9) * 0.2, 16_000, format="MP3")
    path.write_bytes(buffer.getvalue())
    tags: Any = ID3()
    tags.add(APIC(encoding=3, mime="image/png", type=3, desc="", data=b"\x89PNG" + bytes(size)))
    from mutagen.id3 import TIT2

    tags.add(TIT2(encoding=3, text="kept"))
    tags.save(path)
    return path


@pytest.mark.parametrize("size", [17_000_000, 2**24])
def test_cover_that_does_not_fit_is_left_out_and_told(enhance: Command, tmp_path: Path, size: int) -> None:
    source = with_cover(tmp_path / "a.mp3", size)
    status, errors = enhance(source, tmp_path / "a.flac")
    assert status == 0
    assert (
        errors
        == f"overtone: {source}: its cover of {(size + 4) / 1e6:.1f} MB does not fit into FLAC and was left out\n"
    )
    assert audio.remarks(tmp_path / "a.flac") == {"title": "kept"}
    assert audio.probe(tmp_path / "a.flac").frames == audio.resampled_length(audio.probe(source).frames, 16_000, 48_000)


@pytest.mark.parametrize("target", ["b.flac", "b.mp3", "b.ogg", "b.opus", "b.m4a", "b.wav"])
@pytest.mark.parametrize("size", [1_000, 3_000_000])
def test_cover_that_fits_goes_along_and_the_sound_is_still_read(
    enhance: Command, tmp_path: Path, target: str, size: int
) -> None:
    import mutagen

    from overtone.audio import tags

    if target == "b.m4a":
        pytest.importorskip("av", reason="PyAV is missing: pip install -e '.[media]'")
    status, errors = enhance(with_cover(tmp_path / "a.mp3", size), tmp_path / target)
    assert (status, errors) == (0, "")
    assert [len(cover.data) for cover in tags._pictures(mutagen.File(tmp_path / target))] == [size + 4]
    assert audio.probe(tmp_path / target).frames >= 48_000


@pytest.mark.parametrize("source", ["a.flac", "a.ogg", "a.mp3"])
def test_tags_go_into_m4a_and_back(enhance: Command, tmp_path: Path, source: str) -> None:
    pytest.importorskip("av", reason="PyAV is missing: pip install -e '.[media]'")
    import mutagen

    from overtone.audio import tags

    told = {"title": "Tïtle", "artist": "Someone", "date": "1999", "tracknumber": "3/9", "mood": "calm"}
    sound(tmp_path / source, count=2)
    file: Any = mutagen.File(tmp_path / source)
    if source == "a.mp3":
        file.add_tags()
        tags._replace_frames(file.tags, tags._frames(list(told.items()), []))
    else:
        file.update(told)
    file.save()
    assert enhance(tmp_path / source, tmp_path / "b.m4a") == (0, "")
    assert dict(tags._pairs(mutagen.File(tmp_path / "b.m4a"))) == told
    assert enhance(tmp_path / "b.m4a", tmp_path / "c.flac") == (0, "")
    assert dict(tags._pairs(mutagen.File(tmp_path / "c.flac"))) == told


def test_what_a_header_says_wrongly_is_told(enhance: Command, tmp_path: Path) -> None:
    path = sound(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[40:44] = bytes(4)
    path.write_bytes(data)
    assert enhance(path, tmp_path / "b.wav") == (
        0,
        f"overtone: {path}: its header gives no length; the 0.20 s that follow were read\n",
    )
    assert audio.probe(tmp_path / "b.wav").frames == 9_600
