"""Checkpoints that are checked: each has its SHA-256 beside it, and the last one but one is kept.

Beside `last.ckpt` lies `last.ckpt.sha256`: the digests of the checkpoint to come, of the present one and of the one before.
It is written first, so that a kill at any moment leaves files whose digests it holds.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from overtone.audio import replacing
from overtone.errors import OvertoneError

LAST = "last.ckpt"
BEFORE = "before.ckpt"
BEST = "best.ckpt"
_DIGESTS = 3


class CheckpointError(OvertoneError):
    """A checkpoint that is damaged with none to fall back to; the message says what to remove."""


class CheckedIO(TorchCheckpointIO):
    """Lightning's way to its checkpoints: written whole or not at all, with a digest; read without running any code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        target = Path(path)
        with replacing(target) as temporary:
            torch.save(checkpoint, temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            with replacing(_note(target)) as note:
                note.write_text("\n".join([_digest(temporary), *_digests(target)][:_DIGESTS]) + "\n")
            if target.name == LAST and target.is_file():
                target.replace(target.with_name(BEFORE))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read(Path(path), map_location)


def read(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A checkpoint's content: tensors and plain values only."""
    found: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
    return found


def newest(folder: Path) -> Path | None:
    """The checkpoint to go on from: the last one, or where that is damaged or missing the one before; None without any.

    Raises:
        CheckpointError: none that is there is whole.
    """
    last, before, best = (folder / name for name in (LAST, BEFORE, BEST))
    present = [path for path in (last, before) if path.is_file()]
    if not present:
        return None
    if best.is_file() and not is_whole(best):
        raise _beyond_repair(best)
    for path in present:
        if is_whole(path, last):
            return path
        print(f"{path}: damaged (its SHA-256 is not that of {_note(last).name}), not used", flush=True)
    raise _beyond_repair(present[0])


def best(folder: Path) -> dict[str, Any]:
    """The checkpoint of the best validation.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    path = folder / BEST
    if not path.is_file() or not is_whole(path):
        raise _beyond_repair(path)
    return read(path)


def is_whole(path: Path, of: Path | None = None) -> bool:
    """Whether a checkpoint's digest is among those noted beside it, or beside `of`."""
    return _digest(path) in _digests(of or path)


def _beyond_repair(path: Path) -> CheckpointError:
    return CheckpointError(
        f"{path}: damaged, its SHA-256 is not the one noted beside it; to train again from the start, remove the folder: "
        f"rm -r {path.parent}"
    )


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digests(path: Path) -> list[str]:
    try:
        return _note(path).read_text().split()
    except FileNotFoundError:
        return []


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
