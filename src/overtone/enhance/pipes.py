"""Standard input and pipes as files."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from overtone.audio import AudioError


def is_pipe(path: Path) -> bool:
    """Whether something is there that is written into and read from, never replaced: a pipe, a terminal, `/dev/null`."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISBLK(mode))


@contextmanager
def spooled(stream: BinaryIO, name: str) -> Iterator[Path]:
    """What a stream holds, as a file: the band is estimated over the whole, and most containers are not read in order.

    Args:
        name: what messages call it.

    Raises:
        AudioError: it holds nothing.
    """
    with tempfile.TemporaryDirectory(prefix="overtone-") as folder:
        path = Path(folder, "stdin")
        with path.open("wb") as file:
            shutil.copyfileobj(stream, file)
        if not path.stat().st_size:
            raise AudioError(f"{name}: empty; expected the bytes of an audio file")
        yield path
