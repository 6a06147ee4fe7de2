"""Files that appear whole or not at all, and what a disk says that takes nothing."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from overtone.errors import OvertoneError

# What a disk says that takes nothing: full, over quota, read-only, not this user's, broken.
REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
# Bytes; libraries write in blocks, and stop where the next one does not fit.
_NEXT_TO_NOTHING = 1 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends, and is removed if it fails.

    Raises:
        OSError: the disk is full or refuses to be written to; `filename` is `path`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A part of the name alone: with the temporary one's own letters, a whole one could be too long.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:32]}.", suffix=path.suffix)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except Exception as error:
        if told := unwritable(error, path, temporary):
            raise told from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def unwritable(error: Exception, path: Path, temporary: Path) -> OSError | None:
    """What kept `path` from being written, by its name, if that was the disk; None if it was something else.

    Errors of writing name no file, and those of libraries (libsndfile, torch, safetensors) often not even the reason.

    Args:
        temporary: file or folder that was to take its place.
    """
    if isinstance(error, OSError) and error.errno in REFUSALS:
        where = str(error.filename or path)
        if where.startswith(str(temporary)):
            where = f"{path}{where.removeprefix(str(temporary))}"
        return OSError(error.errno, os.strerror(error.errno), where)
    if isinstance(error, OSError | OvertoneError) or shutil.disk_usage(path.parent).free >= _NEXT_TO_NOTHING:
        return None
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
