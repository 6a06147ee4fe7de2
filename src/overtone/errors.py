"""The base of errors that users can mend, and the one for a library that is not installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata


class OvertoneError(ValueError):
    """Something in the user's files, settings or request; shown as one message, without a stack trace."""


class MissingExtraError(OvertoneError):
    """A library of an optional part of the installation is missing."""


def printable(text: str) -> str:
    """A message as a terminal may be shown it: control characters, which names of files may hold, are spelled out."""
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )


def extras() -> dict[str, str]:
    """The extra of `pip install overtone[EXTRA]` that brings each optional distribution, by the package's own metadata."""
    found: dict[str, str] = {}
    try:
        lines = metadata.requires("overtone") or ()
    except metadata.PackageNotFoundError:  # a copy of the package that was never installed
        return {}
    for line in lines:
        if match := re.match(r"([\w.-]+).*extra == ['\"](\w+)['\"]", line):
            found.setdefault(match[1].lower(), match[2])
    return found


def missing_extra(error: ModuleNotFoundError, what: str) -> MissingExtraError | None:
    """The error for a user whose installation lacks a library; None if no extra brings it.

    Args:
        what: needs the library, such as "`overtone tune`".
    """
    library = (error.name or "").partition(".")[0].lower().replace("_", "-")
    extra = extras().get(library)
    return MissingExtraError(f"{what} needs the extra `{extra}`: pip install 'overtone[{extra}]'") if extra else None


@contextmanager
def needs_extra(what: str) -> Iterator[None]:
    """Turn a missing library of an extra into a message that names the extra.

    Raises:
        MissingExtraError: a library of an extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (missing := missing_extra(error, what)) is None:
            raise
        raise missing from None
