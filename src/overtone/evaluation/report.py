"""A system's report on disk: means with their intervals, scores by clip, blind and oracle, and examples."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from overtone import audio
from overtone.errors import OvertoneError
from overtone.evaluation import statistics
from overtone.evaluation.statistics import Row

if TYPE_CHECKING:
    from overtone.data.pairs import Pair
    from overtone.evaluation.judge import Judged

MAIN_METRICS = ("lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr")
# What summary.json holds of speech and of music each: few enough figures for the columns of `dvc exp show`.
SUMMARY = {"extend": ("lsd",), "restore": ("lsd_lf", "si_sdr"), "overall": ("lsd",)}
# Examples: their folders, the sounds of each, and the metric that they are chosen by.
FIGURES, AUDIO = "figures", "audio"
PARTS = ("before", "after", "reference")
METRIC = "lsd"
_DECIMALS = 6
_FIELDS = ("condition", "mode", "kind", "source", "clip")
# Columns of scores.csv that are no scores, those of earlier versions among them.
_LABELS = {*_FIELDS, "system", "cutoff_hz", "bandwidth_hz"}

Tree = dict[str, Any]


class ReportError(OvertoneError):
    """A report that cannot be made or read; the message names the file and what was expected."""


@dataclass(frozen=True)
class Report:
    """A report as it was written: the tree of metrics.json, the rows of scores.csv, and the folder of the examples."""

    name: str
    metrics: Tree
    rows: tuple[Row, ...]
    folder: Path


def name_of(row: Row) -> str:
    """The name of an example's files, without what follows it."""
    return f"{row.condition}-{row.clip}"


def summarise(rows: Sequence[Row]) -> tuple[Tree, Tree]:
    """Means and half widths of their 95 % intervals, both {group: {kind: {metric: value}}}.

    Groups are the conditions and the means over conditions `extend`, `restore` and `overall`; kinds are those of the clips,
    and `all`, in which each kind counts the same. Where one source alone has a metric there is no interval.
    """
    means, halves = Tree(), Tree()
    present = {row.mode for row in rows}
    macro = [group for group in statistics.MACRO_GROUPS if group in present or group == "overall"]
    for group in (*dict.fromkeys(row.condition for row in rows), *macro):
        here = statistics.of_group(rows, group)
        metrics = sorted({name for row in here for name in row.scores})
        means[group], halves[group] = {}, {}
        for kind in (*sorted({row.kind for row in here}), "all"):
            found = {name: one for name in metrics if (one := statistics.figure(here, kind, name))}
            means[group][kind] = {name: _round(one.mean) for name, one in found.items()}
            halves[group][kind] = {name: _round(one.half) for name, one in found.items() if one.half is not None}
    return means, halves


def fingerprint(pairs: Iterable[Pair], pairs_folder: Path) -> str:
    """SHA-256 over the pairs' ids, recipes and files: two reports with the same one are comparable.

    Raises:
        ReportError: a file is missing.
    """
    digests: dict[str, str] = {}
    lines = []
    for pair in pairs:
        for relative in (pair.input, pair.target):
            if relative not in digests:
                path = pairs_folder / relative
                if not path.is_file():
                    raise ReportError(f"{path}: no such file; the manifest of the pairs names it")
                with path.open("rb") as file:
                    digests[relative] = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(json.dumps([pair.pair, pair.recipe, digests[pair.input], digests[pair.target]]))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def write(judged: Judged, test_set: str, out: Path) -> Tree:
    """Write metrics.json and its digest summary.json, scores.csv, oracle.csv and conditions.csv; give metrics.json's tree.

    The tree is group -> kind -> metric -> mean, blind; `interval` and `oracle` hold trees of the same form, `test_set` the
    digest of the pairs.

    Args:
        test_set: `fingerprint` of the pairs.
        out: the report's folder.
    """
    means, halves = summarise(judged.rows)
    tree = means | {"interval": halves, "test_set": test_set}
    if judged.oracle:
        tree["oracle"] = summarise(judged.oracle)[0]
    brief = {
        group: {
            kind: {name: scores[name] for name in names if name in scores}
            for kind, scores in means[group].items()
            if kind != "all"
        }
        for group, names in SUMMARY.items()
        if group in means
    }
    for name, one in (("metrics.json", tree), ("summary.json", brief)):
        with audio.replacing(out / name) as temporary:
            temporary.write_text(json.dumps(one, indent=2, sort_keys=True) + "\n")
    _write_rows(out / "scores.csv", judged.name, judged.rows)
    (out / "oracle.csv").unlink(missing_ok=True)
    if judged.oracle:
        _write_rows(out / "oracle.csv", judged.name, judged.oracle)
    lines = [
        {"system": judged.name, "condition": condition, "kind": kind}
        | {name: scores.get(name, "") for name in MAIN_METRICS}
        for condition in dict.fromkeys(row.condition for row in judged.rows)
        for kind, scores in means[condition].items()
    ]
    _write_csv(out / "conditions.csv", lines)
    return tree


def _write_rows(path: Path, name: str, rows: Sequence[Row]) -> None:
    found = {metric for row in rows for metric in row.scores}
    names = [*(metric for metric in MAIN_METRICS if metric in found), *sorted(found - set(MAIN_METRICS))]
    lines = [
        {"system": name}
        | {field: getattr(row, field) for field in _FIELDS}
        | {metric: _round(row.scores[metric]) if metric in row.scores else "" for metric in names}
        for row in rows
    ]
    _write_csv(path, lines)


def _round(value: float) -> float:
    return round(value, _DECIMALS) + 0.0


def _write_csv(path: Path, lines: Sequence[Mapping[str, object]]) -> None:
    with audio.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


# --- reading ----------------------------------------------------------------------------------------------------------


def read(name: str, folder: Path) -> Report:
    """A report that `write` wrote.

    Raises:
        ReportError: a file is missing or damaged.
    """
    path = folder / "scores.csv"
    if not path.is_file():
        raise ReportError(f"{path}: no such file; expected the output of the stage evaluate (dvc repro)")
    return Report(name, read_metrics(folder), tuple(read_rows(path.read_text(), str(path))), folder)


def read_metrics(folder: Path) -> Tree:
    """A report's metrics.json.

    Raises:
        ReportError: it is missing or damaged.
    """
    path = folder / "metrics.json"
    try:
        tree = json.loads(path.read_text())
    except FileNotFoundError:
        raise ReportError(f"{path}: no such file; expected the output of the stage evaluate (dvc repro)") from None
    except json.JSONDecodeError as error:
        raise ReportError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(tree, dict):
        raise ReportError(f"{path}: expected a JSON object")
    return tree


def read_rows(table: str, name: str = "scores.csv") -> list[Row]:
    """The rows of the text of a scores.csv; scores that are no finite numbers are left out.

    Raises:
        ReportError: a column is missing, or a row without a score.
    """
    rows = []
    for number, line in enumerate(csv.DictReader(io.StringIO(table)), 2):
        fields = [line.get(field) for field in _FIELDS]
        if None in fields:
            raise ReportError(f"{name}: expected the columns {', '.join(_FIELDS)}")
        found = {metric: _number(text) for metric, text in line.items() if metric not in _LABELS}
        scores = {metric: value for metric, value in found.items() if math.isfinite(value)}
        if not scores:
            raise ReportError(f"{name}, line {number}: holds no score")
        condition, mode, kind, source, clip = map(str, fields)
        rows.append(Row(condition, mode, kind, source, clip, scores))
    return rows


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
