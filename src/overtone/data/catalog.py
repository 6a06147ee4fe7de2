"""Which files of a folder belong to a corpus, and what each is: from the folders' names or from `catalog.csv`."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from overtone import audio
from overtone.audio import folders
from overtone.errors import OvertoneError

KINDS = ("speech", "music", "noise", "other")
CATALOG = "catalog.csv"
# Spreadsheets of many countries write semicolons, or tabs.
_SEPARATORS = ",;\t"
_NAME_LENGTH = 120


class CorpusError(OvertoneError):
    """A folder of audio that cannot become a corpus; the message says why and what was expected."""


@dataclass(frozen=True)
class File:
    """A raw file before it is opened.

    Attributes:
        path: below the folder, with slashes.
        kind: one of `KINDS`.
        collection: the recording chain.
        source: the voice, piece or session.
        name: a unique file name for its clips.
    """

    path: str
    kind: str
    collection: str
    source: str
    name: str = ""


def list_files(raw: Path) -> tuple[list[File], list[str]]:
    """Every audio file below `raw` and every row of its catalog, sorted by path, and sentences about what was left out.

    Hidden files and folders (`._take.wav` of a Mac's disk is no audio) are, unless the catalog lists them.

    Raises:
        CorpusError: no such folder, a catalog that cannot be used, or no audio.
    """
    if not raw.is_dir():
        raise CorpusError(f"{raw}: no such folder; corpus.path expects a folder of audio files")
    walked = folders.walk(raw)
    listed = read_catalog(raw / CATALOG, walked.files)
    for names in walked.left.values():
        names[:] = [name for name in names if name not in listed and name != CATALOG]
    files = {name: _from_folders(Path(name)) for name in walked.files} | listed
    if not files:
        raise CorpusError(f"{raw}: no audio files; expected {', '.join(sorted(audio.EXTENSIONS))}")
    return _name([files[path] for path in sorted(files)]), walked.told()


def _from_folders(path: Path) -> File:
    """Kind, collection and source as the folders tell them: [kind/][collection/]file; a file in no folder is its own source."""
    parent = path.parent.as_posix()
    kind = path.parts[0] if len(path.parts) > 1 and path.parts[0] in KINDS else "other"
    source = path.stem if parent in (".", kind) else parent
    return File(path.as_posix(), kind, source, source)


def read_catalog(path: Path, known: Iterable[str] = ()) -> dict[str, File]:
    """What a table of files says of each, by path; nothing if there is no such table.

    Columns are parted by commas, semicolons or tabs, whichever the first line has most of; folders by slashes or backslashes.

    Args:
        known: names of files, which a row may write with other code points for the same letters, as a Mac does.

    Raises:
        CorpusError: no table of text in UTF-8, a column too few, or a row that cannot be used.
    """
    if not path.is_file():
        return {}
    try:
        # A byte-order mark, which spreadsheets write, is no part of the first column's name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            return _rows(path, file.read(), {_normal(name): name for name in known} | {name: name for name in known})
    except CorpusError:
        raise
    except (csv.Error, ValueError) as error:
        raise CorpusError(f"{path}: cannot be read ({error}); expected a table of commas in UTF-8") from None


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _rows(path: Path, text: str, known: Mapping[str, str]) -> dict[str, File]:
    head = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(_SEPARATORS, key=head.count))
    missing = {"path", "kind"} - set(reader.fieldnames or ())
    if missing:
        raise CorpusError(
            f"{path}: no column {min(missing)!r}; expected a table of commas or semicolons with at least path and kind"
        )
    files = {}
    for row in reader:
        if not any(row.values()):
            continue
        if not row["path"] or "\0" in row["path"] or row["kind"] is None:
            raise CorpusError(f"{path}: line {reader.line_num}: expected a path and a kind")
        name = PurePosixPath(row["path"].replace("\\", "/")).as_posix()
        name = known.get(name) or known.get(_normal(name), name)
        if name in files:
            raise CorpusError(f"{path}: line {reader.line_num}: {name} stands in it twice; expected one row a file")
        files[name] = _described(path, name, row["kind"], row.get("collection") or "", row.get("source") or "")
    return files


def _described(catalog: Path, name: str, kind: str, collection: str, source: str) -> File:
    """The file of one row; where the row leaves them out, source and collection are those of the folders."""
    if kind not in KINDS:
        raise CorpusError(f"{catalog}: {name}: kind {kind!r}; expected one of {', '.join(KINDS)}")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise CorpusError(f"{catalog}: {name}: expected a path inside the folder")
    default = _from_folders(Path(name))
    return replace(default, kind=kind, collection=collection or default.collection, source=source or default.source)


def _name(files: list[File]) -> list[File]:
    """Each file's path as a file name, unique with the numbers of clips that follow it.

    Where two would be equal, one is too long, or one reads like a numbered clip of another (`take-0001` beside `take`), a
    digest of the path follows.
    """
    plain = [
        re.sub(r"[^A-Za-z0-9_-]+", "_", str(PurePosixPath(f.path).with_suffix("")).replace("/", "-")) for f in files
    ]
    counts = Counter(name.lower() for name in plain)
    named = []
    for file, name in zip(files, plain, strict=True):
        numbered = re.fullmatch(r"(.+)-\d{4,}", name.lower())
        if counts[name.lower()] > 1 or len(name) > _NAME_LENGTH or (numbered and counts[numbered[1]]):
            name = f"{name[:_NAME_LENGTH]}-{hashlib.sha256(os.fsencode(file.path)).hexdigest()[:8]}"
        named.append(replace(file, name=name))
    return named
