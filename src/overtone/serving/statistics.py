"""Counters of what a server is sent, by day: how long, how wide, how loud, how damaged. No sound is kept.

They show when what comes in drifts away from what came before, or from what the model was trained on, and how a challenger
does beside the model (see `shadow`). They lie in an SQLite file, which all processes of a server write to.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = "statistics.sqlite"
_TABLES = """
CREATE TABLE IF NOT EXISTS counters (day TEXT, name TEXT, value TEXT, count REAL, PRIMARY KEY (day, name, value));
CREATE TABLE IF NOT EXISTS shadow (champion TEXT, challenger TEXT, metric TEXT, files INTEGER, champion_sum REAL,
    challenger_sum REAL, PRIMARY KEY (champion, challenger, metric));
"""
_COUNT = """INSERT INTO counters VALUES (?, ?, ?, ?)
    ON CONFLICT (day, name, value) DO UPDATE SET count = count + excluded.count"""
_SCORE = """INSERT INTO shadow VALUES (?, ?, ?, 1, ?, ?) ON CONFLICT (champion, challenger, metric) DO UPDATE SET
    files = files + 1, champion_sum = champion_sum + excluded.champion_sum,
    challenger_sum = challenger_sum + excluded.challenger_sum"""
# What is compared between days: properties of which each file has one or more.
DRIFTING = ("bandwidth", "level", "damage")
_LEVEL_STEP_DB, _SILENT_DBFS = 6, -90
# A server busy with something else still counts: another process may hold the file for a moment.
_BUSY_SECONDS = 10.0


class Statistics:
    """The counters in a folder. All methods read or write the disk: for threads.

    Args:
        folder: made if need be.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / FILE
        with self._open() as database:
            database.executescript(_TABLES)

    def count(self, facts: Mapping[str, Any], trained_hz: tuple[float, float] | None = None) -> None:
        """Count a file.

        Args:
            facts: `seconds`, `cutoff_hz`, `level_dbfs`, `format`, and `damage`, a list of names.
            trained_hz: lowest and highest cutoff that the model was trained with.
        """
        day, level = datetime.now(UTC).date().isoformat(), max(facts["level_dbfs"], _SILENT_DBFS)
        rows = [
            ("files", "", 1.0),
            ("seconds", "", facts["seconds"]),
            ("format", facts["format"], 1.0),
            ("bandwidth", f"{facts['cutoff_hz'] / 1000:.0f} kHz", 1.0),
            ("level", f"{_LEVEL_STEP_DB * round(level / _LEVEL_STEP_DB)} dBFS", 1.0),
            *(("damage", name, 1.0) for name in facts["damage"] or ["none"]),
        ]
        if trained_hz is not None and not trained_hz[0] <= facts["cutoff_hz"] <= trained_hz[1]:
            rows.append(("outside of training", "", 1.0))
        with self._open() as database:
            database.executemany(_COUNT, [(day, *row) for row in rows])

    def compare(self, champion: str, challenger: str, scores: Mapping[str, tuple[float, float]]) -> None:
        """Add the scores of a file by metric, the champion's and the challenger's."""
        with self._open() as database:
            database.executemany(_SCORE, [(champion, challenger, name, *pair) for name, pair in scores.items()])

    def report(self) -> dict[str, Any]:
        """All counters by day, how far each day is from the days before it, and the means of both models.

        `drift` is the total variation distance between a day's shares and those of all days before, 0 (the same) to 1.
        """
        with self._open() as database:
            counters = database.execute("SELECT day, name, value, count FROM counters ORDER BY day, name").fetchall()
            shadow = database.execute("SELECT * FROM shadow ORDER BY champion, challenger, metric").fetchall()
        days: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
        for day, name, value, count in counters:
            days[day][name][value] = count
        before: dict[str, Counter[str]] = {name: Counter() for name in DRIFTING}
        rows = []
        for day, counted in days.items():
            row: dict[str, Any] = {"day": day, "files": int(counted["files"][""])}
            row |= {"seconds": round(counted["seconds"][""], 1)}
            row |= {name: counted[name] for name in (*DRIFTING, "format")}
            row["outside_of_training"] = int(counted["outside of training"].get("", 0))
            row["drift"] = {name: distance(counted[name], before[name]) for name in DRIFTING if before[name]}
            for name in DRIFTING:
                before[name].update(counted[name])
            rows.append(row)
        return {"days": rows, "shadow": [_compared(*row) for row in shadow]}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as database, database:
            yield database


def _compared(champion: str, challenger: str, metric: str, files: int, one: float, other: float) -> dict[str, Any]:
    means = {"champion_mean": round(one / files, 4), "challenger_mean": round(other / files, 4)}
    return {"champion": champion, "challenger": challenger, "metric": metric, "files": files, **means}


def distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Total variation distance between the shares of two counts: 0 for equal ones, 1 where they share nothing."""
    totals = sum(one.values()) or 1.0, sum(other.values()) or 1.0
    values = one.keys() | other.keys()
    return round(0.5 * sum(abs(one.get(v, 0.0) / totals[0] - other.get(v, 0.0) / totals[1]) for v in values), 4)


def as_text(report: Mapping[str, Any]) -> str:
    """A report as lines for a terminal."""
    lines = ["day         files     hours  drift of bandwidth, level, damage  outside of training"]
    for day in report["days"]:
        drift = "  ".join(f"{day['drift'][name]:.2f}" if name in day["drift"] else "   -" for name in DRIFTING)
        hours, outside = day["seconds"] / 3600, day["outside_of_training"] / max(day["files"], 1)
        lines.append(f"{day['day']}  {day['files']:5d}  {hours:8.2f}  {drift:32}  {outside:.0%}")
        for name in DRIFTING:
            common = sorted(day[name].items(), key=lambda item: -item[1])[:5]
            lines.append(f"    {name}: {', '.join(f'{value} {count:.0f}' for value, count in common)}")
    for row in report["shadow"]:
        means = f"{row['champion_mean']:.3f} and {row['challenger_mean']:.3f}"
        lines.append(f"{row['champion']} and {row['challenger']}, {row['metric']}: {means} in {row['files']} files")
    return "\n".join(lines)
