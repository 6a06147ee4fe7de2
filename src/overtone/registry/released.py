"""The released models: inside an installed package, and in a clone made from the objects of the repository's DVC remote.

An object's name is its digest: the pointer `released/rnn.dvc` names a listing, the listing the model's files.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import yaml

from overtone.errors import OvertoneError

FOLDER = "released"
# The better one on the validation split comes first.
NAMES = {"released": "cnn", "released-cnn": "cnn", "released-rnn": "rnn"}
KINDS = tuple(dict.fromkeys(NAMES.values()))
FILES = ("weights.safetensors", "config.json")
# The default DVC remote, a folder of the repository.
REMOTE = "dvcstore"
# Where a built package carries the models, each folder with its listing beside it.
PACKED = Path(__file__).parents[1] / "weights"
# The clone that an editable installation runs from.
_CLONE = Path(__file__).parents[3]
_TIMEOUT_SECONDS = 600.0

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
        ReleasedError: there is no such model, it cannot be fetched, or it is not what was released.
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
    """The folder of a released model in a clone, made if it is not there yet.

    Its files come from the repository's folder `dvcstore`; where that does not hold them, DVC pulls them.

    Args:
        name: one of `NAMES`.
        root: of the project's clone.

    Raises:
        ReleasedError: the project has no such model, it cannot be fetched, or it is not what was released.
    """
    kind = NAMES[name]
    folder = root / FOLDER / kind
    if not pointer(root, kind).is_file():
        raise ReleasedError(
            f"{pointer(root, kind)}: no such file; released models come with a clone of the project or a built package. "
            "Train one (make repro) or name a model folder with --model"
        )
    listing = listed(root, kind)
    if not _complete(folder):
        if listing is None or not all(stored(root, digest).is_file() for digest in listing.values()):
            _pull(name, root)
            _check_pulled(folder, root, kind)
            return folder
        unpack(root, kind, folder)
    if listing is not None:
        _check(folder, listing)
    return folder


def pointer(root: Path, kind: str) -> Path:
    """DVC's pointer file of a released model."""
    return root / FOLDER / f"{kind}.dvc"


def stored(root: Path, digest: str) -> Path:
    """Where the repository's remote keeps an object."""
    return root / REMOTE / "files" / "md5" / digest[:2] / digest[2:]


def listed(root: Path, kind: str) -> Listing | None:
    """The digests of a released model's files; None where the repository's remote does not hold them.

    Raises:
        ReleasedError: the listing is damaged.
    """
    if (digest := listing_digest(root, kind)) is None or not (path := stored(root, digest)).is_file():
        return None
    content = path.read_bytes()
    if f"{_digest(content)}.dir" != digest:
        raise ReleasedError(f"{path}: damaged; expected the content that its name is the digest of")
    return {entry["relpath"]: entry["md5"] for entry in json.loads(content)}


def listing_digest(root: Path, kind: str) -> str | None:
    """What a pointer file points to; None where it points nowhere yet."""
    try:
        return str(yaml.safe_load(pointer(root, kind).read_text())["outs"][0]["md5"])
    except (yaml.YAMLError, KeyError, IndexError, TypeError):
        return None


def unpack(root: Path, kind: str, folder: Path) -> Listing:
    """Make a released model's folder of the objects in the repository's remote, whole or not at all.

    Returns:
        The digests of its files.

    Raises:
        ReleasedError: the remote lacks an object, or one is damaged.
    """
    listing = listed(root, kind)
    if listing is None:
        raise ReleasedError(f"{pointer(root, kind)}: {root / REMOTE} does not hold what it names")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{kind}.") as temporary:
        made = Path(temporary) / kind
        made.mkdir()
        for name, digest in listing.items():
            if not stored(root, digest).is_file():
                raise ReleasedError(f"{stored(root, digest)}: no such file; expected {kind}/{name}")
            shutil.copyfile(stored(root, digest), made / name)
        _check(made, listing)
        keep_first(made, folder, lambda: _is_sound(folder, listing))
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


def _is_sound(folder: Path, listing: Listing) -> bool:
    try:
        _check(folder, listing)
    except ReleasedError:
        return False
    return True


def _pull(name: str, root: Path) -> None:
    target = pointer(root, NAMES[name])
    if find_spec("dvc") is None:
        raise ReleasedError(
            f"{name}: {root / REMOTE} does not hold what {target} names, and pulling it from elsewhere needs the extra "
            "`train`: pip install 'overtone[train]'"
        )
    command = [sys.executable, "-m", "dvc", "pull", str(target.relative_to(root))]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ReleasedError(
            f"{name}: dvc pull took more than {_TIMEOUT_SECONDS:.0f} s; is the remote reachable?"
        ) from None
    if done.returncode or not _complete(root / FOLDER / NAMES[name]):
        told = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise ReleasedError(f"{name}: dvc pull failed: {told[0] if told else 'the remote has no whole model'}")


def _check_pulled(folder: Path, root: Path, kind: str) -> None:
    """Compare what came from elsewhere with the pointer: its digest is that of a listing of all files, as DVC writes it."""
    entries = [
        {"md5": _digest(path.read_bytes()), "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    listing = json.dumps(sorted(entries, key=lambda entry: entry["relpath"]), sort_keys=True)
    if f"{_digest(listing.encode())}.dir" != listing_digest(root, kind):
        raise ReleasedError(
            f"{folder}: not the files that {pointer(root, kind)} names; remove the folder and pull again"
        )


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FILES)


def _check(folder: Path, listing: Listing) -> None:
    for name, digest in listing.items():
        path = folder / name
        if not path.is_file() or _digest(path.read_bytes()) != digest:
            raise ReleasedError(
                f"{path}: not the file that was released (md5 {digest}); remove {folder} to have it made again in a clone, "
                "install the package again elsewhere, or name the folder with --model if the change is meant"
            )


def _digest(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
