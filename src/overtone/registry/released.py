"""The released models: inside an installed package, and in a clone made from the objects of the repository's DVC remote.

An object's name is its digest: the pointer `released/rnn.dvc` names a listing, the listing the model's files.
"""

from __future__ import annotations

import errno
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from overtone.errors import OvertoneError
from overtone.tracking import dvc

FOLDER = "released"
# The better one on the validation split comes first.
NAMES = {"released": "cnn", "released-cnn": "cnn", "released-rnn": "rnn"}
KINDS = tuple(dict.fromkeys(NAMES.values()))
FILES = ("weights.safetensors", "config.json")
# The DVC remote that is a folder of the repository.
REMOTE = "dvcstore"
# Where a built package carries the models, each folder with its listing beside it.
PACKED = Path(__file__).parents[1] / "weights"
# The clone that an editable installation runs from.
_CLONE = Path(__file__).parents[3]

# Digests (md5) by file name.
Listing = Mapping[str, str]


class ReleasedError(OvertoneError):
    """A released model that cannot be had, or is not what was released."""


def find(name: str, project: Path) -> Path:
    """The folder of a released model, its files checked against their digests.

    Args:
        name: one of `NAMES`.
        project: root of the project that the user works in. Its own released models come first, then those inside the
            package, then those of the clone that the package runs from.

    Raises:
        ReleasedError: there is no such model, or it is not what was released.
    """
    kind = NAMES[name]
    if not pointer(project, kind).is_file():
        if (PACKED / kind).is_dir():
            _check(PACKED / kind, json.loads((PACKED / f"{kind}.json").read_text()))
            return PACKED / kind
        if pointer(_CLONE, kind).is_file():
            return fetch(name, _CLONE)
    return fetch(name, project)


def fetch(name: str, root: Path) -> Path:
    """The folder of a released model in a clone, made of the repository's folder `dvcstore` if it is not there yet.

    Args:
        name: one of `NAMES`.
        root: of the project's clone.

    Raises:
        ReleasedError: the project has no such model, or it is not what was released.
    """
    kind = NAMES[name]
    folder = root / FOLDER / kind
    if not pointer(root, kind).is_file():
        raise ReleasedError(
            f"{pointer(root, kind)}: no such file; released models come with a clone of the project or a built package. "
            "Train one (make repro) or name a model folder with --model"
        )
    if not all((folder / file).is_file() for file in FILES):
        unpack(root, kind, folder)
    elif (listing := listed(root, kind)) is not None:
        _check(folder, listing)
    elif (digest := listing_digest(root, kind)) and digest != dvc.folder_md5(
        {path.name: dvc.file_md5(path) for path in folder.iterdir()}
    ):
        raise ReleasedError(
            f"{folder}: not the files that {pointer(root, kind)} names; remove the folder and pull again"
        )
    return folder


def pointer(root: Path, kind: str) -> Path:
    """DVC's pointer file of a released model."""
    return root / FOLDER / f"{kind}.dvc"


def stored(root: Path, digest: str) -> Path:
    """Where the repository's remote keeps an object."""
    return dvc.stored(root / REMOTE, digest)


def listed(root: Path, kind: str) -> Listing | None:
    """The digests of a released model's files; None where the repository's remote does not hold them.

    Raises:
        ReleasedError: the listing is damaged.
    """
    if (digest := listing_digest(root, kind)) is None or not (path := stored(root, digest)).is_file():
        return None
    if f"{dvc.file_md5(path)}.dir" != digest:
        raise ReleasedError(f"{path}: damaged; expected the content that its name is the digest of")
    return dvc.listing(path)


def listing_digest(root: Path, kind: str) -> str | None:
    """What a pointer file points to; None where it points nowhere yet."""
    return dvc.pointed(pointer(root, kind).read_bytes())


def unpack(root: Path, kind: str, folder: Path) -> Listing:
    """Make a released model's folder of the objects in the repository's remote, whole or not at all.

    Returns:
        The digests of its files.

    Raises:
        ReleasedError: the remote lacks an object, or one is damaged.
    """
    listing = listed(root, kind)
    if listing is None or not all(stored(root, digest).is_file() for digest in listing.values()):
        raise ReleasedError(
            f"{pointer(root, kind)}: {root / REMOTE} does not hold what it names; `dvc pull {FOLDER}/{kind}.dvc` fetches it"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{kind}.") as temporary:
        made = Path(temporary) / kind
        made.mkdir()
        for name, digest in listing.items():
            shutil.copyfile(stored(root, digest), made / name)
        _check(made, listing)
        keep_first(made, folder, lambda: _changed(folder, listing) is None)
    return listing


def keep_first(made: Path, folder: Path, is_sound: Callable[[], bool]) -> None:
    """Give a folder, made beside its final place, its name; of several processes that do so the first one's folder stays.

    Args:
        made: on the same file system as `folder`, inside a temporary folder that is removed afterwards.
        folder: the final place; what lies there and is not sound is moved out of the way.
        is_sound: whether what lies in the final place is whole.
    """
    for number in itertools.count():
        try:
            made.rename(folder)
            return
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
        if is_sound():
            return
        with suppress(FileNotFoundError):
            folder.rename(made.with_name(f"{made.name}.{number}.unsound"))


def _changed(folder: Path, listing: Listing) -> Path | None:
    """The first file of a listing that is not there as it was released; None where all are."""
    wrong = (
        name for name, md5 in listing.items() if not (folder / name).is_file() or dvc.file_md5(folder / name) != md5
    )
    return next((folder / name for name in wrong), None)


def _check(folder: Path, listing: Listing) -> None:
    if path := _changed(folder, listing):
        raise ReleasedError(
            f"{path}: not the file that was released (md5 {listing[path.name]}); remove {folder} to have it made again in a "
            "clone, install the package again elsewhere, or name the folder with --model if the change is meant"
        )
