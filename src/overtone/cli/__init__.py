"""The command `overtone`: thin commands over the packages. Heavy imports happen inside commands, so that help is instant."""

from __future__ import annotations

import codecs
import errno
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from overtone.cli import environment, judging, pipeline, recordings, registry, serving
from overtone.cli.app import READER_LEFT, app
from overtone.errors import OvertoneError, missing_extra, printable

__all__ = ["app", "environment", "judging", "main", "pipeline", "recordings", "registry", "serving"]

# Of the output: how it shows what it cannot.
_SHOWN = "overtone-shown"
# What the disk says of a file, and the user has to mend: full, over quota, read-only, someone else's, broken.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)


# Allocations before the youngest objects are searched for cyclic garbage, and such searches before the older ones are.
_SWEEP = (10_000, 20, 100)


def main() -> None:
    """Run the command line; errors that users can mend are one message and exit status 1.

    Imports of torch, Lightning and MLflow make a million objects that all stay. Searched for cyclic garbage at the
    interpreter's usual pace, and once more at its end, they take a third longer.
    """
    gc.set_threshold(*_SWEEP)
    try:
        _run()
    finally:
        gc.freeze()


def _run() -> None:
    codecs.register_error(_SHOWN, _shown)
    sys.stdout.reconfigure(errors=_SHOWN)  # type: ignore[union-attr]
    try:
        try:
            app()
        finally:
            _flush()
    except OvertoneError as error:
        _fail(str(error))
    except OSError as error:
        # What a file system says of a name: not there, no permission, no room.
        if error.strerror is None or (error.filename is None and error.errno not in _DISK):
            raise
        _fail(f"{os.fsdecode(error.filename or Path.cwd())}: {error.strerror}")
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error, f"`{_command()}`")) is None:
            raise
        _fail(str(missing))
    except Exception as error:
        # Errors of a library that was never loaded cannot have come.
        if "mlflow" not in sys.modules:
            raise
        from overtone.tracking import server

        if (sentence := server.refusal(error)) is None:
            raise
        _fail(sentence)


def _shown(error: UnicodeError) -> tuple[bytes, int]:
    """For what an output cannot show: the bytes of names that are no UTF-8, and a question mark for characters it lacks."""
    assert isinstance(error, UnicodeEncodeError)
    bad = error.object[error.start : error.end]
    return b"".join(bytes([ord(one) - 0xDC00]) if "\udc80" <= one <= "\udcff" else b"?" for one in bad), error.end


def _flush() -> None:
    """Write what is left of the output; a reader that has left is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # What Python still holds would be written, and fail, once more.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(READER_LEFT)


def _fail(sentence: str) -> NoReturn:
    print(f"overtone: {printable(sentence)}", file=sys.stderr)
    sys.exit(1)


def _command() -> str:
    """The command that is running, without its arguments."""
    return " ".join(["overtone", *sys.argv[1 : 3 if sys.argv[1] == "stage" else 2]])
