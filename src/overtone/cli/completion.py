"""What the shell offers for a word that is being typed."""

from __future__ import annotations

from pathlib import Path


def models(incomplete: str) -> list[str]:
    """Names that a model may go by, and the model folders of the project; no registry is asked, which takes seconds."""
    names = ["auto", "champion", "challenger", "released", "released-rnn"]
    folders = sorted(str(path.parent) for path in Path("models").glob("*/config.json"))
    return [name for name in (*names, *folders) if name.startswith(incomplete)]
