"""A system's report on disk: means with their intervals, scores by clip, blind and oracle."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from overtone import audio
from overtone.data.pairs import Pair
from overtone.evaluation import statistics
from overtone.evaluation.judge import Judged, JudgeError, Row

MAIN_METRICS = ("lsd", "lsd_hf", "lsd_lf", "si_sdr", "snr")
# What summary.json holds of speech and of music each: few enough figures for the columns of `dvc exp show`.
SUMMARY = {"extend": ("lsd",), "restore": ("lsd_lf", "si_sdr"), "overall": ("lsd",)}
_DECIMALS = 6
_FIELDS = ("condition", "mode", "kind", "source", "clip", "cutoff_hz", "bandwidth_hz")

Tree = dict[str, Any]


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
            found = {name: statistics.figure(here, kind, name) for name in metrics}
            means[group][kind] = {name: _round(one.mean) for name, one in found.items() if one}
            halves[group][kind] = {
                name: _round(one.half) for name, one in found.items() if one and one.half is not None
            }
    return means, halves


def fingerprint(pairs: Iterable[Pair], pairs_folder: Path) -> str:
    """SHA-256 over the pairs' ids, recipes and files: two reports with the same one are comparable.

    Raises:
        JudgeError: a file is missing.
    """
    digests: dict[Path, str] = {}
    lines = []
    for pair in pairs:
        for relative in (pair.input, pair.target):
            path = pairs_folder / relative
            if path not in digests:
                if not path.is_file():
                    raise JudgeError(f"{path}: no such file; the manifest of the pairs names it")
                with path.open("rb") as file:
                    digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        files = (digests[pairs_folder / pair.input], digests[pairs_folder / pair.target])
        lines.append(json.dumps([pair.pair, pair.recipe, *files]))
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
            kind: {name: means[group][kind][name] for name in names if name in means[group][kind]}
            for kind in means[group]
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
    _write_csv(
        out / "conditions.csv",
        ("system", "condition", "kind", *MAIN_METRICS),
        [
            [judged.name, condition, kind, *_cells(scores, MAIN_METRICS)]
            for condition in dict.fromkeys(row.condition for row in judged.rows)
            for kind, scores in means[condition].items()
        ],
    )
    return tree


def _write_rows(path: Path, name: str, rows: Sequence[Row]) -> None:
    found = {metric for row in rows for metric in row.scores}
    names = [*(metric for metric in MAIN_METRICS if metric in found), *sorted(found - set(MAIN_METRICS))]
    lines = [[name, *(getattr(row.pair, field) for field in _FIELDS), *_cells(row.scores, names)] for row in rows]
    _write_csv(path, ("system", *_FIELDS, *names), lines)


def _cells(scores: Mapping[str, float], names: Sequence[str]) -> list[float | str]:
    return [_round(scores[name]) if name in scores else "" for name in names]


def _round(value: float) -> float:
    return round(value, _DECIMALS) + 0.0


def _write_csv(path: Path, head: Sequence[str], lines: Sequence[Sequence[object]]) -> None:
    with audio.replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(lines)
