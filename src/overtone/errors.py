"""The base of errors that users can mend."""

from __future__ import annotations


class OvertoneError(ValueError):
    """Something in the user's files, settings or request; shown as one message, without a stack trace."""
