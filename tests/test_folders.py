"""Laws of folders: what is audio is found once, by enhancing and by a corpus alike, and what is left out is named."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from overtone.audio import folders
from overtone.data import catalog
from overtone.enhance import batch
from overtone.errors import OvertoneError


def tree(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


def found(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    walked = folders.walk(root)
    return list(walked.files), {reason: sorted(names) for reason, names in walked.left.items()}


@pytest.mark.parametrize(
    "name", ["a.wav", "a.WAVE", "a.Flac", "a.oga", "a.AIFC", "a.m4a", "film.MP4", "a.amr", "a.w64"]
)
def test_extensions_of_audio_are_known_in_any_case(tmp_path: Path, name: str) -> None:
    assert found(tree(tmp_path, name)) == ([name], {})


@pytest.mark.parametrize("name", ["._a.wav", ".hidden/a.wav", "b/._a.wav", ".a.flac"])
def test_hidden_files_are_left_out_and_named(tmp_path: Path, name: str) -> None:
    hidden = ".hidden" if name.startswith(".hidden") else name
    assert found(tree(tmp_path, name, "a.wav")) == (["a.wav"], {folders.HIDDEN: [hidden]})


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "z/real.wav", "a.wav")
    far = tree(tmp_path / "far", "c.wav")
    for name in ("far", "far-again"):
        (root / name).symlink_to(far)
    (root / "b-link").symlink_to(root / "z")
    (root / "up").symlink_to(tmp_path)
    (far / "loop").symlink_to(far)
    names, left = found(root)
    assert [name for name in names if name.endswith("c.wav")] == ["far/c.wav"]
    assert [name for name in names if name.endswith("real.wav")] == ["z/real.wav"], "a folder before links to it"
    assert {"b-link", "far-again", "far/loop"} <= set(left[folders.SEEN])


def test_what_is_no_file_is_left_out_and_named(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.wav", "notes.txt", "cover.jpg")
    os.mkfifo(root / "pipe.wav")
    (root / "nowhere.wav").symlink_to("gone.wav")
    (root / "circle.wav").symlink_to("circle.wav")
    names, left = found(root)
    assert names == ["a.wav"]
    assert left == {
        folders.NOT_AUDIO: ["cover.jpg", "notes.txt"],
        folders.NO_FILE: ["circle.wav", "nowhere.wav", "pipe.wav"],
    }
    assert "left out 2, not audio by their names: cover.jpg, notes.txt" in folders.walk(root).told()


def test_many_are_counted_and_the_first_named(tmp_path: Path) -> None:
    tree(tmp_path, *(f"{index}.txt" for index in range(9)))
    assert folders.walk(tmp_path).told() == [
        "left out 9, not audio by their names: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 4 more"
    ]


def test_enhancing_and_a_corpus_see_the_same_files(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "a.WAV", "b/c.wave", "d.m4a", "._a.wav", ".x/e.wav", "notes.txt")
    (root / "far").symlink_to(tree(tmp_path / "far", "f.ogg", "._f.ogg"))
    (root / "b/up").symlink_to(root)
    tasks, told = batch.tasks([str(root)], str(tmp_path / "out"))
    listed, left = catalog.list_files(root)
    assert sorted(Path(task.source).relative_to(root).as_posix() for task in tasks) == [file.path for file in listed]
    assert [file.path for file in listed] == ["a.WAV", "b/c.wave", "d.m4a", "far/f.ogg"]
    assert told == [f"{root}: {sentence}" for sentence in left]
    assert len(left) == 3


def test_output_folder_within_the_source_is_no_source(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "a.wav", "out/a.wav")
    tasks, told = batch.tasks([str(root)], str(root / "out"))
    assert ([task.name for task in tasks], told) == (["a.wav"], [])


def test_what_is_read_and_not_written_becomes_flac(tmp_path: Path) -> None:
    root = tree(tmp_path / "in", "film.mp4", "note.amr", "song.m4a", "a.wave")
    names = [task.name for task in batch.tasks([str(root)], "out")[0]]
    assert names == ["a.wave", "film.flac", "note.flac", "song.m4a"]


# --- targets ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", [None, "symbolic", "hard"])
def test_target_that_is_a_source_is_refused_whatever_is_forced(tmp_path: Path, link: str | None) -> None:
    """`enhance x/a.wav a.wav -o .` would write the first over the second."""
    root = tree(tmp_path, "x/a.wav", "b.wav")
    if link is None:
        (root / "b.wav").rename(root / "a.wav")
    elif link == "symbolic":
        (root / "a.wav").symlink_to("b.wav")
    else:
        (root / "a.wav").hardlink_to(root / "b.wav")
    second = "a.wav" if link is None else "b.wav"
    with pytest.raises(OvertoneError, match=r"is a source too|same file|would both become"):
        batch.tasks([str(root / "x" / "a.wav"), str(root / second)], str(root))


def test_output_of_several_sources_that_is_a_file_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.wav", "b.wav", "c.wav")
    with pytest.raises(OvertoneError, match=r"c\.wav: is a file; expected a folder"):
        batch.tasks([str(root / "a.wav"), str(root / "b.wav")], str(root / "c.wav"))


# --- catalogs -----------------------------------------------------------------------------------------------------------


def rows(root: Path, text: str) -> list[catalog.File]:
    (root / "catalog.csv").write_text(text)
    return [file for file in catalog.list_files(root)[0] if file.kind == "music"]


@pytest.mark.parametrize("written", ["deep\\a.wav", "deep/a.wav", "deep\\\\a.wav"])
def test_catalog_may_part_folders_with_backslashes(tmp_path: Path, written: str) -> None:
    (file,) = rows(tree(tmp_path, "deep/a.wav"), f"path,kind\n{written},music\n")
    assert file.path == "deep/a.wav"


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_catalog_may_write_letters_with_other_code_points(tmp_path: Path, on_disk: str, written: str) -> None:
    name, row = (unicodedata.normalize(form, "Bärbel/é.wav") for form in (on_disk, written))  # type: ignore[arg-type]
    (file,) = rows(tree(tmp_path, name), f"path;kind\n{row};music\n")
    assert file.path == name


@pytest.mark.parametrize("again", ["a.wav", "./a.wav", ".\\a.wav"])
def test_catalog_with_a_path_twice_is_refused_by_name(tmp_path: Path, again: str) -> None:
    with pytest.raises(catalog.CorpusError, match=r"line 3: a\.wav stands in it twice"):
        rows(tree(tmp_path, "a.wav"), f"path,kind\na.wav,music\n{again},speech\n")
