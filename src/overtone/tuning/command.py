"""What `overtone tune` does: a search, what came of it in words, and the winner's settings in `params.yaml`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overtone import settings as settings_file
from overtone.audio import replacing
from overtone.tuning.plan import Plan
from overtone.tuning.search import search, shown


def tune(
    plan: Plan, reports: Path, overrides: Sequence[str] = (), chosen: int | None = None, dry_run: bool = False
) -> None:
    """Search for better settings, and write the winner's into `params.yaml`.

    Args:
        reports: folder for the study's page.
        overrides: that the settings of the plan came by; `params.yaml` does not have them.
        chosen: number of the trial whose settings are written, in place of the one of best quality.
        dry_run: show what would change, and change nothing.
    """
    result = search(plan, reports, chosen, lambda text: print(text, flush=True))
    print(f"{result.page}: history, importance, parallel coordinates, every trial")
    if result.trial is None:
        print(f"study {plan.study}: no trial is complete; params.yaml stays as it is")
        return
    values = ", ".join(f"{name} {value:.4f}" for name, value in result.values.items())
    print(f"{'chosen' if chosen is not None else 'best'}: trial {result.trial}, {values}; {shown(result.settings)}")
    if result.values["quality"] == result.present:
        print("no better than the present settings")
    elif result.present is not None:
        gain = result.present - result.values["quality"]
        print(f"the present settings: quality {result.present:.4f}; the trial's is {gain:.4f} lower")
    _write(result.settings, dry_run)
    if others := [text for text in overrides if not text.startswith("tune.")]:
        print(f"the trials had {', '.join(others)} too, which params.yaml does not")


def _write(changes: Mapping[str, Any], dry_run: bool, path: Path = Path("params.yaml")) -> None:
    """Show what would change in the settings file, and change it."""
    before = path.read_text()
    flat = settings_file.flatten(settings_file.load(path))
    after = settings_file.edited(before, {key: value for key, value in changes.items() if flat[key] != value})
    if after == before:
        print(f"{path}: has these settings already")
        return
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), str(path), str(path), n=0
    )
    print("".join(lines), end="")
    if dry_run:
        print(f"{path}: not changed (--dry-run)")
        return
    with replacing(path) as temporary:
        temporary.write_text(after)
    print(f"{path}: changed; dvc repro trains with it")
