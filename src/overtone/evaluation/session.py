"""From a system to its report, and from several to tables and a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from overtone.data.pairs import Pair
from overtone.evaluation import examples, page, report, table
from overtone.evaluation.judge import Enhancer, JudgeError, Progress, judge
from overtone.settings import EvaluateParams

Maker = Callable[[], Enhancer]
PAGE = "index.html"


def chosen(pairs: Sequence[Pair], conditions: Sequence[str]) -> list[Pair]:
    """The pairs of some conditions, of all where none is named.

    Raises:
        JudgeError: there is no such condition.
    """
    known = list(dict.fromkeys(pair.condition for pair in pairs))
    for name in conditions:
        if name not in known:
            raise JudgeError(f"--condition {name}: no such condition here; expected some of {', '.join(known)}")
    return [pair for pair in pairs if pair.condition in (conditions or known)]


def report_on(
    name: str,
    system: Maker,
    pairs: Sequence[Pair],
    pairs_folder: Path,
    params: EvaluateParams,
    out: Path,
    progress: Progress | None = None,
) -> report.Tree:
    """Judge a system (see `judge.judge`), write its report and examples to `out`, and give metrics.json's tree."""
    judged = judge(name, system, pairs, pairs_folder, params, progress)
    tree = report.write(judged, report.fingerprint(pairs, pairs_folder), out)
    examples.write(name, system, judged.rows, pairs, pairs_folder, params.figures, out)
    return tree


def run(
    makers: Mapping[str, Maker],
    pairs: Sequence[Pair],
    pairs_folder: Path,
    params: EvaluateParams,
    out: Path,
    progress: Callable[[str], Progress],
) -> str:
    """Judge systems and write their reports and the page; give the tables as Markdown.

    Args:
        makers: name -> what makes the system.
        pairs: what they are judged on; their paths are relative to `pairs_folder`.
        params: see `judge`.
        out: gets a report's folder for each system, and `index.html`.
        progress: gives, for a system's name, what is called with (pairs done, pairs in all).

    Raises:
        JudgeError: an output does not fit its input.
    """
    trees = {
        name: report_on(name, maker, pairs, pairs_folder, params, out / name, progress(name))
        for name, maker in makers.items()
    }
    page.write(out / PAGE, [report.read(name, out / name) for name in trees])
    return f"{table.figures(trees)}\n\n{table.table(trees)}"
