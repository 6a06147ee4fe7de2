"""Reports of several systems beside each other. Plain text from plain dictionaries: it loads nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

MACRO_GROUPS = ("extend", "restore", "overall")
# What a metrics.json holds beside its groups.
BESIDE = ("interval", "oracle", "test_set")
BASELINE = "sinc"
NOTE = "LSD, lower is better; bins above each clip's bandwidth are left out. ±: 95 % interval of the mean over sources."

# System -> what its metrics.json holds.
Metrics = Mapping[str, Mapping[str, Any]]
# A head, and rows of as many cells.
Text = tuple[list[str], list[list[str]]]


class Line(NamedTuple):
    """A row of the table of figures: its title, its place in metrics.json, which way is better."""

    title: str
    group: str
    metric: str
    better: str
    digits: int = 2
    oracle: bool = False


# Every way to sound wrong that the metrics know comes out worse in one of these (tests/test_judge.py plants them).
FIGURES = (
    Line("Band extended: LSD", "extend", "lsd", "lower"),
    Line("the same, given the cutoff", "extend", "lsd", "lower", oracle=True),
    Line("above the cutoff", "extend", "lsd_hf", "lower"),
    Line("level above the cutoff, dB", "extend", "bias_hf_db", "zero", 1),
    Line("sound above the recording's band, dB", "extend", "excess_db", "lower", 1),
    Line("copied strips", "extend", "copies", "lower"),
    Line("buzz at the hop rate, dB", "extend", "hop_line_db", "lower", 1),
    Line("tones or noise, error in dB", "extend", "tonality_error_db", "lower"),
    Line("Damage repaired: LSD below the cutoff", "restore", "lsd_lf", "lower"),
    Line("SI-SDR, dB", "restore", "si_sdr", "higher", 1),
    Line("Noise at 5 dB: SI-SDR, dB", "noise_5db", "si_sdr", "higher", 1),
    Line("Noise at 10 dB: SI-SDR, dB", "noise_10db", "si_sdr", "higher", 1),
    Line("Clean sound left alone: LSD", "clean", "lsd", "lower"),
    Line("SNR, dB", "clean", "snr", "higher", 1),
    Line("Everything: LSD", "overall", "lsd", "lower"),
    Line("ViSQOL, 1 to 4.75", "overall", "visqol", "higher"),
)


def natural(text: str) -> list[tuple[int, str]]:
    """Sorts `sinc_8k` before `sinc_12k`."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def conditions(metrics_by_system: Metrics) -> list[str]:
    """All conditions in one fixed order, the macro groups left out."""
    groups = {group for tree in metrics_by_system.values() for group in tree}
    return sorted(groups - {*MACRO_GROUPS, *BESIDE}, key=natural)


def kinds(metrics_by_system: Metrics, group: str) -> list[str]:
    """The kinds of sound that a group has figures for; `all` only where there is one kind alone or none."""
    found = {kind for tree in metrics_by_system.values() for kind in tree.get(group, {})}
    return sorted(found - {"all"}) or sorted(found)


def value(tree: Mapping[str, Any], group: str, kind: str, metric: str) -> float | None:
    """A mean, None where there is none."""
    found: float | None = tree.get(group, {}).get(kind, {}).get(metric)
    return found


def cell(tree: Mapping[str, Any], group: str, kind: str, metric: str, digits: int = 2) -> str:
    """A mean with its interval, as `1.14 ± 0.07`; `-` where there is none."""
    mean, half = value(tree, group, kind, metric), value(tree.get("interval", {}), group, kind, metric)
    if mean is None:
        return "-"
    return f"{mean:.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")


def rows(metrics_by_system: Metrics, metric: str = "lsd") -> Text:
    """A metric by condition and kind, macro groups last."""
    lines = [
        [group, kind, *(cell(tree, group, kind, metric) for tree in metrics_by_system.values())]
        for group in (*conditions(metrics_by_system), *MACRO_GROUPS)
        for kind in kinds(metrics_by_system, group)
    ]
    return ["condition", "kind", *metrics_by_system], [line for line in lines if set(line[2:]) != {"-"}]


def figure_rows(metrics_by_system: Metrics) -> Text:
    """Each of `FIGURES` for each kind that has it, blind unless it says otherwise."""
    lines = []
    for line in FIGURES:
        trees = [tree.get("oracle", {}) if line.oracle else tree for tree in metrics_by_system.values()]
        for kind in kinds(metrics_by_system, line.group):
            cells = [cell(tree, line.group, kind, line.metric, line.digits) for tree in trees]
            if set(cells) != {"-"}:
                lines.append([line.title, line.better, kind, *cells])
    return ["figure", "better", "kind", *metrics_by_system], lines


def table(metrics_by_system: Metrics, metric: str = "lsd") -> str:
    """`rows` as Markdown."""
    return "\n".join([*_markdown(*rows(metrics_by_system, metric), text=2), "", NOTE, *_warning(metrics_by_system)])


def figures(metrics_by_system: Metrics) -> str:
    """`figure_rows` as Markdown."""
    return "\n".join([*_markdown(*figure_rows(metrics_by_system), text=3), *_warning(metrics_by_system)])


def _markdown(head: Sequence[str], lines: Sequence[Sequence[str]], text: int) -> list[str]:
    """Lines of a table whose first `text` columns are words."""
    rule = "|" + "---|" * text + "---:|" * (len(head) - text)
    return [f"| {' | '.join(head)} |", rule, *(f"| {' | '.join(line)} |" for line in lines)]


def _warning(metrics_by_system: Metrics) -> list[str]:
    if len({tree.get("test_set") for tree in metrics_by_system.values()}) > 1:
        return ["", "Not comparable: these reports were made on different test sets."]
    return []


def key_figures(metrics_by_system: Metrics) -> tuple[list[tuple[str, str]], dict[str, list[float | None]]]:
    """LSD of the macro groups: the columns as (group, kind), and each system's figures."""
    columns = [(group, kind) for group in MACRO_GROUPS for kind in kinds(metrics_by_system, group)]
    found = {
        name: [value(tree, group, kind, "lsd") for group, kind in columns] for name, tree in metrics_by_system.items()
    }
    return columns, found


def key_table(metrics_by_system: Metrics) -> str:
    """`key_figures` with their intervals as Markdown."""
    columns, _ = key_figures(metrics_by_system)
    # MLflow's pages set the cells of a table without any space between them.
    head = " | ".join(f"{group} {kind}&emsp;" for group, kind in columns)
    text = [f"| system&emsp; | {head} |", "|---|" + "---|" * len(columns)]
    for name, tree in metrics_by_system.items():
        text.append(f"| {name} | {' | '.join(cell(tree, *column, 'lsd', 3) for column in columns)} |")
    return "\n".join(text)
