"""Reports of several systems beside each other. Plain text from plain dictionaries: it loads nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MACRO_GROUPS = ("extend", "restore", "overall")


def _natural(text: str) -> list[tuple[int, str]]:
    """Sorts `sinc_8k` before `sinc_12k`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def table(metrics_by_system: Mapping[str, Mapping[str, Any]], baseline: str = "sinc", *, by_kind: bool = True) -> str:
    """LSD of all systems beside each other, by condition and kind, as Markdown; in brackets the share of the baseline's.

    Args:
        metrics_by_system: system -> what its metrics.json holds.
        baseline: the system that the others are measured by; without it no shares are given.
        by_kind: a row for each kind and one for all clips, or that one alone.
    """
    systems = list(metrics_by_system)
    trees = {name: {g: k for g, k in tree.items() if g != "test_set"} for name, tree in metrics_by_system.items()}
    groups = {group for tree in trees.values() for group in tree}
    ordered = [*sorted(groups - set(MACRO_GROUPS), key=_natural), *(g for g in MACRO_GROUPS if g in groups)]

    def lsd(name: str, group: str, kind: str) -> float | None:
        value: float | None = trees[name].get(group, {}).get(kind, {}).get("lsd")
        return value

    def cell(name: str, group: str, kind: str) -> str:
        value = lsd(name, group, kind)
        if value is None:
            return "-"
        base = lsd(baseline, group, kind) if baseline in trees and name != baseline else None
        return f"{value:.2f} ({value / base:.0%})" if base else f"{value:.2f}"

    lines = [f"| condition | kind | {' | '.join(systems)} |", "|---|---|" + "---:|" * len(systems)]
    for group in ordered:
        found = {kind for tree in trees.values() for kind in tree.get(group, {})}
        kinds = [*(sorted(found - {"all"}) if by_kind else ()), *(["all"] if "all" in found else [])]
        lines += [f"| {group} | {kind} | {' | '.join(cell(name, group, kind) for name in systems)} |" for kind in kinds]
    lines += ["", "LSD, lower is better; bins above each clip's bandwidth are left out."]
    if baseline in trees and len(trees) > 1:
        lines[-1] += f" In brackets: share of {baseline}'s."
    if len({tree.get("test_set") for tree in metrics_by_system.values()}) > 1:
        lines += ["", "Not comparable: these reports were made on different test sets."]
    return "\n".join(lines)
