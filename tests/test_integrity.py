"""Laws of the check of DVC's cache: what is damaged is named and goes with its copies, and nothing else does."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from overtone.registry import integrity
from overtone.registry.integrity import IntegrityError


def dvc(folder: Path, *words: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of DVC's that keeps a folder of two files."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    root = tmp_path / "project"
    for name in ("a.txt", "more/b.txt"):
        (root / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "data" / name).write_text(name)
    dvc(root, "init", "--no-scm")
    dvc(root, "add", "data")
    return root


def stored(root: Path, content: str) -> Path:
    digest = hashlib.md5(content.encode(), usedforsecurity=False).hexdigest()
    return root / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]


def overwrite(path: Path, content: str) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_text(content)
    path.chmod(mode)


def test_sound_objects_are_counted(kept: Path) -> None:
    assert integrity.verify(kept) == (3, [])


def test_damaged_object_is_named_with_its_files_and_removed_with_its_copies(kept: Path) -> None:
    overwrite(stored(kept, "more/b.txt"), "more/x.txt")
    (kept / "data/more/b.txt").write_text("more/x.txt")
    (one,) = integrity.verify(kept)[1]
    assert (one.path, one.files) == (stored(kept, "more/b.txt"), (Path("data/more/b.txt"),))
    integrity.remove(kept, one)
    assert not one.path.exists() and not (kept / "data/more/b.txt").exists()
    assert (kept / "data/a.txt").read_text() == "a.txt"
    assert integrity.verify(kept)[1] == []


def test_file_that_was_changed_since_is_not_taken_for_a_copy(kept: Path) -> None:
    overwrite(stored(kept, "a.txt"), "x.txt")
    (kept / "data/a.txt").write_text("my own words")
    (one,) = integrity.verify(kept)[1]
    integrity.remove(kept, one)
    assert (kept / "data/a.txt").read_text() == "my own words"


def test_damaged_listing_is_damage_of_the_folder(kept: Path) -> None:
    (listing,) = (kept / ".dvc" / "cache").rglob("*.dir")
    overwrite(listing, listing.read_text().replace("a.txt", "c.txt"))
    (one,) = integrity.verify(kept)[1]
    assert (one.path, one.files) == (listing, (Path("data"),))


def test_folder_that_is_no_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no project of DVC's"):
        integrity.verify(tmp_path)
