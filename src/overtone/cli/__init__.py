"""The command `overtone`: thin commands over the rooms. Heavy imports happen inside commands, so that help is instant."""

from __future__ import annotations

import sys

from overtone.cli import files, line, registry, serving
from overtone.cli.app import app
from overtone.errors import OvertoneError

__all__ = ["app", "files", "line", "main", "registry", "serving"]


def main() -> None:
    """Run the command line; errors that users can mend are one message and exit status 1."""
    try:
        app()
    except OvertoneError as error:
        print(f"overtone: {error}", file=sys.stderr)
        sys.exit(1)
    except Exception as error:
        # Errors of a library that was never loaded cannot have come.
        if "mlflow" not in sys.modules:
            raise
        from overtone.tracking import refusal

        if (sentence := refusal.sentence(error)) is None:
            raise
        print(f"overtone: {sentence}", file=sys.stderr)
        sys.exit(1)
