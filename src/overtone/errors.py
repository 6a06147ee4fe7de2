"""The base of errors that users can mend."""

from __future__ import annotations


class OvertoneError(ValueError):
    """Something in the user's files, settings or request; shown as one message, without a stack trace."""


def printable(text: str) -> str:
    """A message as a terminal may be shown it: control characters, which names of files may hold, are spelled out."""
    return "".join(
        one if one.isprintable() or one == "\n" else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )
