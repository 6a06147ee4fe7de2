"""The page's tables."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from overtone import comparison
from overtone.overview import charts
from overtone.overview.systems import OverviewError, Run, System

ABLATION = ("variant", "speech", "music", "restored", "snr", "line", "steps", "changes")
# Columns of the ablation, with the sign of what is better.
_ABLATION_SHOWN = {"speech": -1, "music": -1, "restored": -1, "snr": 1, "line": -1}
_ABLATION_NAMES = {"restored": "restored", "snr": "SNR, dB", "line": "line, dB"}
_COMMAND = "mlflow ui --backend-store-uri sqlite:///mlflow.db"
_LOCAL = "http://127.0.0.1:5000/#/runs/"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], text: Sequence[int] = ()) -> str:
    """A table of cells that are HTML already; it scrolls by itself where the screen is narrow.

    Args:
        text: columns of running text.
    """

    def mark(column: int) -> str:
        return " class='text'" if column in text else ""

    heads = "".join(f"<th scope='col'{mark(place)}>{name}</th>" for place, name in enumerate(head))
    body = ""
    for line in lines:
        cells = "".join(
            cell if cell.startswith("<td") else f"<td{mark(place)}>{cell}</td>" for place, cell in enumerate(line)
        )
        body += f"<tr>{cells}</tr>"
    return (
        "<div class='scroll' tabindex='0' role='region' aria-label='table'><table>"
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def key(systems: Sequence[System]) -> str:
    """LSD of each system by macro group and kind, the best of each column in bold."""
    columns, rows = comparison.key_figures({system.name: system.metrics for system in systems})
    known = [[value for value in column if value is not None] for column in zip(*rows.values(), strict=True)]
    best = [min(column, default=None) for column in known]
    lines = []
    for number, (name, row) in enumerate(rows.items()):
        cells = [f"{charts.mark(number)}{escape(name)}"]
        for value, least in zip(row, best, strict=True):
            bold = " class='best'" if value is not None and value == least else ""
            cells.append(f"<td{bold}>{'-' if value is None else f'{value:.3f}'}</td>")
        lines.append(cells)
    return table(["system", *(f"{escape(group)}<br>{escape(kind)}" for group, kind in columns)], lines)


def by_condition(systems: Sequence[System]) -> str:
    """LSD of every condition and kind, with the share of the baseline's."""
    head, rows = comparison.rows({system.name: system.metrics for system in systems})
    return table(head, [[*(escape(cell) for cell in row)] for row in rows])


def trainings(systems: Sequence[System]) -> str:
    """What each network is and where its MLflow run is."""
    lines = []
    for number, system in enumerate(systems):
        facts = system.facts
        shown = [f"{charts.mark(number)}{escape(system.name)}"]
        shown.append(f"{facts['parameters'] / 1e6:.2f} M" if "parameters" in facts else "-")
        shown.append(str(facts.get("steps", "-")))
        shown.append(f"{facts['best_valid_lsd']:.3f}" if "best_valid_lsd" in facts else "-")
        shown.append(f"<code>{escape(str(facts['commit'])[:10])}</code>" if facts.get("commit") else "-")
        shown.append(_link(system.run))
        lines.append(shown)
    head = ["system", "parameters", "steps", "validation LSD", "commit", "MLflow run"]
    return table(head, lines, text=(5,))


def needs_server(systems: Sequence[System]) -> bool:
    """Whether a run lies in a database file, which has no address until a user interface is started on it."""
    return any(system.run is not None and not system.run.url for system in systems)


def server_note() -> str:
    return (
        f"<p class='note'>The runs are in a database file: <code>{escape(_COMMAND)}</code> in the project's folder, "
        "then the links work.</p>"
    )


def _link(run: Run | None) -> str:
    if run is None:
        return "-"
    address = run.url or f"{_LOCAL}{run.run_id}"
    name = escape(run.name or run.run_id)
    return (
        f"<a href='{escape(address, quote=True)}' target='_blank' rel='noopener'>{name}</a> "
        f"<small><code>{escape(run.run_id)}</code></small>"
    )


def ablation(path: Path) -> str:
    """The ablation's table from its CSV, each figure with its difference from the first row's.

    Raises:
        OverviewError: the file is missing or has other columns.
    """
    lines = read_ablation(path)
    first = lines[0]
    shown = []
    for line in lines:
        cells = [escape(line["variant"])]
        for name, sign in _ABLATION_SHOWN.items():
            digits = 2 if name == "snr" else 1 if name == "line" else 3
            value = float(line[name])
            gain = value - float(first[name])
            tone = "better" if gain * sign > 0 else "worse"
            note = "" if line is first or not gain else f" <small class='{tone}'>{gain:+.{digits}f}</small>"
            cells.append(f"{value:.{digits}f}{note}")
        cells.append(line["steps"])
        cells.append(f"<code>{escape(line['changes'])}</code>")
        shown.append(cells)
    names = [_ABLATION_NAMES.get(name, name) for name in _ABLATION_SHOWN]
    return table(["variant", *names, "steps", "changed"], shown, text=(7,))


def read_ablation(path: Path) -> Sequence[Mapping[str, str]]:
    """The rows of an ablation's CSV, as `bench/ablation.py` writes them.

    Raises:
        OverviewError: the file is missing, empty or has other columns.
    """
    if not path.is_file():
        raise OverviewError(f"{path}: no such file; expected what bench/ablation.py --csv writes")
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != ABLATION:
            raise OverviewError(f"{path}: expected the columns {','.join(ABLATION)}")
        lines = list(reader)
    if not lines:
        raise OverviewError(f"{path}: holds no variant; expected at least one")
    return lines
