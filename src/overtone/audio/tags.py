"""What a file says about itself: title, artist, cover and the rest, copied from a source to what was made of it."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mutagen
from mutagen import flac, id3, mp3

from overtone.audio.samples import AudioError

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
# What encoders say of their own work, which was not theirs this time.
_ENCODERS = ("encoder", "encoded-by", "encoder_options", "TSSE", "TENC")
# What a Vorbis comment may be called.
_NAME = re.compile(r"[ -<>-}]+")
_PICTURE = "metadata_block_picture"


def copy(source: Path, target: Path, remarks: Mapping[str, str]) -> None:
    """Copy all tags and pictures of an audio file to another; tags that mutagen cannot make sense of are left alone.

    Args:
        remarks: what libsndfile reads of the source's texts, by the names of Vorbis comments: those of a WAV file's INFO chunk
            are known to libsndfile alone, which writes them into any file but an MP3.

    Raises:
        AudioError: the tags cannot be written into the target.
    """
    try:
        old, new = mutagen.File(source), mutagen.File(target)
        if new is None or not _carry(old, new, remarks):
            return
    except (mutagen.MutagenError, ValueError):
        return
    try:
        new.save()
    except (mutagen.MutagenError, ValueError) as error:
        raise AudioError(f"{source}: its tags cannot be written into {target} ({error})") from None


def _carry(old: Any, new: Any, remarks: Mapping[str, str]) -> bool:
    """Put the tags of a file into those of another, by way of the remarks if it has none; whether there were any."""
    bare = old is None or not (old.tags or getattr(old, "pictures", ()))
    if bare and not (remarks and isinstance(new, mp3.MP3)):
        return False
    if new.tags is None:
        new.add_tags()
    if bare:
        _replace_frames(new.tags, _frames(list(remarks.items()), []))
    elif isinstance(old.tags, id3.ID3):
        if isinstance(new.tags, id3.ID3):
            _replace_frames(new.tags, [frame for frame in old.tags.values() if frame.FrameID not in _ENCODERS])
        else:
            _replace_comments(new, _comments(old.tags), [_picture(frame) for frame in old.tags.getall("APIC")])
    else:
        pairs = [(name.lower(), text) for name, text in old.tags or () if name.lower() not in _ENCODERS]
        pictures = [*getattr(old, "pictures", ()), *(_decoded(text) for name, text in pairs if name == _PICTURE)]
        pairs = [(name, text) for name, text in pairs if name != _PICTURE]
        if isinstance(new.tags, id3.ID3):
            _replace_frames(new.tags, _frames(pairs, pictures))
        else:
            _replace_comments(new, pairs, pictures)
    return True


def _replace_frames(tags: Any, frames: list[Any]) -> None:
    for key in list(tags):
        del tags[key]
    for frame in frames:
        tags.add(frame)


def _replace_comments(file: Any, pairs: list[tuple[str, str]], pictures: list[flac.Picture]) -> None:
    kept = [(name, text) for name, text in file.tags if name.lower() in _ENCODERS]
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


def _picture(frame: Any) -> flac.Picture:
    picture = flac.Picture()
    picture.mime, picture.type, picture.desc, picture.data = frame.mime, int(frame.type), frame.desc, frame.data
    return picture


def _decoded(text: str) -> flac.Picture:
    return flac.Picture(base64.b64decode(text))
