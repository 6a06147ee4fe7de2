"""Which files of a folder are audio: the same for a run over a folder and for a corpus, with what is left out, by name."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from overtone.audio.reading import EXTENSIONS

# Names of a kind that are told one by one.
_NAMED = 5

NOT_AUDIO, HIDDEN, NO_FILE, SEEN = (
    "not audio by their names",
    "hidden",
    "no files",
    "links to folders that are read already",
)


@dataclass
class Found:
    """Files of audio below a folder, by their names in it (with `/`), in order; what was left out, by its reason."""

    files: dict[str, Path] = field(default_factory=dict)
    left: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, reason: str, name: str) -> None:
        self.left.setdefault(reason, []).append(name)

    def told(self) -> list[str]:
        """A sentence for each reason: how many were left out, and the first of them by name."""
        return [told(reason, sorted(names)) for reason, names in sorted(self.left.items()) if names]


def told(reason: str, names: list[str]) -> str:
    """How many were left out for a reason, and the first of them by name."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"left out {len(names)}, {reason}: {', '.join(names[:_NAMED])}{more}"


def is_hidden(name: str) -> bool:
    """Whether a name in a folder is hidden, or in a hidden folder; what a Mac leaves on other disks (`._a.wav`) is."""
    return any(part.startswith(".") for part in name.split("/"))


def is_audio(name: str) -> bool:
    """Whether a name's extension, in any case, is one that is read."""
    return PurePosixPath(name).suffix.lower() in EXTENSIONS


def walk(folder: Path, without: Path | None = None) -> Found:
    """The files of audio below a folder; links to folders are followed, each folder once.

    Args:
        without: a folder below it that is not looked into.
    """
    found = Found()
    for name, path, file in _entries(folder, without, found):
        if not file:
            found.leave(NO_FILE, name)
        elif is_audio(name):
            found.files[name] = path
        else:
            found.leave(NOT_AUDIO, name)
    found.files = dict(sorted(found.files.items()))
    return found


def _entries(folder: Path, without: Path | None, found: Found) -> Iterator[tuple[str, Path, bool]]:
    """Name, path, and whether it is a file, of all that is no folder; folders themselves before links to them."""
    seen = {_identity(without)} if without is not None and without.is_dir() else set()
    folders, links = deque([("", folder)]), deque[tuple[str, Path]]()
    while folders or links:
        linked = not folders
        inner, path = (links if linked else folders).popleft()
        identity = _identity(path)
        if identity in seen:
            if linked:
                found.leave(SEEN, inner)
            continue
        seen.add(identity)
        for entry in sorted(os.scandir(path), key=lambda entry: entry.name):
            name = f"{inner}/{entry.name}".lstrip("/")
            if entry.name.startswith("."):
                found.leave(HIDDEN, name)
            elif _is(entry.is_dir):
                (links if entry.is_symlink() else folders).append((name, Path(entry.path)))
            else:
                yield name, Path(entry.path), _is(entry.is_file)


def _is(kind: Callable[[], bool]) -> bool:
    try:
        return kind()
    except OSError:
        # A link that leads in circles.
        return False


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
