"""What a file says about itself: title, artist, cover and the rest, copied from a source to what was made of it."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mutagen
from mutagen import flac, id3, mp3, mp4

from overtone.audio.flac import MASK

# ID3 frames and the Vorbis comments of the same meaning.
_FRAMES = {
    "TIT2": "title",
    "TPE1": "artist",
    "TALB": "album",
    "TPE2": "albumartist",
    "TRCK": "tracknumber",
    "TPOS": "discnumber",
    "TDRC": "date",
    "TCON": "genre",
    "TCOM": "composer",
    "TCOP": "copyright",
    "TPUB": "organization",
    "TSRC": "isrc",
    "TBPM": "bpm",
}
_COMMENTS = {comment: frame for frame, comment in _FRAMES.items()}
# Atoms of MP4 files of the same meaning, those that hold numbers apart.
_ATOMS = {
    "title": "\xa9nam",
    "artist": "\xa9ART",
    "album": "\xa9alb",
    "albumartist": "aART",
    "date": "\xa9day",
    "genre": "\xa9gen",
    "composer": "\xa9wrt",
    "copyright": "cprt",
    "comment": "\xa9cmt",
    "lyrics": "\xa9lyr",
}
_COUNTS = {"tracknumber": "trkn", "discnumber": "disk"}
_TOOL = "\xa9too"
# What encoders say of their own work, which was not theirs this time.
_ENCODERS = ("encoder", "encoded-by", "encoder_options", "TSSE", "TENC")
# What a Vorbis comment may be called.
_NAME = re.compile(r"[ -<>-}]+")
_PICTURE = "metadata_block_picture"


def copy(source: Path, target: Path, remarks: Mapping[str, str]) -> list[str]:
    """Copy all tags and pictures of an audio file to another; tags that mutagen cannot make sense of are left alone.

    Args:
        remarks: what the decoder reads of the source's texts, by the names of Vorbis comments: those of a WAV file's INFO chunk
            are known to libsndfile alone, which writes them into any file but an MP3.

    Returns:
        sentences about what the target cannot hold and was left out.
    """
    try:
        old, new = mutagen.File(source), mutagen.File(target)
        if new is None or not _carry(old, new, remarks):
            return []
    except (mutagen.MutagenError, ValueError):
        return []
    if _saved(new) is None:
        return []
    # Most often it is a picture that is too large.
    size = max((len(picture.data) for picture in _pictures(old)), default=0)
    bare = mutagen.File(target)
    _carry(old, bare, remarks, pictures=False)
    error = _saved(bare)
    if error is not None:
        return [f"its tags do not fit into {type(new).__name__} and were left out ({error})"]
    return [f"its cover of {size / 1e6:.1f} MB does not fit into {type(new).__name__} and was left out"]


def _saved(file: Any) -> Exception | None:
    """Write the tags of a file; what kept them from being written."""
    try:
        file.save()
    except (mutagen.MutagenError, ValueError, OverflowError, struct.error) as error:
        return error
    return None


def _carry(old: Any, new: Any, remarks: Mapping[str, str], pictures: bool = True) -> bool:
    """Put the tags of a file into those of another, by way of the remarks if it has none; whether there were any."""
    bare = old is None or not (old.tags or _pictures(old))
    if bare and not (remarks and isinstance(new, mp3.MP3 | mp4.MP4)):
        return False
    if new.tags is None:
        new.add_tags()
    pairs = list(remarks.items()) if bare else _pairs(old)
    covers = _pictures(old) if pictures else []
    if isinstance(new, mp4.MP4):
        _replace_atoms(new, pairs, covers)
    elif isinstance(new.tags, id3.ID3):
        frames = _frames(pairs, covers)
        if not bare and isinstance(old.tags, id3.ID3):
            left = (*_ENCODERS, *(() if pictures else ("APIC",)))
            frames = [frame for frame in old.tags.values() if frame.FrameID not in left]
        _replace_frames(new.tags, frames)
    else:
        _replace_comments(new, pairs, covers)
    return True


def _pairs(file: Any) -> list[tuple[str, str]]:
    """Names and texts of a file's tags, by the names of Vorbis comments."""
    if isinstance(file.tags, id3.ID3):
        return _comments(file.tags)
    if isinstance(file, mp4.MP4):
        return _texts(file.tags)
    named = [(name.lower(), text) for name, text in file.tags or ()]
    return [(name, text) for name, text in named if name not in (*_ENCODERS, _PICTURE, MASK)]


def _pictures(file: Any) -> list[flac.Picture]:
    if file is None or not (file.tags or getattr(file, "pictures", ())):
        return []
    if isinstance(file.tags, id3.ID3):
        return [_picture(frame.mime, frame.data, int(frame.type), frame.desc) for frame in file.tags.getall("APIC")]
    if isinstance(file, mp4.MP4):
        kinds = {mp4.MP4Cover.FORMAT_PNG: "image/png"}
        covers = file.tags.get("covr", ())
        return [_picture(kinds.get(cover.imageformat, "image/jpeg"), bytes(cover)) for cover in covers]
    coded = [text for name, text in file.tags or () if name.lower() == _PICTURE]
    return [*getattr(file, "pictures", ()), *(flac.Picture(base64.b64decode(text)) for text in coded)]


def _replace_atoms(file: Any, pairs: list[tuple[str, str]], pictures: list[flac.Picture]) -> None:
    """The tags of an MP4 file."""
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    file.tags.clear()
    for name, values in texts.items():
        if name in _COUNTS:
            number = [int(part) if part.isdecimal() else 0 for part in values[0].partition("/")[::2]]
            file.tags[_COUNTS[name]] = [tuple(number)]
        else:
            atom = _ATOMS.get(name)
            coded = values if atom else [text.encode() for text in values]
            file.tags[atom or f"----:com.apple.iTunes:{name.upper()}"] = coded
    png = mp4.MP4Cover.FORMAT_PNG
    covers = [
        mp4.MP4Cover(picture.data, png if picture.mime == "image/png" else mp4.MP4Cover.FORMAT_JPEG)
        for picture in pictures
    ]
    if covers:
        file.tags["covr"] = covers


def _texts(tags: Any) -> list[tuple[str, str]]:
    """Names and texts of an MP4 file's tags, by the names of Vorbis comments."""
    names = {atom: name for name, atom in (_ATOMS | _COUNTS).items()}
    pairs = []
    for atom, values in tags.items():
        name = names.get(atom) or (atom.rpartition(":")[2].lower() if atom.startswith("----") else "")
        if not name or name in _ENCODERS or atom == _TOOL:
            continue
        for value in values:
            if isinstance(value, tuple):
                value = "/".join(str(part) for part in value if part)
            pairs.append((name, bytes(value).decode(errors="replace") if isinstance(value, bytes) else str(value)))
    return pairs


def _replace_frames(tags: Any, frames: list[Any]) -> None:
    for key in list(tags):
        del tags[key]
    for frame in frames:
        tags.add(frame)


def _replace_comments(file: Any, pairs: list[tuple[str, str]], pictures: list[flac.Picture]) -> None:
    kept = [(name, text) for name, text in file.tags if name.lower() in (*_ENCODERS, MASK)]
    file.tags.clear()
    for name, text in [*kept, *pairs]:
        file.tags.append((name, text))
    for picture in pictures:
        if isinstance(file, flac.FLAC):
            file.add_picture(picture)
        else:
            file.tags.append((_PICTURE, base64.b64encode(picture.write()).decode()))


def _comments(tags: Any) -> list[tuple[str, str]]:
    pairs = []
    for frame in tags.values():
        if frame.FrameID in _FRAMES:
            pairs += [(_FRAMES[frame.FrameID], str(text)) for text in frame.text]
        elif frame.FrameID == "TXXX" and _NAME.fullmatch(frame.desc):
            pairs += [(frame.desc.lower(), str(text)) for text in frame.text]
        elif frame.FrameID == "COMM":
            pairs += [("comment", str(text)) for text in frame.text]
        elif frame.FrameID == "USLT":
            pairs.append(("lyrics", str(frame.text)))
    return pairs


def _frames(pairs: list[tuple[str, str]], pictures: list[flac.Picture]) -> list[Any]:
    texts: dict[str, list[str]] = {}
    for name, text in pairs:
        texts.setdefault(name, []).append(text)
    frames: list[Any] = []
    for name, values in texts.items():
        if name in _COMMENTS:
            frames.append(getattr(id3, _COMMENTS[name])(encoding=3, text=values))
        elif name in ("comment", "description"):
            frames.append(id3.COMM(encoding=3, lang="XXX", desc="" if name == "comment" else name, text=values))
        elif name == "lyrics":
            frames.append(id3.USLT(encoding=3, lang="XXX", desc="", text="\n".join(values)))
        else:
            frames.append(id3.TXXX(encoding=3, desc=name.upper(), text=values))
    for picture in pictures:
        picture_frame = id3.APIC(encoding=3, mime=picture.mime, type=picture.type, desc=picture.desc, data=picture.data)
        frames.append(picture_frame)
    return frames


def _picture(mime: str, data: bytes, kind: int = 3, description: str = "") -> flac.Picture:
    picture = flac.Picture()
    picture.mime, picture.type, picture.desc, picture.data = mime, kind, description, data
    return picture
