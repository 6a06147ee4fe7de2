"""Reports of several systems beside each other. Plain text from plain dictionaries: it loads nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MACRO_GROUPS = ("extend", "restore", "overall")
BASELINE = "sinc"
NOTE = "LSD, lower is better; bins above each clip's bandwidth are left out."

Metrics = Mapping[str, Mapping[str, Any]]


def natural(text: str) -> list[tuple[int, str]]:
    """Sorts `sinc_8k` before `sinc_12k`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def conditions(metrics_by_system: Metrics) -> list[str]:
    """All conditions in one fixed order, the macro groups left out."""
    groups = {group for tree in metrics_by_system.values() for group in tree if group != "test_set"}
    return sorted(groups - set(MACRO_GROUPS), key=natural)


def _kinds(metrics_by_system: Metrics, group: str, by_kind: bool) -> list[str]:
    found = {kind for tree in metrics_by_system.values() for kind in tree.get(group, {})}
    return [*(sorted(found - {"all"}) if by_kind else ()), *(["all"] if "all" in found else [])]


def _lsd(metrics_by_system: Metrics, name: str, group: str, kind: str) -> float | None:
    value: float | None = metrics_by_system[name].get(group, {}).get(kind, {}).get("lsd")
    return value


def rows(
    metrics_by_system: Metrics, baseline: str = BASELINE, *, by_kind: bool = True
) -> tuple[list[str], list[list[str]]]:
    """Head and rows of `table` as text."""
    present = {group for tree in metrics_by_system.values() for group in tree}

    def cell(name: str, group: str, kind: str) -> str:
        value = _lsd(metrics_by_system, name, group, kind)
        if value is None:
            return "-"
        others = baseline in metrics_by_system and name != baseline
        base = _lsd(metrics_by_system, baseline, group, kind) if others else None
        return f"{value:.2f} ({value / base:.0%})" if base else f"{value:.2f}"

    groups = [*conditions(metrics_by_system), *(group for group in MACRO_GROUPS if group in present)]
    lines = [
        [group, kind, *(cell(name, group, kind) for name in metrics_by_system)]
        for group in groups
        for kind in _kinds(metrics_by_system, group, by_kind)
    ]
    return ["condition", "kind", *metrics_by_system], lines


def table(metrics_by_system: Metrics, baseline: str = BASELINE, *, by_kind: bool = True) -> str:
    """LSD of all systems beside each other, by condition and kind, as Markdown; in brackets the share of the baseline's.

    Args:
        metrics_by_system: system -> what its metrics.json holds.
        baseline: the system that the others are measured by; without it no shares are given.
        by_kind: a row for each kind and one for all clips, or that one alone.
    """
    head, lines = rows(metrics_by_system, baseline, by_kind=by_kind)
    text = [f"| {' | '.join(head)} |", "|---|---|" + "---:|" * len(metrics_by_system)]
    text += [f"| {' | '.join(line)} |" for line in lines]
    text += ["", NOTE]
    if baseline in metrics_by_system and len(metrics_by_system) > 1:
        text[-1] += f" In brackets: share of {baseline}'s."
    if len({tree.get("test_set") for tree in metrics_by_system.values()}) > 1:
        text += ["", "Not comparable: these reports were made on different test sets."]
    return "\n".join(text)


def key_figures(metrics_by_system: Metrics) -> tuple[list[tuple[str, str]], dict[str, list[float | None]]]:
    """LSD of the macro groups: the columns as (group, kind), and each system's figures."""
    columns = [(group, kind) for group in MACRO_GROUPS for kind in _kinds(metrics_by_system, group, True)]
    figures = {
        name: [_lsd(metrics_by_system, name, group, kind) for group, kind in columns] for name in metrics_by_system
    }
    return columns, figures


def key_table(metrics_by_system: Metrics) -> str:
    """`key_figures` as Markdown."""
    columns, figures = key_figures(metrics_by_system)
    # MLflow's pages set the cells of a table without any space between them.
    head = " | ".join(f"{group} {kind}&emsp;" for group, kind in columns)
    text = [f"| system&emsp; | {head} |", "|---|" + "---|" * len(columns)]
    for name, values in figures.items():
        text.append(f"| {name} | {' | '.join('-' if value is None else f'{value:.3f}' for value in values)} |")
    return "\n".join(text)
